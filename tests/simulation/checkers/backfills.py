"""Backfills, from outside: which tasks they made, when, and how many of them were open at once.

The window is counted by the oracle of nominal times. A nominal time is at most one task, be it of a fire or of a
backfill; a backfill that has finished has left none out but those that have a task or that a calendar excludes.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from datetime import datetime

from tests.simulation.checkers.evidence import Evidence, Fact
from tests.simulation.checkers.exclusion import Calendars
from tests.simulation.checkers.nominal import TICK, Timing
from tests.simulation.checkers.verdict import Verdict

ENDS = {"TaskSucceeded", "TaskFailed", "TaskCancelled"}
Made = Mapping[tuple[str, datetime], Sequence[Fact]]
"""(schedule id, nominal time) -> the tasks that were made for it."""


def check_backfills(evidence: Evidence, verdict: Verdict) -> None:
    """F1 of nominal times that lie in the past, and T7 of the throttle."""
    made: dict[tuple[str, datetime], list[Fact]] = defaultdict(list)
    of_backfill: dict[str, list[Fact]] = defaultdict(list)
    for _, stream in evidence.streams("task"):
        task, nominal = stream[0], stream[0].time("nominal_at")
        if task.type == "TaskCreated" and nominal is not None and task.data.get("schedule_id") is not None:
            made[task.data["schedule_id"], nominal].append(task)
        if task.data.get("backfill_id") is not None:
            of_backfill[task.data["backfill_id"]].append(task)
    _each_once(made, verdict)
    calendars = Calendars(evidence)
    for name, stream in evidence.streams("backfill"):
        tasks = of_backfill.pop(name.partition("-")[2], [])
        _keeps_to_its_window(name, stream, tasks, made, calendars, verdict)
        _is_throttled(name, stream, tasks, evidence, verdict)
    for backfill_id, tasks in of_backfill.items():
        verdict.fail("F1", f"{tasks[0].stream} is of a backfill {backfill_id} that there is not")
    _is_rightly_passed_over(evidence, made, verdict)


def _each_once(made: Made, verdict: Verdict) -> None:
    for (schedule_id, nominal), tasks in made.items():
        is_backfilled = any(task.data.get("backfill_id") is not None for task in tasks)
        if is_backfilled and len(tasks) > 1:
            streams = [task.stream for task in tasks]
            verdict.fail("F1", f"schedule-{schedule_id} ran {nominal} {len(tasks)} times", streams=streams)


def _keeps_to_its_window(
    name: str, stream: Sequence[Fact], tasks: Sequence[Fact], made: Made, calendars: Calendars, verdict: Verdict
) -> None:
    data = stream[0].data
    begin, until = stream[0].time("from_at"), stream[0].time("until_at")
    assert begin is not None and until is not None
    only = {"max_count": 1 if data["interval_secs"] is None else None}
    window = Timing({**data, **only}, begin).between(begin - TICK, until)
    verdict.note("nominal times to backfill", len(window))
    if data["total"] != len(window):
        verdict.fail("F1", f"{name} counts {data['total']} in its window, there are {len(window)}", streams=[name])
    cancelled = next((fact.position for fact in stream if fact.type == "BackfillCancelled"), None)
    for task in tasks:
        nominal = task.time("nominal_at")
        if nominal not in window:
            verdict.fail("F1", f"{name} made {task.stream} of {nominal}, outside of its window", streams=[name])
        elif calendars.excluded(data["exclude_calendars"], nominal):
            verdict.fail("F1", f"{name} made {task.stream} of {nominal}, which is excluded", streams=[name])
        if cancelled is not None and task.position > cancelled:
            verdict.fail("F1", f"{name} made {task.stream} after it was cancelled", streams=[name])
    if any(fact.type == "BackfillFinished" for fact in stream):
        verdict.note("backfills over" if cancelled is None else "backfills cancelled")
        if cancelled is None:
            _is_complete(name, stream, window, tasks, made, calendars, verdict)


def _is_complete(
    name: str,
    stream: Sequence[Fact],
    window: Sequence[datetime],
    tasks: Sequence[Fact],
    made: Made,
    calendars: Calendars,
    verdict: Verdict,
) -> None:
    data = stream[0].data
    missing = [at for at in window if (data["schedule_id"], at) not in made]
    odd = [at for at in missing if calendars.excluded(data["exclude_calendars"], at) is False]
    if odd:
        verdict.fail("F1", f"{name} is over and has passed over {odd[0]} (and {len(odd) - 1} more)", streams=[name])
    last = [fact.data for fact in stream if fact.type == "BackfillAdvanced"][-1]
    if (last["made"], last["made"] + last["left_out"]) != (len(tasks), len(window)):
        counts = f"{last['made']} made and {last['left_out']} left out"
        verdict.fail("F1", f"{name} says {counts}: it made {len(tasks)} of {len(window)}", streams=[name])


def _is_throttled(
    name: str, stream: Sequence[Fact], tasks: Sequence[Fact], evidence: Evidence, verdict: Verdict
) -> None:
    most, changes = stream[0].data["max_concurrent"], list[tuple[int, int]]()
    for task in tasks:
        changes.append((task.position, 1))
        ends = [fact.position for fact in evidence.by_stream[task.stream] if fact.type in ENDS]
        changes += [(position, -1) for position in ends[:1]]
    count = 0
    for position, change in sorted(changes):
        count += change
        if count > most:
            what = f"{name} has {count} tasks open at position {position}, {most} were asked for"
            verdict.fail("T7", what, streams=[name])
            return


def _is_rightly_passed_over(evidence: Evidence, made: Made, verdict: Verdict) -> None:
    """A fire that is left to a backfill: that one has made the task before."""
    for name, stream in evidence.streams("schedule"):
        for fact in stream:
            if fact.type != "ScheduleSkipped" or fact.data["reason"] != "backfilled":
                continue
            nominal = fact.time("first_nominal_at")
            assert nominal is not None
            tasks = made.get((name.partition("-")[2], nominal), ())
            if not any(task.data.get("backfill_id") and task.position < fact.position for task in tasks):
                verdict.fail("F1", f"{name} skips {nominal} as backfilled, and nothing backfilled it", streams=[name])
