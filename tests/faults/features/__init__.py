"""What the harness asks of hetuflow beyond plain schedules. `feature` says what one is; `register` lists them."""
