"""Composes the agent out of its parts and the seven ports; the order of start and stop is the order of lines here."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from enum import Enum
from functools import partial
from typing import Final

import structlog
import trio
from attrs import Factory, evolve, field, frozen

from agent.condition import facts_of, refusal_facts
from agent.connection import Connection
from agent.directories import Directories, PlainDirectories
from agent.executor import Executor
from agent.identity import keep_store_id, kept_store_id
from agent.instance_tree import InstanceTree
from agent.journal import Journal, Key
from agent.keeper.messages import Attach
from agent.keeping import KeeperError, Keepers
from agent.limits import KILL_GRACE_SECONDS
from agent.log_ring import LogRing
from agent.policy import Facts, PlainFacts
from agent.preparation import Preparations
from agent.profile import Gauges, NoGauges, Profile
from agent.recovery import next_incarnation, note_boot, recover_output, ship_again, why_forgotten
from agent.reports import Reports
from agent.shipping import Shipping
from agent.status import Status
from agent.storage import FEATURES, Storage
from agent.wakeup import Wakeup
from agent.watching import Watching
from agent.work import Work
from agent.workplace import Leftovers, NoLeftovers, StopOrder, Workplace
from hetuflow.ports.clock import Clock
from hetuflow.ports.disk import Disk, DiskError
from hetuflow.ports.files import FileWatcher, NoFileWatcher
from hetuflow.ports.ids import Ids
from hetuflow.ports.network import Dialer
from hetuflow.ports.randomness import Random

log = structlog.get_logger()

FLUSH_SECONDS_MAX: Final = 5.0
"""How long a stopping agent waits for the acknowledgement of its last reports; the journal keeps what is left."""
LEAVE_SECONDS_MAX: Final = 2.0
CLEARED_SECONDS_MIN: Final = 60.0
"""What an operator's ClearCache leaves: directories so young may be about to be used."""
STOPPED: Final = "the agent was stopped"
RESTARTS: Final = "the agent restarts"


class Farewell(Enum):
    """How a life of the agent ends."""

    STOPPED = "stopping"
    """Running work is ended."""
    DRAINED = "draining"
    """Running work is finished, and nothing new taken; then comes the next life."""
    KEPT = "keeping"
    """Running work is left to the keeper; the next life comes at once."""


@frozen(slots=True, kw_only=True)
class Ports:
    """The world, as the agent meets it."""

    clock: Clock
    ids: Ids
    random: Random
    disk: Disk
    dialer: Dialer
    keepers: Keepers
    directories: Directories = field()
    """Made with plain mkdir and rmdir unless given."""
    leftovers: Leftovers = field(factory=NoLeftovers)
    gauges: Gauges = field(factory=NoGauges)
    facts: Facts = field(factory=PlainFacts)
    log_ring: LogRing = field(factory=LogRing)
    files: FileWatcher = field(factory=NoFileWatcher)
    tree: InstanceTree | None = None
    """None: jobs are given no files here, and leave none."""
    base_environment: Mapping[str, str] = Factory(dict)
    preparations: Preparations = Factory(Preparations)
    tell: Callable[[Status], None] = lambda status: None
    """Hears how the agent is, whenever that changes."""

    @directories.default
    def _plain(self) -> Directories:
        return PlainDirectories(self.disk)


class Agent:
    """One life of an agent. `run` once; `request_stop` from anywhere in the same trio loop."""

    def __init__(self, profile: Profile, ports: Ports) -> None:
        self.profile = profile if ports.tree is None else evolve(profile, features=(*profile.features, *FEATURES))
        self._ports = ports
        self.incarnation = 0
        self.executor: Executor | None = None
        self.connection: Connection | None = None
        self.farewell: Farewell | None = None
        """How `run` is to end, or has ended; None = it goes on."""
        self._ending = Wakeup()
        self._changed = Wakeup()

    def __repr__(self) -> str:
        running = self.executor.active_count if self.executor is not None else 0
        linked = self.connection is not None and self.connection.is_open
        return f"<Agent {self.profile.agent_id}#{self.incarnation}: {running} running, {'' if linked else 'not '}connected>"

    def request_stop(self) -> None:
        """End running work, tell the server, and let `run` return."""
        self.farewell = Farewell.STOPPED
        self._ending.set()

    def request_restart(self, farewell: Farewell) -> None:
        """Let `run` return so that another life can follow. Without effect while the agent is stopping."""
        if self.farewell is not Farewell.STOPPED:
            self.farewell = farewell
            self._ending.set()

    async def run(self, *, task_status: trio.TaskStatus[Agent] = trio.TASK_STATUS_IGNORED) -> None:
        """Until stopped or cancelled. Raises `DiskError` when the state directory cannot be used at all, `KeeperError` when
        there can be no keeper.

        Cancelled without a stop, it says nothing to anybody, and its keeper goes on.
        """
        ports, profile = self._ports, self.profile
        ports.disk.make_private_dir(profile.state_dir)
        self.incarnation = next_incarnation(ports.disk, profile.state_dir)
        forgotten = why_forgotten(ports.disk, profile.state_dir, profile.boot_id)
        journal = Journal.open(ports.disk, f"{profile.state_dir}/journal")
        if journal.damage is not None:
            log.error("the journal was damaged", problem=journal.damage)
        ready = Wakeup()
        shipping = Shipping(lambda problem: log.error("output is lost", error=problem))
        storage = Storage(profile, ports.disk, ports.clock, ports.tree, shipping, ready)
        found = recover_output(ports.disk, profile.work_dir, journal)
        reports = Reports(journal, ports.ids, ready, ship_again(found, journal, shipping))
        shipping.note = reports.stored
        attach = Attach(agent_id=profile.agent_id, incarnation=self.incarnation, version=profile.version)
        self.executor = Executor(self._workplace(storage), ports.keepers, attach, reports, shipping, ready)
        storage.held = self.executor.keys
        storage.clean_up.also = self._clean_what_is_kept
        left = [entry for entry in journal.entries.values() if entry.ended is None]
        work = Work(
            profile, self.incarnation, ports.ids.token(), self.executor, reports, shipping, ports.gauges, storage
        )
        work.store_id = kept_store_id(ports.disk, profile.state_dir)
        work.store_changed = self._keep_store
        work.stop = self.request_stop
        work.log_ring = ports.log_ring
        facts = facts_of(profile, self.incarnation, ports.clock.now())
        executor = self.executor
        work.facts = lambda: {
            **facts,
            **executor.keeper_facts,
            **refusal_facts(storage.clean_up.problem() or executor.keeper_problem),
        }
        work.clear_cache = partial(storage.clean_up.clear, CLEARED_SECONDS_MIN)
        watching = Watching(profile.agent_id, self.incarnation, reports, ports.files, ports.clock)
        work.watch = watching.want
        self.connection = Connection(work, ports.dialer, ports.random, ready)
        work.changed = self._changed.set
        problem: KeeperError | None = None
        try:
            async with trio.open_nursery() as nursery:
                await nursery.start(partial(self.executor.run, left, why_forgotten=forgotten))
                if forgotten is not None:
                    nursery.start_soon(self._note_boot, [entry.key for entry in left], reports)
                nursery.start_soon(reports.run)
                nursery.start_soon(self.connection.watch_lease)
                nursery.start_soon(self.connection.run)
                storage.ship_again()
                nursery.start_soon(storage.clean_up.run)
                nursery.start_soon(watching.run)
                adopted = self.executor.active_count
                log.info(
                    "agent started",
                    agent_id=profile.agent_id,
                    incarnation=self.incarnation,
                    adopted=adopted,
                    ended_meanwhile=len(left) - adopted,
                )
                nursery.start_soon(self._tell, work)
                task_status.started(self)
                await self._ending.wait()
                await self._end(work, ready)
                nursery.cancel_scope.cancel()
        except* KeeperError as group:
            problem = _first(group)
        finally:
            ports.directories.close()
            journal.close()
        if problem is not None:
            raise problem

    async def _note_boot(self, left: Sequence[Key], reports: Reports) -> None:
        """A life that ends before that leaves it to the next to say what nobody knows of."""
        assert self.executor is not None
        await self.executor.wait_sorted_out(left)
        if all(map(reports.is_kept, left)):
            note_boot(self._ports.disk, self.profile.state_dir, self.profile.boot_id)

    async def _tell(self, work: Work) -> None:
        while True:
            self._ports.tell(
                Status(
                    state=self.farewell.value if self.farewell is not None else "running",
                    incarnation=self.incarnation,
                    connected=self.connection is not None and self.connection.is_open,
                    running=work.executor.active_count,
                )
            )
            await self._changed.wait()

    async def _end(self, work: Work, ready: Wakeup) -> None:
        """Stop intake, end work or wait for its end, report, with a deadline for each. What is wanted may change meanwhile: a
        stop ends a drain, and what a restart was about to leave running."""
        how = None
        while how is not self.farewell:
            how = self.farewell
            await self._end_as_wanted(work, ready)

    async def _end_as_wanted(self, work: Work, ready: Wakeup) -> None:
        """Until something else is."""
        how = self.farewell
        log.info("stopping", how=self._how(), instances=work.executor.active_count)
        work.stopping = STOPPED if self.farewell is Farewell.STOPPED else RESTARTS
        work.executor.refuse_from_now(StopOrder("lost", work.stopping, KILL_GRACE_SECONDS))
        ready.set()
        self._changed.set()
        if how is Farewell.DRAINED:
            await self._while_wanted(partial(self._wait_drained, work))
            if self.farewell is not how:
                return
        if how is Farewell.STOPPED:
            work.executor.stop_all(StopOrder("lost", STOPPED, KILL_GRACE_SECONDS))
            await work.executor.wait_empty()
        if how is not Farewell.KEPT or (self.connection is not None and self.connection.is_open):
            with trio.move_on_after(FLUSH_SECONDS_MAX) as patience:
                await self._while_wanted(work.reports.wait_drained)
            if patience.cancelled_caught:
                log.warning("reports will be sent at the next start", reports=work.reports.unacked_count)
        with trio.move_on_after(LEAVE_SECONDS_MAX):
            await work.executor.leave(for_good=how is not Farewell.KEPT)

    def _how(self) -> str:
        return self.farewell.value if self.farewell is not None else ""

    async def _wait_drained(self, work: Work) -> None:
        """Until nothing runs any more."""
        while work.executor.active_count:
            await work.executor.wait_fewer()
            self._changed.set()

    async def _while_wanted(self, wait: Callable[[], Awaitable[None]]) -> None:
        """Wait, until something else is wanted than now."""
        how = self.farewell
        async with trio.open_nursery() as nursery:

            async def watch() -> None:
                while self.farewell is how:
                    await self._ending.wait()
                nursery.cancel_scope.cancel()

            nursery.start_soon(watch)
            await wait()
            nursery.cancel_scope.cancel()

    async def _clean_what_is_kept(self) -> None:
        assert self.executor is not None
        held = frozenset(known.instance_id for known in self.executor.known())
        for clean in self._ports.preparations.cleaners:
            try:
                removed = await clean(held)
            except OSError as problem:
                log.warning("what is kept between instances cannot be cleaned", error=str(problem))
                continue
            if removed:
                log.info("removed what no instance has used for long", count=removed)

    def _keep_store(self, store_id: str) -> None:
        try:
            keep_store_id(self._ports.disk, self.profile.state_dir, store_id)
        except DiskError as problem:  # it is said again at the next connection
            log.error("the event store's id cannot be kept", error=str(problem))

    def _workplace(self, storage: Storage) -> Workplace:
        ports = self._ports
        return Workplace(
            work_dir=self.profile.work_dir,
            slots=self.profile.slots,
            base_environment=ports.base_environment,
            disk=ports.disk,
            clock=ports.clock,
            directories=ports.directories,
            preparations=storage.preparations(ports.preparations),
            refusal=storage.clean_up.refusal,
            leftovers=ports.leftovers,
            policy=self.profile.policy,
            facts=ports.facts,
        )


def _first(group: BaseExceptionGroup[KeeperError]) -> KeeperError:
    inner: BaseException = group
    while isinstance(inner, BaseExceptionGroup):
        inner = inner.exceptions[0]
    assert isinstance(inner, KeeperError)
    return inner
