"""Retention in a running server: what is older than the settings allow is dropped, by the server that decides."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from typing import Final

import trio
from attrs import frozen

from eventstore.errors import EventStoreError
from projections.retention import Retention

log = logging.getLogger(__name__)

LOOK_SECONDS: Final = 3600.0
"""Between two looks: what is old is so for a day at least."""


@frozen(slots=True)
class Pruning:
    """`days`: what -> days to keep; 0 = for ever. `leads`: whether this server decides now."""

    retention: Retention
    days: Mapping[str, int]
    leads: Callable[[], bool]

    async def run(self) -> None:
        """Until cancelled."""
        kept = {what: days for what, days in self.days.items() if days}
        while kept:
            for what, days in kept.items():
                try:
                    await self._drop(what, days)
                except EventStoreError as exc:  # such as a table that was read all the time: it is old in an hour, too
                    log.warning("%s older than %d days stay for now: %s", what, days, exc)
            await trio.sleep(LOOK_SECONDS)

    async def _drop(self, what: str, days: int) -> None:
        while self.leads() and (dropped := await self.retention.drop_oldest(what, days)) is not None:
            megabytes = dropped.bytes / 1000**2
            if dropped.day is None:
                log.info("dropped old %s from %s (%.1f MB)", what, dropped.table, megabytes)
            else:
                log.info("dropped the %s of %s: %s (%.1f MB)", what, dropped.day, dropped.table, megabytes)
