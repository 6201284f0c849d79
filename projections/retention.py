"""Retention of output and artifacts: whole days are dropped, the oldest first; what is gone is remembered."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import date, datetime
from typing import Any, Final

import trio
from attrs import define, field, frozen

from eventstore.postgres.database import Database

TABLES: Final[Mapping[str, str]] = {"output": "task_output", "artifacts": "task_artifact"}
"""What is dropped -> its table, partitioned by day."""
DAYS_MAX: Final = 36_500
HORIZON_SECONDS: Final = 30.0
"""How long what was read of `retention` is believed: it changes once a day."""


@frozen(slots=True, kw_only=True)
class OldDay:
    """A partition that may go, or has gone. `day` None: rows of the default partition, whose size `bytes` then is."""

    what: str
    table: str
    day: date | None
    bytes: int


class Retention:
    """Errors are those of `Database`; `StoreTimeout` when the table was in use all the time (nothing was dropped then)."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def old_days(self, what: str, days: int) -> Sequence[OldDay]:
        """What `drop_oldest` would drop, one after the other."""
        rows = await self._database.fetch("SELECT * FROM old_days($1, $2)", TABLES[what], days)
        return [_day(what, row) for row in rows]

    async def drop_oldest(self, what: str, days: int) -> OldDay | None:
        """Drop the oldest day that ended before so many whole days ago (UTC); None when there is none, or when somebody
        else drops at this moment. Committed when it returns."""
        (row,) = await self._database.fetch("SELECT * FROM drop_oldest_day($1, $2)", TABLES[what], days)
        return None if row["name"] is None else _day(what, row)


def _day(what: str, row: Any) -> OldDay:
    return OldDay(what=what, table=row["name"], day=row["day"], bytes=row["bytes"])


@define(slots=True)
class Horizon:
    """Before when the rows of a table were dropped, as read at most `HORIZON_SECONDS` ago."""

    database: Database
    what: str
    _known: datetime | None = field(default=None, init=False)
    _read_at: float = field(default=float("-inf"), init=False)

    async def read(self) -> datetime | None:
        """None: nothing was ever dropped."""
        now = trio.current_time()
        if now - self._read_at >= HORIZON_SECONDS:
            rows = await self.database.fetch("SELECT dropped_before FROM retention WHERE what = $1", TABLES[self.what])
            self._known, self._read_at = (rows[0][0] if rows else None), now
        return self._known
