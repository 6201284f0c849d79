"""How far each projection is, as the REST API and the command line show it."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from attrs import frozen

from eventstore.postgres.database import Database
from projections.tables import ALL_TABLES, LIVE, LIVE_TABLES, OPEN_WORK_CHECKPOINT


@frozen(slots=True, kw_only=True)
class ProjectionStatus:
    """How far a projection is. `status`: `live`, or `stalled` before an event that cannot be folded, told in `error`."""

    name: str
    definition: str
    status: str
    position: int
    head: int
    lag_events: int
    lag_seconds: float
    updated_at: datetime | None
    error: str | None = None


async def read_status(database: Database) -> Sequence[ProjectionStatus]:
    """Of every projection, from the database alone: for when no server runs. Raises `StoreUnavailable`, `StoreTimeout`.

    `status` is `stale` where the table was folded by another definition: the next start rebuilds it. A stall is known
    only to the server that met it.
    """
    known = {row["name"]: row for row in await database.fetch("SELECT name, fingerprint FROM projection_tables")}
    rows = await database.fetch(
        "SELECT c.name, c.position, h.position AS head, e.recorded_at, extract(epoch FROM h.recorded_at - e.recorded_at)"
        "  AS lag FROM checkpoints c LEFT JOIN events e ON e.position = c.position"
        " LEFT JOIN (SELECT position, recorded_at FROM events ORDER BY position DESC LIMIT 1) AS h ON true"
    )
    checkpoints = {row["name"]: row for row in rows}
    found = []
    for name, table in ALL_TABLES.items():
        row = checkpoints[LIVE if name in LIVE_TABLES else OPEN_WORK_CHECKPOINT]
        head = row["head"] or 0
        is_current = name in known and known[name]["fingerprint"] == table.fingerprint
        found.append(
            ProjectionStatus(
                name=name,
                definition=table.fingerprint,
                status="live" if is_current or row["position"] == 0 else "stale",
                position=row["position"],
                head=head,
                lag_events=head - row["position"],
                lag_seconds=float(row["lag"] or 0),
                updated_at=row["recorded_at"],
            )
        )
    return found
