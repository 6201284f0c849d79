"""The REST API: parse, ask, render. Contract: the design's rest-contract, `/api/v1`.

A tour: `rooms` (what it needs of the rest), `requests` and `jsontext` (transport), `kinds`, `coded`, `objects`, `shapes` and
`schemas/` (what members there are: parsers and OpenAPI come from the same tables), `operators`, `filters` and
`collections` (pages), `routing` (the table of endpoints), `call` (what every handler does), `jobs`, `schedules`,
`tasks`, `task_instances`, `agents`, `servers`, `events`, `system`, `gateway` (the handlers), `rendering` (rows to
shapes), `idempotency`, `own_writes`, `memory`, `errors`, `openapi` and `docs`, `app` (the ASGI application).
"""

from hetuflow.api.app import HetuflowApp, create_app
from hetuflow.api.rooms import Identity, Rooms

__all__ = ["HetuflowApp", "Identity", "Rooms", "create_app"]
