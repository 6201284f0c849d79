"""The LISTEN connection: a hint that other processes appended. The read from the position is the truth.

The slow poll covers a lost hint (a connection that broke, a notification nobody delivered) and is the heartbeat of this
connection in one. On every new connection: LISTEN first, then look at the head, so that nothing falls in between.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Any

import trio

from eventstore.errors import EventStoreError, StoreUnavailable
from eventstore.postgres.bridge import Bridge
from eventstore.postgres.connection import Connect, silence_limit, uncancelled
from eventstore.postgres.errors import translated
from eventstore.postgres.settings import PostgresSettings
from eventstore.postgres.statements import statement

log = logging.getLogger(__name__)

CHANNEL = "events"
POLL_SECONDS_MAX = 3.0
"""For one row of an index: a connection that is silent longer is dead."""
BACKOFF_SECONDS_MIN, BACKOFF_SECONDS_MAX = 0.1, 5.0


class Notifications:
    """Calls `hint(position)` in trio when the log has grown by somebody else."""

    def __init__(
        self,
        bridge: Bridge,
        connect: Connect,
        origin: Callable[[], str],
        hint: Callable[[int], None],
        settings: PostgresSettings,
    ) -> None:
        self._bridge, self._connect, self._origin, self._hint = bridge, connect, origin, hint
        self._poll_seconds = settings.poll_seconds
        self._statement_seconds = settings.statement_seconds_max
        self.connections = 0

    async def run(self) -> None:
        """Until cancelled; reconnects for ever, and says so once per outage."""
        backoff_seconds, told = BACKOFF_SECONDS_MIN, False
        while True:
            before = self.connections
            try:
                await self._bridge.call(self._listen)
            except Exception as exc:  # also a defect: hints are only hints, the poll of the next connection covers them
                if not isinstance(exc, EventStoreError):
                    log.exception("notifications failed")
                if self.connections > before:
                    backoff_seconds, told = BACKOFF_SECONDS_MIN, False
                if not told:
                    log.warning("notifications interrupted: %s", exc)
                    told = True
                await trio.sleep(backoff_seconds)
                backoff_seconds = min(2 * backoff_seconds, BACKOFF_SECONDS_MAX)

    async def _listen(self) -> None:
        """In the thread, until cancelled or the connection is lost (`StoreUnavailable`)."""
        connection = await self._connect()
        lost = asyncio.Event()
        connection.add_termination_listener(lambda _: lost.set())
        try:
            with translated():
                with silence_limit(connection, self._statement_seconds):
                    await connection.add_listener(CHANNEL, self._heard)
                self.connections += 1
                while not lost.is_set():
                    with silence_limit(connection, POLL_SECONDS_MAX, 0.0):
                        head = await uncancelled(connection, connection.fetchval(statement("head")))
                    self._bridge.tell(self._hint, head or 0)
                    try:
                        await asyncio.wait_for(lost.wait(), self._poll_seconds)
                    except TimeoutError:
                        continue
            raise StoreUnavailable("the LISTEN connection was lost")
        finally:
            connection.terminate()

    def _heard(self, _connection: Any, _pid: int, _channel: str, payload: str) -> None:
        """In the thread. What this process wrote, its writer has published already."""
        position, _, origin = payload.partition(" ")
        if origin != self._origin() and position.isdigit():
            self._bridge.tell(self._hint, int(position))
