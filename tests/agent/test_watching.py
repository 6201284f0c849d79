"""An agent that watches files: which directories, what it tells, over restarts of its own and of the connection."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import trio
from hypothesis import given as having
from hypothesis import strategies as st
from trio.testing import MockClock

from agent.journal import Journal
from agent.reports import OBSERVED_MAX, Reports
from agent.wakeup import Wakeup
from agent.watch_plan import ROOTS_MAX, Root, plan, root_of
from hetuflow.glob import Glob
from hetuflow.ports import real_files
from hetuflow.ports.files import ChangeKind, WatchError
from hetuflow.ports.real_files import SystemFileWatcher
from hetuflow.protocol.messages import FileWatch, Observed, WatchFiles
from tests.agent.gateway import Gateway
from tests.agent.machine import PATIENCE_SECONDS
from tests.agent.world import MemoryDisk, fake_world
from tests.support.dead_server import open_dead_server
from tests.support.files import FakeFiles
from tests.support.ports import SeededIds, TrioClock

ALL = ("file.created", "file.modified", "file.deleted")


def wanting(*globs: str, types: tuple[str, ...] = ALL) -> WatchFiles:
    return WatchFiles(watches=tuple(FileWatch(glob=glob, types=types) for glob in globs))


def observed(gateway: Gateway) -> list[tuple[str, str]]:
    return [(each.type, each.data["path"]) for each in gateway.heard if isinstance(each, Observed)]


# --- which directories -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("glob", "directory", "recursive"),
    [
        ("/data/in/*.csv", "/data/in", False),
        ("/data/in/a.csv", "/data/in", False),
        ("/data/*/a.csv", "/data", True),
        ("/data/**", "/data", True),
        ("/data/in/**.csv", "/data/in", True),
        ("/*.csv", "/", False),
    ],
)
def test_the_directory_of_a_glob(glob: str, directory: str, recursive: bool) -> None:
    assert root_of(glob) == Root(directory, recursive)


@pytest.mark.parametrize("glob", ["data/*.csv", "**", "/**", "/*/x", "/proc/*/x", "/a/../b/*"])
def test_what_is_not_watched(glob: str) -> None:
    assert plan([FileWatch(glob=glob, types=ALL)]).refused.keys() == {glob}


PATHS = st.lists(st.sampled_from(["a", "b", "*", "**", "c?"]), min_size=2, max_size=4).map(
    lambda parts: "/x/" + "/".join(parts)
)


@having(st.lists(PATHS, min_size=1, max_size=6))
def test_a_plan_covers_every_glob_once(globs: list[str]) -> None:
    found = plan([FileWatch(glob=glob, types=ALL) for glob in globs])
    assert not found.refused
    told = [wanted.watch.glob for wanted in (each for group in found.roots.values() for each in group)]
    assert sorted(told) == sorted(globs)
    roots = list(found.roots)
    assert not any(one.covers(other) for one in roots for other in roots if one != other)
    for root, group in found.roots.items():
        for wanted in group:
            assert root.covers(root_of(wanted.watch.glob))
            path = wanted.watch.glob.replace("**", "d").replace("*", "e").replace("?", "f")
            assert Glob(wanted.watch.glob).matches(path) and wanted.fits("file.created", path)


def test_too_many_directories_are_refused_by_name() -> None:
    found = plan([FileWatch(glob=f"/d{n}/*", types=ALL) for n in range(ROOTS_MAX + 2)])
    assert len(found.roots) == ROOTS_MAX and len(found.refused) == 2


# --- an agent, in virtual time -----------------------------------------------------------------------------------------


async def test_what_fits_is_told_once(autojump_clock: MockClock) -> None:
    files = FakeFiles()
    async with fake_world(files=files) as world:
        await world.gateway.send(wanting("/in/*.csv", types=("file.created", "file.deleted")))
        await trio.sleep(1)
        assert files.watched == {("/in", False)}
        for path in ("/in/a.csv", "/in/a.txt", "/in/deep/a.csv", "/in/a.csv"):
            files.change(path)
        files.change("/in/a.csv", ChangeKind.MODIFIED, at=5)
        files.change("/in/a.csv", ChangeKind.DELETED)
        files.change("/in/a.csv", inode=2)
        await trio.sleep(1)
        assert observed(world.gateway) == [
            ("watch.started", "/in"),
            ("file.created", "/in/a.csv"),
            ("file.deleted", "/in/a.csv"),
            ("file.created", "/in/a.csv"),
        ]
        told = [each for each in world.gateway.heard if isinstance(each, Observed)]
        assert told[1].data == {
            "path": "/in/a.csv",
            "size": 7,
            "modified_at": "1970-01-01T00:00:00.000000Z",
            "agent_id": "agent-1",
        }
        assert len({each.event_id for each in told}) == 4


async def test_what_stays_wanted_is_left_alone_and_what_is_not_ends(autojump_clock: MockClock) -> None:
    files = FakeFiles()
    async with fake_world(files=files) as world:
        for globs, watched in (
            (("/a/*", "/b/*"), {("/a", False), ("/b", False)}),
            (("/a/*", "/c/**"), {("/a", False), ("/c", True)}),
            ((), set()),
        ):
            await world.gateway.send(wanting(*globs))
            await trio.sleep(1)
            assert files.watched == watched
        assert files.opened.count(("/a", False)) == 1


async def test_what_cannot_be_watched_is_told_once_and_tried_again(autojump_clock: MockClock) -> None:
    files = FakeFiles(missing=["/in"])
    async with fake_world(files=files) as world:
        await world.gateway.send(wanting("/in/*", "relative/*", "/**"))
        await trio.sleep(30)
        failed = [each for each in world.gateway.heard if isinstance(each, Observed)]
        assert sorted(each.data["path"] for each in failed) == ["/**", "/in", "relative/*"]
        assert {each.type for each in failed} == {"watch.failed"}
        assert "No such file" in next(each.data["error"] for each in failed if each.data["path"] == "/in")
        files.missing.clear()
        await trio.sleep(5)
        files.change("/in/a")
        await trio.sleep(1)
        assert observed(world.gateway)[-2:] == [("watch.started", "/in"), ("file.created", "/in/a")]


async def test_an_agent_without_a_watcher_says_so(autojump_clock: MockClock) -> None:
    async with fake_world() as world:
        await world.gateway.send(wanting("/in/*"))
        await trio.sleep(1)
        assert observed(world.gateway) == [("watch.failed", "/in")]


async def test_what_was_not_acknowledged_is_told_by_the_next_life(autojump_clock: MockClock) -> None:
    disk, gateway, files = MemoryDisk(), Gateway(), FakeFiles()
    gateway.acks_reports = False
    async with fake_world(gateway, disk=disk, files=files):
        await gateway.send(wanting("/in/*"))
        await trio.sleep(1)
        files.change("/in/a")
        await trio.sleep(1)
    gateway.acks_reports = True
    async with fake_world(gateway, disk=disk, seed=2):
        await trio.sleep(1)
    first, second = [each for each in gateway.heard if isinstance(each, Observed) and each.type == "file.created"]
    assert first == second
    async with fake_world(gateway, disk=disk, seed=3):
        await trio.sleep(1)
    assert observed(gateway).count(("file.created", "/in/a")) == 2
    assert not Journal.open(disk, "/agent/state/journal").observed


async def test_it_goes_on_while_there_is_no_connection(autojump_clock: MockClock) -> None:
    files = FakeFiles()
    async with fake_world(files=files) as world:
        await world.gateway.send(wanting("/in/*"))
        await trio.sleep(1)
        await world.gateway.cut()
        files.change("/in/a")
        await world.gateway.until_connected()
        await trio.sleep(1)
        assert observed(world.gateway)[-1] == ("file.created", "/in/a")


def test_observations_are_bounded_and_outlive_a_rewrite_of_the_journal() -> None:
    disk = MemoryDisk()
    journal = Journal.open(disk, "/j")
    reports = Reports(journal, SeededIds(1, TrioClock()), Wakeup())
    taken = [
        reports.observed(Observed(event_id=str(n), sequence=0, type="file.created", at="", data={"path": "x" * 200}))
        for n in range(OBSERVED_MAX + 5)
    ]
    assert taken.count(True) == OBSERVED_MAX
    reports.acked(range(1, OBSERVED_MAX - 9))
    assert journal.compact_if_mostly_dead()
    again = Journal.open(disk, "/j")
    assert len(again.observed) == 10 and again.next_sequence == journal.next_sequence
    reports.forget(["instance"])
    assert reports.unacked_count == 10


# --- real files --------------------------------------------------------------------------------------------------------


async def test_real_files(tmp_path: Path) -> None:
    deep = tmp_path / "deep"
    deep.mkdir()
    (tmp_path / "before").write_text("x")
    async with SystemFileWatcher().watch(str(tmp_path), recursive=False) as changes:
        (tmp_path / "a").write_text("hello")
        (deep / "b").write_text("not seen")
        [created] = await anext(changes)
        assert (created.kind, created.path, created.size) == (ChangeKind.CREATED, str(tmp_path / "a"), 5)
        assert created.inode == os.stat(created.path).st_ino
        with (tmp_path / "a").open("a") as file:
            file.write("more")
        [modified] = await anext(changes)
        assert (modified.kind, modified.size) == (ChangeKind.MODIFIED, 9)
        (tmp_path / "a").rename(tmp_path / "c")
        moved = await anext(changes)
        assert {(each.kind, Path(each.path).name) for each in moved} == {
            (ChangeKind.DELETED, "a"),
            (ChangeKind.CREATED, "c"),
        }
    async with SystemFileWatcher().watch(str(tmp_path), recursive=True) as changes:
        (deep / "b").write_text("seen")
        assert [each.path for each in await anext(changes)] == [str(deep / "b")]


async def test_a_real_directory_that_is_missing_or_goes_away(tmp_path: Path) -> None:
    with pytest.raises(WatchError, match="No such file"):
        async with SystemFileWatcher().watch(str(tmp_path / "missing"), recursive=False):
            pass
    gone = tmp_path / "gone"
    gone.mkdir()
    with pytest.raises(WatchError, match="gone"):
        async with SystemFileWatcher().watch(str(gone), recursive=False) as changes:
            gone.rmdir()
            while True:
                await anext(changes)


def test_what_watches_is_imported_by_who_watches() -> None:
    script = "import sys, agent.command; sys.exit('watchfiles' in sys.modules or 'anyio' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 0


async def test_a_directory_on_a_file_server_that_is_gone_holds_nobody_up(tmp_path: Path) -> None:
    """An agent that stops, or begins a new life, waits for no answer; nor does whoever needs a thread for something else."""
    with open_dead_server(tmp_path / "dead") as dead:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(watch_in_vain, dead)
            with trio.fail_after(PATIENCE_SECONDS):
                while real_files._LOOKS.borrowed_tokens == 0:  # noqa: ASYNC110 (a thread says nothing)
                    await trio.sleep(0.01)
            assert trio.to_thread.current_default_thread_limiter().borrowed_tokens == 0
            nursery.cancel_scope.cancel()


async def watch_in_vain(directory: str) -> None:
    async with SystemFileWatcher().watch(directory, recursive=False):
        raise AssertionError("nobody answers for it")
