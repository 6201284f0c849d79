"""The runner of ranges: what it prints of a failing seed, and what becomes of a hung, a crashed and a different one."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.simulation import fleet, range_run
from tests.simulation.checkers import Verdict
from tests.simulation.fleet import Fleet, Result
from tests.simulation.outcome import Outcome
from tests.simulation.shape import drawn


def an_outcome(seed: int, log: str = "aa", *, fails: bool = False) -> Outcome:
    verdict = Verdict()
    if fails:
        verdict.fail("T2", "two processes of task x at once", streams=["task-x"])
    return Outcome(
        drawn(seed), log, 10, 3, 60.0, verdict, {"cut": 1}, {"fired": 2}, ["     1 TaskCreated"] if fails else []
    )


def played_by(
    monkeypatch: pytest.MonkeyPatch, results: Callable[[], list[Result]], *, interrupts: bool = False
) -> None:
    def run(self: Fleet, seeds: object) -> object:
        yield from results()
        if interrupts:
            raise KeyboardInterrupt

    monkeypatch.setattr(Fleet, "run", run)


def ranged(count: int, *, require_coverage: bool | None = False) -> int:
    return range_run.run_range(
        range(1, 1 + count), jobs=1, seconds_max=60, as_json=False, require_coverage=require_coverage
    )


def test_a_failing_seed_is_told_with_its_invariant_its_events_and_the_command(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    played_by(monkeypatch, lambda: [Result(1, 1.0, an_outcome(1)), Result(2, 1.0, an_outcome(2, fails=True))])
    assert ranged(2) == 1
    said = "".join(capsys.readouterr())
    assert "VIOLATED T2: two processes of task x at once" in said
    assert "1 TaskCreated" in said
    assert "make simulate SEED=2" in said
    assert "make simulate SEED=1" not in said


def test_what_was_never_reached_fails_a_range_that_requires_it(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    played_by(monkeypatch, lambda: [Result(1, 1.0, an_outcome(1))])
    assert ranged(1) == 0
    assert ranged(1, require_coverage=True) == 1
    assert "never reached, and this fails the run: fault:" in capsys.readouterr().out


def test_an_interrupted_range_says_what_was_done(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    played_by(monkeypatch, lambda: [Result(1, 1.0, an_outcome(1))], interrupts=True)
    assert ranged(5) == 130
    assert "interrupted after 1 of 5 seeds" in capsys.readouterr().out


def test_two_hashes_of_one_seed_are_a_failure() -> None:
    runs = Fleet(60.0, 1)
    seed = fleet.REPEAT_EVERY
    first = runs._compared(Result(seed, 1.0, an_outcome(seed, "aa")))
    assert first is not None and first.is_good
    assert runs._compared(Result(seed, 1.0, an_outcome(seed, "aa"))) is None
    other = runs._compared(Result(seed, 1.0, an_outcome(seed, "bb")))
    assert other is not None and other.problem == "two runs differ: log aa and bb"


def test_a_seed_that_gives_no_result_in_time_is_killed_and_the_next_worker_is_fresh() -> None:
    with Fleet(0.01, 1) as runs:
        results = list(runs.run([1, 2]))
        assert [each.seed for each in results] == [1, 2]
        assert all("hung: no result within" in str(each.problem) for each in results)
        workers = list(runs._workers)
    assert not any(worker.process.is_alive() for worker in workers)
