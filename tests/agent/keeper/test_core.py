"""The keeper's core: what becomes of a program, in which order, and what the agent hears of it."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence

import pytest

from agent.keeper.core import LEASE_OVER
from agent.keeper.log import read_log
from agent.keeper.messages import (
    End,
    Finished,
    Grew,
    KeeperMessage,
    Launched,
    Lease,
    Leased,
    Leave,
    Limits,
    Probe,
    Probed,
    Sample,
    Settled,
)
from agent.keeper.system import Wanted
from agent.spool import FoundSpool
from hetuflow.ports.disk import DiskError
from hetuflow.ports.processes import StartError
from hetuflow.protocol.errors import CloseCode, RemoteProtocolError
from tests.agent.keeper.world import FakeTree, World, launch


@pytest.fixture
def world() -> World:
    world = World()
    world.attach()
    return world


def only_end(world: World) -> Finished:
    [end] = world.ends()
    return end


def test_a_program_that_ends_by_itself(world: World) -> None:
    tree = world.launch()
    tree.write(b"hello\n")
    world.settle()
    tree.exit(0)
    world.settle()
    assert [type(message) for message in world.heard] == [Launched, Grew, Finished]
    end = only_end(world)
    assert (end.reason, end.message, end.exit_code, end.signal) == (None, None, 0, None)
    assert end.output is not None and end.output["stdout"]["bytes"] == 6
    assert end.metrics["cpu_time"] == 1.5 and end.metrics["memory_peak"] == 2000
    assert tree.is_closed


@pytest.mark.parametrize(
    ("code", "signal", "reason", "message"),
    [
        (3, None, "exit_code", "ended with exit code 3"),
        (137, 9, "signal", "ended by signal 9"),
        (None, None, "lost", "the exit status could not be collected"),
    ],
)
def test_how_an_end_counts(world: World, code: int | None, signal: int | None, reason: str, message: str) -> None:
    world.launch().exit(code, signal)
    world.settle()
    end = only_end(world)
    assert (end.reason, end.message, end.exit_code, end.signal) == (reason, message, code, signal)


def test_a_program_that_cannot_be_started(world: World) -> None:
    world.machine.refusal = "program 'x' was not found"
    world.say(launch())
    world.settle()
    end = only_end(world)
    assert (end.reason, end.message) == ("start_error", "program 'x' was not found")
    assert not any(isinstance(message, Launched) for message in world.heard)


def test_what_no_system_takes_is_refused(world: World) -> None:
    world.say(launch(argv=("x", "a\0b")))
    world.settle()
    assert only_end(world).message == "args[0] contains a NUL character"


def test_the_keeper_adds_its_mark_and_nothing_else(world: World) -> None:
    assert world.launch().environment == {"A": "b", "HETUFLOW_KEEPER_MARK": "m"}


def test_the_time_limit(world: World) -> None:
    tree = world.launch(timeout_seconds=5.0)
    world.wait(4.9)
    assert tree.signals == []
    world.wait(0.2)
    end = only_end(world)
    assert (end.reason, end.message, end.signal) == ("timeout", "ended after its time limit of 5 s (timeout)", 15)


def test_sigkill_after_the_grace_of_the_job(world: World) -> None:
    tree = world.launch(timeout_seconds=5.0, kill_grace_seconds=3.0)
    tree.stubborn = True
    world.wait(7.9)
    assert tree.signals == [15] and world.ends() == []
    world.wait(0.2)
    assert tree.signals[:2] == [15, 9]
    assert only_end(world).signal == 9


def test_what_cannot_be_killed_is_said(world: World) -> None:
    tree = world.launch()
    tree.stubborn = tree.immortal = True
    world.say(End(instance_id="i", epoch=1, reason="cancelled", message="cancelled by ann", grace_seconds=1.0))
    world.wait(20.0)
    end = only_end(world)
    assert end.reason == "cancelled"
    assert end.message == "cancelled by ann; processes of it could not be ended and may still run"
    assert tree.signals.count(9) > 5


def test_a_machine_that_slept_gives_a_kill_time_to_work(world: World) -> None:
    """At the resume the time for it is over, and the killed have not had their turn yet."""
    tree = world.launch()
    tree.stubborn = tree.immortal = True
    world.say(End(instance_id="i", epoch=1, reason="cancelled", message="enough", grace_seconds=0.0))
    world.machine.seconds += 3600.0
    world.keeper.tick()
    world.wait(0.1)
    assert world.ends() == []
    tree.immortal = False
    world.wait(1.0)
    assert (only_end(world).reason, only_end(world).message) == ("cancelled", "enough")


def test_the_first_reason_counts_and_a_shorter_grace_does_too(world: World) -> None:
    tree = world.launch()
    tree.stubborn = True
    world.say(End(instance_id="i", epoch=1, reason="cancelled", message="first", grace_seconds=60.0))
    world.say(End(instance_id="i", epoch=1, reason="lost", message="second", grace_seconds=1.0))
    world.wait(2.0)
    assert (only_end(world).reason, only_end(world).message) == ("cancelled", "first")


def test_launches_that_come_together_are_started_together_and_each_has_its_own_end(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine, noted = world.machine, []
    spawn_all = machine.spawn_all

    def spawn(wanted: Sequence[Wanted]) -> list[FakeTree | Exception]:
        noted.append(sorted(held.launched.instance_id for held in read_log(world.disk, "/state/keeper.log")))
        found = spawn_all(wanted)
        return [
            StartError("no such program") if each.launch.instance_id == "c" else tree
            for each, tree in zip(wanted, found, strict=True)
        ]

    monkeypatch.setattr(machine, "spawn_all", spawn)
    launches = [launch(name) for name in "abc"]
    impossible = launch("d", argv=("/bin/program", "\0"))
    world.keeper.receive_all(
        [
            *launches,
            launches[0],
            impossible,
            End(instance_id="a", epoch=1, reason="cancelled", message="enough"),
            launch("e"),
        ]
    )
    assert noted == [["a", "b", "c", "d"], ["a", "b", "c", "d", "e"]], "nothing is started that the log does not have"
    machine.trees["b", 1].exit(0)
    machine.trees["e", 1].exit(3)
    world.settle()
    assert {end.instance_id: end.reason for end in world.ends()} == {
        "a": "cancelled",
        "b": None,
        "c": "start_error",
        "d": "start_error",
        "e": "exit_code",
    }


def test_what_was_whole_before_nonsense_is_meant(world: World) -> None:
    def messages() -> Iterator[KeeperMessage]:
        yield launch("a")
        raise RemoteProtocolError(CloseCode.MALFORMED, "nonsense")

    with pytest.raises(RemoteProtocolError):
        world.keeper.receive_all(messages())
    assert ("a", 1) in world.machine.trees


def test_an_end_is_for_this_epoch_and_older_ones(world: World) -> None:
    tree = world.launch(epoch=2)
    world.say(End(instance_id="i", epoch=1, reason="cancelled", message="late"))
    world.wait(1.0)
    assert tree.signals == []
    world.say(End(instance_id="i", epoch=3, reason="cancelled", message="now"))
    world.wait(1.0)
    assert only_end(world).reason == "cancelled"


def test_what_a_root_leaves_running_is_ended_too(world: World) -> None:
    tree = world.launch()
    tree.leftovers, tree.stubborn = 2, True
    tree.exit(0)
    world.wait(9.0)
    assert world.ends() == []
    world.wait(2.0)
    end = only_end(world)
    assert (end.reason, end.exit_code) == (None, 0) and 9 in tree.signals


def test_output_is_awaited_after_the_tree_is_gone_but_not_for_ever(world: World) -> None:
    tree = world.launch()
    tree.exit(0, closes=False)
    tree.write(b"late")
    world.wait(1.9)
    assert world.ends() == []
    world.wait(0.2)
    end = only_end(world)
    assert end.output is not None and end.output["stdout"]["bytes"] == 4
    assert tree.is_closed


def test_output_in_the_pipe_of_a_keeper_that_was_stopped_is_read_whole(world: World) -> None:
    """The time for it is over when the keeper goes on, or its machine: a turn of the loop reads a part of it."""
    tree = world.launch()
    tree.exit(0, closes=False)
    world.settle()
    world.machine.seconds += 60.0
    for _ in range(20):
        tree.write(b"x" * 48_000)
        world.keeper.tick()
    tree.close_streams()
    world.settle()
    end = only_end(world)
    assert end.output is not None and end.output["stdout"]["bytes"] == 20 * 48_000


def test_output_that_never_ends_is_not_awaited_for_ever(world: World) -> None:
    tree = world.launch()
    tree.exit(0, closes=False)
    for _ in range(100):
        tree.write(b"x" * 48_000)
        world.wait(0.1)
    assert only_end(world).reason is None and tree.is_closed


def test_a_broken_limit_ends_the_tree_at_once(world: World) -> None:
    tree = world.launch(limits=Limits(memory_bytes=1000))
    tree.stubborn = True
    tree.broken = ("memory", "used 2000 bytes of 1000")
    world.wait(1.0)
    end = only_end(world)
    assert (end.reason, end.message, end.signal) == ("memory", "used 2000 bytes of 1000", 9)


def test_a_kernel_that_killed_for_a_limit_is_believed(world: World) -> None:
    tree = world.launch(limits=Limits(memory_bytes=1000))
    tree.broken = ("memory", "the kernel ended it at 1000 bytes")
    tree.exit(137, 9)
    world.settle()
    assert only_end(world).reason == "memory"


def test_a_tree_without_limits_that_was_killed_at_the_ceiling_of_all_says_so(world: World) -> None:
    tree = world.launch()
    tree.broken = ("processes", "wanted more than 4915")
    tree.exit(137, 9)
    world.settle()
    assert only_end(world).reason == "processes"


# --- the lease -------------------------------------------------------------------------------------------------------


def test_work_begins_to_end_before_its_lease_does(world: World) -> None:
    world.say(Lease(renewed_at=world.machine.seconds))
    tree = world.launch(lease_seconds=30.0)
    world.wait(19.9)
    assert tree.signals == []
    world.wait(0.2)
    end = only_end(world)
    assert end.reason == "lost"
    assert end.message == "the server could not be reached for the length of the lease (30 s)"


def test_a_stubborn_program_is_gone_when_the_lease_is(world: World) -> None:
    world.say(Lease(renewed_at=world.machine.seconds))
    tree = world.launch(lease_seconds=30.0, kill_grace_seconds=3600.0)
    tree.stubborn = True
    world.say(End(instance_id="i", epoch=1, reason="cancelled", message="c", grace_seconds=3600.0))
    world.wait(29.9)
    assert 9 not in tree.signals
    world.wait(0.2)
    assert only_end(world).reason == "cancelled"


def test_a_renewed_lease_goes_on_and_an_instance_without_one_is_not_asked(world: World) -> None:
    world.say(Lease(renewed_at=world.machine.seconds))
    short, free = world.launch("a", lease_seconds=30.0), world.launch("b", lease_seconds=0.0)
    for _ in range(10):
        world.wait(15.0)
        world.say(Lease(renewed_at=world.machine.seconds))
    assert short.signals == []
    world.wait(1000.0)
    assert [end.instance_id for end in world.ends()] == ["a"] and free.signals == []


def test_what_has_outlived_its_lease_ends_also_when_the_renewal_is_read_first(world: World) -> None:
    """Keeper and agent slept; both wake, and the server answers before the keeper has looked at the time."""
    world.say(Lease(renewed_at=world.machine.seconds))
    world.launch(lease_seconds=30.0)
    world.machine.seconds += 60.0
    world.say(Lease(renewed_at=world.machine.seconds))
    world.settle()
    assert only_end(world).reason == "lost"


def test_a_lease_can_become_shorter_and_longer_and_the_switch_hears_of_it(world: World) -> None:
    guarded: list[tuple[tuple[str, int], float]] = []
    world.keeper._switch.guard = lambda those: guarded.extend((each.key, each.lease_seconds) for each in those)  # type: ignore[method-assign]
    world.say(Lease(renewed_at=world.machine.seconds))
    short, long = world.launch("a", lease_seconds=300.0), world.launch("b", lease_seconds=30.0)
    world.say(Leased(instance_id="a", epoch=1, lease_seconds=60.0))
    world.say(Leased(instance_id="b", epoch=1, lease_seconds=600.0))
    world.say(Leased(instance_id="b", epoch=7, lease_seconds=1.0))
    assert guarded[2:] == [(("a", 1), 60.0), (("b", 1), 600.0)]
    world.wait(49.9)
    assert short.signals == long.signals == []
    world.wait(0.2)
    assert [end.instance_id for end in world.ends()] == ["a"]
    world.wait(539.7)
    assert long.signals == []
    world.wait(0.2)
    assert [end.instance_id for end in world.ends()] == ["a", "b"]


def test_an_older_renewal_changes_nothing(world: World) -> None:
    world.say(Lease(renewed_at=world.machine.seconds))
    tree = world.launch(lease_seconds=30.0)
    world.say(Lease(renewed_at=world.machine.seconds - 100))
    world.wait(10.0)
    assert tree.signals == []


@pytest.mark.parametrize("renewed_before", [None, 25.0])
def test_nothing_is_started_under_a_lease_that_is_over(world: World, renewed_before: float | None) -> None:
    if renewed_before is not None:
        world.say(Lease(renewed_at=world.machine.seconds - renewed_before))
    world.say(launch(lease_seconds=30.0))
    world.settle()
    assert (only_end(world).reason, only_end(world).message) == ("lost", LEASE_OVER)
    assert world.machine.trees == {}


def test_a_kill_by_the_dead_mans_switch_is_no_signal_of_the_program(world: World) -> None:
    """The keeper was stopped beyond the lease; when it goes on, the exit is the first it hears of."""
    world.say(Lease(renewed_at=world.machine.seconds))
    tree = world.launch(lease_seconds=30.0)
    world.machine.seconds += 60.0
    tree.exit(137, 9)
    world.settle()
    assert only_end(world).reason == "lost"


def test_a_program_that_ended_while_the_keeper_was_stopped_has_ended(world: World) -> None:
    tree = world.launch(timeout_seconds=30.0)
    world.machine.seconds += 60.0
    tree.exit(0)
    world.keeper.tick()
    world.settle()
    assert only_end(world).reason is None


# --- what the agent hears --------------------------------------------------------------------------------------------


def test_a_second_launch_is_ignored_also_after_the_end(world: World) -> None:
    world.launch().exit(0)
    world.say(launch())
    world.settle()
    assert len(world.ends()) == 1


def test_a_launch_of_what_is_settled_starts_nothing_and_is_answered(world: World) -> None:
    """Whoever sends it awaits an end."""
    world.launch().exit(0)
    world.settle()
    world.say(Settled(ended=(("i", 1),)))
    world.heard.clear()
    for _ in range(2):
        world.say(launch())
        world.settle()
        end = only_end(world)
        assert (end.reason, end.message) == ("rejected", "it has ended already")
        world.say(Settled(ended=(("i", 1),)))
        world.heard.clear()
    assert len(world.machine.trees) == 1


def test_two_epochs_of_one_instance_do_not_run_at_once(world: World) -> None:
    world.launch(epoch=1)
    world.say(launch(epoch=2))
    world.settle()
    assert (only_end(world).epoch, only_end(world).reason) == (2, "rejected")


def test_an_agent_that_does_not_read_costs_one_message_per_instance(world: World) -> None:
    tree = world.launch()
    for _ in range(10_000):
        tree.write(b"x" * 1000)
    world.settle()
    assert [type(message) for message in world.heard] == [Launched, Grew]
    grew = world.heard[1]
    assert isinstance(grew, Grew) and grew.data == b"" and grew.spool_bytes > 10_000_000


def test_small_output_travels_and_long_output_is_in_the_file(world: World) -> None:
    tree = world.launch()
    said = b""
    for number in range(3):
        tree.write(b"line %d\n" % number)
        world.settle()
    for message in world.heard:
        if isinstance(message, Grew):
            said += message.data
    spool = FoundSpool(world.disk, "-", said)
    assert spool.tallies()[1].written == 21 and world.disk.read("/runs/i.1.out") is None
    tree.write(b"y" * 10_000)
    world.settle()
    found = FoundSpool(world.disk, "/runs/i.1.out")
    assert found.tallies()[1].written == 10_021
    assert isinstance(world.heard[-1], Grew) and world.heard[-1].spool_bytes == found.end


def test_cut_output_says_so_and_is_counted_whole(world: World) -> None:
    tree = world.launch(output_bytes_max=100)
    tree.write(b"z" * 1000)
    tree.exit(0)
    world.settle()
    end = only_end(world)
    assert end.output is not None and end.output["dropped"] == 900 and end.output["stdout"]["bytes"] == 1000
    assert b"[hetuflow: output cut, 900 bytes dropped]" in b"".join(m.data for m in world.heard if isinstance(m, Grew))


def test_the_next_agent_is_told_everything_once(world: World) -> None:
    running, ended = world.launch("r"), world.launch("e")
    running.write(b"so far")
    ended.exit(3)
    world.keeper.detached()
    assert world.keeper.next_message() is None
    running.write(b" and further")
    held = {each.launched.instance_id: each for each in world.attach(2)}
    assert held["r"].finished is None and held["r"].small.endswith(b" and further")
    assert held["e"].finished is not None and held["e"].finished.exit_code == 3
    world.settle()
    assert world.heard == []
    running.exit(0)
    world.settle()
    assert [end.instance_id for end in world.ends()] == ["r"]


def test_many_held_instances_come_in_several_messages(world: World) -> None:
    for number in range(500):
        world.launch(f"i{number}").write(b"o" * 4000)
    assert [held.launched.instance_id for held in world.attach(2)] == [f"i{number}" for number in range(500)]


def test_probes_are_answered_and_samples_told_only_to_an_agent_that_is_there(world: World) -> None:
    world.launch()
    world.say(Probe(token=4))
    world.settle()
    assert Probed(token=4) in world.heard
    world.wait(11.0)
    samples = [message for message in world.heard if isinstance(message, Sample)]
    assert len(samples) == 2 and samples[0].values["cpu_seconds"] == 1.5
    world.keeper.detached()
    assert world.keeper.next_deadline == float("inf")


def test_when_a_keeper_may_go(world: World) -> None:
    tree = world.launch()
    assert not world.keeper.is_done
    world.say(Leave())
    world.keeper.detached()
    assert not world.keeper.is_done
    tree.exit(0)
    assert world.keeper.is_done
    world.attach(2)
    assert not world.keeper.is_done
    world.say(Leave())
    assert not world.keeper.is_done
    world.say(Settled(ended=(("i", 1),)))
    assert world.keeper.is_done


def test_a_stopped_keeper_ends_everything_and_takes_nothing_new(world: World) -> None:
    world.launch("a")
    world.keeper.stop("the keeper was stopped")
    world.say(launch("b"))
    world.wait(1.0)
    assert sorted((end.instance_id, end.reason) for end in world.ends()) == [("a", "lost"), ("b", "rejected")]
    assert world.keeper.is_done


# --- what goes wrong inside ------------------------------------------------------------------------------------------


def test_a_bug_in_one_instance_is_that_instances_end(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    good, bad = world.launch("good"), world.launch("bad")

    def broken(*args: object) -> None:
        raise ZeroDivisionError("of course")

    monkeypatch.setattr(bad, "usage", broken)
    bad.exit(0)
    world.wait(1.0)
    good.exit(0)
    world.settle()
    ends = {end.instance_id: end for end in world.ends()}
    assert ends["bad"].reason == "lost" and "ZeroDivisionError" in str(ends["bad"].message)
    assert ends["good"].reason is None and world.problems


def test_a_bug_in_starting_is_that_instances_end(world: World) -> None:
    world.machine.bug = KeyError("x")
    world.say(launch())
    world.settle()
    assert only_end(world).reason == "lost"


def test_a_full_disk_starts_nothing_and_tells_all_the_same(world: World) -> None:
    tree = world.launch("a")
    world.disk.room_bytes = 3
    world.say(launch("b"))
    tree.exit(0)
    world.settle()
    ends = {end.instance_id: end for end in world.ends()}
    assert ends["b"].reason == "rejected" and "keeper cannot write its log" in str(ends["b"].message)
    assert ends["a"].exit_code == 0 and world.problems
    world.disk.room_bytes = 1 << 30
    world.launch("c").exit(0)
    world.kill_keeper()
    held = {each.launched.instance_id: each.finished for each in world.attach(2)}
    assert all(held.values()) and sorted(held) == ["a", "b", "c"]


def test_a_keeper_stays_until_the_disk_has_room_for_the_ends_that_it_holds(world: World) -> None:
    """With its agent gone nobody else knows of them."""
    tree = world.launch("a")
    world.disk.room_bytes = 3
    tree.exit(4)
    world.settle()
    world.keeper.detached()
    world.wait(1000.0)
    assert not world.keeper.is_done
    world.disk.room_bytes = 1 << 30
    world.wait(10.0)
    assert world.keeper.is_done and world.keeper.next_deadline == float("inf")
    world.kill_keeper()
    [held] = world.attach(2)
    assert held.finished is not None and held.finished.exit_code == 4


def test_a_keeper_that_may_go_does_not_wait_for_room_for_what_is_settled(world: World) -> None:
    world.launch("a").exit(0)
    world.settle()
    world.disk.room_bytes = 0
    world.say(Settled(ended=(("a", 1),)))
    world.keeper.detached()
    assert world.keeper.is_done and world.keeper.next_deadline == float("inf")


def test_output_that_a_full_disk_refused_is_not_found_by_the_next_keeper(world: World) -> None:
    tree = world.launch("a")
    tree.write(b"kept")
    world.disk.room_bytes = 3
    tree.write(b"refused")
    world.disk.room_bytes = 1 << 30
    tree.exit(0)
    world.settle()
    told = b"".join(each.data for each in world.heard if isinstance(each, Grew))
    assert b"kept" in told and b"refused" not in told
    world.kill_keeper()
    [held] = world.attach(2)
    assert (held.small, held.spool_bytes) == (told, len(told))


# --- after a keeper was killed ---------------------------------------------------------------------------------------


def test_the_next_keeper_holds_what_was_recorded_and_ends_what_ran(world: World) -> None:
    running, ended = world.launch("r"), world.launch("e")
    running.write(b"half of it")
    ended.exit(4)
    world.kill_keeper()
    held = {each.launched.instance_id: each for each in world.attach(2)}
    assert held["e"].finished is not None and held["e"].finished.exit_code == 4
    world.wait(1.0)
    assert running.signals[0] == 9
    running.root_lives = False
    world.wait(1.0)
    end = only_end(world)
    assert (end.reason, end.message) == ("lost", "the keeper was killed, and its processes with it")
    assert end.output is not None and end.output["stdout"]["kept"] == 10


def test_output_that_cannot_be_read_keeps_no_keeper_from_starting(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is found, and the disk gives back no more than its beginning."""
    world.attach()
    tree = world.launch()
    tree.write(b"x" * 100_000)
    read_range, reads = world.disk.read_range, itertools.count()

    def read_once(path: str, offset: int, length: int) -> bytes:
        if next(reads) > 3:
            raise DiskError(f"cannot read {path}: Input/output error")
        return read_range(path, offset, length)

    with monkeypatch.context() as patched:
        patched.setattr(world.disk, "read_range", read_once)
        world.kill_keeper()
        assert next(reads) > 4
    world.wait(10)
    [held] = world.attach()
    assert held.finished is not None and held.finished.reason == "lost"


def test_a_message_without_measure_is_cut(world: World) -> None:
    """A record of the log has its largest length; what is longer hides what stands behind it."""
    world.machine.refusal = "x" * 2_000_000
    world.say(launch("long"))
    world.machine.refusal = None
    world.launch("behind").exit(0)
    world.kill_keeper()
    first, second = world.attach()
    assert first.finished is not None and len(first.finished.message or "") < 10_000
    assert second.finished is not None and second.finished.reason is None


def test_nobody_is_killed_for_a_number_of_another_boot(world: World) -> None:
    tree: FakeTree = world.launch()
    world.boot_id = "boot-2"
    world.kill_keeper()
    [held] = world.attach(2)
    assert held.finished is not None and (held.finished.reason, held.finished.message) == (
        "lost",
        "the machine was restarted",
    )
    assert tree.signals == []


def test_a_settled_instance_is_forgotten_by_the_next_keeper_too(world: World) -> None:
    world.launch().exit(0)
    world.say(Settled(ended=(("i", 1), ("unknown", 3))))
    world.kill_keeper()
    assert world.attach(2) == ()


def test_what_runs_cannot_be_settled(world: World) -> None:
    world.launch()
    world.say(Settled(ended=(("i", 1),)))
    assert len(world.attach(2)) == 1
