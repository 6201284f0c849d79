"""The command line: a client of the REST API, and the processes that a user starts.

Reading order: `main` (the tree of commands, imported when used), `options`, `names` and `listing` (what commands share),
`client` and `sse` (requests, errors, streams), `render` (tables and JSON), one module per noun, `documents`, `manifest`,
`plan` and `apply` (jobs as files), `top` and `top_screen`, then `cluster` (PostgreSQL + server + agents as child
processes), `dev` and `demo`.

Exit statuses: `exits.MEANING`.
"""
