"""What a harness that was killed (kill -9) has left behind, and how the next one clears it away.

While it runs, a harness holds a lock on `harness.json` in its directory, which says who it is. The kernel lets go of the
lock when the process dies, however it dies, so that a file without a holder belongs to a dead one; a process id and a
start time alone were rejected, for ids come again and start times move with the clock. A harness that ends in order
removes the file: what stays in its directory then is for people to read, and is not touched.
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil

from hetuflow.embedded.directory import is_postmaster
from tests.faults import netns
from tests.faults.processes import DIRECTORY_VARIABLE, LINES_VARIABLE, kill_all, with_environment

PREFIX = "hetuflow-faults-"
STATE_FILE = "harness.json"
ENDED_SECONDS_MAX = 10.0


def places() -> Sequence[Path]:
    """Where harnesses have their directories."""
    return sorted({Path("/dev/shm"), Path(tempfile.gettempdir())})


@contextmanager
def claimed(directory: Path) -> Iterator[None]:
    """The directory is this process's for the length of the block, or until the process dies."""
    draft, state = directory / f"{STATE_FILE}.new", directory / STATE_FILE
    with draft.open("x") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        json.dump({"pid": os.getpid(), "started_at": time.strftime("%Y-%m-%d %H:%M:%S")}, file)
        file.flush()
        draft.rename(state)  # nobody sees it without its holder
        try:
            yield
        finally:
            state.unlink()


def clear(where: Sequence[Path] | None = None) -> Sequence[str]:
    """End and remove what dead harnesses have left; a line about each. Blocks for seconds."""
    cleared = []
    for place in places() if where is None else where:
        for state in sorted(place.glob(f"{PREFIX}*/{STATE_FILE}")):
            try:
                with state.open("r+") as file:
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    harness = json.load(file)
                    _clear(state.parent, harness)
            except OSError:  # it lives (BlockingIOError), is another user's, or is being cleared by somebody else
                continue
            cleared.append(
                f"cleared what a harness that was killed (pid {harness['pid']}, of {harness['started_at']}) left in {state.parent}"
            )
    return cleared


def _clear(directory: Path, harness: dict[str, Any]) -> None:
    deadline = time.monotonic() + ENDED_SECONDS_MAX
    while (left := _processes(directory)) and time.monotonic() < deadline:
        kill_all(left)
        time.sleep(0.02)
    for pidfile in directory.glob("*/*/pg/postmaster.pid"):
        _end_postgres(pidfile)
    netns.remove(harness["pid"])
    for mount in _mounts_below(directory):
        subprocess.run(["umount", "-l", mount], check=False)
    shutil.rmtree(directory, ignore_errors=True)


def _processes(directory: Path) -> Sequence[int]:
    """Servers, agents, and what these ran."""
    return [
        pid
        for variable in (DIRECTORY_VARIABLE, LINES_VARIABLE)
        for pid in with_environment(f"{variable}={directory}/".encode())
    ]


def _end_postgres(pidfile: Path) -> None:
    """An immediate shutdown, which takes its shared memory along; SIGKILL for all of it when that is not enough."""
    try:
        pid = int(pidfile.read_text().splitlines()[0])
        if not is_postmaster(pid, pidfile.parent):
            return
        postmaster = psutil.Process(pid)
        family = [postmaster, *postmaster.children()]
        for process in family:
            process.send_signal(signal.SIGCONT)
        postmaster.send_signal(signal.SIGQUIT)
    except (OSError, ValueError, IndexError, psutil.NoSuchProcess):
        return
    _, alive = psutil.wait_procs(family, ENDED_SECONDS_MAX)
    kill_all([process.pid for process in alive])


def _mounts_below(directory: Path) -> Sequence[str]:
    points = [line.split()[1] for line in Path("/proc/self/mounts").read_text().splitlines()]
    return [point for point in points if point.startswith(f"{directory}/")]
