"""A directory that behaves as version 2 does with controllers: for machines, as those of the tests, that have these in version 1.

Faithful in: which files a group has and in what form they are read and written, that a controller is a group's only when its
parent hands it down, that a group which hands down has no processes, that a write of a pid moves it. Nothing is enforced;
what the kernel would count (peaks, events), a test writes itself.
"""

from __future__ import annotations

import errno
import os
import shutil
from pathlib import Path

FILES = {
    "": {"cgroup.procs": "", "cgroup.events": "populated 0\nfrozen 0\n", "cgroup.kill": "", "cgroup.freeze": "0\n",
         "cgroup.type": "domain\n", "cgroup.subtree_control": "\n",
         "cpu.stat": "usage_usec 0\nuser_usec 0\nsystem_usec 0\n",
         "cpu.pressure": "some avg10=0.00 avg60=0.00 avg300=0.00 total=0\nfull avg10=0.00 avg60=0.00 avg300=0.00 total=0\n",
         "memory.pressure": "some avg10=0.00 avg60=0.00 avg300=0.00 total=0\nfull avg10=0.00 avg60=0.00 avg300=0.00 total=0\n"},
    "memory": {"memory.max": "max\n", "memory.current": "0\n", "memory.peak": "0\n", "memory.swap.max": "max\n",
               "memory.oom.group": "0\n", "memory.events": "low 0\nhigh 0\nmax 0\noom 0\noom_kill 0\noom_group_kill 0\n"},
    "pids": {"pids.max": "max\n", "pids.current": "0\n", "pids.events": "max 0\n"},
    "cpu": {"cpu.max": "max 100000\n"},
    "io": {"io.stat": ""},
}  # fmt: skip


class FakeCgroup2:
    """`root` is the delegated group. Its methods stand in for those of `agent.containment.files`."""

    def __init__(self, root: Path, controllers: tuple[str, ...], processes: list[int]) -> None:
        self.root = root
        root.mkdir()
        self._populate(root, controllers)
        self._set_procs(root, processes)

    def make_group(self, path: str) -> None:
        os.mkdir(path)
        self._populate(Path(path), tuple((Path(path).parent / "cgroup.subtree_control").read_text().split()))

    def remove_group(self, path: str) -> bool:
        group = Path(path)
        if not group.exists():
            return True
        if self.procs(path) or any(each.is_dir() for each in group.iterdir()):
            return False
        shutil.rmtree(group)
        return True

    def write(self, path: str, text: str) -> None:
        file = Path(path)
        if not file.exists():
            raise FileNotFoundError(errno.ENOENT, "No such file or directory", path)
        if file.name == "cgroup.procs":
            self._move(int(text) or os.getpid(), file.parent)
        elif file.name == "cgroup.subtree_control":
            self._hand_down(file, text)
        else:
            file.write_text(text + "\n")

    def procs(self, path: str) -> list[int]:
        return [int(word) for word in (Path(path) / "cgroup.procs").read_text().split()]

    # --- inside ----------------------------------------------------------------------------------------------------

    def _populate(self, group: Path, controllers: tuple[str, ...]) -> None:
        (group / "cgroup.controllers").write_text(" ".join(controllers) + "\n")
        for controller in ("", *controllers):
            for name, content in FILES.get(controller, {}).items():
                (group / name).write_text(content)

    def _set_procs(self, group: Path, pids: list[int]) -> None:
        (group / "cgroup.procs").write_text("".join(f"{pid}\n" for pid in pids))

    def _move(self, pid: int, to: Path) -> None:
        if (to / "cgroup.subtree_control").read_text().split():
            raise OSError(errno.EBUSY, "Device or resource busy")
        for file in [*self.root.rglob("cgroup.procs")]:
            self._set_procs(file.parent, [each for each in self.procs(str(file.parent)) if each != pid])
        self._set_procs(to, [*self.procs(str(to)), pid])

    def _hand_down(self, file: Path, text: str) -> None:
        if self.procs(str(file.parent)):
            raise OSError(errno.EBUSY, "Device or resource busy")
        if text.removeprefix("+") not in (file.parent / "cgroup.controllers").read_text().split():
            raise FileNotFoundError(errno.ENOENT, "No such file or directory")
        names = [*file.read_text().split(), text.removeprefix("+")]
        file.write_text(" ".join(names) + "\n")
        for group in (each for each in file.parent.iterdir() if each.is_dir()):
            self._populate_more(group, names)

    def _populate_more(self, group: Path, names: list[str]) -> None:
        (group / "cgroup.controllers").write_text(" ".join(names) + "\n")
        for name in names:
            for file, content in FILES.get(name, {}).items():
                if not (group / file).exists():
                    (group / file).write_text(content)
