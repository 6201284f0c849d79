"""Schedules whose times are not known beforehand: fixed delays (F1 to F3), daemons (F1, F4, T7), events from outside (F1).

The other judges of schedules speak of nominal times, which these have not: `is_timed` tells them apart.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

from tests.simulation.checkers.evidence import Evidence, Fact
from tests.simulation.checkers.processes import most_at_once
from tests.simulation.checkers.verdict import Verdict

CRON, INTERVAL, DAEMON, EVENT = 1, 2, 3, 4
ENABLED = 100
DECISION_SECONDS_MAX = 30.0
"""From what calls for a decision to the decision, beside a lease, without faults."""

COMMIT_SECONDS_MAX = 6.0
TASK_ENDS = {"TaskSucceeded", "TaskFailed", "TaskCancelled"}
SWITCHES = {"ScheduleDisabled", "ScheduleDeleted", "ScheduleExpired", "ScheduleSuspended", "DaemonGaveUp"}


def kinds_of(stream: Sequence[Fact]) -> set[str]:
    """What this schedule was in its life."""
    names = {CRON: "timed", INTERVAL: "timed", DAEMON: "daemon", EVENT: "event"}
    return {
        "delay" if fact.data.get("interval_mode") == "fixed_delay" else names.get(fact.data["schedule_kind"], "other")
        for fact in stream
        if fact.type in ("ScheduleCreated", "ScheduleUpdated")
    }


def is_timed(stream: Sequence[Fact]) -> bool:
    """Whether all its nominal times are known beforehand."""
    return kinds_of(stream) == {"timed"}


def first_ends(evidence: Evidence) -> Mapping[str, Fact]:
    """Each task's first end."""
    found: dict[str, Fact] = {}
    for name, stream in evidence.streams("task"):
        end = next((fact for fact in stream if fact.type in TASK_ENDS), None)
        if end is not None:
            found[name.partition("-")[2]] = end
    return found


def check_kinds(evidence: Evidence, verdict: Verdict) -> None:
    """F1 to F4 and T7 of each."""
    ends = first_ends(evidence)
    sent = [fact for fact in evidence.facts if fact.type == "ExternalEventReceived"]
    for name, stream in evidence.streams("schedule"):
        kinds = kinds_of(stream)
        if kinds == {"delay"}:
            _Delay(name, stream, evidence, verdict, ends).judge()
        elif kinds == {"daemon"}:
            _check_daemon(name, stream, evidence, verdict, ends)
        elif kinds == {"event"}:
            _check_events(name, stream, sent, evidence, verdict)


# --- fixed delays ------------------------------------------------------------------------------------------------------


class _Delay:
    """`begins`: instants from which an interval may count."""

    def __init__(
        self, name: str, stream: Sequence[Fact], evidence: Evidence, verdict: Verdict, ends: Mapping[str, Fact]
    ) -> None:
        self._name, self._stream, self._evidence, self._verdict, self._ends = name, stream, evidence, verdict, ends
        self._begins: list[tuple[datetime, datetime]] = []
        self._not_before: datetime | None = None
        self._last: datetime | None = None
        self._awaited: str | None = None

    def _fail(self, promise: str, what: str, fact: Fact) -> None:
        self._verdict.fail(promise, f"{self._name} at position {fact.position}: {what}", streams=[self._name])

    def judge(self) -> None:
        interval, start, is_on = timedelta(0), None, False
        for number, fact in enumerate(self._stream):
            if fact.type in ("ScheduleCreated", "ScheduleUpdated"):
                interval, start = timedelta(seconds=fact.data["interval_secs"]), fact.time("start_time")
            at = next(
                (fact.time(each) for each in ("created_at", "enabled_at", "updated_at") if each in fact.data), None
            )
            if at is not None and (fact.type != "ScheduleUpdated" or "priority" not in fact.data.get("changed", ())):
                self._begins.append((at, at))
                self._not_before = at
            is_on = fact.data["status"] == ENABLED if fact.type == "ScheduleCreated" else is_on
            is_on = (is_on or fact.type == "ScheduleEnabled") and fact.type not in SWITCHES
            if fact.type == "ScheduleTaskEnded":
                self._heard(fact)
            elif fact.type in ("ScheduleFired", "ScheduleSkipped"):
                nominal = fact.time("nominal_at") or fact.time("first_nominal_at")
                assert nominal is not None
                self._decided(nominal, interval, start, fact)
            if fact.type == "ScheduleFired":
                self._verdict.note("fires after a delay")
                self._awaited = fact.data["task_id"]
                self._goes_on(fact, self._stream[number + 1 :], interval)
            elif fact.type == "ScheduleSkipped":
                error = self._evidence.clock_error(fact.at) + timedelta(seconds=COMMIT_SECONDS_MAX)
                self._begins.append((fact.recorded_at - error, fact.recorded_at + error))

    def _heard(self, fact: Fact) -> None:
        """What the schedule believes of the end is what the task says."""
        end, ended_at = self._ends.get(fact.data["task_id"]), fact.time("ended_at")
        assert ended_at is not None
        said = None if end is None else end.time("completed_at") or end.time("cancelled_at")
        if end is None or end.position > fact.position or said != ended_at:
            self._fail("F1", f"task {fact.data['task_id']} is said to have ended at {ended_at}, it says {said}", fact)
        # By a clock that was set back, it ended before it was due: times go on from the later one.
        counts_from = ended_at if self._last is None else max(ended_at, self._last)
        self._begins.append((counts_from, counts_from))

    def _decided(self, nominal: datetime, interval: timedelta, start: datetime | None, fact: Fact) -> None:
        if self._last is not None and nominal <= self._last:
            self._fail("F3", f"decided {nominal} after {self._last}", fact)
        if self._not_before is not None and nominal <= self._not_before and nominal != start:
            self._fail("F2", f"decided {nominal}, switched on or edited at {self._not_before}", fact)
        is_due = nominal == start or any(first <= nominal - interval <= last for first, last in self._begins)
        if not is_due:
            self._fail("F1", f"{nominal} is {interval} after nothing", fact)
        if self._awaited is not None:
            end = self._ends.get(self._awaited)
            if fact.type == "ScheduleFired" and (end is None or end.position > fact.position):
                self._fail("F4", f"fires while {self._awaited} has not ended", fact)
        self._last = nominal

    def _goes_on(self, fired: Fact, after: Sequence[Fact], interval: timedelta) -> None:
        """In calm, the next decision comes an interval after the end."""
        end = self._ends.get(fired.data["task_id"])
        changes = ("ScheduleFired", "ScheduleSkipped", "ScheduleUpdated", *SWITCHES)
        following = next((fact.at for fact in after if fact.type in changes), self._evidence.ended)
        if end is None:
            return
        bound = end.at + interval.total_seconds() + DECISION_SECONDS_MAX + self._evidence.lease
        if following > bound and self._evidence.calm_until(fired.at, bound, 0.0):
            self._fail("F1", f"its task ended at {end.at:.1f}, and nothing was decided until {following:.1f}", fired)


# --- daemons -----------------------------------------------------------------------------------------------------------


def _check_daemon(
    name: str, stream: Sequence[Fact], evidence: Evidence, verdict: Verdict, ends: Mapping[str, Fact]
) -> None:
    schedule_id = name.partition("-")[2]
    most = 0
    last: dict[int, Fact] = {}
    tasks: list[str] = []

    def fail(promise: str, what: str, fact: Fact) -> None:
        verdict.fail(promise, f"{name} at position {fact.position}: {what}", streams=[name])

    for number, fact in enumerate(stream):
        if "daemon" in fact.data:
            most = max(most, (fact.data["daemon"] or {}).get("instances", 1))
        if fact.type == "SeatStarted":
            verdict.note("seats started")
            seat, task_id = fact.data["seat"], fact.data["task_id"]
            before = last.get(seat)
            if before is not None:
                end = ends.get(before.data["task_id"])
                if end is None or end.position > fact.position:
                    fail("F4", f"seat {seat} is given {task_id} while {before.data['task_id']} has not ended", fact)
            last[seat] = fact
            tasks.append(task_id)
            if f"task-{task_id}" not in evidence.by_stream:
                fail("F1", f"there is no task {task_id}", fact)
        elif fact.type == "SeatEnded" and fact.data.get("due_at") is not None:
            _starts_again(fact, stream[number + 1 :], evidence, fail, verdict)
    for task, made in evidence.streams("task"):
        if made[0].data.get("schedule_id") == schedule_id and task.partition("-")[2] not in tasks:
            fail("F1", f"{task} is the task of no seat", made[0])
    ran = [process for process in evidence.counted if process.task_id in set(tasks)]
    count, at = most_at_once(ran)
    verdict.note("daemons with all instances", count == most)
    if count > most:
        verdict.fail("T7", f"{name} ran {count} instances at once, at {at:.2f}, {most} are wanted", streams=[name])


def _starts_again(ended: Fact, after: Sequence[Fact], evidence: Evidence, fail: Any, verdict: Verdict) -> None:
    due_at = ended.time("due_at")
    assert due_at is not None
    if evidence.started_at is None:
        return
    following = next(
        (
            fact.at
            for fact in after
            if fact.type in SWITCHES or fact.type == "ScheduleUpdated" or fact.data.get("seat") == ended.data["seat"]
        ),
        evidence.ended,
    )
    due = max(ended.at, evidence.reached_by_all(due_at))
    bound = due + DECISION_SECONDS_MAX + evidence.lease
    if evidence.calm_until(ended.at, bound, 0.0):
        verdict.note("seats in calm")
        if following > bound:
            fail("F1", f"seat {ended.data['seat']} was due at {due:.1f}, and not started until {following:.1f}", ended)


# --- events ------------------------------------------------------------------------------------------------------------


def _check_events(
    name: str, stream: Sequence[Fact], sent: Sequence[Fact], evidence: Evidence, verdict: Verdict
) -> None:
    """Each event from outside that comes while it is enabled is one task or one reason; no other is."""
    periods = _periods(stream, evidence)
    decided: dict[int, list[Fact]] = defaultdict(list)
    for fact in stream:
        if fact.type in ("ScheduleFired", "ScheduleSkipped"):
            decided[fact.data["event_position"]].append(fact)
            verdict.note(f"events that {'fired' if fact.type == 'ScheduleFired' else 'were skipped'}")
    by_position = {fact.position: fact for fact in sent}
    bound = DECISION_SECONDS_MAX + evidence.lease
    for position, facts in decided.items():
        if len(facts) > 1:
            verdict.fail("F1", f"{name} decided {len(facts)} times about event {position}", streams=[name])
        if position not in by_position:
            verdict.fail("F1", f"{name} decided about {position}, which is no event that it waits for", streams=[name])
        elif not any(since < position < until for since, until, _, _ in periods):
            verdict.fail("F2", f"{name} decided about event {position}, which came while it was off", streams=[name])
    for since, until, ends_at, quiet in periods:
        for fact in sent:
            if not since < fact.position < until or fact.position in decided:
                continue
            late = fact.at + bound + quiet
            if late < ends_at and evidence.calm_until(fact.at, late, 0.0):
                verdict.fail("F1", f"{name} never decided about event {fact.position}", streams=[name, fact.stream])


def _periods(stream: Sequence[Fact], evidence: Evidence) -> list[tuple[float, float, float, float]]:
    """(First position, last position, end in virtual seconds, seconds of quiet that it waits for) in which it was on."""
    found: list[tuple[float, float, float, float]] = []
    since: float | None = None
    quiet = 0.0
    for fact in stream:
        changes = fact.type == "ScheduleUpdated"
        if since is not None and (changes or fact.type in SWITCHES):
            found.append((since, fact.position, fact.at, quiet))
            since = fact.position if changes else None
        if fact.type in ("ScheduleCreated", "ScheduleUpdated"):
            quiet = 10.0 * (fact.data.get("debounce_seconds") or 0)
        is_made_enabled = fact.type == "ScheduleCreated" and fact.data["status"] == ENABLED
        if fact.type == "ScheduleEnabled" or is_made_enabled:
            since = fact.position
    if since is not None:
        found.append((since, float("inf"), evidence.ended, quiet))
    return found
