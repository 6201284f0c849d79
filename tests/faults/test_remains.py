"""A harness that is killed cleans up nothing; the next one does."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from tests.faults import remains
from tests.faults.kinds.disk import no_mounts

ROOT = Path(__file__).parents[2]
HARNESS = """
import os, subprocess, sys
from pathlib import Path
from tests.faults import remains
from tests.faults.database import Disk
directory = Path(sys.argv[1])
with remains.claimed(directory):
    (directory / "cluster-1").mkdir()
    if sys.argv[2] == "mount":
        Disk(directory / "cluster-1" / "data-disk", 1).open()
    environ = {**os.environ, "FAULTS_LINES": f"{directory}/cluster-1/lines"}
    left = subprocess.Popen(["sleep", "600"], env=environ, start_new_session=True, stdout=subprocess.DEVNULL)
    print(left.pid, flush=True)
    sys.stdin.read()
"""


def killed_harness(directory: Path) -> int:
    """Start one and kill it (SIGKILL); the process that it leaves."""
    directory.mkdir()
    mounts = "mount" if no_mounts() is None else "none"
    command = [sys.executable, "-c", HARNESS, str(directory), mounts]
    with subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as harness:
        assert harness.stdout is not None
        left = int(harness.stdout.readline())
        assert remains.clear([directory.parent]) == [] and Path(f"/proc/{left}").exists()  # it lives
        harness.kill()
    return left


def test_what_a_killed_harness_left_is_cleared_away(tmp_path: Path) -> None:
    directory = tmp_path / f"{remains.PREFIX}dead"
    left = killed_harness(directory)
    (said,) = remains.clear([tmp_path])
    assert str(directory) in said
    assert not directory.exists() and str(directory) not in Path("/proc/self/mounts").read_text()
    assert _is_gone(left)
    assert remains.clear([tmp_path]) == []


def test_what_a_harness_left_for_people_to_read_stays(tmp_path: Path) -> None:
    directory = tmp_path / f"{remains.PREFIX}kept"
    directory.mkdir()
    with remains.claimed(directory):
        (directory / "log").write_text("what happened")
    assert remains.clear([tmp_path]) == []
    assert (directory / "log").exists()


def _is_gone(pid: int) -> bool:
    """Ended; who has no parent any more may stay in the table until somebody collects it."""
    try:
        return " Z " in Path(f"/proc/{pid}/stat").read_text()
    except FileNotFoundError:
        return True
