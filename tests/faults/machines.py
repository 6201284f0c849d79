"""What an agent's processes see of the machine that they run on: its boot, its wall clock, its disk, its processes.

All of it is the kernel's own doing, so that agent and keeper, whatever they look at, see the same as on a machine of
theirs: nothing in the product is there for it.
"""

from __future__ import annotations

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
_BOOTED = f'mount --bind "$0" {BOOT_ID} && exec "$@"'


def no_boots() -> str | None:
    """Why no process here can be shown another boot id; None = it can."""
    if os.geteuid() != 0:
        return "another boot id needs root"
    if shutil.which("unshare") is None or shutil.which("mount") is None:
        return "unshare or mount (util-linux) is not installed"
    with tempfile.TemporaryDirectory() as directory:
        boot = Path(directory) / "boot"
        boot.write_text("probe\n")
        probe = [*_namespaces(is_alone=True), "sh", "-c", _BOOTED, str(boot), "cat", BOOT_ID]
        answer = subprocess.run(probe, capture_output=True, check=False)
    return None if answer.stdout == b"probe\n" else "this kernel or container does not let us show another boot id"


def no_clock() -> str | None:
    """Why no process here can have a wrong clock; None = it can."""
    return None if shutil.which("cc") is not None else "the wrong clock is compiled, and there is no C compiler (cc)"


def build_clock(place: Path) -> Path:
    """The library that makes the wall clock of whoever preloads it wrong."""
    library = place / "wrong_clock.so"
    command = ["cc", "-O2", "-shared", "-fPIC", "-o", str(library), str(CLOCK_SOURCE), "-ldl", "-lm"]
    subprocess.run(command, check=True, capture_output=True)
    return library


def _namespaces(*, is_alone: bool) -> Sequence[str]:
    alone = ("--pid", "--fork", "--kill-child", "--mount-proc") if is_alone else ()
    return ("unshare", "--mount", *alone)


@define(kw_only=True)
class Machine:
    """Of one agent.

    Attributes:
      state_dir: of the agent.
      work_root: the agent's own directory lies in it.
      disk: state and work lie on it; None = on the host's.
      boot: file with the boot id that is shown; None = the host's is.
      is_alone: it has process ids of its own and sees no other processes.
      clock, clock_file: library and offset of a wrong wall clock; None = it is right.
    """

    state_dir: Path
    work_root: Path
    disk: Disk | None = None
    boot: Path | None = None
    is_alone: bool = False
    clock: Path | None = None
    clock_file: Path | None = None

    @property
    def prefix(self) -> Sequence[str]:
        """Put before a command, it runs on the machine, as the process that was started if it is not alone."""
        if self.boot is None:
            return ()
        return (*_namespaces(is_alone=self.is_alone), "sh", "-c", _BOOTED, str(self.boot))

    @property
    def environ(self) -> Mapping[str, str]:
        if self.clock is None:
            return {}
        return {"LD_PRELOAD": str(self.clock), "FAULTS_CLOCK": str(self.clock_file)}

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
