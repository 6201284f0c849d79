"""A few seeds of the simulated cluster: no promise is violated, and the situations that matter were reached."""

from __future__ import annotations

import logging
from collections import Counter

import pytest

from tests.simulation.database import StoreFaults
from tests.simulation.faults import HELD_BACK, Faults
from tests.simulation.scenario import simulate
from tests.support.network import FrameFaults

SEEDS = tuple(range(1, 25))

CORPUS = {
    15: "an agent killed twice within a lease left a process that ignored SIGTERM beside its retry (scenario bounded)",
    8: "a connection lost while its server was cancelled let an exception out of the gateway's handler",
}
"""Seeds that failed once, and why."""

MUST_BE_REACHED = (
    *(kind for kind in Faults.kinds() if kind not in HELD_BACK),
    *StoreFaults.KINDS,
    *FrameFaults.KINDS,
    *("fired", "skipped (misfire)"),
    *("TaskRetryScheduled", "TaskReopened", "TaskSucceeded", "TaskFailed", "TaskCancelled"),
    *("exit_code", "timeout", "start_error", "lost", "signal"),
    *("processes ended by a cancel", "machines that were full", "outputs compared", "rows compared"),
    *("answers lost", "pause", "resume", "cancel", "retry", "run"),
)


@pytest.fixture(autouse=True)
def _quiet(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.CRITICAL)


def test_no_promise_is_violated_and_the_seeds_reach_what_the_checks_are_about() -> None:
    """A fault or a branch that no seed reaches is a check that proves nothing."""
    reached: Counter[str] = Counter()
    for seed in (*SEEDS, *CORPUS):
        outcome = simulate(seed)
        print(outcome)
        assert outcome.verdict.violations == [], f"seed {seed}: run `make simulate SEED={seed}`"
        assert outcome.processes > 30
        reached.update(outcome.faults)
        reached.update(outcome.reached)
    assert [what for what in MUST_BE_REACHED if not reached[what]] == []
