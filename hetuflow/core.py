"""Actors, scheduler and gateway over any event store: what the server runs and the simulation runs too.

No SQL and no HTTP. What only the tables know comes in as functions: which streams have open work, which
schedules a job has.
"""

from __future__ import annotations

import logging
import math
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from functools import partial
from typing import TypeVar

import trio
from attrs import Factory, evolve, frozen

from eventstore.codec import EventCodec
from eventstore.errors import EventStoreError
from eventstore.event import RecordedEvent
from eventstore.store import EventStore
from hetuflow.actors import ActorSystem, Limits
from hetuflow.actors.catalogue import event_codec
from hetuflow.actors.patience import FAILING, PASSING, STOPPING, Patience
from hetuflow.domain.commands import DisconnectAgent, StartServer, StopServer
from hetuflow.domain.decider import Address
from hetuflow.domain.deciders import DECIDERS
from hetuflow.domain.events import ScheduleUpdated, TaskRetryScheduled
from hetuflow.domain.rejection import Rejected
from hetuflow.gateway.files import FileRoom
from hetuflow.gateway.gateway import Gateway
from hetuflow.gateway.output import OutputSink
from hetuflow.gateway.settings import GatewaySettings
from hetuflow.gateway.usage import UsageSink
from hetuflow.history.recorded_commands import record
from hetuflow.ports.clock import Clock
from hetuflow.ports.ids import Ids
from hetuflow.scheduler.agenda import Agenda
from hetuflow.scheduler.alarm import Alarm
from hetuflow.scheduler.clocks import AgreedClock, ClockWatch
from hetuflow.scheduler.flow_graphs import FollowersOf
from hetuflow.scheduler.outside import Outside
from hetuflow.scheduler.reactions import Reactions, SchedulesOf
from hetuflow.scheduler.scheduler import Scheduler
from hetuflow.scheduler.trust import Timing
from projections.open_work import OPENS

T = TypeVar("T")

log = logging.getLogger(__name__)

FindOpen = Callable[[int], Awaitable[Sequence[Address]]]
"""(position) -> the streams with open work, as of at least that position."""

OPENING_TYPES = frozenset(cls.__name__ for cls in (*OPENS, TaskRetryScheduled, ScheduleUpdated))
"""Events after which a stream of which nothing was wanted here may want something: a task whose execution is driven over
the API wants nothing, and its retry wants a slot (seed 2025)."""
ASKING_MAX = 64

HELD_SECONDS = 0.02
"""After which a stream is looked at again whose actor is at work here: mostly it is our own work that we hear of."""


@frozen(slots=True, kw_only=True)
class CoreSettings:
    """`tasks_max`: instances at once in the whole cluster, `namespaces_max` by namespace, 0 = no limit. `ageing_seconds`:
    waiting that is worth one point of priority, 0 = none is. `address`: where the server is reached."""

    server_name: str
    version: str
    address: str
    gateway: GatewaySettings
    tick_seconds: float = 1.0
    tasks_max: int = 0
    namespaces_max: Mapping[str, int] = Factory(dict)
    ageing_seconds: int = 300
    server_lost_seconds: float = 10.0
    """Silence after which another server takes over: the same on all servers of a database."""
    clock_offset_seconds_max: float = 5.0
    """Against the clock of the database; beyond it nothing is fired."""
    event_depth_max: int = 8
    """Event schedules in one chain: beyond it an event makes no task."""
    stop_seconds: float = 5.0
    limits: Limits = Factory(Limits)

    @property
    def server_id(self) -> str:
        return self.gateway.server_id


@frozen(slots=True)
class Core:
    system: ActorSystem
    scheduler: Scheduler
    gateway: Gateway
    reactions: Reactions
    clock: Clock
    """What everything that is decided is dated by: never ahead of the clock of the database by more than the bound."""


@asynccontextmanager
async def open_core(
    store: EventStore,
    sink: OutputSink,
    clock: Clock,
    ids: Ids,
    settings: CoreSettings,
    *,
    find_open: FindOpen,
    schedules_of: SchedulesOf,
    followers_of: FollowersOf,
    files: FileRoom | None = None,
    usage: UsageSink | None = None,
    codec: EventCodec | None = None,
) -> AsyncIterator[Core]:
    """Start in this order; stop in the reverse order when the block ends.

    1. actors: commands can be asked
    2. the server says that it lives, and takes every lease unless another server decides that lives: from here on the
       decisions of an earlier life are refused
    3. it follows the log, from where it was at 1, loads everything open, and ends the sessions of its previous life
    4. the scheduler's duties; then the caller may let agents and clients in
    """
    core, agenda = _built(store, sink, clock, ids, settings, schedules_of, followers_of, codec, files, usage)
    system, scheduler, reactions = core.system, core.scheduler, core.reactions
    async with trio.open_nursery() as actors:
        await actors.start(system.run)
        begin = await _until_it_works(
            store.head
        )  # before the first actor is warm: what it does not hear, it never learns
        await _until_it_works(scheduler.peers.announce)
        await scheduler.leases.take_at_start()
        async with trio.open_nursery() as duties:
            position = await _until_it_works(store.head)
            elsewhere = WorkElsewhere(system)
            followed = Followed(begin)
            scheduler.read_log = partial(_read_log, store, core, followed, elsewhere)
            duties.start_soon(_follow, store, core, elsewhere, followed)
            duties.start_soon(elsewhere.run)
            await _recover(core, agenda, await _until_it_works(partial(find_open, position)))
            await duties.start(reactions.run)
            duties.start_soon(core.gateway.usage.run)
            await duties.start(scheduler.run)
            try:
                yield core
            finally:
                duties.cancel_scope.cancel()
        await _withdraw(core, settings)
        actors.cancel_scope.cancel()


@asynccontextmanager
async def open_idle_core(
    store: EventStore,
    sink: OutputSink,
    clock: Clock,
    ids: Ids,
    settings: CoreSettings,
    *,
    find_open: FindOpen,
    schedules_of: SchedulesOf,
    followers_of: FollowersOf,
    files: FileRoom | None = None,
    usage: UsageSink | None = None,
    codec: EventCodec | None = None,
) -> AsyncIterator[Core]:
    """The same without any duty, for a log that is only looked at: states can be read, nothing is decided, sent or
    written, and no agent is let in."""
    core, _ = _built(store, sink, clock, ids, settings, schedules_of, followers_of, codec, files, usage)
    core.gateway.stop_accepting()
    async with trio.open_nursery() as actors:
        await actors.start(core.system.run)
        yield core
        actors.cancel_scope.cancel()


def _built(
    store: EventStore,
    sink: OutputSink,
    clock: Clock,
    ids: Ids,
    settings: CoreSettings,
    schedules_of: SchedulesOf,
    followers_of: FollowersOf,
    codec: EventCodec | None,
    files: FileRoom | None,
    usage: UsageSink | None,
) -> tuple[Core, Agenda]:
    """The rooms, put together; nothing runs yet."""
    agenda = Agenda(
        settings.server_id,
        tasks_max=settings.tasks_max,
        namespaces_max=settings.namespaces_max,
        ageing_seconds=settings.ageing_seconds,
    )
    clocks = ClockWatch(settings.clock_offset_seconds_max)
    agreed = AgreedClock(clock, clocks)
    outside = Outside(agenda)
    system = ActorSystem(
        store, event_codec() if codec is None else codec, DECIDERS, outside, agreed, ids, settings.limits, record
    )
    announcement = StartServer(
        server_id=settings.server_id, name=settings.server_name, address=settings.address, version=settings.version
    )
    scheduler = Scheduler(
        system,
        store,
        agenda,
        outside,
        clock,
        announcement,
        life=ids.token(),
        timing=Timing(settings.server_lost_seconds),
        followers_of=followers_of,
        clocks=clocks,
        tick_seconds=settings.tick_seconds,
        event_depth_max=settings.event_depth_max,
    )
    gateway_settings = evolve(settings.gateway, store_id=settings.gateway.store_id or store.identity)
    gateway = Gateway(system, scheduler, sink, agreed, ids, gateway_settings, files, usage)
    scheduler.connect(gateway)
    reactions = Reactions(system, schedules_of)
    return Core(system, scheduler, gateway, reactions, agreed), agenda


# --- start ---------------------------------------------------------------------------------------------------------


async def _recover(core: Core, agenda: Agenda, addresses: Sequence[Address]) -> None:
    """Load everything open, and end in the log the sessions that ended with this server's previous life."""
    failed = await _until_it_works(lambda: core.system.activate(addresses))
    for address in addresses:
        if address.category == "server":
            core.scheduler.peers.note(address.id)
    for address in failed:
        log.error("%s cannot be loaded: what it wants does not happen until it can", address.stream_id)
    sessions = agenda.sessions_here()
    limiter = trio.CapacityLimiter(ASKING_MAX)

    async def disconnect(agent_id: str, session: str) -> None:
        async with limiter:
            try:
                await _until_it_works(
                    lambda: core.system.ask(
                        Address("agent", agent_id), DisconnectAgent(session=session, reason="server restarted")
                    )
                )
            except Rejected as no:
                log.info("agent %s: %s", agent_id, no)

    async with trio.open_nursery() as nursery:
        for agent_id, session in sessions:
            nursery.start_soon(disconnect, agent_id, session)
    log.info("loaded %d streams with open work; %d sessions of the previous life", len(addresses), len(sessions))


async def _until_it_works(ask: Callable[[], Awaitable[T]]) -> T:
    """Ask until the store can be reached."""
    patience = Patience(most_seconds=5.0)
    while True:
        try:
            return await ask()
        except PASSING as problem:
            pause = patience.failed(None)
            log.warning("%s; again in %.1f s", problem, pause)
            await trio.sleep(pause)


# --- the log -------------------------------------------------------------------------------------------------------


class Followed:
    """How far this process has followed the log."""

    def __init__(self, position: int) -> None:
        self.position = position
        self._moved = trio.Event()

    def reach(self, position: int) -> None:
        self.position = position
        self._moved.set()
        self._moved = trio.Event()

    async def until(self, position: int) -> None:
        while self.position < position:
            await self._moved.wait()


async def _read_log(store: EventStore, core: Core, followed: Followed, elsewhere: WorkElsewhere) -> None:
    """Return when all that is in the log now has its effects here."""
    await followed.until(await store.head())
    await elsewhere.until_known()
    await core.system.until_settled()


async def _follow(store: EventStore, core: Core, elsewhere: WorkElsewhere, followed: Followed) -> None:
    """What others append concerns us too: their events, leases taken, reactions, and work that they open."""
    try:
        async with store.subscribe(after=followed.position) as batches:
            async for batch in batches:
                for event in batch:
                    core.system.apply_foreign(event)
                    core.scheduler.leases.heard(event)
                    core.scheduler.peers.heard(event)
                    core.scheduler.dependencies.heard(event)
                    core.scheduler.file_watches.heard(event)
                    core.scheduler.following.heard(event)
                    core.scheduler.daemons.heard(event)
                    core.scheduler.flows.heard(event)
                    await core.reactions.heard(event)
                elsewhere.notice(batch)
                followed.reach(batch[-1].position)
    except STOPPING:
        pass  # the store was closed under us: the server is stopping


class WorkElsewhere:
    """Finds work that another server opened: its actors are activated here at once, with one read for many.

    An event does not say who appended it. What this process appended, or has read since, the kernel knows; where an
    actor is at work in this moment, the answer is there a moment later.
    """

    def __init__(self, system: ActorSystem) -> None:
        self._system = system
        self._noticed: dict[Address, int] = {}
        self._patience = Patience(most_seconds=2.0)
        self._alarm = Alarm()
        self._activated = trio.Event()
        self._under_way: Sequence[Address] = ()

    async def until_known(self) -> None:
        """Until all that was noticed so far is activated here."""
        noticed = {*self._noticed, *self._under_way}
        while noticed:
            await self._activated.wait()
            noticed = {each for each in noticed if each in self._noticed or each in self._under_way}

    def notice(self, batch: Sequence[RecordedEvent]) -> None:
        """Remember the streams with new work that this process does not know yet."""
        for event in batch:
            if event.type in OPENING_TYPES:
                address = Address.of_stream(event.stream_id)
                if not self._system.has_followed(address, event.version):
                    self._noticed[address] = event.version
        if self._noticed:
            self._alarm.ring()

    async def run(self) -> None:
        while True:
            await self._alarm.wait(math.inf if not self._noticed else HELD_SECONDS)
            await self._activate()
            self._activated.set()
            self._activated = trio.Event()

    async def _activate(self) -> None:
        due: list[Address] = []
        for address, version in list(self._noticed.items()):
            has_followed = self._system.has_followed(address, version)
            if has_followed is None:
                continue
            del self._noticed[address]
            if not has_followed:
                due.append(address)
        if not due:
            return
        log.debug("%d streams with work that another server opened", len(due))
        self._under_way = due
        try:
            failed = await self._system.activate(due)
        except STOPPING:
            return
        except (EventStoreError, *PASSING) as problem:
            log.warning("work that another server opened cannot be loaded yet: %s", problem)
            for address in due:
                self._noticed.setdefault(address, 1)
            await trio.sleep(self._patience.failed(None))
        else:
            self._patience.worked(None)
            for address in failed:
                log.error("%s cannot be loaded: what it wants does not happen until it can", address.stream_id)
        self._under_way = ()


# --- stop ----------------------------------------------------------------------------------------------------------


async def _withdraw(core: Core, settings: CoreSettings) -> None:
    """Give the leases up and say goodbye, within a deadline: the next start copes without."""
    with trio.move_on_after(settings.stop_seconds):
        try:
            await core.scheduler.leases.release_all()
            await core.system.ask(Address("server", settings.server_id), StopServer())
        except (Rejected, *FAILING, *STOPPING) as problem:
            log.warning("the end of this server is not recorded: %s", problem)
