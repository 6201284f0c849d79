"""Groups of the real kernel, version 1: chosen, made, left behind and removed."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from agent import process_tree
from agent.containment import cgroup1, detect, files
from agent.containment.leaf import ContainmentError, tree_ceiling
from agent.containment.mounts import Hierarchy
from agent.keeper.messages import Limits
from agent.keeper.tree import ProcessTree
from hetuflow.ports.processes import StartError
from tests.support.programs import open_bench

ROOT = Path(__file__).parents[3]
FOUND = [each for each in detect.find_hierarchies() if each.version == 1]
by_kernel = pytest.mark.skipif(
    not any("pids" in each.controllers and os.access(each.directory, os.W_OK) for each in FOUND),
    reason="no control groups of version 1 that may be written: needs root",
)


def is_there(pid: int, start: str) -> bool:
    return process_tree.identity(pid) == start


@pytest.fixture
def only_freezer(monkeypatch: pytest.MonkeyPatch) -> None:
    freezer = [each for each in FOUND if each.controllers == ("freezer",)]
    monkeypatch.setattr(detect, "find_hierarchies", lambda: freezer)


@by_kernel
def test_a_keeper_that_is_killed_leaves_groups_and_the_next_one_removes_them() -> None:
    code = r"""
import os, sys
from agent.keeper.messages import Limits
from tests.support.programs import open_bench
with open_bench("cgroup") as bench:
    limits = Limits(memory_bytes=2**28, cpu_cores=0.5, processes=20)
    tree, heard = bench.launch("bash", "-c", "setsid env -i sleep 300 & echo $!; sleep 300", limits=limits)
    bench.until(lambda: heard.output[1].endswith(b"\n"))
    print(*bench.system.group_directories(), tree.group, heard.output[1].decode(), flush=True)
    os.kill(os.getpid(), 9)
"""
    ran = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    directory, group, stray = ran.stdout.split()
    assert int(stray) in files.pids(f"{group}/cgroup.procs"), ran.stderr
    name = os.path.basename(directory)
    with open_bench("cgroup") as bench:
        bench.until(lambda: not any(os.path.exists(f"{each.directory}/{name}") for each in FOUND))
        bench.until(lambda: (found := process_tree.read_process(int(stray))) is None or found.state == "Z")


@by_kernel
def test_groups_of_a_keeper_that_lives_are_left_alone() -> None:
    with open_bench("cgroup") as bench:
        tree, heard = bench.launch("sleep", "300")
        assert detect.remove_leftovers(FOUND, is_there)
        assert tree.is_alive() and os.path.isdir(bench.system.group_directories()[0])
        tree.kill()
        bench.finish(tree, heard)


@by_kernel
@pytest.mark.skipif(shutil.which("unshare") is None, reason="unshare (util-linux) is not installed")
def test_a_keeper_in_a_container_is_left_alone_and_leaves_others_alone() -> None:
    """With the machine's hierarchies and pids of its own, it sees none of our processes, and we none of its by their pids."""
    code = r"""
import sys
from tests.support.programs import open_bench
with open_bench("cgroup") as bench:
    tree, heard = bench.launch("sleep", "300")
    print("started", flush=True)
    sys.stdin.read()
    print("alive" if tree.is_alive() else "gone", flush=True)
"""
    with open_bench("cgroup") as bench:
        tree, heard = bench.launch("sleep", "300")
        container = subprocess.Popen(
            ["unshare", "--pid", "--fork", "--mount-proc", "--kill-child", sys.executable, "-c", code],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert container.stdout is not None
        assert container.stdout.readline() == "started\n"
        assert detect.remove_leftovers(FOUND, is_there)
        assert container.communicate("", timeout=60)[0] == "alive\n"
        assert tree.is_alive()
        tree.kill()
        bench.finish(tree, heard)


@by_kernel
def test_nothing_is_left_when_all_is_closed() -> None:
    with open_bench("cgroup") as bench:
        limits = Limits(memory_bytes=2**28, cpu_cores=0.5, processes=20)
        tree, heard = bench.launch("true", limits=limits)
        assert isinstance(tree, ProcessTree) and tree.isolation == "cgroup1"
        bench.finish(tree, heard)
        assert not os.path.exists(tree.group)
        [directory] = bench.system.group_directories()
        bench.launch("sleep", "300", limits=limits)
    assert not any(os.path.exists(f"{each.directory}/{os.path.basename(directory)}") for each in FOUND)


@by_kernel
def test_the_keeper_comes_out_again_whatever_happens(tmp_path: Path) -> None:
    before = Path("/proc/self/cgroup").read_text()
    with open_bench("cgroup") as bench:
        limits = Limits(memory_bytes=2**28, cpu_cores=0.5, processes=20)
        tree, heard = bench.launch("true", limits=limits)
        assert Path("/proc/self/cgroup").read_text() == before
        bench.finish(tree, heard)
        program = tmp_path / "program"
        program.write_text("no format at all")
        program.chmod(0o755)
        with pytest.raises(StartError, match="no executable format"):
            bench.launch(str(program), limits=limits)
        assert Path("/proc/self/cgroup").read_text() == before


def test_a_group_that_cannot_be_read_is_not_empty(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Such as for want of a descriptor: who believed it would call a tree gone that runs."""

    def make(path: str) -> None:
        os.mkdir(path)
        Path(path, "tasks").touch()

    monkeypatch.setattr(files, "make_group", make)
    (tmp_path / "tasks").touch()
    groups = cgroup1.open_groups1([Hierarchy(1, str(tmp_path), ("pids",))], "hetuflow-a.1.2.3", 0)
    leaf = groups.leaf("i.1", memory_bytes=0, cpu_cores=0.0, processes=0)
    processes = Path(leaf.directory) / "cgroup.procs"
    processes.touch()
    assert not leaf.is_populated()
    processes.unlink()
    processes.mkdir()
    assert leaf.is_populated()
    processes.rmdir()
    assert not leaf.is_populated(), "it is gone"
    groups.close()


@by_kernel
@pytest.mark.parametrize(
    ("after", "is_alone"), [("true", True), ("setsid sleep 300 & true", False), ("(setsid true &) ; true", None)]
)
def test_a_group_says_whether_anything_is_left_when_the_root_has_ended(after: str, is_alone: bool | None) -> None:
    """Also what has ended and is still to be reaped, which the keeper may be or not be in time for."""
    with open_bench("cgroup") as bench:
        tree, heard = bench.launch("/bin/sh", "-c", after, capture_output=False)
        assert isinstance(tree, ProcessTree) and tree.leaf is not None
        assert not tree.leaf.is_deserted()
        bench.until(lambda: heard.exit is not None)
        assert is_alone in (None, tree.leaf.is_deserted()) and is_alone in (None, not tree.is_alive())
        tree.kill()
        bench.until(tree.leaf.is_deserted)
        bench.finish(tree, heard)
        assert not os.path.exists(tree.group)


@by_kernel
def test_without_a_limit_of_its_own_a_tree_has_the_ceiling_and_with_one_just_that() -> None:
    with open_bench("cgroup") as bench:
        for limits, most in ((Limits(), None), (Limits(processes=20), 20)):
            tree, heard = bench.launch("cat", "/dev/null", limits=limits)
            assert isinstance(tree, ProcessTree)
            [directory] = bench.system.group_directories()
            together = int(Path(directory, "pids.max").read_text())
            assert int(Path(tree.group, "pids.max").read_text()) == (most or tree_ceiling(together))
            bench.finish(tree, heard)


@by_kernel
def test_figures_of_the_whole_tree_come_from_its_groups() -> None:
    """A child that nobody has waited for counts too: the root's own exit does not know of it."""
    script = "import os\nheld = b'x' * 2**26\nif os.fork():\n    os._exit(0)\nsum(range(10**7))\nos._exit(0)"
    with open_bench("cgroup") as bench:
        limits = Limits(memory_bytes=2**30, cpu_cores=2.0)
        tree, heard = bench.launch(sys.executable, "-S", "-c", script, limits=limits)
        bench.until(lambda: heard.exit is not None and not tree.is_alive())
        usage = tree.usage()
        assert heard.exit is not None and usage.cpu_seconds > heard.exit.cpu_seconds
        assert 2**26 < usage.memory_peak_bytes < 2**28
        bench.finish(tree, heard)


@by_kernel
@pytest.mark.usefixtures("only_freezer")
def test_where_there_are_no_pids_the_freezer_holds_a_tree_together() -> None:
    with open_bench("cgroup") as bench:
        assert bench.system.limits() == dict.fromkeys(("memory", "cpu", "processes"), "sampled")
        tree, heard = bench.launch(
            "bash", "-c", "setsid env -i sleep 300 & echo $!; sleep 300", limits=Limits(processes=9)
        )
        assert tree.isolation == "cgroup1+sampled"
        bench.until(lambda: heard.output[1].endswith(b"\n"))
        stray = int(heard.output[1])
        tree.kill()
        assert bench.finish(tree, heard).signal == 9
        bench.until(lambda: process_tree.read_process(stray) is None)


def test_a_session_can_be_insisted_on() -> None:
    groups, why = detect.open_groups("session", "a", "1", FOUND)
    assert groups is None and why == ""


def test_groups_can_be_insisted_on() -> None:
    with pytest.raises(ContainmentError, match=r"executor\.isolation is cgroup: no hierarchy of version 1 with pids"):
        detect.open_groups("cgroup", "a", "1", [])
    nowhere = [Hierarchy(1, "/proc/no/such", ("pids",)), Hierarchy(2, "/proc/no/such")]
    with pytest.raises(ContainmentError, match=r"/proc/no/such.*: No such file"):
        detect.open_groups("cgroup", "a", "1", nowhere)


def test_without_groups_auto_goes_on_and_says_why() -> None:
    groups, why = detect.open_groups("auto", "a", "1", [])
    assert groups is None
    assert "no hierarchy of version 1 with pids or freezer is mounted" in why


def test_memory_alone_holds_nothing_together(tmp_path: Path) -> None:
    (tmp_path / "tasks").touch()
    with pytest.raises(ContainmentError, match="no hierarchy of version 1 with pids or freezer"):
        cgroup1.open_groups1([Hierarchy(1, str(tmp_path), ("memory",))], "hetuflow-a.1.2", 0)
    assert os.listdir(tmp_path) == ["tasks"]
