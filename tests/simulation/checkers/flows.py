"""Runs of flows: T1 of their tasks and of how a run says that it ended, F1 of those that a schedule makes, V1.

What a run is, its graph says, as it was recorded when the run began; whether a task may start, and whether it must be
given up, the ends of the others say, by position in the log. What tasks say of their own dependencies is not asked.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from attrs import frozen

from tests.simulation.checkers.evidence import Evidence, Fact
from tests.simulation.checkers.verdict import Verdict

ENDS = {"TaskFailed": "failed", "TaskCancelled": "cancelled", "TaskSucceeded": "succeeded"}
FITTING = {"succeeded": {"succeeded"}, "failed": {"failed"}, "finished": {"succeeded", "failed", "cancelled"}}
STATUS = {"succeeded": 100, "failed": 90, "cancelled": 99}
UNMET = "dependency_unmet"
DECISION_SECONDS_MAX = 30.0
"""From the last end to the end of the run, beside a lease, without faults."""


@frozen(slots=True)
class Stretch:
    """A task from a beginning (it was made, or began again after an end) to its end, `end` None while it is open."""

    begin: Fact
    dispatches: tuple[Fact, ...]
    end: Fact | None

    def is_open_at(self, position: int) -> bool:
        return self.begin.position <= position and (self.end is None or self.end.position > position)


def stretches_of(stream: Sequence[Fact]) -> list[Stretch]:
    """The life of a task, cut at its ends."""
    found: list[Stretch] = []
    for fact in stream:
        last = found[-1] if found else None
        if fact.type == "TaskCreated" or (fact.type == "TaskReopened" and last is not None and last.end is not None):
            found.append(Stretch(fact, (), None))
        elif last is not None and fact.type in ("TaskDispatched", "InstanceDispatched"):
            found[-1] = Stretch(last.begin, (*last.dispatches, fact), last.end)
        elif last is not None and fact.type in ENDS:
            found[-1] = Stretch(last.begin, last.dispatches, fact)
    return found


def check_flows(evidence: Evidence, verdict: Verdict) -> None:
    """Every run of a flow."""
    for name, stream in evidence.streams("flow"):
        _Run(name, stream, evidence, verdict).judge()
    _check_fires(evidence, verdict)


def _check_fires(evidence: Evidence, verdict: Verdict) -> None:
    """F1: a fire of a schedule that runs a flow is one run, and a run of a schedule is one fire."""
    runs = Counter(
        stream[0].data["graph"]["nodes"][0]["task_id"]
        for _, stream in evidence.streams("flow")
        if stream[0].data.get("schedule_id") is not None
    )
    for name, stream in evidence.streams("schedule"):
        runs_flow = False
        for fact in stream:
            if fact.type in ("ScheduleCreated", "ScheduleUpdated"):
                runs_flow = bool(fact.data.get("run_flow"))
            elif fact.type == "ScheduleFired" and runs_flow:
                verdict.note("fires of flows")
                if runs.pop(fact.data["task_id"], 0) != 1:
                    verdict.fail("F1", f"{name} fired at position {fact.position}, and there is no run", streams=[name])
    if runs:
        verdict.fail("F1", f"runs that no fire made, with the first tasks {sorted(runs)[:3]}")


class _Run:
    def __init__(self, name: str, stream: Sequence[Fact], evidence: Evidence, verdict: Verdict) -> None:
        self._name, self._stream, self._evidence, self._verdict = name, stream, evidence, verdict
        graph = stream[0].data["graph"]
        self._nodes: Sequence[Mapping[str, Any]] = graph["nodes"]
        task_of = {node["job_id"]: node["task_id"] for node in self._nodes}
        self._match = {node["task_id"]: node["match"] for node in self._nodes}
        self._wanted: dict[str, dict[str, str]] = {task_id: {} for task_id in task_of.values()}
        for edge in graph["edges"]:
            self._wanted[task_of[edge["to"]]][task_of[edge["from"]]] = edge["on"]
        streams = {task_id: evidence.by_stream.get(f"task-{task_id}", []) for task_id in self._wanted}
        self._lives = {task_id: stretches_of(stream) for task_id, stream in streams.items()}
        self._streams = streams

    def _fail(self, promise: str, what: str, *tasks: str) -> None:
        self._verdict.fail(promise, f"{self._name}: {what}", streams=[self._name, *(f"task-{each}" for each in tasks)])

    def judge(self) -> None:
        self._verdict.note("flow runs")
        self._made_at_once()
        for task_id, lives in self._lives.items():
            for number, life in enumerate(lives):
                self._judge_life(task_id, life, is_first=number == 0)
        self._judge_ends()

    def _made_at_once(self) -> None:
        """A node is one task, made with the run."""
        if len(set(self._wanted)) != len(self._nodes) or len(self._nodes) != self._stream[0].data["task_count"]:
            self._fail("T1", "its nodes are not one task each")
        for task_id, stream in self._streams.items():
            if not stream or stream[0].at != self._stream[0].at:
                self._fail("T1", f"task {task_id} was not made with it", task_id)
            elif stream[0].data.get("flow_run_id") != self._stream[0].data["flow_run_id"]:
                self._fail("T1", f"task {task_id} does not name its run", task_id)

    # --- when a task may start, and when it is given up --------------------------------------------------------------

    def _judge_life(self, task_id: str, life: Stretch, *, is_first: bool) -> None:
        if not self._wanted[task_id] or (not is_first and self._was_forced(task_id, life.begin)):
            return  # it follows nothing; or a user ran it again by itself, whatever it followed
        if any("dependencies" in fact.data.get("changed", ()) for fact in self._streams[task_id]):
            return
        for fact in life.dispatches:
            self._verdict.note("starts in flows")
            met = [self._is_met(task_id, other, life.begin, fact.position) for other in self._wanted[task_id]]
            if not (any(met) if self._match[task_id] == "any" else all(met)):
                self._fail(
                    "T1", f"task {task_id} starts at position {fact.position} before its conditions are met", task_id
                )
        if life.end is not None and life.end.data.get("cause") == UNMET:
            self._verdict.note("skipped in flows")
            if not self._can_be_unmet(task_id, life.begin, life.end.position):
                self._fail("T1", f"task {task_id} is given up although its conditions can be met", task_id)
        elif (
            life.end is None
            and self._evidence.has_settled
            and self._can_be_unmet(task_id, life.begin, life.begin.position + 10**9)
        ):
            self._fail("V1", f"task {task_id} waits for what cannot be any more", task_id)

    def _was_forced(self, task_id: str, begin: Fact) -> bool:
        return any(
            fact.type == "FlowRetried" and task_id in fact.data.get("forced", ()) and fact.position < begin.position
            for fact in self._stream
        )

    def _ends(self, other: str, begin: Fact, until: int) -> Iterator[str]:
        """How the other ended, as far as it counts for a task that began there: as it stood then, or ended since."""
        for life in self._lives[other]:
            end = life.end
            if end is None or end.position >= until:
                continue
            later = [each for each in self._lives[other] if each.begin.position > end.position]
            stood = end.position < begin.position and not any(each.begin.position < begin.position for each in later)
            if end.position > begin.position or stood:
                yield ENDS[end.type]

    def _is_met(self, task_id: str, other: str, begin: Fact, until: int) -> bool:
        return any(end in FITTING[self._wanted[task_id][other]] for end in self._ends(other, begin, until))

    def _can_be_unmet(self, task_id: str, begin: Fact, until: int) -> bool:
        wrong = [
            any(end not in FITTING[on] for end in self._ends(other, begin, until))
            for other, on in self._wanted[task_id].items()
        ]
        return all(wrong) if self._match[task_id] == "any" else any(wrong)

    # --- how it ends -------------------------------------------------------------------------------------------------

    def _judge_ends(self) -> None:
        is_cancelled, is_running = False, True
        for fact in self._stream:
            if fact.type == "FlowCancelRequested":
                self._verdict.note("flow runs cancelled")
                is_cancelled = True
            elif fact.type == "FlowRetried":
                self._verdict.note("flow runs retried")
                is_cancelled, is_running = False, True
            elif fact.type == "FlowFinished":
                self._verdict.note("flow runs finished")
                is_running = False
                self._judge_end(fact, is_cancelled)
        if is_running and (self._evidence.has_settled or self._has_ended_in_calm()):
            self._fail("V1", "the run is open although nothing is left to wait for", *self._wanted)

    def _has_ended_in_calm(self) -> bool:
        """All that there is to wait for was over, in calm, for longer than a decision takes."""
        ends = [lives[-1].end for lives in self._lives.values()]
        last = max((self._stream[-1].at, *(end.at for end in ends if end is not None)))
        until = last + self._evidence.lease + DECISION_SECONDS_MAX
        return all(ends) and self._evidence.calm_until(last, until, 0)

    def _judge_skipped(self, task_id: str, last: Stretch, finished: Fact) -> None:
        """What was given up stays so only while the ends of the others, as they stand now, say so."""
        assert last.end is not None
        stream = self._streams[task_id]
        if last.end.data.get("cause") != UNMET or any(each.type in ("TaskDeleted", "TaskUpdated") for each in stream):
            return
        met = [
            any(end in FITTING[on] for end in self._ends(other, finished, finished.position))
            for other, on in self._wanted[task_id].items()
        ]
        if any(met) if self._match[task_id] == "any" else all(met):
            self._fail(
                "T1", f"finished at position {finished.position}: task {task_id} is skipped, and need not be", task_id
            )

    def _judge_end(self, fact: Fact, is_cancelled: bool) -> None:
        counts = {"succeeded": 0, "failed": 0, "cancelled": 0, "skipped": 0}
        for task_id, lives in self._lives.items():
            last = lives[bisect_left([life.begin.position for life in lives], fact.position) - 1]
            if last.is_open_at(fact.position) or last.end is None:
                self._fail("T1", f"finished at position {fact.position}, and task {task_id} was open", task_id)
                return
            self._judge_skipped(task_id, last, fact)
            counts["skipped" if last.end.data.get("cause") == UNMET else ENDS[last.end.type]] += 1
        if counts != fact.data["outcome"]:
            self._fail("T1", f"position {fact.position} counts {fact.data['outcome']}, its tasks ended {counts}")
        how = "failed" if counts["failed"] else "cancelled" if counts["cancelled"] else "succeeded"
        if is_cancelled and how == "failed":
            how = "cancelled"
        self._verdict.note(f"flow runs that {how}")
        if fact.data["status"] != STATUS[how]:
            self._fail("T1", f"position {fact.position} says {fact.data['status']}, by its tasks it {how}")
