"""What a keeper without any privileges can do: find, and end, whatever its programs do to escape."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.agent.hostile import programs
from tests.support.programs import open_to_all

ROOT = Path(__file__).parents[3]
PYTHON = "/usr/bin/python3"
"""Where anybody may execute it."""
PROCESSES_MAX = 200
"""Of the user, so that a bomb stays small. It does not hold for root, which is why nothing here runs as root."""

CODE = f"""
import os, pwd, resource, sys
from agent.keeper.messages import Limits
from tests.agent.hostile.test_hostile_programs import Hostile
from tests.support.programs import open_bench

if os.geteuid() == 0:
    nobody = pwd.getpwnam("nobody")
    os.setgroups([nobody.pw_gid])
    os.setgid(nobody.pw_gid)
    os.setuid(nobody.pw_uid)
os.chdir("/")
resource.setrlimit(resource.RLIMIT_NPROC, ({PROCESSES_MAX}, {PROCESSES_MAX}))
way, limits, file = sys.argv[1], Limits(processes=int(sys.argv[2])), sys.argv[3]
with open_bench() as bench:
    hostile = Hostile(bench, way, limits, python="{PYTHON}", file=file)
    if not limits.processes:
        hostile.until_ready()
        hostile.end()
    else:
        bench.until(lambda: hostile.tree.exceeded() is not None)
        hostile.until_gone()
    print(os.geteuid(), hostile.tree.isolation, (hostile.tree.exceeded() or ("none",))[0])
"""

pytestmark = [
    pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="without /proc only children can be found"),
    pytest.mark.skipif(not os.access(PYTHON, os.X_OK), reason=f"there is no {PYTHON} that anybody may execute"),
]


def as_user(way: str, processes: int, place: Path) -> list[str]:
    """Everything is imported before the rights are given up: the checkout may be root's alone."""
    file = shutil.copy(programs.__file__, place)
    open_to_all(place)
    command = [sys.executable, "-c", CODE, way, str(processes), str(file)]
    ran = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert ran.returncode == 0, ran.stderr
    return ran.stdout.split()


@pytest.mark.parametrize("way", ["deaf", "daemon", "daemon_of_the_living", "stopped", "traced", "hydra", "comet"])
def test_nothing_is_left_of(way: str, tmp_path: Path) -> None:
    uid, _, reason = as_user(way, 0, tmp_path)
    assert int(uid) != 0
    assert reason == "none"


@pytest.mark.parametrize("way", ["bomb", "bomb_of_sessions"])
def test_a_bomb_is_ended_for_its_limit(way: str, tmp_path: Path) -> None:
    assert as_user(way, 40, tmp_path)[2] == "processes"
