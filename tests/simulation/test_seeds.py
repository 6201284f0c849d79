"""Seeds of the simulated cluster: no promise is violated, and the situations that matter were reached."""

from __future__ import annotations

import logging

import pytest

from tests.simulation.corpus import corpus
from tests.simulation.coverage import ESSENTIAL, counted
from tests.simulation.outcome import Outcome
from tests.simulation.report import failure_of
from tests.simulation.scenario import simulate

CORPUS = [entry.seed for entry in corpus()]
SEEDS = list(dict.fromkeys([*CORPUS, *range(1, 51)]))[:50]
"""Small runs, as many as half a minute of one core allows: the seeds that failed once, and the first others. `make simulate`
has whole ones by the thousand."""

done: dict[int, Outcome] = {}


@pytest.fixture(autouse=True)
def _quiet(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.CRITICAL)


@pytest.mark.parametrize("seed", SEEDS)
def test_no_promise_is_violated(seed: int) -> None:
    outcome = done[seed] = simulate(seed, is_small=True)
    assert outcome.verdict.violations == [], failure_of(outcome)
    assert outcome.processes > 5


def test_the_seeds_reach_what_the_checks_are_about() -> None:
    """A fault or a branch that no seed reaches is a check that proves nothing."""
    if len(done) < len(SEEDS):  # each stands there once
        pytest.skip("only some of the seeds were run")
    faults, reached = counted(done.values())
    assert [what for what in ESSENTIAL if not faults[what] and not reached[what]] == []
