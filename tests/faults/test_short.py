"""The short version of `make faults`: real processes, a few kinds, one round each, and one round that must be condemned."""

from __future__ import annotations

import os
import subprocess
import tempfile
from pathlib import Path

import pytest
import trio

from tests.faults import remains, report
from tests.faults.features.register import FEATURES
from tests.faults.features.register import SHORT as FEATURES_SHORT
from tests.faults.kinds.fault import Fault, Healed, Scene, now
from tests.faults.kinds.register import KINDS, SHORT
from tests.faults.rounds import Result, run_all
from tests.support.postgres import fast_directory

pytestmark = [pytest.mark.postgres, pytest.mark.slow]

NAPPING = ["sleep", "60"]


class Sabotage(Fault):
    """What no fault may lead to: a schedule is gone, a run nobody asked for, a process that stays."""

    name = "sabotage"
    by_hand = False
    left_behind: subprocess.Popen[bytes] | None = None

    async def strike(self, scene: Scene) -> Healed:
        environ = os.environ | {"FAULTS_LINES": str(scene.cluster.lines)}
        type(self).left_behind = await trio.to_thread.run_sync(lambda: subprocess.Popen(NAPPING, env=environ))
        async with scene.cluster.client() as http:
            assert (await http.delete(f"/schedules/item/{scene.workload.ids[0]}")).status_code == 200
            assert (await http.post(f"/jobs/item/{scene.workload.jobs['short']}/run")).status_code == 200
        return Healed(at=now())


@pytest.mark.timeout(600)  # rounds have deadlines of their own, which say what is wrong
async def test_nothing_is_missed_doubled_or_left_and_what_is_would_be_found() -> None:
    """How soon work goes on is for `make faults`: here the machine is busy with other tests."""
    results: list[Result] = []
    features = [FEATURES[name] for name in FEATURES_SHORT]
    kinds: list[type[Fault]] = [*(KINDS[name] for name in SHORT), Sabotage]
    try:
        with tempfile.TemporaryDirectory(prefix=remains.PREFIX, dir=fast_directory()) as directory:
            await run_all(kinds, 1, 1, Path(directory), results.append, lambda text: None, features)
    finally:
        if Sabotage.left_behind is not None:
            Sabotage.left_behind.kill()
            Sabotage.left_behind.wait()
    *good, bad = results
    assert [result.kind for result in good] == list(SHORT)
    assert [text for result in good for text in report.details(result)] == []
    assert all(result.recovery_seconds is not None for result in good)
    assert all(result.verdict.expected == result.verdict.satisfied > 0 for result in good)
    for result in good:
        ran = {it.name for it in result.features if it.tasks}
        assert ran >= set(FEATURES_SHORT) - {"file"}, "a busy machine watches too late for files"
    assert len({slot.job for slot in bad.verdict.missed}) == 1
    assert [extra.runs[0].job for extra in bad.verdict.extra] == ["short"]
    assert Sabotage.left_behind is not None
    assert bad.wrong == (f"process {Sabotage.left_behind.pid} of a run is left",)


def test_kinds_have_names_and_say_what_they_are() -> None:
    for name, kind in KINDS.items():
        assert name == kind.name and kind.about()
