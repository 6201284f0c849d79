"""The keeper's log: whatever a kill or a full disk leaves of it, what was recorded before is read."""

from __future__ import annotations

import pytest

from agent.keeper.log import COMPACT_BYTES_MIN, EMPTY_BYTES_MIN, read_log
from agent.keeper.messages import Settled
from hetuflow.ports.disk import DiskError
from tests.agent.keeper.world import FakeFile, World, launch

PATH = "/state/keeper.log"


def test_read_log_says_what_a_live_keeper_would() -> None:
    world = World()
    world.attach()
    world.launch("small").write(b"a little")
    world.launch("long").write(b"x" * 20_000)
    world.launch("ended").exit(7)
    assert read_log(world.disk, PATH) == list(world.attach(2))


def test_of_nothing_nothing_is_read() -> None:
    assert read_log(World().disk, "/elsewhere") == []


def test_a_log_torn_at_any_byte_gives_what_came_before() -> None:
    world = World()
    world.attach()
    world.launch("a").exit(1)
    ends_at = len(world.disk.files[PATH])
    world.launch("b").write(b"output")
    data = bytes(world.disk.files[PATH])
    for length in range(len(data)):
        world.disk.files[PATH] = bytearray(data[:length])
        held = {each.launched.instance_id: each for each in read_log(world.disk, PATH)}
        if length >= ends_at:
            assert held["a"].finished is not None and held["a"].finished.exit_code == 1
        assert len(held) <= 2


def test_a_keeper_goes_on_after_a_torn_log() -> None:
    world = World()
    world.attach()
    world.launch("a").exit(1)
    del world.disk.files[PATH][-3:]
    world.kill_keeper()
    world.attach(2)
    world.launch("b").exit(0)
    world.kill_keeper()
    ended = {each.launched.instance_id: each.finished for each in world.attach(3)}
    assert ended["b"] is not None and ended["b"].exit_code == 0
    assert ended["a"] is not None and ended["a"].reason == "lost"  # how it ended was torn


def test_a_damaged_record_hides_nothing_that_was_started_after_it() -> None:
    world = World()
    world.attach()
    world.launch("a").exit(0)
    before = len(world.disk.files[PATH])
    world.launch("b").exit(5)
    data = bytes(world.disk.files[PATH])
    for at in range(before):
        changed = bytearray(data)
        changed[at] ^= 0x55
        world.disk.files[PATH] = changed
        held = {each.launched.instance_id: each.finished for each in read_log(world.disk, PATH)}
        assert held["b"] is not None and held["b"].exit_code == 5
        assert list(held) in (["a", "b"], ["b"])


def test_the_log_stays_small_when_everything_is_settled() -> None:
    world = World()
    world.attach()
    biggest = 0
    for number in range(2000):
        world.launch(f"i{number}").exit(0)
        world.settle()
        world.say(Settled(ended=((f"i{number}", 1),)))
        biggest = max(biggest, len(world.disk.files[PATH]))
    assert biggest < EMPTY_BYTES_MIN + 4096


def test_the_log_is_written_afresh_when_most_of_it_is_dead() -> None:
    world = World()
    world.attach()
    world.launch("stays")
    biggest = 0
    for number in range(5000):
        world.launch(f"i{number}").exit(0)
        world.say(Settled(ended=((f"i{number}", 1),)))
        biggest = max(biggest, len(world.disk.files[PATH]))
    assert COMPACT_BYTES_MIN * 0.9 < biggest < COMPACT_BYTES_MIN + 4096
    assert [held.launched.instance_id for held in read_log(world.disk, PATH)] == ["stays"]


def test_nothing_follows_half_a_record() -> None:
    world = World()
    world.attach()
    tree = world.launch("a")
    for room in range(0, 200, 7):
        world.disk.room_bytes = room
        tree.write(b"x")
        world.disk.room_bytes = 1 << 30
        world.launch(f"b{room}").exit(0)
        assert [h.launched.instance_id for h in read_log(world.disk, PATH)][-1] == f"b{room}"


def test_on_a_full_disk_what_was_left_is_ended_and_told_all_the_same() -> None:
    world = World()
    world.attach()
    running = world.launch("runs")
    world.launch("ended").exit(3)
    world.disk.room_bytes = 0
    world.kill_keeper()
    held = {each.launched.instance_id: each.finished for each in world.attach(2)}
    assert held["ended"] is not None and held["ended"].exit_code == 3
    assert running.signals and world.problems
    world.say(launch("new"))
    world.settle()
    assert [end.reason for end in world.ends() if end.instance_id == "new"] == ["rejected"]


def test_what_could_not_be_written_for_want_of_a_descriptor_comes_with_what_follows(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    world = World()
    world.attach()
    tree = world.launch("i")
    world.keeper.log.close()  # as after the file was written afresh: the next record opens it

    def refuse(path: str) -> FakeFile:
        raise DiskError(f"cannot open {path}: Too many open files")

    with monkeypatch.context() as patched:
        patched.setattr(world.disk, "open_append", refuse)
        tree.exit(0)
        world.settle()
    assert [end.reason for end in world.ends()] == [None]
    assert not world.keeper.log.is_whole
    world.wait(10)
    world.kill_keeper()
    [held] = world.attach()
    assert held.finished is not None and held.finished.reason is None
