"""The rules between runs: each holds for what is right, and says what breaks it, on lines written by hand."""

from __future__ import annotations

from tests.faults.features.daemon import seat_taken
from tests.faults.lines import Run, parse
from tests.faults.rules import (
    all_complete,
    at_most_together,
    at_most_within,
    each_after_the_last,
    followed,
    one_task_each,
)
from tests.faults.test_verdict import at, lines
from tests.faults.verdict import Slot, solve


def ran(task: str, start: float, end: float, *, nominal: int = 0, job: str = "tick", mark: str = "") -> Run:
    (run,) = parse("agent-01", lines(task, nominal, ("start", start), ("end", end), job=job, mark=mark))
    return run


def broke_off(task: str, start: float, seen: float) -> Run:
    (run,) = parse("agent-01", lines(task, 0, ("start", start), ("tick", seen)))
    return run


def test_runs_that_touch_are_not_together_and_runs_that_overlap_are() -> None:
    assert at_most_together([ran("a", 1, 2), ran("b", 2, 3)], 1) == []
    assert len(at_most_together([ran("a", 1, 2.1), ran("b", 2, 3)], 1)) == 1
    assert at_most_together([ran("a", 1, 9), ran("b", 2, 3), ran("c", 4, 5)], 2) == []
    assert len(at_most_together([ran("a", 1, 9), ran("b", 2, 5), ran("c", 4, 5)], 2)) == 1
    assert len(at_most_together([broke_off("a", 1, 4), ran("b", 3.9, 5)], 1)) == 1, "alive at its last tick"


def test_a_rate_counts_starts_in_every_window_not_in_fixed_ones() -> None:
    apart = [ran(str(number), number * 1.0, number + 0.5) for number in range(6)]
    assert at_most_within(apart, 2, 2.0) == []
    assert len(at_most_within([*apart, ran("more", 3.5, 4)], 2, 2.0)) == 3
    assert at_most_within(apart[:2], 2, 2.0) == []


def test_a_fixed_delay_counts_from_the_last_end_of_the_task_before() -> None:
    first, again = ran("a", 0, 1), ran("a", 3, 4)
    assert each_after_the_last([first, ran("b", 2, 3, nominal=2)], 1.0) == []
    assert len(each_after_the_last([first, ran("b", 1.9, 3, nominal=2)], 1.0)) == 1
    assert len(each_after_the_last([first, again, ran("b", 2, 3, nominal=2)], 1.0)) == 1
    assert len(each_after_the_last([ran("b", 0, 1, nominal=2), ran("a", 1, 2, nominal=1)], 0.0)) == 1, "out of order"


def test_one_nominal_time_has_one_task() -> None:
    assert one_task_each([ran("a", 0, 1), ran("a", 2, 3), ran("b", 1, 2, nominal=1)]) == []
    assert len(one_task_each([ran("a", 0, 1), ran("b", 1, 2)])) == 1


def test_what_begins_is_completed() -> None:
    assert all_complete([broke_off("a", 0, 1), ran("a", 2, 3)]) == []
    assert len(all_complete([broke_off("a", 0, 1), ran("b", 2, 3)])) == 1


def test_a_flow_keeps_its_order_within_each_run_of_it() -> None:
    upstream = {"load": ("extract",)}
    right = [ran("a", 0, 1, job="extract", mark="x"), ran("b", 1, 2, job="load", mark="x")]
    assert followed(right, upstream) == []
    assert len(followed([*right, ran("c", 1, 2, job="load", mark="y")], upstream)) == 1
    assert len(followed([right[0], ran("b", 0.9, 2, job="load", mark="x")], upstream)) == 1


def test_what_was_told_is_matched_by_its_mark_and_jobs_without_slots_are_left_to_their_rules() -> None:
    told = [Slot(job="event", schedule="told", nominal=at(0), mark=mark) for mark in ("x", "y")]
    found = solve(told, [ran("a", 1, 2, job="event", mark="x"), ran("b", 2, 3, job="event", mark="x")])
    assert [slot.mark for slot in found.missed] == ["y"] and [extra.runs[0].task for extra in found.extra] == ["b"]
    daemon = [ran("c", 1, 2, job="daemon", mark="0")]
    assert solve([], daemon, unslotted={"daemon"}).is_clean and not solve([], daemon).is_clean


def test_a_seat_is_taken_by_the_next_start_or_by_a_run_that_lived_on() -> None:
    since = at(5).timestamp()
    assert seat_taken([ran("a", 1, 9)], since) == 0.0
    assert seat_taken([ran("a", 1, 4), ran("b", 7, 8)], since) == 2.0
    assert seat_taken([broke_off("a", 1, 4.9)], since) is None
