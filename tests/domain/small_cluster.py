"""The deciders together on one log, and a model of what their intents bring about: servers, agents, processes.

Two servers decide from the log and commit later, so that what they decided may be out of date; both may believe that the
lease is theirs. Agents run what is wanted of them. `Judge` sees each committed event and each process, and holds the
promises; it reads no state of a task.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, TypeVar

from attrs import Factory, define

from hetuflow.domain.commands import ReportEnded, ReportStarted
from hetuflow.domain.decider import Address, Available, Decision, Guard, Occupy, Placement, Send, Stop
from hetuflow.domain.deciders import DECIDERS
from hetuflow.domain.events import (
    AgentConnected,
    AgentDisconnected,
    AgentDrained,
    AgentUndrained,
    InstanceCancelled,
    InstanceFailed,
    InstanceStarted,
    InstanceSucceeded,
    InstanceTakenOver,
    JobDeleted,
    JobDisabled,
    JobEnabled,
    ScheduleFired,
    ScheduleSkipped,
    TaskCancelled,
    TaskCreated,
    TaskDependencySettled,
    TaskDispatched,
    TaskFailed,
    TaskReopened,
    TaskRequeued,
    TaskSucceeded,
)
from tests.support.given import NOW
from tests.support.stored import stored

Wish = TypeVar("Wish")

MAX_RETRIES = 1
SLOTS = 2
INTERVAL = timedelta(seconds=30)
ENDS = {TaskFailed: 90, TaskCancelled: 99, TaskSucceeded: 100}

Key = tuple[str, int]
"""Instance and epoch."""


@define(eq=False)
class InFlight:
    """A decision on its way to the store. `agents`: whose slots its server keeps for it."""

    address: Address
    command: Any
    version: int
    decision: Decision
    server: str | None = None
    agents: Sequence[str] = ()


class Judge:
    """Sees what is committed and what runs, in order."""

    def __init__(self) -> None:
        self.job_enabled: dict[str, bool] = defaultdict(lambda: True)
        self.jobs_gone: set[str] = set()
        self.agent_on: dict[str, str] = {}
        self.draining: set[str] = set()
        self.covered: dict[str, list[datetime]] = defaultdict(list)
        self.task_of_fire: set[str] = set()
        self.awaited: dict[str, set[str]] = {}
        self.on_failure: dict[str, str] = {}
        self.ended_as: dict[str, set[int]] = defaultdict(set)
        self.is_open: dict[str, bool] = {}
        self.live: dict[str, tuple[str, Key]] = {}
        self.epoch: dict[str, int] = defaultdict(int)
        self.driven: set[str] = set()
        self.runs: dict[str, int] = defaultdict(int)
        self.starts: dict[str, int] = defaultdict(int)
        self.dispatched: set[Key] = set()

    def sees(self, address: Address, event: Any, now: datetime) -> None:
        match event:
            case JobDisabled() | JobEnabled():
                self.job_enabled[event.job_id] = type(event) is JobEnabled
            case JobDeleted():
                self.jobs_gone.add(event.job_id)
            case AgentConnected():
                self.agent_on[event.agent_id] = event.session
            case AgentDisconnected():
                assert self.agent_on.pop(event.agent_id) == event.session
            case AgentDrained():
                self.draining.add(event.agent_id)
            case AgentUndrained():
                self.draining.discard(event.agent_id)
            case ScheduleFired():
                assert self.job_enabled[event.job_id] and event.job_id not in self.jobs_gone, "a switched-off job fires"
                assert event.nominal_at <= now and event.task_id not in self.task_of_fire
                self.task_of_fire.add(event.task_id)
                self._covers(address.id, event.nominal_at, event.nominal_at)
            case ScheduleSkipped():
                self._covers(address.id, event.first_nominal_at, event.last_nominal_at)
            case _ if address.category == "task":
                self._sees_task(address.id, event)

    def _covers(self, schedule_id: str, first: datetime, last: datetime) -> None:
        """F1, F3: from where the cursor stands, without a gap, nothing twice."""
        covered = self.covered[schedule_id]
        at = first
        while at <= last:
            assert at == NOW + (len(covered) + 1) * INTERVAL, f"{at} is covered out of its turn"
            covered.append(at)
            at += INTERVAL

    def _sees_task(self, task_id: str, event: Any) -> None:
        match event:
            case TaskCreated():
                assert event.job_id not in self.jobs_gone, "a task of a deleted job was made"
                self.awaited[task_id] = set((event.dependencies or {}).get("task_ids", ()))
                self.on_failure[task_id] = (event.dependencies or {}).get("on_failure", "cancel")
                self.is_open[task_id] = True
            case TaskReopened():
                self.awaited[task_id] = set(event.waits_for)
                if not self.is_open[task_id]:
                    self.starts[task_id] = self.runs[task_id] = 0
                self.is_open[task_id] = True
            case TaskDependencySettled():
                self.awaited[task_id].remove(event.dependency_id)
                assert event.status in self.ended_as[event.dependency_id], "it had never ended so"
            case InstanceTakenOver():
                assert task_id not in self.live, "taken from an agent that holds it"
                self.driven.add(event.instance_id)
                self.awaited[task_id] = set()
            case TaskDispatched():
                assert not self.awaited[task_id], "dispatched while it waits"
                assert task_id not in self.live and event.epoch > self.epoch[task_id], "T2"
                assert event.instance_id not in self.driven, "an agent gets what is driven from outside"
                assert self.agent_on.get(event.agent_id) == event.session, "dispatched to a session that is over"
                assert event.agent_id not in self.draining, "dispatched to an agent that was drained"
                key = (event.instance_id, event.epoch)
                self.live[task_id], self.epoch[task_id] = (event.agent_id, key), event.epoch
                self.dispatched.add(key)
            case InstanceStarted():
                if event.instance_id not in self.driven:
                    assert self.live[task_id][1] == (event.instance_id, event.epoch), "T3"
                self.starts[task_id] += 1
                assert self.starts[task_id] <= 1 + MAX_RETRIES, "T4"
            case TaskRequeued() | InstanceSucceeded() | InstanceFailed() | InstanceCancelled():
                if event.instance_id not in self.driven and task_id in self.live:
                    assert self.live.pop(task_id)[1] == (event.instance_id, event.epoch), "T3"
            case TaskFailed() | TaskCancelled() | TaskSucceeded():
                assert task_id not in self.live, "T2: it has ended and lives"
                self.ended_as[task_id].add(ENDS[type(event)])
                self.is_open[task_id] = False

    def runs_now(self, key: Key, task_id: str, running: Sequence[tuple[Key, str]]) -> None:
        """A process is about to start."""
        assert key in self.dispatched, "a process that was never dispatched"
        assert all(other != task_id for _, other in running), "T2: two processes of a task"
        self.runs[task_id] += 1
        assert self.runs[task_id] <= 1 + MAX_RETRIES, "T4: it ran too often"


@define(eq=False)
class Agent:
    """A machine with an agent. `journal`: what it has to report until somebody has said that it is recorded."""

    name: str
    session: str | None = None
    known: set[Key] = Factory(set)
    running: dict[Key, Send] = Factory(dict)
    journal: list[tuple[str, ReportStarted | ReportEnded]] = Factory(list)
    sent: list[Send] = Factory(list)

    def receives(self, send: Send, cluster: SmallCluster) -> None:
        """An order, perhaps once more."""
        key = (send.instance_id, send.epoch)
        self.sent.append(send)
        if key in self.known:
            return
        self.known.add(key)
        assert len(self.running) < SLOTS, "T6: more orders than slots"
        cluster.judge.runs_now(key, send.order.task_id, list(cluster.processes()))
        self.running[key] = send
        said = ReportStarted(instance_id=key[0], agent_id=self.name, epoch=key[1], started_at=cluster.now)
        self.journal.append((send.order.task_id, said))

    def ends(self, key: Key, task_id: str, reason: str | None, now: datetime) -> None:
        """A process ended, or never was."""
        ran = self.running.pop(key, None)
        end = ReportEnded(
            instance_id=key[0],
            agent_id=self.name,
            epoch=key[1],
            reason=reason,
            started_at=None if ran is None else now,
            completed_at=now,
            duration_seconds=0.0,
            exit_code=3 if reason == "exit_code" else None if reason else 0,
        )
        self.journal.append((task_id, end))


class SmallCluster:
    """The log, the states folded from it, and what is on its way. Nothing here decides: the deciders do."""

    def __init__(self) -> None:
        self.now = NOW
        self.streams: dict[Address, list[Any]] = defaultdict(list)
        self.states: dict[Address, Any] = {}
        self.in_flight: list[InFlight] = []
        self.lease: dict[str, Guard] = {}
        """Server -> the lease as it last took it, whoever has taken it since."""
        self.agents = {name: Agent(name) for name in ("agent-1", "agent-2")}
        self.judge = Judge()
        self.numbers = 0
        self.refused: Counter[str] = Counter()
        """Commands whose decision came too late."""

    def new_id(self) -> str:
        self.numbers += 1
        return f"01890000-0000-7000-8000-{self.numbers:012x}"

    # --- the log -----------------------------------------------------------------------------------------------------

    def state(self, address: Address) -> Any:
        return self.states.get(address, DECIDERS[address.category].initial)

    def of(self, category: str) -> dict[str, Any]:
        return {address.id: state for address, state in self.states.items() if address.category == category}

    def decide(self, address: Address, command: Any, server: str | None = None, agents: Sequence[str] = ()) -> InFlight:
        """Raises `Rejected`."""
        decision = DECIDERS[address.category].decide(command, self.state(address), self.now)
        return InFlight(address, command, len(self.streams[address]), decision, server, agents)

    def commit(self, flight: InFlight) -> bool:
        """All or nothing, as the store does it; False when it is refused."""
        decision = flight.decision
        holds = all(len(self.streams[Address.of_stream(guard.stream_id)]) == guard.version for guard in decision.guards)
        is_new = not any(self.streams[address] for address in decision.opened)
        if decision and holds and is_new and len(self.streams[flight.address]) == flight.version:
            for address, events in [(flight.address, decision.events), *decision.opened.items()]:
                for event in stored(events):
                    self.streams[address].append(event)
                    self.states[address] = DECIDERS[address.category].evolve(self.state(address), event)
                    self.judge.sees(address, event, self.now)
            return True
        self.refused[type(flight.command).__name__] += bool(decision)
        return not decision

    # --- what is wanted ----------------------------------------------------------------------------------------------

    def wanted(self, kind: type[Wish]) -> list[Wish]:
        found = (i for a, state in self.states.items() for i in DECIDERS[a.category].intents(state))
        names = ("task_id", "instance_id", "agent_id", "at")  # no sets: the order must not follow the hash of strings
        return sorted(
            (intent for intent in found if type(intent) is kind),
            key=lambda intent: [str(getattr(intent, name, "")) for name in names],
        )

    def processes(self) -> Iterator[tuple[Key, str]]:
        return ((key, send.order.task_id) for agent in self.agents.values() for key, send in agent.running.items())

    def held(self) -> Mapping[str, list[Occupy]]:
        held: dict[str, list[Occupy]] = defaultdict(list)
        for occupy in self.wanted(Occupy):
            held[occupy.agent_id].append(occupy)
        return held

    def slot(self, server: str) -> Placement | None:
        """A free slot as this server counts: by the log, and by what it has on its way itself."""
        held = self.held()
        for available in self.wanted(Available):
            own = [name for flight in self.in_flight if flight.server == server for name in flight.agents]
            if available.slots - len(held[available.agent_id]) - own.count(available.agent_id) > 0:
                guards = (self.lease[server], *available.guard)
                return Placement(
                    agent_id=available.agent_id, session=available.session, server_id=server, guards=guards
                )
        return None

    def stops(self) -> list[Stop]:
        return [stop for stop in self.wanted(Stop) if self.agents[stop.agent_id].session is not None]

    def orders(self) -> list[Send]:
        """Those that can be delivered: their session is the one that the agent has."""
        return [send for send in self.wanted(Send) if self.agents[send.agent_id].session == send.session]
