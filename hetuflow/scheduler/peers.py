"""Which other servers run on this database, and which of them have ended, as far as one can know.

The rule: what belongs to another server is touched only when the log says that this server has ended. Most say so
themselves (`ServerStopped`). One that was killed does not, so two servers that know of each other beat: each affirms
itself in its own stream, and one that was silent while we beat `SILENT_BEATS` times is declared lost (`ServerLost`).
Who hears that of itself and lives refutes it by announcing itself anew; so whoever acts on a loss (the reaper) waits a
lease longer. Silence is counted in our own beats that were committed, not in seconds: a server that was paused, or whose
database was away, counts nothing meanwhile.

A server that is alone, the usual case, writes none of this.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable

import trio

from eventstore.event import RecordedEvent
from hetuflow.actors import ActorSystem
from hetuflow.actors.patience import FAILING, STOPPING, Patience
from hetuflow.domain.commands import AffirmServer, LoseServer, StartServer
from hetuflow.domain.decider import Address
from hetuflow.domain.events import ServerLost, ServerRemoved, ServerStopped
from hetuflow.domain.rejection import Rejected
from hetuflow.scheduler.alarm import Alarm

log = logging.getLogger(__name__)

BEAT_SECONDS = 30.0
SILENT_BEATS = 4

SERVER_ENDS = frozenset(cls.__name__ for cls in (ServerStopped, ServerLost, ServerRemoved))


class Peers:
    """`announcement`: what this server says of itself at its start. `ended_one` is called when a peer has ended."""

    def __init__(self, system: ActorSystem, announcement: StartServer) -> None:
        self._system = system
        self._announcement = announcement
        self._beats_since: dict[str, int] = {}
        self._ended: dict[str, float] = {}
        self._unknown: dict[str, None] = {}
        self._is_called_lost = False
        self._next_beat = -math.inf
        self._alarm = Alarm()
        self.ended_one: Callable[[], None] = lambda: None

    def __repr__(self) -> str:
        return f"<Peers: {len(self._beats_since)} active, {len(self._ended)} ended>"

    def ended_at(self, server_id: str) -> float | None:
        """When this process heard (monotonic seconds) that the peer has ended; None: it lives, for all we know."""
        at = self._ended.get(server_id)
        if at is None and server_id not in self._beats_since and server_id not in self._unknown:
            self.note(server_id)
        return at

    def note(self, server_id: str) -> None:
        """There is or was such a server: find out which."""
        if server_id != self._announcement.server_id:
            self._unknown[server_id] = None
            self._alarm.ring()

    def heard(self, event: RecordedEvent) -> None:
        """An event of the log, in its order."""
        if event.category != "server":
            return
        server_id = Address.of_stream(event.stream_id).id
        if server_id == self._announcement.server_id:
            if event.type == ServerLost.__name__:
                self._is_called_lost = True
                self._alarm.ring()
        elif event.type in SERVER_ENDS:
            self._has_ended(server_id)
        else:
            self._lives(server_id)

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Find out, affirm this server and lose silent ones, until cancelled."""
        task_status.started()
        patience = Patience(most_seconds=BEAT_SECONDS)
        while True:
            try:
                await self._look()
            except STOPPING:
                return
            except (Rejected, *FAILING) as problem:
                log.warning("the other servers cannot be watched now: %s", problem)
                await self._alarm.wait(patience.failed(None))
            else:
                patience.worked(None)
                await self._alarm.wait(self._next_beat - trio.current_time() if self._beats_since else math.inf)

    async def _look(self) -> None:
        if self._is_called_lost:
            await self._refute()
        for server_id in list(self._unknown):
            if (await self._system.read(Address("server", server_id))).state.is_active:
                self._lives(server_id)
            else:
                self._has_ended(server_id)
        if self._beats_since and self._next_beat <= trio.current_time():
            await self._system.ask(Address("server", self._announcement.server_id), AffirmServer())
            self._next_beat = trio.current_time() + BEAT_SECONDS
            for server_id in self._beats_since:
                self._beats_since[server_id] += 1
        for server_id in [each for each, beats in self._beats_since.items() if beats > SILENT_BEATS]:
            log.error("server %s is not heard from any more: it is declared lost", server_id)
            await self._system.ask(Address("server", server_id), LoseServer())
            self._has_ended(server_id)

    async def _refute(self) -> None:
        address = Address("server", self._announcement.server_id)
        if not (await self._system.read(address)).state.is_active:
            log.error("another server declared this one lost, but it lives: it announces itself anew")
            await self._system.ask(address, self._announcement)
        self._is_called_lost = False

    def _lives(self, server_id: str) -> None:
        self._unknown.pop(server_id, None)
        self._ended.pop(server_id, None)
        if server_id not in self._beats_since:
            log.warning("server %s runs on this database too", server_id)
            self._next_beat = -math.inf
            self._alarm.ring()
        self._beats_since[server_id] = 0

    def _has_ended(self, server_id: str) -> None:
        self._unknown.pop(server_id, None)
        self._beats_since.pop(server_id, None)
        if server_id not in self._ended:
            self._ended[server_id] = trio.current_time()
            self.ended_one()
