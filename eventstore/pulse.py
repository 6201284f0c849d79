"""A look at the database that also leaves a sign of life: what several processes on one database know of each other.

Counters, not times: whoever reads them twice knows who lives, by its own monotonic clock. They are no history and may be
lost (a table that survives no crash of the database): a counter that is different, also smaller, is a sign of life.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime

from attrs import frozen


@frozen(slots=True, kw_only=True)
class Pulse:
    """`counters`: everybody's, by name, from just before one's own was counted. `version`: of the stream asked about,
    0 = it is empty. `at`: the wall clock of the database."""

    counters: Mapping[str, int]
    version: int
    at: datetime
