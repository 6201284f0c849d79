"""The deciders together on one log, and a model of what their intents bring about: servers, agents, processes.

Two servers decide from the log and commit later, so that what they decided may be out of date; both may believe that the
lease is theirs. Agents run what is wanted of them. The judge (`small_judge.py`) sees each committed event and each process.
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
from tests.domain.small_judge import Judge, Key
from tests.support.given import NOW
from tests.support.stored import stored

Wish = TypeVar("Wish")

SLOTS = 2
INTERVAL = timedelta(seconds=30)


@define(eq=False)
class InFlight:
    """A decision on its way to the store. `agents`: whose slots its server keeps for it. `asked`: when it was decided;
    `lease_version`: of the lease that its server believed in."""

    address: Address
    command: Any
    version: int
    decision: Decision
    asked: datetime
    lease_version: int | None = None
    server: str | None = None
    agents: Sequence[str] = ()


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
        lease_version = None if server is None else self.lease[server].version
        return InFlight(address, command, len(self.streams[address]), decision, self.now, lease_version, server, agents)

    def commit(self, flight: InFlight) -> bool:
        """All or nothing, as the store does it; False when it is refused."""
        decision = flight.decision
        holds = all(len(self.streams[Address.of_stream(guard.stream_id)]) == guard.version for guard in decision.guards)
        is_new = not any(self.streams[address] for address in decision.opened)
        if decision and holds and is_new and len(self.streams[flight.address]) == flight.version:
            written = [(flight.address, decision.events), *decision.opened.items()]
            self.judge.sees_decision([event for _, events in written for event in events], flight.lease_version)
            for address, events in written:
                for event in stored(events):
                    self.streams[address].append(event)
                    self.states[address] = DECIDERS[address.category].evolve(self.state(address), event)
                    self.judge.sees(address, event, flight.asked)
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
