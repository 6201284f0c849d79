"""T8: while nothing is wrong and matching capacity is free, the oldest pending task starts within a bound."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime, timedelta

from attrs import define, field, frozen

from tests.simulation.checkers.dependencies import awaited_after
from tests.simulation.checkers.evidence import Evidence, Fact, MachineSeen
from tests.simulation.checkers.limits import tasks_by_limit
from tests.simulation.checkers.verdict import Verdict

START_SECONDS_MAX = 10.0
"""From capacity and task being there to the dispatch: a store that is slow once, a conflict, a look at the clock."""

REQUEUE_SECONDS_MAX = 30.0
"""From the dispatch of a task that came back unstarted to its next offer."""

BEGINS = ("TaskCreated", "TaskReopened", "TaskRequeued", "TaskRetryScheduled")
"""From then on it waits to be started."""

RECOVERY_SECONDS = 60.0
"""After healing, beside a lease, until every agent is connected again (full jitter, paced admission)."""


@frozen(slots=True)
class Wait:
    """A task that was pending and due in [since, until)."""

    task: str
    labels: Mapping[str, str]
    agent_id: str | None
    since: float
    until: float
    has_rate: bool = False


@frozen(slots=True)
class Capacity:
    """What an agent takes from `since` on: nobody drained, edited or removed it afterwards."""

    labels: Mapping[str, str]
    slots: int
    since: float = 0.0


@define
class Load:
    """Of one agent: what holds its slots, as (at, change); and the same by task."""

    changes: list[tuple[float, int]] = field(factory=list)
    by_task: dict[str, list[tuple[float, int]]] = field(factory=lambda: defaultdict(list))

    def add(self, task: str, since: float, until: float) -> None:
        held = [(since, 1), (until, -1)]
        self.changes += held
        self.by_task[task] += held


@frozen(slots=True)
class Room:
    """Something of which `most` may hold a part at once; `changes` as (at, change)."""

    changes: Sequence[tuple[float, int]]
    most: int


def check_pending(evidence: Evidence, verdict: Verdict) -> None:
    """T8, in every stretch without faults. Of jobs with a rate it says nothing: their tasks wait for their turn."""
    loads, capacities = _loads(evidence), _capacities(evidence)
    waits = [wait for wait in _waits(evidence) if not wait.has_rate]
    shared = _shared(evidence, loads)
    for begin, end in evidence.observed.calm:
        begin += evidence.lease + RECOVERY_SECONDS
        for wait in waits:
            since, until = max(begin, wait.since), min(end, wait.until)
            if until - since <= START_SECONDS_MAX:
                continue
            verdict.note("long waits in calm")
            common = [room for tasks, room in shared if tasks is None or wait.task.partition("-")[2] in tasks]
            for machine in evidence.machines:
                capacity = capacities[machine.agent_id]
                if not _fits(wait, machine, capacity):
                    continue
                verdict.note("long waits beside an agent that fits")
                own = Room(loads.get(machine.agent_id, Load()).changes, capacity.slots)
                free = _longest_free([own, *common], max(since, capacity.since), until)
                if free > START_SECONDS_MAX:
                    verdict.fail(
                        "T8",
                        f"{wait.task} waited {since:.1f}-{until:.1f} while {machine.name} had a free slot for {free:.1f} s",
                        streams=[wait.task, f"agent-{machine.agent_id}"],
                    )


def _shared(evidence: Evidence, loads: Mapping[str, Load]) -> list[tuple[set[str] | None, Room]]:
    """What tasks share beside the slots of an agent: the cluster's limit (all of them), and those of their configs."""
    found: list[tuple[set[str] | None, Room]] = []
    if evidence.tasks_max:
        found.append((None, Room([each for load in loads.values() for each in load.changes], evidence.tasks_max)))
    for most, tasks in tasks_by_limit(evidence).values():
        held = [change for load in loads.values() for task in tasks for change in load.by_task.get(task, ())]
        found.append((tasks, Room(held, most)))
    return found


def _fits(wait: Wait, machine: MachineSeen, capacity: Capacity) -> bool:
    if wait.agent_id is not None and wait.agent_id != machine.agent_id:
        return False
    return all(capacity.labels.get(name) == value for name, value in wait.labels.items())


def _waits(evidence: Evidence) -> Iterator[Wait]:
    for name, stream in evidence.streams("task"):
        spec: dict[str, object] = {}
        times: dict[str, datetime] = {}
        since: float | None = None
        awaited: frozenset[str] = frozenset()
        for fact in stream:
            before, awaited = awaited, awaited_after(fact, awaited)
            spec.update(fact.data if fact.type in ("TaskCreated", "TaskUpdated") else {})
            _note_times(fact, times)
            is_moved = fact.type == "TaskUpdated" and "scheduled_at" in fact.data.get("changed", ())
            if fact.type in BEGINS or (is_moved and since is not None):
                since = _due(fact, times, evidence)
            elif since is not None and before and not awaited:
                since = max(since, fact.at)
            if fact.type in ("TaskLocked", "TaskCancelled", "InstanceTakenOver") and since is not None:
                if not before:
                    yield _wait(name, spec, since, fact.at)
                since = None
        if since is not None and not awaited:
            yield _wait(name, spec, since, evidence.ended)


def _wait(name: str, spec: Mapping[str, object], since: float, until: float) -> Wait:
    config = spec["config"]
    assert isinstance(config, dict)
    agent_id = spec.get("agent_id")
    has_rate = (config.get("limits") or {}).get("rate") is not None
    return Wait(name, config.get("labels") or {}, None if agent_id is None else str(agent_id), since, until, has_rate)


def _note_times(fact: Fact, times: dict[str, datetime]) -> None:
    """Keep the instants before which it is not started. Each was set by a server's clock, which may have been wrong
    then: a retry too waits for the task's own time (seed 2036), and a requeued one counts from its dispatch."""
    if fact.type in ("TaskDispatched", "TaskReopened"):
        times.pop("retry_at", None)
    for member in ("scheduled_at", "retry_at", "dispatched_at"):
        at = fact.time(member)
        if at is not None:
            times[member] = at
    if fact.type == "TaskRequeued" and "dispatched_at" in times:
        times["paused_until_at"] = times["dispatched_at"] + timedelta(seconds=REQUEUE_SECONDS_MAX)


def _due(fact: Fact, times: Mapping[str, datetime], evidence: Evidence) -> float:
    """When it may start at the latest: committed, and every clock has reached its times."""
    due = fact.at + (REQUEUE_SECONDS_MAX if fact.type == "TaskRequeued" else 0.0)
    if evidence.started_at is None:
        return due
    gates = [at for member, at in times.items() if member != "dispatched_at"]
    return max(due, *(evidence.reached_by_all(at + timedelta(milliseconds=1)) for at in gates))


def _loads(evidence: Evidence) -> dict[str, Load]:
    """From dispatch to the instance's end by the log, or to the end of its process, whichever is later."""
    ended: dict[tuple[str, int], float] = {}
    for process in evidence.history:
        ended[process.instance_id, process.epoch] = evidence.ended if process.ended is None else process.ended
    loads: dict[str, Load] = {}
    for name, stream in evidence.streams("task"):
        live: Fact | None = None
        for fact in [*stream, None]:
            is_end = fact is None or fact.type in (
                *("TaskRequeued", "InstanceSucceeded", "InstanceFailed", "InstanceCancelled"),
            )
            if is_end and live is not None:
                at = evidence.ended if fact is None else fact.at
                until = max(at, ended.get((live.data["instance_id"], live.data["epoch"]), at))
                loads.setdefault(live.data["agent_id"], Load()).add(name.partition("-")[2], live.at, until)
                live = None
            elif fact is not None and fact.type == "TaskDispatched":
                live = fact
    return loads


def _capacities(evidence: Evidence) -> dict[str, Capacity]:
    """Of each agent, as of the last thing that changed it; never, where an operator left it drained."""
    machines = {each.agent_id: each for each in evidence.machines}
    found = {agent_id: Capacity(each.labels, each.slots) for agent_id, each in machines.items()}
    drained: set[str] = set()
    for fact in evidence.facts:
        agent_id = fact.data.get("agent_id", "")
        if agent_id not in found or not fact.type.startswith("Agent"):
            continue
        labels, slots = found[agent_id].labels, found[agent_id].slots
        if "effective_labels" in fact.data:
            own = {name: machines[agent_id].labels.get(name) for name in machines[agent_id].protected}
            labels = {**fact.data["effective_labels"], **own}
            slots = min(machines[agent_id].slots, fact.data["max_concurrent_tasks"])
        found[agent_id] = Capacity(labels, slots, fact.at)
        if fact.type == "AgentDrained":
            drained.add(agent_id)
        elif fact.type in ("AgentUndrained", "AgentRemoved"):
            drained.discard(agent_id)
    return {
        agent_id: Capacity(each.labels, each.slots, float("inf")) if agent_id in drained else each
        for agent_id, each in found.items()
    }


def _longest_free(rooms: Sequence[Room], since: float, until: float) -> float:
    """The longest stretch in [since, until] in which all of them have room."""
    changes = sorted((at, change, number) for number, room in enumerate(rooms) for at, change in room.changes)
    held = [0] * len(rooms)
    longest, free_from = 0.0, since
    is_free = all(room.most > 0 for room in rooms)
    for at, change, number in changes:
        if at >= until:
            break
        held[number] += change
        was_free, is_free = is_free, all(count < room.most for count, room in zip(held, rooms, strict=True))
        if was_free and not is_free:
            longest = max(longest, at - free_from)
        elif is_free and not was_free:
            free_from = max(since, at)
    return max(longest, until - free_from if is_free else 0.0)
