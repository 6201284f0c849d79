"""An append-only event store with a total order: the port, a verified in-memory fake, and PostgreSQL.

Reading order: `event` (what is written and read), `store` (the port and its promises), `errors`,
`codec` (objects <-> stored JSON, upcasters), `memory`, then `postgres/`. This package knows nothing of
jobs, agents or HTTP.
"""
