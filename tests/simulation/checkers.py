"""Judges of a run. They stand outside: they read the raw log and what the machines ran, and know the rules by themselves.

The tables here repeat the promises in their own words on purpose: a checker that imported the system's tables would
agree with it about every mistake. Only L3 folds with the system's own functions, for that is what it says.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import msgspec
from attrs import define, field

from eventstore.event import RecordedEvent
from eventstore.memory import MemoryLog
from hetuflow.actors import Reading
from hetuflow.actors.catalogue import event_codec
from hetuflow.domain.decider import Address
from hetuflow.domain.deciders import DECIDERS
from projections.fold import Tables
from tests.support.processes import Running

if TYPE_CHECKING:
    from tests.simulation.cluster import Cluster
    from tests.simulation.operators import Operators

VIOLATIONS_MAX = 20

COMMIT_SECONDS_MAX = 6.0
"""Between an instant that a decision took and the commit that shows it, with the slowest store of the faults."""

CANCEL_SECONDS_MAX = 25.0
"""From an acknowledged cancel to the end of the process tree, beside a lease (the agent may be cut off, and ends its work
by itself): its margin, grace, kill, and a restart of the server or the agent on the way."""

EDGES: Mapping[str, Mapping[str, str]] = {
    "": {"TaskCreated": "pending"},
    "pending": {"TaskLocked": "locked", "TaskCancelled": "cancelled"},
    "locked": {"TaskDispatched": "dispatched", "TaskCancelled": "cancelled"},
    "dispatched": {
        "InstanceStarted": "running",
        "TaskRequeued": "pending",
        "TaskRetryScheduled": "waiting",
        "TaskFailed": "failed",
        "TaskCancelled": "cancelled",
    },
    "running": {
        "TaskSucceeded": "succeeded",
        "TaskRetryScheduled": "waiting",
        "TaskFailed": "failed",
        "TaskCancelled": "cancelled",
    },
    "waiting": {"TaskLocked": "locked", "TaskReopened": "pending", "TaskCancelled": "cancelled"},
    "failed": {"TaskReopened": "pending"},
    "cancelled": {"TaskReopened": "pending"},
    "succeeded": {},
}
STANDING = {"InstanceSucceeded", "InstanceFailed", "InstanceCancelled", "TaskCancelRequested", "InstanceReportRefused"}
"""Events that leave the task's status as it is."""

FINAL = {"succeeded", "failed", "cancelled"}


@define(slots=True)
class Verdict:
    violations: list[str] = field(factory=list)
    seen: dict[str, int] = field(factory=dict)
    """Situations that the run reached: a check that never met its case proves nothing."""

    def fail(self, promise: str, what: str, detail: object = "") -> None:
        if len(self.violations) < VIOLATIONS_MAX:
            self.violations.append(f"{promise}: {what} {detail}".rstrip())

    def note(self, what: str, count: int = 1) -> None:
        self.seen[what] = self.seen.get(what, 0) + count

    def check_states(self, log: MemoryLog, readings: Mapping[Address, Reading[Any]]) -> None:
        """L3: the state of every actor is the fold of its stream."""
        codec = event_codec()
        for name, stream in log.streams.items():
            address = Address.of_stream(name)
            decider = DECIDERS[address.category]
            state = decider.initial
            for event in stream:
                state = decider.evolve(state, codec.decode(event))
            reading = readings.get(address)
            if reading is None or reading.version != len(stream) or reading.state != state:
                self.fail("L3", f"the actor of {name} is not the fold of its stream")

    def check_rows(self, readings: Mapping[Address, Reading[Any]], tables: Tables) -> None:
        """L3: the tables show what the actors say of themselves."""
        tasks, instances = tables.folds["tasks"].rows(), tables.folds["task_instances"].rows()
        schedules = tables.folds["schedules"].rows()
        for address, reading in readings.items():
            state = reading.state
            if address.category == "task" and state.exists:
                shown = tasks[address.id]
                self._same(address, "status", int(state.status), shown["status"])
                self._same(address, "retry_count", state.retry_count, shown["retry_count"])
                self._same(address, "instance", state.instance.instance_id, str(shown["instance_id"]))
                for instance in (*state.past, state.instance):
                    row = instances[instance.instance_id]
                    self._same(address, "instance status", int(instance.status), row["status"])
                    self._same(address, "epoch", instance.epoch, row["epoch"])
            elif address.category == "schedule" and state.exists:
                shown = schedules[address.id]
                self._same(address, "status", int(state.status), shown["status"])
                self._same(address, "fire_count", state.fire_count, shown["fire_count"])
                self._same(address, "next_run_at", state.next_run_at, shown["next_run_at"])

    def _same(self, address: Address, what: str, state: object, row: object) -> None:
        self.note("rows compared")
        if state != row:
            self.fail("L3", f"{what} of {address.stream_id} is {state!r}, the table says {row!r}")


def data_of(event: RecordedEvent) -> dict[str, Any]:
    data: dict[str, Any] = msgspec.json.decode(event.data)
    return data


def instant(text: str) -> datetime:
    return datetime.fromisoformat(text)


def streams(log: MemoryLog, category: str) -> Iterator[tuple[str, Sequence[RecordedEvent]]]:
    for name, stream in log.streams.items():
        if name.startswith(f"{category}-"):
            yield name, stream


def is_quiet(cluster: Cluster) -> bool:
    """Nothing is left to do and nothing runs."""
    return not cluster.unfinished() and not any(host.machine.living() for host in cluster.hosts.values())


def unfinished_tasks(log: MemoryLog) -> list[str]:
    """Tasks that have not reached a terminal state, with that state."""
    found = []
    for name, stream in streams(log, "task"):
        status = ""
        for event in stream:
            status = EDGES[status].get(event.type, status)
        if status not in FINAL:
            found.append(f"{name} {status}")
    return found


def check_safety(cluster: Cluster, operators: Operators, verdict: Verdict) -> None:
    """Everything that must hold at any time, whatever went wrong."""
    history = [process for host in cluster.hosts.values() for process in host.machine.history]
    check_log(cluster.log, verdict)
    for name, stream in streams(cluster.log, "schedule"):
        check_schedule(name, stream, verdict)
    for name, stream in streams(cluster.log, "task"):
        TaskChecker(name, stream, verdict).check()
    check_processes(cluster.log, history, verdict)
    check_cancels(history, operators.cancelled, verdict, cluster.scale.lease + CANCEL_SECONDS_MAX)
    check_slots(cluster, verdict)
    check_output(cluster, history, verdict)
    for error in cluster.network.handler_errors:
        verdict.fail("gateway", "the handler of a connection raised", repr(error))


# --- log ---------------------------------------------------------------------------------------------------------------


def check_log(log: MemoryLog, verdict: Verdict) -> None:
    """L1: positions are 1..n, versions 1..n per stream, time never falls; an event id stands once."""
    versions: dict[str, int] = defaultdict(int)
    ids = set()
    previous = None
    for number, event in enumerate(log.events, 1):
        versions[event.stream_id] += 1
        if event.position != number or event.version != versions[event.stream_id]:
            verdict.fail("L1", f"event {number} has position {event.position} and version {event.version}")
        if previous is not None and event.recorded_at < previous:
            verdict.fail("L1", f"time falls at position {number}")
        if event.event_id in ids:
            verdict.fail("L1", f"event id {event.event_id} stands twice")
        previous = event.recorded_at
        ids.add(event.event_id)


# --- schedules ---------------------------------------------------------------------------------------------------------


def nominal_times(created: Mapping[str, Any], after: datetime, until: datetime) -> list[datetime]:
    """The nominal times in (after, until], by plain counting: an interval from its anchor, or seconds 0, 20, 40."""
    if created["interval_secs"]:
        step, anchor = timedelta(seconds=created["interval_secs"]), instant(created["anchor_at"])
        number = max(0, int((after - anchor) / step))
        found = (anchor + step * n for n in range(number, number + int((until - after) / step) + 3))
    else:
        step_seconds = {"*/20 * * * * ?": 20, "0 */5 * * * ?": 300}[created["cron_expression"]]
        first = int(after.timestamp()) // step_seconds * step_seconds
        last = int(until.timestamp()) + 2 * step_seconds
        found = (datetime.fromtimestamp(at, UTC) for at in range(first, last, step_seconds))
    return [at for at in found if after < at <= until]


def check_schedule(name: str, stream: Sequence[RecordedEvent], verdict: Verdict) -> None:
    """F1, F2, F3: in every period in which it was enabled each nominal time is decided once, in order, none earlier."""
    created = data_of(stream[0])
    period_from = instant(created["created_at"]) if created["status"] == 100 else None
    decided: list[datetime] = []
    last: datetime | None = None
    for event in stream[1:]:
        data = data_of(event)
        if event.type in ("ScheduleFired", "ScheduleSkipped"):
            times = _decided(created, event.type, data, verdict)
            verdict.note("fired" if event.type == "ScheduleFired" else f"skipped ({data['reason']})")
            if last is not None and times and times[0] <= last:
                verdict.fail("F3", f"{name} decided {times[0]} after {last}")
            if period_from is None or (times and times[0] <= period_from):
                verdict.fail("F2", f"{name} decided {times[0]} in a period from {period_from}")
            decided += times
            last = times[-1] if times else last
        elif event.type == "ScheduleEnabled":
            period_from, decided = instant(data["enabled_at"]), []
        elif event.type == "ScheduleDisabled" and period_from is not None:
            _check_period(name, created, period_from, event.recorded_at, decided, verdict)
            period_from = None
    if period_from is not None:
        verdict.fail("scenario", f"{name} is left enabled")


def _decided(created: Mapping[str, Any], kind: str, data: Mapping[str, Any], verdict: Verdict) -> list[datetime]:
    if kind == "ScheduleFired":
        return [instant(data["nominal_at"])]
    first, last = instant(data["first_nominal_at"]), instant(data["last_nominal_at"])
    times = nominal_times(created, first - timedelta(microseconds=1), last)
    if len(times) != data["count"] or times[0] != first or times[-1] != last:
        verdict.fail("F1", f"a skip of {data['count']} from {first} to {last} covers {len(times)}")
    return times


def _check_period(
    name: str,
    created: Mapping[str, Any],
    after: datetime,
    until: datetime,
    decided: Sequence[datetime],
    verdict: Verdict,
) -> None:
    expected = nominal_times(created, after, until)
    if decided != expected[: len(decided)]:
        odd = sorted(set(decided) ^ set(expected[: len(decided)]))[:3]
        verdict.fail("F1", f"{name} decided other times than the nominal ones: {[str(at) for at in odd]}")
    open_ = [at for at in expected[len(decided) :] if at <= until - timedelta(seconds=COMMIT_SECONDS_MAX)]
    if open_:
        verdict.fail("F1", f"{name} never decided {open_[0]} (enabled until {until})")


# --- tasks -------------------------------------------------------------------------------------------------------------


class TaskChecker:
    """T1 to T4 for one task, from its stream alone."""

    def __init__(self, name: str, stream: Sequence[RecordedEvent], verdict: Verdict) -> None:
        self._name, self._stream, self._verdict = name, stream, verdict
        self._status = ""
        self._live: tuple[str, int] | None = None
        self._ended: set[str] = set()
        self._epoch = self._starts = 0

    def check(self) -> None:
        self._starts_max = 1 + data_of(self._stream[0])["config"]["max_retries"]
        for event in self._stream:
            data = data_of(event)
            self._edge(event)
            self._instance(event, data)
        self._verdict.note(self._status)

    def _fail(self, promise: str, what: str, event: RecordedEvent) -> None:
        self._verdict.fail(promise, f"{self._name} at position {event.position} ({event.type}): {what}")

    def _edge(self, event: RecordedEvent) -> None:
        if event.type in STANDING:
            return
        following = EDGES[self._status].get(event.type)
        if following is None:
            self._fail("T1", f"does not follow {self._status!r}", event)
        else:
            self._status = following
            self._verdict.note(event.type)

    def _instance(self, event: RecordedEvent, data: Mapping[str, Any]) -> None:
        kind = event.type
        key = (data.get("instance_id", ""), data.get("epoch", 0))
        if kind == "TaskDispatched":
            if self._live is not None:
                self._fail("T2", f"{key} while {self._live} lives", event)
            if key[0] in self._ended:
                self._fail("T2", f"instance {key[0]} had ended", event)
            if key[1] <= self._epoch:
                self._fail("T2", f"epoch {key[1]} after {self._epoch}", event)
            self._live, self._epoch = key, key[1]
        elif kind in ("InstanceStarted", "TaskRequeued", "InstanceSucceeded", "InstanceFailed"):
            if key != self._live:
                self._fail("T3", f"is of {key}, alive is {self._live}", event)
        elif kind == "InstanceCancelled" and self._live is not None and key != self._live:
            self._fail("T3", f"is of {key}, alive is {self._live}", event)
        elif kind == "InstanceReportRefused":
            self._verdict.note("report refused")
        if kind in ("TaskRequeued", "InstanceSucceeded", "InstanceFailed", "InstanceCancelled"):
            self._live = None
        if kind in ("InstanceSucceeded", "InstanceFailed", "InstanceCancelled"):
            self._ended.add(key[0])
            self._verdict.note(data.get("reason") or kind)
        if kind == "InstanceStarted":
            self._starts += 1
            if self._starts > self._starts_max:
                self._fail("T4", f"start {self._starts} of at most {self._starts_max}", event)
        if kind == "TaskReopened":
            self._starts = 0


def check_processes(log: MemoryLog, history: Sequence[Running], verdict: Verdict) -> None:
    """T2 and T4 from what really ran: no two processes of a task at once, one per dispatch, none without one."""
    dispatched, reopened, allowed = set(), defaultdict(int), {}
    for name, stream in streams(log, "task"):
        task_id = name.partition("-")[2]
        for event in stream:
            data = data_of(event)
            if event.type == "TaskDispatched":
                dispatched.add((data["instance_id"], data["epoch"]))
            reopened[task_id] += event.type == "TaskReopened"
            if event.type == "TaskCreated":
                allowed[task_id] = 1 + data["config"]["max_retries"]
    by_task: dict[str, list[Running]] = defaultdict(list)
    known = set()
    for process in sorted(history, key=lambda each: (each.started, each.machine, each.pid)):
        key = (process.instance_id, process.epoch)
        if key not in dispatched:
            verdict.fail("T3", f"a process ran for {key}, which was never dispatched")
        if key in known:
            verdict.fail("T2", f"{key} was started twice")
        known.add(key)
        by_task[process.task_id].append(process)
    for task_id, processes in by_task.items():
        for one, two in pairwise(processes):
            if one.ended is None or one.ended > two.started:
                verdict.fail(
                    "T2",
                    f"two processes of task {task_id} at once: {one.machine} {one.started:.2f}-{one.ended}, "
                    f"{two.machine} from {two.started:.2f}",
                )
        if len(processes) > allowed[task_id] * (1 + reopened[task_id]):
            verdict.fail("T4", f"task {task_id} ran {len(processes)} times")
        verdict.note("tasks that ran more than once", len(processes) > 1)


def check_cancels(
    history: Sequence[Running], cancelled: Mapping[str, float], verdict: Verdict, seconds_max: float
) -> None:
    """T5: after an acknowledged cancel the processes are gone within a bound."""
    for process in history:
        at = cancelled.get(process.task_id)
        if at is not None and (process.ended is None or process.ended > at):
            verdict.note("processes ended by a cancel")
            if process.ended is None or process.ended > at + seconds_max:
                verdict.fail(
                    "T5", f"task {process.task_id} was cancelled at {at:.1f}, its process ended {process.ended}"
                )


def check_slots(cluster: Cluster, verdict: Verdict) -> None:
    """T6: a machine never runs more than its slots; when all is quiet none is held."""
    for host in cluster.hosts.values():
        if host.machine.most_at_once > host.slots:
            verdict.fail("T6", f"{host.name} ran {host.machine.most_at_once} processes in {host.slots} slots")
        if host.machine.most_at_once == host.slots:
            verdict.note("machines that were full")
    if cluster.server is not None and is_quiet(cluster):
        agenda = cluster.server.core.scheduler.status().agenda
        if agenda.instances or agenda.reserved:
            verdict.fail("T6", "slots are held although nothing runs", agenda)


def check_output(cluster: Cluster, history: Sequence[Running], verdict: Verdict) -> None:
    """O1: what is stored of a process that ended by itself is what it wrote."""
    for chunk in cluster.output.contradictions:
        verdict.fail("O1", f"two texts at offset {chunk.offset} of {chunk.instance_id} {chunk.stream}")
    ended = {
        (data["instance_id"], data["epoch"])
        for _, stream in streams(cluster.log, "task")
        for event in stream
        if event.type == "InstanceSucceeded"
        for data in [data_of(event)]
    }
    for process in history:
        if (process.instance_id, process.epoch) in ended:
            for number, name in ((1, "stdout"), (2, "stderr")):
                if cluster.output.text(process.instance_id, name) != process.written[number]:
                    verdict.fail("O1", f"{name} of {process.instance_id} is not what was written")
            verdict.note("outputs compared")
