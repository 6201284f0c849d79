"""What happens in a run: operators at work, two schedules, and what goes wrong; drawn from one seed, in two phases.

Phase one has faults and everybody is busy; phase two heals everything and asks whether all due work ends. The safety
checks hold at the end of both, for they read the whole log and all that the machines ever ran.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable

import structlog
import trio
from attrs import define, field

from eventstore.errors import EventStoreError
from hetuflow.actors import ActorError
from hetuflow.domain.commands import (
    CancelTask,
    CreateJob,
    CreateSchedule,
    CreateTask,
    DisableSchedule,
    EnableSchedule,
    RetryTask,
)
from hetuflow.domain.decider import Address, Guard
from hetuflow.domain.enums import ScheduleKind
from hetuflow.domain.job import snapshot
from hetuflow.domain.rejection import Rejected
from projections.tables import LIVE_TABLES
from tests.simulation.checkers import Verdict, check_safety, is_quiet
from tests.simulation.cluster import LEASE_SECONDS, Cluster, Host
from tests.support.ports import SeededIds
from tests.support.simulate import log_hash, run

log = logging.getLogger("simulation")

BUSY_SECONDS = 150.0
SETTLE_SECONDS_MAX = 240.0
"""After everything healed: a lease with margin, retries with their intervals, the longest programs, a back-off."""

LEFTOVERS_SECONDS_MAX = 3.0
"""How long an agent stays dead beside its processes: with a heartbeat (4 s) and their grace (10 s) less than a lease."""

CLOSING_SECONDS = 15.0
"""For the last reports, acknowledgements and output."""


@define(slots=True, eq=False)
class Operators:
    """Users of the cluster. What they are told may be lost, so they ask again with the same ids."""

    cluster: Cluster
    ids: SeededIds = field(init=False)
    jobs: list[str] = field(factory=list)
    schedules: list[str] = field(factory=list)
    tasks: list[str] = field(factory=list)
    cancelled: dict[str, float] = field(factory=dict)
    """Task -> when a cancel was acknowledged."""
    done: dict[str, int] = field(factory=dict)

    def __attrs_post_init__(self) -> None:
        self.ids = SeededIds(f"{self.cluster.seed} operators", self.cluster.clock)

    async def insist(self, what: str, ask: Callable[[], Awaitable[object]]) -> bool:
        """Ask until there is an answer; False when the answer is no."""
        while True:
            try:
                await ask()
            except Rejected as no:
                if no.code != "already_exists":
                    return False
            except (EventStoreError, ActorError, LookupError) as problem:
                log.debug("%s: %r, again", what, problem)
                await trio.sleep(0.5)
                continue
            self.done[what] = self.done.get(what, 0) + 1
            return True

    async def create_job(self, name: str, *args: str, labels: dict[str, str] | None = None, **config: object) -> str:
        job_id = str(self.ids.uuid7())
        members = {"cmd": "program", "args": list(args), "labels": labels, **config}
        await self.insist(
            "create job", lambda: self._ask("job", job_id, CreateJob(job_id=job_id, name=name, config=members))
        )
        self.jobs.append(job_id)
        return job_id

    async def create_schedule(self, job_id: str, **members: object) -> str:
        schedule_id = str(self.ids.uuid7())

        async def ask() -> None:
            job = await self._system.read(Address("job", job_id))
            guards = (Guard(f"job-{job_id}", job.version),)
            command = CreateSchedule(schedule_id=schedule_id, job_id=job_id, guards=guards, **members)  # type: ignore[arg-type]
            await self._ask("schedule", schedule_id, command)

        await self.insist("create schedule", ask)
        self.schedules.append(schedule_id)
        return schedule_id

    async def run_now(self, job_id: str) -> str:
        task_id = str(self.ids.uuid7())

        async def ask() -> None:
            reading = await self._system.read(Address("job", job_id))
            job = snapshot(reading.state, reading.version)
            labels = tuple(sorted((job.config.get("labels") or {}).items()))
            assert self.cluster.server is not None
            with self.cluster.server.core.scheduler.reserved(labels, job.agent_id, job_id) as placement:
                command = CreateTask(task_id=task_id, job=job, trigger="run", placement=placement)
                await self._ask("task", task_id, command)

        await self.insist("run", ask)
        self.tasks.append(task_id)
        return task_id

    async def cancel(self, task_id: str) -> None:
        if await self.insist("cancel", lambda: self._ask("task", task_id, CancelTask())):
            self.cancelled.setdefault(task_id, trio.current_time())

    async def retry(self, task_id: str) -> None:
        self.cancelled.pop(task_id, None)  # before asking: the answer may be lost (seed 5085)
        await self.insist("retry", lambda: self._ask("task", task_id, RetryTask()))

    async def disable(self, schedule_id: str) -> None:
        await self.insist("disable", lambda: self._ask("schedule", schedule_id, DisableSchedule()))

    async def enable(self, schedule_id: str) -> None:
        await self.insist("enable", lambda: self._ask("schedule", schedule_id, EnableSchedule()))

    @property
    def _system(self):  # type: ignore[no-untyped-def]
        if self.cluster.server is None:
            raise LookupError("the server is down")  # what a refused connection is to a client
        return self.cluster.server.system

    async def _ask(self, category: str, entity: str, command: object) -> None:
        await self._system.ask(Address(category, entity), command)


@define(slots=True, eq=False)
class Faults:
    """What goes wrong. Which kinds, and how often, is drawn once per run: some runs are quiet in some respect."""

    cluster: Cluster
    weights: dict[str, int] = field(init=False)
    injected: dict[str, int] = field(factory=dict)
    _killed: dict[str, float] = field(factory=dict)

    KINDS = ("cut", "silence", "drop", "kill agent", "power off", "kill server")

    def __attrs_post_init__(self) -> None:
        draw = self.cluster.rng
        self.weights = {kind: draw.choice([0, 1, 3]) for kind in self.KINDS}
        self.weights["drop"] += 1  # so that there is one kind at least
        store = self.cluster.store_faults
        store.before_rate, store.after_rate = draw.choice([0, 0.01, 0.05]), draw.choice([0, 0.01, 0.05, 0.3])
        store.read_rate, store.slow_rate = draw.choice([0, 0.02]), draw.choice([0, 0, 0.01])

    async def strike(self) -> None:
        """One fault, carried to its healing."""
        draw = self.cluster.rng
        first = [
            kind for kind in ("cut", "kill agent", "kill server") if kind not in self.injected
        ]  # these in every run
        kind = first[0] if first else draw.choices(self.KINDS, [self.weights[kind] for kind in self.KINDS])[0]
        host = self.cluster.hosts[draw.choice(sorted(self.cluster.hosts))]
        seconds = draw.choice([0.5, 2, 8, 15, 40])
        if kind == "kill agent" and self._was_killed_lately(host):
            kind = "power off"
        self.injected[kind] = self.injected.get(kind, 0) + 1
        log.info("fault: %s (%s, %s s)", kind, host.name, seconds)
        network = self.cluster.network
        if kind == "cut":
            network.cut(host.name)
            await trio.sleep(seconds)
            network.heal(host.name)
        elif kind == "silence":
            network.silence(host.name)
            await trio.sleep(seconds)
            network.heal(host.name)
        elif kind == "drop":
            network.drop(host.name)
        elif kind in ("kill agent", "power off"):
            await self._kill(host, kind, seconds)
        elif kind == "kill server":
            await self.cluster.kill_server()
            is_first = self.injected[kind] == 1
            await trio.sleep(max(seconds, 16) if is_first else seconds)  # long enough for several missed nominal times
            await self.cluster.start_server()

    def _was_killed_lately(self, host: Host) -> bool:
        """A killed agent leaves its processes running, and nobody ends them before it is started again.

        So it is started soon, and not killed twice within a lease: the agent has no keeper yet that would enforce the
        lease in its place, and a process that ignores SIGTERM would outlive it (seed 15 found that).
        """
        return trio.current_time() - self._killed.get(host.name, float("-inf")) < 2 * LEASE_SECONDS

    async def _kill(self, host: Host, kind: str, seconds: float) -> None:
        self._killed[host.name] = trio.current_time()
        host.kill(with_machine=kind == "power off")
        await host.ended.wait()
        await trio.sleep(seconds if kind == "power off" else min(seconds, LEFTOVERS_SECONDS_MAX))
        await host.start()

    def heal(self) -> None:
        self.cluster.store_faults.heal()
        for name in sorted(self.cluster.hosts):
            self.cluster.network.heal(name)


@define(slots=True, eq=False)
class Outcome:
    """One run: its verdict, what was reached, and the hash of its log."""

    seed: int
    hash: str
    events: int
    processes: int
    seconds: float
    verdict: Verdict
    reached: dict[str, int]

    def __str__(self) -> str:
        reached = ", ".join(f"{name} {count}" for name, count in sorted(self.reached.items()))
        lines = [
            f"seed {self.seed}: {self.events} events, {self.processes} processes, {self.seconds:.0f} virtual seconds",
            f"  reached: {reached}",
            f"  log {self.hash}",
            *(f"  VIOLATED {line}" for line in self.verdict.violations),
        ]
        return "\n".join(lines)


def simulate(seed: int) -> Outcome:
    """One run, from nothing to quiet. Raises nothing for a violated promise: the outcome says so."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    return run(seed, _simulate, seed)


async def _simulate(seed: int) -> Outcome:
    cluster = Cluster(seed)
    verdict = Verdict()
    operators = Operators(cluster)
    began = trio.current_time()
    async with trio.open_nursery() as nursery:
        cluster.nursery = nursery
        await cluster.start_server()
        await cluster.add_host("agent-1", slots=3, labels={"zone": "a"})
        await cluster.add_host("agent-2", slots=2, labels={"zone": "b"})
        faults = Faults(cluster)
        with trio.move_on_after(BUSY_SECONDS):
            async with trio.open_nursery() as busy:
                busy.start_soon(_work, operators)
                busy.start_soon(_strike_forever, faults)
        await _settle(cluster, operators, faults, verdict)
        check_safety(cluster, operators, verdict)
        await _check_actors(cluster, verdict)
        nursery.cancel_scope.cancel()
    reached = {**operators.done, **faults.injected, **cluster.store_faults.seen, **verdict.seen}
    return Outcome(
        seed,
        log_hash(cluster.log.events),
        len(cluster.log.events),
        sum(len(host.machine.history) for host in cluster.hosts.values()),
        trio.current_time() - began,
        verdict,
        reached,
    )


async def _work(operators: Operators) -> None:
    draw = operators.cluster.rng
    quick = await operators.create_job("quick", "seconds=0.2", "output=400")
    steady = await operators.create_job("steady", "seconds=3", "output=100", max_retries=5, retry_interval=1)
    failing = await operators.create_job("failing", "seconds=0.5", "exit=3", max_retries=2, retry_interval=2)
    flaky = await operators.create_job("flaky", "exit_below_epoch=2", max_retries=3, retry_interval=1)
    slow = await operators.create_job("slow", "seconds=40", "ignore_term", max_retries=4, retry_interval=1)
    picky = await operators.create_job("picky", "seconds=1", labels={"zone": "b"}, retry_interval=1)
    late = await operators.create_job("late", "seconds=30", timeout=4, max_retries=0)
    missing = await operators.create_job("missing", cmd="nowhere", max_retries=1, retry_interval=1)
    every = await operators.create_schedule(
        quick, schedule_kind=int(ScheduleKind.INTERVAL), interval_secs=5, misfire_grace_seconds=3
    )
    await operators.create_schedule(
        steady, schedule_kind=int(ScheduleKind.CRON), cron_expression="*/20 * * * * ?", priority=5
    )
    jobs = [quick, steady, failing, flaky, slow, picky, late, missing]
    for job in jobs:
        await operators.run_now(job)
    await operators.cancel(operators.tasks[4])  # a slow one that ignores SIGTERM, very likely running
    while True:
        await trio.sleep(draw.uniform(0.5, 6))
        action = draw.choice(["run", "run", "run", "cancel", "retry", "pause", "burst"])
        if action == "run":
            await operators.run_now(draw.choice(jobs))
        elif action == "burst":
            async with trio.open_nursery() as nursery:
                for _ in range(draw.randint(2, 8)):
                    nursery.start_soon(operators.run_now, draw.choice([quick, flaky, picky]))
        elif action == "cancel":
            await operators.cancel(draw.choice(operators.tasks))
        elif action == "retry":
            await operators.retry(draw.choice(operators.tasks))
        elif action == "pause":
            await operators.disable(every)
            await trio.sleep(draw.uniform(1, 20))
            await operators.enable(every)


async def _strike_forever(faults: Faults) -> None:
    draw = faults.cluster.rng
    await trio.sleep(draw.uniform(2, 10))
    while True:
        # A fault and its healing are carried to the end: who is cancelled in between leaves a cluster without a server.
        with trio.CancelScope(shield=True):
            await faults.strike()
        await trio.sleep(draw.uniform(1, 25))


async def _settle(cluster: Cluster, operators: Operators, faults: Faults, verdict: Verdict) -> None:
    """Heal everything, stop making work, and require that all that was due ends."""
    faults.heal()
    for schedule_id in operators.schedules:
        await operators.disable(schedule_id)
        await operators.enable(schedule_id)
    await trio.sleep(45)  # the schedules fire again
    for schedule_id in operators.schedules:
        await operators.disable(schedule_id)
    with trio.move_on_after(SETTLE_SECONDS_MAX):
        while not is_quiet(cluster):  # noqa: ASYNC110 - nobody tells when a whole cluster is quiet
            await trio.sleep(1)
        await trio.sleep(CLOSING_SECONDS)
        return
    verdict.fail("V1", "work is left although everything has healed", cluster.unfinished())


async def _check_actors(cluster: Cluster, verdict: Verdict) -> None:
    """L3: what an actor says of itself is the fold of its stream, and what the tables show of it."""
    assert cluster.server is not None
    readings = await cluster.server.system.read_many(cluster.addresses())
    verdict.check_states(cluster.log, readings)
    verdict.check_rows(readings, cluster.tables(LIVE_TABLES))
    statistics = cluster.server.system.statistics()
    if statistics.crashes or statistics.quarantines or statistics.to_recover:
        verdict.fail("kernel", "an actor crashed or is unsettled", statistics)
