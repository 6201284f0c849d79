"""The short version of `make faults`: real processes, a few kinds, one round each."""

from __future__ import annotations

import tempfile
from pathlib import Path

import pytest

from tests.faults import report
from tests.faults.kinds.register import KINDS, SHORT
from tests.faults.rounds import Result, run_all
from tests.support.postgres import fast_directory

pytestmark = [pytest.mark.postgres, pytest.mark.slow]


async def test_nothing_is_missed_doubled_or_left() -> None:
    """How soon work goes on is for `make faults`: here the machine is busy with other tests."""
    results: list[Result] = []
    with tempfile.TemporaryDirectory(prefix="hetuflow-faults-", dir=fast_directory()) as directory:
        await run_all([KINDS[name] for name in SHORT], 1, 1, Path(directory), results.append, lambda text: None)
    assert [result.kind for result in results] == list(SHORT)
    assert [text for result in results for text in report.details(result)] == []
    assert all(result.recovery_seconds is not None for result in results)
    assert all(result.verdict.expected == result.verdict.satisfied > 0 for result in results)


def test_kinds_have_names_and_say_what_they_are() -> None:
    for name, kind in KINDS.items():
        assert name == kind.name and kind.about()
    later = {name for name, kind in KINDS.items() if kind.later is not None}
    assert "agent-stop" in later and all(KINDS[name]().unavailable() == KINDS[name].later for name in later)
