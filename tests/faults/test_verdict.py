"""The judge itself: missed, extra, incomplete and repeated runs in files written by hand."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from attrs import evolve

from tests.faults.kinds.fault import Healed
from tests.faults.lines import Garbled, Run, parse, read
from tests.faults.nominal import Schedule
from tests.faults.rounds import harmed
from tests.faults.verdict import Silence, Slot, solve

T0 = datetime(2026, 3, 1, 12, 0, 0, tzinfo=UTC)
EPOCH = T0.timestamp()


def at(second: int) -> datetime:
    return T0 + timedelta(seconds=second)


def lines(task: str, second: int, *whats: tuple[str, float], job: str = "tick", epoch: int = 1, mark: str = "") -> str:
    """The lines of one run of a task whose nominal time is that second."""
    nominal = at(second).isoformat().replace("+00:00", "Z")
    return "".join(
        f"{what}\t{job}\t{nominal}\t{task}\t{task}-{epoch}\t{epoch}\t{epoch}\t{EPOCH + seconds:.6f}\t{mark}\n"
        for what, seconds in whats
    )


def slots(*seconds: int, schedule: str = "a", job: str = "tick") -> list[Slot]:
    return [Slot(job=job, schedule=schedule, nominal=at(second)) for second in seconds]


def runs(*texts: str, agent: str = "agent-01") -> list[Run]:
    return parse(agent, "".join(texts))


def test_each_nominal_time_with_its_run_is_clean() -> None:
    found = solve(
        slots(1, 2), runs(lines("t1", 1, ("start", 1), ("end", 1.2)), lines("t2", 2, ("start", 2), ("end", 3)))
    )
    assert found.is_clean and (found.expected, found.satisfied) == (2, 2)


def test_a_nominal_time_without_a_run_is_missed() -> None:
    found = solve(
        slots(1, 2, 3), runs(lines("t1", 1, ("start", 1), ("end", 1.2)), lines("t3", 3, ("start", 3), ("end", 4)))
    )
    assert [slot.nominal for slot in found.missed] == [at(2)] and not found.extra and found.satisfied == 2


def test_a_second_task_of_a_nominal_time_is_extra() -> None:
    both = runs(lines("t1", 1, ("start", 1), ("end", 1.2)), lines("t2", 1, ("start", 5), ("end", 6)))
    found = solve(slots(1), both)
    assert [extra.runs[0].task for extra in found.extra] == ["t2"] and not found.missed
    assert solve([*slots(1), *slots(1, schedule="b")], both).is_clean, "two schedules, two runs"


def test_a_second_task_is_extra_also_when_it_did_not_complete() -> None:
    found = solve(slots(1), runs(lines("t0", 1, ("start", 1)), lines("t1", 1, ("start", 1), ("end", 1.2))))
    assert [extra.runs[0].task for extra in found.extra] == ["t0"] and not found.missed


def test_a_run_nobody_asked_for_is_extra() -> None:
    found = solve([], runs(lines("t9", 9, ("start", 9), ("end", 9.5))))
    assert len(found.extra) == 1 and "t9" in str(found.extra[0])


def test_a_run_that_did_not_end_does_not_satisfy() -> None:
    found = solve(slots(1), runs(lines("t1", 1, ("start", 1), ("tick", 1.25))))
    assert len(found.missed) == 1 and len(found.incomplete) == 1 and not found.extra
    failed = solve(slots(1), runs(lines("t1", 1, ("start", 1), ("fail", 1.25))))
    assert len(failed.missed) == 1 and failed.incomplete[0].outcome == "fail"


def test_a_retry_after_an_incomplete_run_is_legal() -> None:
    found = solve(
        slots(1),
        runs(lines("t1", 1, ("start", 1), ("tick", 1.25)), lines("t1", 1, ("start", 4), ("end", 4.2), epoch=2)),
    )
    assert found.is_clean and len(found.incomplete) == 1 and not found.repeated


def test_two_complete_runs_of_a_task_are_extra() -> None:
    both = runs(lines("t1", 1, ("start", 1), ("end", 2)), lines("t1", 1, ("start", 4), ("end", 5), epoch=2))
    assert [extra.reason for extra in solve(slots(1), both).extra] == ["two complete runs of a task"]


def test_a_run_whose_end_could_not_be_reported_may_be_repeated_later_with_a_higher_epoch() -> None:
    silence = Silence(agent="agent-01", since=EPOCH + 1.5, until=EPOCH + 3)
    first = lines("t1", 1, ("start", 1), ("end", 2))
    found = solve(slots(1), runs(first, lines("t1", 1, ("start", 4), ("end", 5), epoch=2)), [silence])
    assert found.is_clean and len(found.repeated) == 1
    elsewhere = Silence(agent="agent-02", since=EPOCH, until=EPOCH + 9)
    again = runs(first, lines("t1", 1, ("start", 4), ("end", 5), epoch=2))
    assert not solve(slots(1), again, [elsewhere]).is_clean
    overlapping = solve(slots(1), runs(first, lines("t1", 1, ("start", 1.9), ("end", 5), epoch=2)), [silence])
    assert [extra.reason for extra in overlapping.extra] == ["two runs of a task at the same time"]


def test_two_runs_at_the_same_time_are_extra_by_their_last_sign_of_life() -> None:
    cut_off = lines("t1", 1, ("start", 1), ("tick", 4.5))
    found = solve(slots(1), runs(cut_off, lines("t1", 1, ("start", 4), ("end", 5), epoch=2)))
    assert [extra.reason for extra in found.extra] == ["two runs of a task at the same time"]


def test_a_dispatch_that_starts_twice_is_two_runs() -> None:
    found = solve(slots(1), runs(lines("t1", 1, ("start", 1), ("end", 2)), lines("t1", 1, ("start", 3), ("end", 4))))
    assert len(found.extra) == 1


def test_runs_by_hand_are_known_by_their_id() -> None:
    asked = [Slot(job="tick", schedule="by hand", nominal=at(0), task=f"h{number}") for number in (1, 2)]
    found = solve(asked, runs(lines("h1", 7, ("start", 7), ("end", 8)), lines("h3", 7, ("start", 7), ("end", 8))))
    assert [slot.task for slot in found.missed] == ["h2"]
    assert [extra.runs[0].task for extra in found.extra] == ["h3"]


def test_a_run_by_hand_does_not_take_the_place_of_a_fire() -> None:
    asked = [*slots(1), Slot(job="tick", schedule="by hand", nominal=at(1), task="h1")]
    found = solve(asked, runs(lines("h1", 1, ("start", 1), ("end", 2)), lines("t1", 1, ("start", 1), ("end", 2))))
    assert found.is_clean and found.satisfied == 2


def test_files_of_all_agents_count_and_a_strange_line_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "agent-01.lines").write_text(lines("t1", 1, ("start", 1), ("end", 2)))
    (tmp_path / "agent-02.lines").write_text(lines("t2", 2, ("start", 2), ("end", 3)))
    assert {run.agent for run in read(tmp_path)} == {"agent-01", "agent-02"}
    (tmp_path / "agent-02.lines").write_text(lines("t2", 2, ("end", 3)))
    with pytest.raises(Garbled, match="line 1"):
        read(tmp_path)


def test_nominal_times_of_an_interval_and_of_a_cron_expression() -> None:
    every = Schedule(job="tick", name="a", every=3, start=at(1), end=at(10))
    assert [slot.nominal for slot in every.slots()] == [at(1), at(4), at(7), at(10)]
    cron = Schedule(job="tick", name="b", every=20, start=at(19), end=at(80), is_cron=True)
    assert [slot.nominal for slot in cron.slots()] == [at(20), at(40), at(60), at(80)]
    assert cron.cron == "*/20 * * * * ?"


def test_a_task_that_may_run_twice_is_no_extra_when_it_does_and_is_missed_when_it_never_ends() -> None:
    both = runs(
        lines("t1", 1, ("start", 1), ("tick", 3), ("end", 4)), lines("t1", 1, ("start", 2), ("end", 5), epoch=2)
    )
    assert solve(slots(1), both, harmless={"tick"}).is_clean and not solve(slots(1), both).is_clean
    broken = runs(lines("t1", 1, ("start", 1), ("tick", 3)))
    assert len(solve(slots(1), broken, harmless={"tick"}).missed) == 1


def test_what_a_fault_may_not_touch_and_ended_is_found() -> None:
    [ended, before, later, own_end] = runs(
        lines("t1", 1, ("start", 1), ("tick", 5)),
        lines("t2", 1, ("start", 2), ("tick", 3)),
        lines("t3", 1, ("start", 7), ("tick", 8)),
        lines("t4", 1, ("start", 7.5), ("fail", 8)),
    )
    span = Silence(agent="agent-01", since=EPOCH + 5, until=EPOCH + 6)
    healed = Healed(at=EPOCH + 6, unharmed=(span,))
    assert harmed([ended, before, later, own_end], healed) == [ended]
    assert harmed([evolve(ended, agent="agent-02")], healed) == []
