"""The kinds of faults. `fault` says what one is; the other modules have a family each; `register` lists them."""
