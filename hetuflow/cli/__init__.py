"""The command line: a client of the REST API, and the processes that a user starts.

Reading order: `main` (the tree of commands), `client` (requests and errors), `render` (tables and JSON), one module per
noun, then `cluster` (PostgreSQL + server + agents as child processes), `dev` and `demo`.

Exit statuses: 0 done; 1 the server refused, or what was waited for did not happen; 2 the command, a setting or the
environment is wrong; 3 the server cannot be reached; 130 interrupted.
"""
