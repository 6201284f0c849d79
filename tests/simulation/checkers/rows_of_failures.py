"""F1 of schedules that pause after failures in a row: not earlier, and not later either.

What counts are the first ends of the tasks that the schedule has made since it was last enabled, while it had a bound; in the
order of the log. A cancelled task neither counts nor ends a row.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from attrs import define, field

from tests.simulation.checkers.evidence import Evidence, Fact
from tests.simulation.checkers.verdict import Verdict

PAUSE_SECONDS_MAX = 30.0
"""From the end that fills the row to the pause, beside a lease, without faults."""

ENDS = {"TaskSucceeded", "TaskFailed", "TaskCancelled"}
CHANGES = {"ScheduleDisabled", "ScheduleUpdated", "ScheduleDeleted", "ScheduleExpired", "ScheduleSuspended"}
"""After one of these there is nothing to pause any more, or by another bound."""


def check_rows_of_failures(evidence: Evidence, verdict: Verdict) -> None:
    """F1, of every schedule that has or had `pause_on_failures`."""
    ends = {name.partition("-")[2]: _first_end(stream) for name, stream in evidence.streams("task")}
    for name, stream in evidence.streams("schedule"):
        if any(fact.data.get("pause_on_failures") for fact in stream):
            _Row(name, ends, evidence, verdict).judge(stream)


def _first_end(stream: Sequence[Fact]) -> Fact | None:
    return next((fact for fact in stream if fact.type in ENDS), None)


@define(eq=False)
class _Row:
    name: str
    ends: Mapping[str, Fact | None]
    evidence: Evidence
    verdict: Verdict
    most: int | None = None
    is_on: bool = False
    counted: list[str] = field(factory=list)

    def _fail(self, what: str, fact: Fact) -> None:
        place = f"{self.name} at position {fact.position}"
        self.verdict.fail("F1", f"{place}: {what}", streams=[self.name])

    def judge(self, stream: Sequence[Fact]) -> None:
        for number, fact in enumerate(stream):
            if fact.type == "ScheduleDisabled" and fact.data.get("reason") == "failures":
                self._paused(fact)
            if fact.type in CHANGES or fact.type == "ScheduleEnabled":
                self._is_not_late(stream[number].position, fact)
            if fact.type in ("ScheduleCreated", "ScheduleUpdated"):
                self.most = fact.data.get("pause_on_failures")
            if fact.type == "ScheduleCreated":
                self.is_on = fact.data["status"] == 100
            elif fact.type == "ScheduleEnabled":
                self.is_on, self.counted = True, []
            elif fact.type in CHANGES and fact.type != "ScheduleUpdated":
                self.is_on = False
            elif fact.type == "ScheduleFired" and self.most is not None:
                self.counted.append(fact.data["task_id"])
        self._is_not_late(float("inf"), None)

    def _ends_until(self, position: float) -> list[Fact]:
        known = [self.ends.get(task) for task in self.counted]
        return sorted(
            (end for end in known if end is not None and end.position < position), key=lambda each: each.position
        )

    def _paused(self, fact: Fact) -> None:
        self.verdict.note("paused after failures")
        ends = self._ends_until(fact.position)
        last = next((n for n, end in enumerate(ends) if end.stream == f"task-{fact.data['task_id']}"), None)
        row = 0 if last is None else _row(ends[: last + 1])
        if self.most is None or row < self.most or row != fact.data["failures"]:
            self._fail(f"paused for {fact.data['failures']} failures in a row, there are {row}, of {self.most}", fact)

    def _is_not_late(self, until: float, fact: Fact | None) -> None:
        """Whether a row was full long before this change."""
        if not self.is_on or self.most is None:
            return
        ends = self._ends_until(until)
        full = next((end for n, end in enumerate(ends) if _row(ends[: n + 1]) >= (self.most or 0)), None)
        if full is None:
            return
        bound = PAUSE_SECONDS_MAX + self.evidence.lease
        at = self.evidence.ended if fact is None else fact.at
        if at > full.at + bound and self.evidence.calm_until(full.at, full.at + bound, 0.0):
            self._fail(f"{self.most} tasks in a row have failed at {full.at:.1f}, and it is not paused", full)


def _row(ends: Sequence[Fact]) -> int:
    """Failures since the last success."""
    count = 0
    for end in ends:
        count = count + 1 if end.type == "TaskFailed" else 0 if end.type == "TaskSucceeded" else count
    return count
