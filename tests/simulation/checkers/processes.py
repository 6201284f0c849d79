"""T2, T3, T4, T5, T6, T7 from what really ran on the machines."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from itertools import pairwise

from tests.simulation.checkers.evidence import Evidence, Fact
from tests.simulation.checkers.verdict import Verdict
from tests.support.processes import Running

CANCEL_SECONDS_MAX = 25.0
"""From an acknowledged cancel to the end of the process tree, beside a lease (the agent may be cut off, and ends its work
by itself): its margin, grace, kill, and a restart of the server or the agent on the way."""


def check_processes(evidence: Evidence, verdict: Verdict) -> None:
    """T2, T3, T4: no two processes of a task at once, one per dispatch, none without one, not more than allowed."""
    dispatched, reopened, allowed = set(), defaultdict[str, int](int), defaultdict[str, int](int)
    for name, stream in evidence.streams("task"):
        task_id = name.partition("-")[2]
        for fact in stream:
            if fact.type == "TaskDispatched":
                dispatched.add((fact.data["instance_id"], fact.data["epoch"]))
            reopened[task_id] += fact.type == "TaskReopened"
            if "config" in fact.data:
                allowed[task_id] = max(allowed[task_id], 1 + fact.data["config"]["max_retries"])
    by_task: dict[str, list[Running]] = defaultdict(list)
    known = set()
    for process in evidence.counted:
        key = (process.instance_id, process.epoch)
        streams = [f"task-{process.task_id}"]
        if key not in dispatched:
            verdict.fail("T3", f"a process ran for {key}, which was never dispatched", streams=streams)
        if key in known:
            verdict.fail("T2", f"{key} was started twice", streams=streams)
        known.add(key)
        by_task[process.task_id].append(process)
    for process in evidence.history:
        at = evidence.given_up.get((process.instance_id, process.epoch), float("inf"))
        verdict.note("processes that outlived their lease", process.ended is None or process.ended > at)
    for task_id, processes in by_task.items():
        _check_runs(task_id, processes, allowed[task_id] * (1 + reopened[task_id]), verdict)


def _check_runs(task_id: str, processes: list[Running], most: int, verdict: Verdict) -> None:
    for one, two in pairwise(processes):
        if one.ended is None or one.ended > two.started:
            verdict.fail(
                "T2",
                f"two processes of task {task_id} at once: {one.machine} {one.started:.2f}-{one.ended}, "
                f"{two.machine} from {two.started:.2f}",
                streams=[f"task-{task_id}"],
            )
        if two.epoch <= one.epoch:
            verdict.fail(
                "T2", f"task {task_id} ran with epoch {two.epoch} after {one.epoch}", streams=[f"task-{task_id}"]
            )
    if len(processes) > most:
        verdict.fail("T4", f"task {task_id} ran {len(processes)} times, {most} allowed", streams=[f"task-{task_id}"])
    verdict.note("tasks that ran more than once", len(processes) > 1)


def check_cancels(evidence: Evidence, verdict: Verdict) -> None:
    """T5: after an acknowledged cancel the processes are gone within a bound."""
    seconds_max = evidence.lease + CANCEL_SECONDS_MAX
    for process in evidence.history:
        at = evidence.observed.cancelled.get(process.task_id)
        if at is None or (process.ended is not None and process.ended <= at):
            continue
        verdict.note("processes ended by a cancel")
        if process.task_id in evidence.going_on:  # its agent may be away for as long as it likes; V1 sees that it ends
            continue
        if process.started > at + seconds_max or (process.ended or evidence.ended) > at + seconds_max:
            verdict.fail(
                "T5",
                f"task {process.task_id} was cancelled at {at:.1f}, its process ran {process.started:.1f}-{process.ended}",
                streams=[f"task-{process.task_id}"],
            )


def check_slots(evidence: Evidence, verdict: Verdict) -> None:
    """T6: a machine never runs more than its slots, and what servers hold is what is alive."""
    for machine in evidence.machines:
        most = max(machine.most_at_once, most_at_once(machine.history)[0])
        if most > machine.slots:
            verdict.fail("T6", f"{machine.name} ran {most} processes in {machine.slots} slots")
        verdict.note("machines that were full", most == machine.slots)
    live = sum(live_instances(stream) for _, stream in evidence.streams("task"))
    for held in evidence.held if evidence.has_settled else ():
        if held.instances != live or held.reserved:
            verdict.fail(
                "T6", f"{held.server} holds {held.instances} + {held.reserved} slots for {live} live instances"
            )


def live_instances(stream: Sequence[Fact]) -> int:
    """1 while the task's last instance holds a slot."""
    live = 0
    for fact in stream:
        if fact.type == "TaskDispatched":
            live = 1
        elif fact.type in ("TaskRequeued", "InstanceSucceeded", "InstanceFailed", "InstanceCancelled"):
            live = 0
    return live


def check_limits(evidence: Evidence, verdict: Verdict) -> None:
    """T7: the cluster never runs more processes at once than its limit."""
    if not evidence.tasks_max:
        return
    most, at = most_at_once(evidence.counted)
    verdict.note("clusters that were full", most == evidence.tasks_max)
    if most > evidence.tasks_max:
        verdict.fail("T7", f"{most} processes ran at once, at {at:.2f}, the limit is {evidence.tasks_max}")


def most_at_once(history: Sequence[Running]) -> tuple[int, float]:
    """The largest number of processes that ran at one moment, and the first such moment."""
    changes = sorted(
        change
        for process in history
        for change in ((process.started, 1), (float("inf") if process.ended is None else process.ended, -1))
    )
    count = most = 0
    when = 0.0
    for at, change in changes:  # an end sorts before a start at the same moment
        count += change
        if count > most:
            most, when = count, at
    return most, when
