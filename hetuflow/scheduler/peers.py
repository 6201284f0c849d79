"""Which other servers run on this database, which of them have ended, and whether this one may still believe in itself.

The rule: what belongs to another server is touched only when the log says that this server has ended. Most say so
themselves (`ServerStopped`). One that was killed does not, so every server looks at the signs of life in the database
(`EventStore.beat`), and leaves its own when there are others. One whose counter did not change while we looked
`BEATS_PER_LOSS` times is declared lost (`ServerLost`). Silence is counted in our own looks that were answered, not in
seconds: a server that was paused, or whose database was away, counts nothing meanwhile.

Who sees that it was declared lost and lives announces itself anew. Every answered look also confirms `Trust`, and
measures the wall clock against the database's. A server that is alone, the usual case, only looks: it writes nothing.
"""

from __future__ import annotations

import logging
from collections.abc import Callable

import msgspec
import trio
from attrs import define, evolve

from eventstore.errors import EventStoreError
from eventstore.event import RecordedEvent
from eventstore.store import EventStore
from hetuflow.actors import ActorSystem, Context
from hetuflow.actors.patience import FAILING, STOPPING
from hetuflow.domain.commands import LoseServer, StartServer
from hetuflow.domain.decider import Address, Guard
from hetuflow.domain.events import ServerLost, ServerRemoved, ServerStarted, ServerStopped
from hetuflow.domain.rejection import Rejected
from hetuflow.ports.clock import Clock
from hetuflow.scheduler.alarm import Alarm
from hetuflow.scheduler.clocks import ClockWatch
from hetuflow.scheduler.trust import Timing, Trust, Witness

log = logging.getLogger(__name__)

ENDED_MAX = 256
"""So many ended servers are remembered; what is asked of an older one is looked up in the log again."""

SERVER_ENDS = frozenset(cls.__name__ for cls in (ServerStopped, ServerLost, ServerRemoved))


@define(slots=True)
class Ended:
    """`heard`: monotonic seconds. `version`: of the server's stream, as long as it has not started again."""

    heard: float
    version: int


class Peers:
    """`announcement`: what this server says of itself at its start; `life` tells its words from those of a namesake.

    `ended_one` is called when a peer has ended, `up_changed` with the servers that may be given work, `trusted_again`
    when this server may decide again, `superseded` when it never may.
    """

    def __init__(
        self,
        system: ActorSystem,
        store: EventStore,
        announcement: StartServer,
        life: str,
        clock: Clock,
        clocks: ClockWatch,
        timing: Timing,
    ) -> None:
        self._system = system
        self._store = store
        self._announcement = announcement
        self._life = life
        self._clock = clock
        self._clocks = clocks
        self._timing = timing
        self._own = Address("server", announcement.server_id)
        self._own_version = 0
        self._active: dict[str, Witness] = {}
        self._ended: dict[str, Ended] = {}
        self._unknown: dict[str, None] = {}
        self._up: frozenset[str] = frozenset()
        self._failing_since: float | None = None
        self._alarm = Alarm()
        self.trust = Trust(timing.window_seconds)
        self.ended_one: Callable[[], None] = lambda: None
        self.up_changed: Callable[[frozenset[str]], None] = lambda up: None
        self.trusted_again: Callable[[], None] = lambda: None
        self.superseded: Callable[[str], None] = lambda reason: None

    def __repr__(self) -> str:
        return f"<Peers: {len(self._active)} active, {len(self._ended)} ended, {self.trust!r}>"

    # --- what is known -----------------------------------------------------------------------------------------------

    @property
    def are_many(self) -> bool:
        """Whether another server runs, as far as known."""
        return bool(self._active)

    def is_up(self, server_id: str) -> bool:
        """Whether the server may be given something to do."""
        return server_id == self._announcement.server_id or server_id in self._up

    def ended_at(self, server_id: str) -> float | None:
        """When this process heard (monotonic seconds) that the peer has ended; None: it lives, for all we know."""
        ended = self._ended.get(server_id)
        if ended is None and server_id not in self._active and server_id not in self._unknown:
            self.note(server_id)
        return None if ended is None else ended.heard

    def guard_of_end(self, server_id: str) -> Guard | None:
        """That the peer has not started again; None when it is not known to have ended."""
        ended = self._ended.get(server_id)
        return None if ended is None else Guard(Address("server", server_id).stream_id, ended.version)

    def note(self, server_id: str) -> None:
        """There is or was such a server: find out which."""
        if server_id != self._announcement.server_id:
            self._unknown[server_id] = None
            self._alarm.ring()

    def look_now(self) -> None:
        """Do not wait for the next beat: something is in doubt."""
        self._alarm.ring()

    # --- the log -----------------------------------------------------------------------------------------------------

    async def announce(self) -> None:
        """Say in the log that this server lives. Raises what the store and `ActorSystem.ask` raise.

        The clocks are compared first: what is decided while the server starts is dated by them, too.
        """
        asked = trio.current_time()
        pulse = await self._store.beat(self._own.id, self._own.stream_id, count=False, ended=())
        self._clocks.measured(self._clock.now(), pulse.at, asked, trio.current_time())
        sent = trio.current_time()
        answer = await self._system.ask(self._own, self._announcement, Context(correlation_id=self._life))
        self._own_version = answer.version
        self.trust.confirmed(sent, trio.current_time())

    def heard(self, event: RecordedEvent) -> None:
        """An event of the log, in its order."""
        if event.category != "server":
            return
        server_id = Address.of_stream(event.stream_id).id
        if server_id == self._announcement.server_id:
            if event.version > self._own_version:
                self._alarm.ring()
        elif event.type in SERVER_ENDS:
            self._has_ended(server_id, event.version)
        elif event.type == ServerStarted.__name__:
            self._lives(server_id)
        elif server_id in self._ended:
            self._ended[server_id].version = event.version  # it was edited: it has not started

    def _lives(self, server_id: str) -> None:
        self._unknown.pop(server_id, None)
        self._ended.pop(server_id, None)
        if server_id not in self._active:
            log.info("server %s runs on this database too", server_id)
            self._alarm.ring()
        self._active[server_id] = Witness(self._timing.beat_seconds)
        self._tell_who_is_up()

    def _has_ended(self, server_id: str, version: int) -> None:
        self._unknown.pop(server_id, None)
        self._active.pop(server_id, None)
        known = self._ended.get(server_id)
        if known is not None:
            known.version = max(known.version, version)
            return
        self._ended[server_id] = Ended(trio.current_time(), version)
        while len(self._ended) > ENDED_MAX:
            del self._ended[next(iter(self._ended))]
        self._tell_who_is_up()
        self.ended_one()

    def _tell_who_is_up(self) -> None:
        up = frozenset(each for each, witness in self._active.items() if not witness.is_quiet)
        if up != self._up:
            self._up = up
            self.up_changed(up)

    # --- beats -------------------------------------------------------------------------------------------------------

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Find out, beat and lose silent ones, until cancelled."""
        task_status.started()
        while True:
            began = trio.current_time()
            try:
                await self._look()
            except STOPPING:
                return
            except (Rejected, EventStoreError, *FAILING) as problem:
                self._failed(problem)
                await trio.sleep(self._timing.beat_seconds / 4)
                continue
            self._worked()
            await self._alarm.wait(began + self._timing.beat_seconds - trio.current_time())

    def _failed(self, problem: Exception) -> None:
        if self._failing_since is None:
            self._failing_since = trio.current_time()
            log.warning("this server cannot confirm that it is known to live: %s", problem)

    def _worked(self) -> None:
        if self._failing_since is not None:
            log.info("confirmed again after %.1f s", trio.current_time() - self._failing_since)
            self._failing_since = None

    async def _look(self) -> None:
        await self._find_out()
        own = self._own
        sent = trio.current_time()
        ended = [each for each in self._ended if each != own.id]
        pulse = await self._store.beat(own.id, own.stream_id, count=self.are_many, ended=ended)
        answered = trio.current_time()
        self._clocks.measured(self._clock.now(), pulse.at, sent, answered)
        for server_id in pulse.counters:
            if server_id != own.id and server_id not in self._active and server_id not in self._ended:
                self.note(server_id)
        if pulse.version != self._own_version and not await self._is_still_me():
            return  # the next look confirms, or there is none
        if self.trust.confirmed(sent, answered):
            self.trusted_again()
        for server_id, witness in self._active.items():
            witness.looked(pulse.counters.get(server_id), sent)
        self._tell_who_is_up()
        await self._lose_silent()

    async def _find_out(self) -> None:
        for server_id in list(self._unknown):
            reading = await self._system.read(Address("server", server_id))
            if reading.state.is_active:
                self._lives(server_id)
            else:
                self._has_ended(server_id, reading.version)

    async def _lose_silent(self) -> None:
        for server_id in [each for each, witness in self._active.items() if witness.is_lost]:
            log.error("server %s is not heard from any more: it is declared lost", server_id)
            answer = await self._system.ask(Address("server", server_id), LoseServer())
            self._has_ended(server_id, answer.version)

    # --- this server, seen by others ---------------------------------------------------------------------------------

    async def _is_still_me(self) -> bool:
        """Our own stream has changed: edited, declared lost (then we refute it), or a namesake has started."""
        events = await self._store.read_stream(self._own.stream_id, after_version=self._own_version)
        ours = [event for event in events if event.type == ServerStarted.__name__ and self._is_ours(event)]
        if self.trust.is_revoked:
            return False
        if any(event.type == ServerStarted.__name__ and not self._is_ours(event) for event in events):
            log.error(
                "another server was started with the id of this one (%s): this one steps back for good; give each its"
                " own (server.id, or a server.state_dir of its own)",
                self._own.id,
            )
            self.trust.revoke()
            self.superseded("a later life of this server runs elsewhere")
            return False
        ends = [event for event in events if event.type in SERVER_ENDS]
        if ends and not (ours and ours[-1].version > ends[-1].version):
            log.error("another server declared this one lost, but it lives: it announces itself anew")
            await self._announce_again(events[-1].version)
            return False
        self._own_version = events[-1].version if events else self._own_version
        return True

    async def _announce_again(self, version: int) -> None:
        """Contradict what was said up to that version. Raises `GuardLost` when something came after it, perhaps a later
        life of this server: that one is not to be announced away."""
        command = evolve(self._announcement, guards=(Guard(self._own.stream_id, version),))
        answer = await self._system.ask(self._own, command, Context(correlation_id=self._life))
        self._own_version = answer.version
        self._alarm.ring()

    def _is_ours(self, event: RecordedEvent) -> bool:
        return bool(msgspec.json.decode(event.metadata).get("correlation_id") == self._life)
