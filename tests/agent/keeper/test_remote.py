"""Directories and programs on file servers: one that is gone costs the start of those programs, and nobody else anything."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from agent import process_tree
from agent.keeper import launching, remote
from agent.keeper.launching import NoAnswer
from agent.keeper.messages import Finished
from agent.keeper.remote import RemoteMounts
from hetuflow.ports.processes import StartError
from tests.agent.keeper.real import open_site, own
from tests.support.dead_server import open_dead_server
from tests.support.programs import Bench, children_of_this_process, open_bench

pytestmark = pytest.mark.skipif(not process_tree.HAS_PROC, reason="needs /proc")


@pytest.fixture
def dead(tmp_path: Path) -> Iterator[str]:
    with open_dead_server(tmp_path / "dead") as dead:
        yield dead


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(launching, "_REPORT_SECONDS_MAX", 0.2)


@pytest.fixture
def bench() -> Iterator[Bench]:
    with open_bench() as bench:
        yield bench


async def test_a_dead_file_server_costs_no_other_program_its_keeper(tmp_path: Path, dead: str) -> None:
    with open_site(tmp_path / "site") as site:
        async with site.link() as agent:
            other = await agent.start("sleep 1000", own("k60"))
            for number in range(5):
                agent.link.send(site.launch("exit 0", own(f"k61-{number}"), directory=f"{dead}/jobs"))
            for number in range(5):
                ended = await agent.finished(own(f"k61-{number}"))
                assert ended.reason == "start_error" and dead in (ended.message or "")
            await agent.start("exit 0", own("k62"))
            keeper = agent.keeper_pid
            for name in ("/prog", "/jobs/prog"):
                agent.link.send(site.launch("", own(f"k63{name}"), argv=(f"{dead}{name}",)))
                ended = await agent.finished(own(f"k63{name}"))
                assert ended.reason == "start_error" and dead in (ended.message or "")
            assert process_tree.identity(other.pid) == other.identity and agent.keeper_pid == keeper
            assert not [end for end in agent.heard if isinstance(end, Finished) and end.instance_id == own("k60")]


@pytest.mark.parametrize("what", ["directory", "program", "link", "path"])
def test_what_does_not_answer_is_no_start(what: str, dead: str, tmp_path: Path, impatient: None, bench: Bench) -> None:
    link = tmp_path / "link"
    link.symlink_to(f"{dead}/bin")
    start = {
        "directory": lambda: bench.launch("true", directory=dead),
        "program": lambda: bench.launch(f"{dead}/bin/program"),
        "link": lambda: bench.launch("./program", directory=str(link)),
        "path": lambda: bench.launch("no-such-program", PATH=f"/usr/bin:{link}"),
    }[what]
    before = children_of_this_process()
    for _ in range(2):
        with pytest.raises(StartError, match=f"does not answer .* mounted at {dead}"):
            start()
    bench.until(lambda: children_of_this_process() == before)


def test_who_does_not_need_a_dead_server_does_not_ask_it(dead: str, impatient: None, bench: Bench) -> None:
    tree, heard = bench.launch("true", PATH=f"{os.environ['PATH']}:{dead}")
    assert bench.finish(tree, heard).exit_code == 0


@pytest.fixture
def mounts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> RemoteMounts:
    """A file server at `remote` in a test's directory, which lives."""
    (tmp_path / "remote" / "bin").mkdir(parents=True)
    (tmp_path / "mountinfo").write_text(
        "21 1 8:1 / / rw - ext4 /dev/sda1 rw\n"
        f"22 21 0:40 / {tmp_path}/remote rw shared:3 - nfs4 server:/x rw\n"
        f"23 21 0:41 / {tmp_path}/with\\040space rw - fuse.sshfs y rw\n"
        f"24 21 0:42 / {tmp_path}/local rw - tmpfs tmpfs rw\n"
    )
    return RemoteMounts(str(tmp_path / "mountinfo"))


@pytest.mark.parametrize(
    ("path", "point"),
    [
        ("/remote", "/remote"),
        ("/remote/a/b", "/remote"),
        ("/remote2/a", None),
        ("/local/x", None),
        ("/with space/x", "/with space"),
        ("/local/../remote/x", "/remote"),
        ("/link/x", "/remote"),
        ("/relative-link", "/remote"),
        ("/loop/x", None),
    ],
)
def test_which_mount_holds_a_path(path: str, point: str | None, mounts: RemoteMounts, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "remote" / "bin")
    (tmp_path / "relative-link").symlink_to("local/../remote/bin")
    (tmp_path / "loop").symlink_to("loop")
    assert mounts.holding(f"{tmp_path}{path}") == (None if point is None else f"{tmp_path}{point}")


def test_a_program_on_a_file_server_that_lives_is_started(mounts: RemoteMounts, tmp_path: Path, bench: Bench) -> None:
    bench.system._reach = remote.Reach(bench.system.now, mounts)
    program = tmp_path / "remote" / "bin" / "program"
    program.write_text("#!/bin/sh\npwd\n")
    program.chmod(0o755)
    for argv in ((str(program),), ("bin/program",)):
        tree, heard = bench.launch(*argv, directory=str(tmp_path / "remote"))
        assert bench.finish(tree, heard).exit_code == 0
        assert heard.output[1].decode() == f"{tmp_path}/remote\n"
    with pytest.raises(StartError, match="does not exist"):
        bench.launch("bin/other", directory=str(tmp_path / "remote"))
    with pytest.raises(StartError, match=r"working directory .*/remote/none cannot be entered: No such file"):
        bench.launch("true", directory=str(tmp_path / "remote" / "none"))


def test_a_server_that_was_silent_is_asked_again_after_a_while(
    mounts: RemoteMounts, tmp_path: Path, bench: Bench
) -> None:
    """Beside a bench: where a system is open, threads of this process leave a child of a fork alone."""
    now = [1000.0]
    reach, point = remote.Reach(lambda: now[0], mounts), f"{tmp_path}/remote"
    start = ("/bin/true", {}, f"{point}/bin")
    assert reach.check(*start) == (point,)
    reach.note_silent((point,))
    with pytest.raises(NoAnswer, match="does not answer"):
        reach.check(*start)
    now[0] += remote.SILENT_SECONDS
    assert reach.check(*start) == (point,)
    reach.close()


def test_mounts_that_change_are_noticed(tmp_path: Path, bench: Bench) -> None:
    assert tmp_path.is_dir() and bench.system._reach.check("true", {}, str(tmp_path)) == ()
    with open_dead_server(tmp_path / "dead") as dead:
        assert bench.system._reach._mounts and bench.system._reach._mounts.holding(f"{dead}/x") == dead
    bool(bench.system._reach._mounts)
    assert bench.system._reach._mounts.holding(f"{dead}/x") is None
