"""What an agent's processes see of the machine that they run on: its boot, its wall clock, its disk, its processes.

All of it is the kernel's own doing, so that agent and keeper, whatever they look at, see the same as on a machine of
theirs: nothing in the product is there for it.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import tempfile
import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path

from attrs import define

from tests.faults.database import Disk
from tests.faults.server import set_offset

BOOT_ID = "/proc/sys/kernel/random/boot_id"
CLOCK_SOURCE = Path(__file__).with_name("wrong_clock.c")
_SHOWN = """
while [ "$1" != -- ]; do mount --bind "$1" "$2" || exit 1; shift 2; done
shift
exec "$@"
"""
"""Pairs of what is shown and where, then `--` and the command."""


def no_boots() -> str | None:
    """Why no process here can be shown another boot id, or other files; None = it can."""
    if os.geteuid() != 0:
        return "a machine with a boot and a clock of its own needs root"
    if shutil.which("unshare") is None or shutil.which("mount") is None:
        return "unshare or mount (util-linux) is not installed"
    with tempfile.TemporaryDirectory() as directory:
        boot = Path(directory) / "boot"
        boot.write_text("probe\n")
        probe = [*_namespaces(is_alone=True), *_showing({BOOT_ID: boot}), "cat", BOOT_ID]
        answer = subprocess.run(probe, capture_output=True, check=False)
    return None if answer.stdout == b"probe\n" else "this kernel or container does not let us show another boot id"


def no_clock() -> str | None:
    """Why no process here can have a wrong clock; None = it can."""
    if shutil.which("cc") is None:
        return "the wrong clock is compiled, and there is no C compiler (cc)"
    return no_boots()


def build_clock(place: Path, offset: Path) -> Path:
    """A copy of `/etc` with which the clock of all Pythons of a machine is wrong, by what stands in the file `offset`.

    Preloaded by the loader itself and not by a variable: an agent gives its keeper few of its own. What the machine
    runs is judged by its lines, and keeps the right time.
    """
    library, etc = place / "wrong_clock.so", place / "etc"
    command = [
        "cc",
        "-O2",
        "-shared",
        "-fPIC",
        f'-DCLOCK_FILE="{offset}"',
        "-o",
        str(library),
        str(CLOCK_SOURCE),
        "-ldl",
        "-lm",
    ]
    subprocess.run(command, check=True, capture_output=True)
    subprocess.run(["cp", "-a", "/etc", str(etc)], check=True)
    (etc / "ld.so.preload").write_text(f"{library}\n")
    return etc


def _showing(files: Mapping[str, Path]) -> Sequence[str]:
    pairs = [word for path, shown in files.items() for word in (str(shown), path)]
    return ("sh", "-c", _SHOWN, "sh", *pairs, "--")


def _namespaces(*, is_alone: bool) -> Sequence[str]:
    alone = ("--pid", "--fork", "--kill-child", "--mount-proc") if is_alone else ()
    return ("unshare", "--mount", *alone)


def _is_of_agent(pid: int) -> bool:
    try:
        return b"agent" in Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return False


@define(kw_only=True)
class Machine:
    """Of one agent.

    Attributes:
      state_dir: of the agent.
      work_root: the agent's own directory lies in it.
      disk: state and work lie on it; None = on the host's.
      boot: file with the boot id that is shown; None = the host's is.
      is_alone: it has process ids of its own and sees no other processes.
      etc, clock_file: configuration and offset of a wrong wall clock; None = it is right.
    """

    state_dir: Path
    work_root: Path
    disk: Disk | None = None
    boot: Path | None = None
    is_alone: bool = False
    etc: Path | None = None
    clock_file: Path | None = None

    @property
    def prefix(self) -> Sequence[str]:
        """Put before a command, it runs on the machine, as the process that was started if it is not alone."""
        shown = {BOOT_ID: self.boot, "/etc": self.etc}
        files = {path: file for path, file in shown.items() if file is not None}
        return (*_namespaces(is_alone=self.is_alone), *_showing(files)) if files else ()

    def keeper_pids(self) -> list[int]:
        """The keeper and what watches over it; empty when there is none."""
        try:
            found = json.loads((self.state_dir / "keeper.json").read_text())
        except (OSError, ValueError):
            return []
        return [pid for pid in (found["watchdog_pid"], found["pid"]) if _is_of_agent(pid)]

    def boot_anew(self) -> str:
        """From the next start of a process on, it is another boot; its id."""
        assert self.boot is not None
        boot_id = str(uuid.uuid4())
        self.boot.write_text(f"{boot_id}\n")
        return boot_id

    def offset_clock(self, seconds: float) -> None:
        """What its wall clock is wrong by, from now on."""
        assert self.clock_file is not None
        set_offset(self.clock_file, seconds)

    def copied(self, place: Path) -> Machine:
        """Another machine with a copy of this one's state as it is now, half a record included."""
        place.mkdir(mode=0o711)
        clone = Machine(state_dir=place / "state", work_root=place / "work", boot=place / "boot", is_alone=True)
        clone.work_root.mkdir(mode=0o700)
        clone.boot_anew()
        subprocess.run(["cp", "-a", str(self.state_dir), str(clone.state_dir)], check=True)
        return clone
