"""F4 in the log: what each policy makes of a nominal time while earlier tasks of the schedule have not ended.

Left out is what a user retried after its end: that starts when it is asked for.
"""

from __future__ import annotations

from collections.abc import Sequence

from attrs import frozen

from tests.simulation.checkers.evidence import Evidence, Fact
from tests.simulation.checkers.processes import CANCEL_SECONDS_MAX
from tests.simulation.checkers.verdict import Verdict

TOLD_SECONDS_MAX = 30.0
"""How old the knowledge may be by which a nominal time is skipped: nothing guards that the other one runs on."""

QUEUE_MAX = 10
ENDS = {"TaskSucceeded", "TaskFailed", "TaskCancelled"}


@frozen(slots=True)
class Life:
    """Of a task: its end (position, virtual seconds), and whether it was opened again."""

    end_position: float
    end_at: float
    ended_as: str
    is_reopened: bool


def check_overlap_rules(evidence: Evidence, verdict: Verdict) -> None:
    """F4, of the decisions of every schedule."""
    lives = {name.partition("-")[2]: _life(stream) for name, stream in evidence.streams("task")}
    for name, stream in evidence.streams("schedule"):
        _check(name, stream, lives, evidence, verdict)


def _life(stream: Sequence[Fact]) -> Life:
    ended = [fact for fact in stream if fact.type in ENDS]
    is_reopened = any(fact.type == "TaskReopened" for fact in stream)
    if not ended:
        return Life(float("inf"), float("inf"), "", is_reopened)
    return Life(ended[0].position, ended[0].at, ended[0].type, is_reopened)


def _check(name: str, stream: Sequence[Fact], lives: dict[str, Life], evidence: Evidence, verdict: Verdict) -> None:
    policy = "allow"
    counted: list[str] = []

    def fail(what: str, fact: Fact, *tasks: str) -> None:
        place = f"{name} ({policy}) at position {fact.position}"
        verdict.fail("F4", f"{place}: {what}", streams=[name, *(f"task-{each}" for each in tasks)])

    for number, fact in enumerate(stream):
        policy = fact.data.get("overlap_policy", policy)
        if fact.type == "ScheduleFired":
            task_id = fact.data["task_id"]
            waits_for = set(fact.data.get("waits_for") or ())
            still = [each for each in counted if lives[each].end_position > fact.position]
            held = [each for each in still if not lives[each].is_reopened]
            if policy == "skip" and held:
                fail(f"fires {task_id} while {held[-1]} has not ended", fact, task_id, held[-1])
            elif policy in ("queue", "cancel_previous") and not waits_for >= set(held):
                fail(f"{task_id} does not wait for {sorted(set(held) - waits_for)}", fact, task_id, *held)
            if policy == "queue" and len(still) > QUEUE_MAX + 1:
                fail(f"{len(still)} wait already", fact, task_id)
            if waits_for:
                verdict.note(f"waits for earlier ones under {policy}")
            if policy == "cancel_previous":
                _are_cancelled(waits_for, fact, lives, evidence, fail, verdict)
            counted = [task_id] if policy == "allow" else [*still, task_id]
        elif fact.type == "ScheduleSkipped" and fact.data["reason"] == "overlap":
            lately = [each for each in counted if lives[each].end_at > fact.at - TOLD_SECONDS_MAX]
            is_one_of_several = any(each.type == "ScheduleFired" and each.at == fact.at for each in stream[number:])
            is_lawful = {
                "skip": bool(lately) or any(lives[each].is_reopened for each in counted),
                "queue": len(lately) > QUEUE_MAX,
                "cancel_previous": is_one_of_several,
            }
            verdict.note(f"skipped for an overlap under {policy}")
            if not is_lawful.get(policy):
                fail("skips for an overlap, and there is none", fact)


def _are_cancelled(
    waits_for: set[str], fact: Fact, lives: dict[str, Life], evidence: Evidence, fail: object, verdict: Verdict
) -> None:
    """In calm, what is to be cancelled does not go on to its success."""
    bound = evidence.lease + CANCEL_SECONDS_MAX
    for each in waits_for:
        life = lives[each]
        if life.is_reopened or not evidence.calm_until(fact.at, min(life.end_at, evidence.ended), 0.0):
            continue
        verdict.note("cancelled for a newer one in calm")
        if life.ended_as == "TaskSucceeded" and life.end_at > fact.at + bound:
            assert callable(fail)
            fail(f"{each} is not cancelled, it succeeded {life.end_at - fact.at:.1f} s later", fact, each)
