"""What survives: a kill, a torn tail, damage, a full disk, and the journal's own compaction."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent import journal as journal_module
from agent.journal import Accepted, Acked, Captured, Forgotten, Journal, Outcome, Running, Spilled, Stored
from agent.spool import Cursor
from hetuflow.ports.disk import DiskError
from hetuflow.ports.real import SystemDisk
from hetuflow.protocol.messages import Ended, Started
from tests.agent.world import MemoryDisk

PATH = "/state/journal"


def accepted(name: str, epoch: int = 1) -> Accepted:
    return Accepted(task_id=f"task-{name}", instance_id=name, epoch=epoch)


def running(name: str, sequence: int) -> Running:
    started = Started(
        event_id=f"s-{name}",
        sequence=sequence,
        task_id=f"task-{name}",
        instance_id=name,
        epoch=1,
        started_at="t",
        pid=7,
    )
    return Running(started=started, identity="100")


def outcome(name: str, sequence: int) -> Outcome:
    ended = Ended(
        event_id=f"e-{name}", sequence=sequence, task_id=f"task-{name}", instance_id=name, epoch=1, completed_at="t"
    )
    return Outcome(ended=ended)


def reopened(disk: MemoryDisk) -> Journal:
    return Journal.open(disk, PATH)


def names(journal: Journal) -> list[str]:
    return [instance_id for instance_id, _ in journal.entries]


def test_everything_unacknowledged_is_there_after_a_kill() -> None:
    disk = MemoryDisk()
    journal = Journal.open(disk, PATH)
    for record in (accepted("a"), running("a", 1), outcome("a", 2), accepted("b"), running("b", 3), accepted("c")):
        journal.append(record)
    again = reopened(disk)
    assert again.entries == journal.entries and names(again) == ["a", "b", "c"]
    assert [report.sequence for entry in again.entries.values() for report in entry.unacked()] == [1, 2, 3]
    assert again.damage is None


def test_numbers_are_never_used_twice() -> None:
    disk = MemoryDisk()
    journal = Journal.open(disk, PATH)
    assert [journal.take_sequence(), journal.take_sequence()] == [1, 2]
    journal.append(accepted("a"))
    journal.append(outcome("a", 2))
    journal.append(Acked(sequences=(2,)))
    again = reopened(disk)
    assert (again.take_sequence(), again.last_acked, again.entries) == (3, 2, {})


def test_an_acknowledged_start_is_not_reported_again_but_its_process_is_remembered() -> None:
    disk = MemoryDisk()
    journal = Journal.open(disk, PATH)
    for record in (accepted("a"), running("a", 1), Acked(sequences=(1,))):
        journal.append(record)
    [entry] = reopened(disk).entries.values()
    assert list(entry.unacked()) == [] and entry.running is not None and entry.running.identity == "100"


def test_how_far_the_server_has_an_output_is_remembered_as_long_as_its_instance(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(journal_module, "COMPACT_BYTES_MIN", 0)
    monkeypatch.setattr(journal_module, "LIVE_SHARE_MAX", 1.0)
    disk = MemoryDisk()
    journal = Journal.open(disk, PATH)
    for record in (
        accepted("a"),
        Stored(instance_id="a", epoch=1, cursor=Cursor(100, 50, 30, 2)),
        Stored(instance_id="a", epoch=1, cursor=Cursor(900, 450, 300, 9)),
        Stored(instance_id="b", epoch=1, cursor=Cursor(1)),
    ):
        journal.append(record)
    assert reopened(disk).entries[("a", 1)].stored == Cursor(900, 450, 300, 9)
    journal._compact_at_bytes = 0
    assert journal.compact_if_mostly_dead()
    again = reopened(disk)
    assert again.entries == journal.entries and names(again) == ["a"]
    again.append(outcome("a", 1))
    again.append(Acked(sequences=(1,)))
    assert reopened(disk).entries == {}


def test_what_the_server_forgot_is_forgotten() -> None:
    disk = MemoryDisk()
    journal = Journal.open(disk, PATH)
    for record in (accepted("a"), running("a", 1), outcome("a", 2), Forgotten(instance_ids=("a", "unknown"))):
        journal.append(record)
    assert reopened(disk).entries == {}


def test_an_acknowledgement_of_an_older_epoch_does_not_touch_the_newer() -> None:
    disk = MemoryDisk()
    journal = Journal.open(disk, PATH)
    for record in (accepted("a"), outcome("a", 1), accepted("a", epoch=2), Acked(sequences=(1,))):
        journal.append(record)
    assert list(reopened(disk).entries) == [("a", 2)]


@given(st.integers(1, 500))
def test_a_tail_torn_anywhere_costs_only_what_it_tore(cut: int) -> None:
    disk = MemoryDisk()
    journal = Journal.open(disk, PATH)
    ends = [len(disk.files[PATH])]
    for number in range(1, 6):
        journal.append(accepted(f"i{number}"))
        ends.append(len(disk.files[PATH]))
    del disk.files[PATH][max(0, len(disk.files[PATH]) - cut) :]
    length = len(disk.files[PATH])
    again = reopened(disk)
    assert len(again.entries) == sum(end <= length for end in ends[1:])
    again.append(accepted("later"))
    last = reopened(disk)
    assert last.damage is None and names(last)[-1] == "later"


def test_damage_in_the_middle_keeps_the_file_for_people() -> None:
    disk = MemoryDisk()
    journal = Journal.open(disk, PATH)
    journal.append(accepted("a"))
    middle = len(disk.files[PATH])
    for name in "bcd":
        journal.append(accepted(name))
    disk.files[PATH][middle + 12] ^= 0xFF
    whole = bytes(disk.files[PATH])
    again = reopened(disk)
    assert names(again) == ["a"]
    assert again.damage is not None and "damaged at byte" in again.damage
    assert disk.read(f"{PATH}.damaged") == whole


@given(st.binary(max_size=200))
def test_a_file_of_garbage_opens_empty_and_is_usable(garbage: bytes) -> None:
    disk = MemoryDisk()
    disk.files[PATH] = bytearray(garbage)
    journal = Journal.open(disk, PATH)
    journal.append(accepted("a"))
    assert names(reopened(disk)) == ["a"]


def test_a_write_that_failed_half_way_does_not_spoil_what_follows() -> None:
    disk = MemoryDisk()
    journal = Journal.open(disk, PATH)
    journal.append(accepted("a"))
    disk.full = True
    with pytest.raises(DiskError, match="No space left"):
        journal.append(running("a", 1))
    with pytest.raises(DiskError):
        journal.append(outcome("a", 2))
    disk.full = False
    journal.append(accepted("b"))
    again = reopened(disk)
    assert again.damage is None and again.entries == journal.entries
    assert again.entries[("a", 1)].ended is not None, "told while the disk was full, kept when it was not"


async def test_what_could_not_be_written_for_want_of_a_descriptor_comes_with_what_follows() -> None:
    disk = MemoryDisk()
    journal = Journal.open(disk, PATH)
    journal.append(accepted("a"))
    journal.close()  # as after a compaction: the next record opens the file
    disk.unwritable.add(PATH)
    with pytest.raises(DiskError):
        journal.append(outcome("a", 1))
    assert not journal.is_whole, "nobody may forget what is only here"
    disk.unwritable.clear()
    journal.append(accepted("b"))
    assert journal.is_whole and reopened(disk).entries == journal.entries


def test_a_compaction_that_fails_behind_its_back_loses_nothing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The new file is in its place already when its directory cannot be synced."""
    monkeypatch.setattr(journal_module, "COMPACT_BYTES_MIN", 1000)
    disk, path = SystemDisk(), str(tmp_path / "journal")
    journal = Journal.open(disk, path)
    for number in range(40):
        journal.append(accepted(f"i{number}"))
        journal.append(Forgotten(instance_ids=(f"i{number}",)))
    fsync, fails = os.fsync, iter([False, True])

    def fail_the_second(fd: int) -> None:
        if next(fails, False):
            raise OSError(errno.EIO, "Input/output error")
        fsync(fd)

    monkeypatch.setattr(os, "fsync", fail_the_second)
    with pytest.raises(DiskError):
        journal.compact_if_mostly_dead()
    journal.append(accepted("later"))
    journal.close()
    assert list(Journal.open(disk, path).entries) == [("later", 1)]


async def test_only_what_was_synced_survives_a_crash_of_the_machine() -> None:
    disk = MemoryDisk()
    journal = Journal.open(disk, PATH)
    journal.append(accepted("a"))
    journal.append(outcome("a", 1))
    await journal.sync()
    journal.append(accepted("b"))
    disk.crash_of_machine()
    assert names(reopened(disk)) == ["a"]


async def test_after_a_sync_that_failed_everything_is_written_afresh() -> None:
    """Systems drop what they could not write, and say so once: the next sync would succeed."""
    disk = MemoryDisk()
    journal = Journal.open(disk, PATH)
    journal.append(accepted("a"))
    disk.full = True
    with pytest.raises(DiskError):
        await journal.sync()
    assert not journal.is_whole
    disk.full = False
    disk.crash_of_machine()
    journal.append(outcome("a", 1))
    assert journal.is_whole
    disk.crash_of_machine()
    assert reopened(disk).entries == journal.entries and names(journal) == ["a"]


def test_compaction_drops_the_dead_and_keeps_the_living(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(journal_module, "COMPACT_BYTES_MIN", 4096)
    disk = MemoryDisk()
    journal = Journal.open(disk, PATH)
    for record in (accepted("alive"), running("alive", journal.take_sequence())):
        journal.append(record)
    sizes = []
    for number in range(400):
        sequence = journal.take_sequence()
        for record in (accepted(f"i{number}"), outcome(f"i{number}", sequence), Acked(sequences=(sequence,))):
            journal.append(record)
        journal.compact_if_mostly_dead()
        sizes.append(len(disk.files[PATH]))
    assert max(sizes) < 3 * 4096 * 2
    again = reopened(disk)
    assert again.entries == journal.entries and names(again) == ["alive"]
    assert (again.next_sequence, again.last_acked) == (journal.next_sequence, journal.last_acked)


def test_a_journal_of_living_records_is_not_rewritten_again_and_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(journal_module, "COMPACT_BYTES_MIN", 1024)
    disk = MemoryDisk()
    journal = Journal.open(disk, PATH)
    for number in range(500):
        journal.append(accepted(f"i{number}"))
        assert not journal.compact_if_mostly_dead()
    assert len(reopened(disk).entries) == 500


@given(st.lists(st.tuples(st.sampled_from("asekfcp"), st.integers(0, 4)), max_size=60))
def test_reopening_gives_the_state_that_was_left(steps: list[tuple[str, int]]) -> None:
    disk = MemoryDisk()
    journal = Journal.open(disk, PATH)
    numbers: list[int] = []
    for step, number in steps:
        name = f"i{number}"
        match step:
            case "a":
                journal.append(accepted(name))
            case "s":
                numbers.append(journal.take_sequence())
                journal.append(running(name, numbers[-1]))
            case "e":
                numbers.append(journal.take_sequence())
                journal.append(outcome(name, numbers[-1]))
            case "k" if numbers:
                journal.append(Acked(sequences=(numbers[number % len(numbers)],)))
            case "c":
                journal.append(Captured(instance_id=name, epoch=1, data=b"%d" % number))
            case "p":
                journal.append(Spilled(instance_id=name, epoch=1))
            case "f":
                journal.append(Forgotten(instance_ids=(name,)))
    again = reopened(disk)
    assert again.entries == journal.entries and again.next_sequence == journal.next_sequence
    journal._rewrite()
    compacted = reopened(disk)
    assert compacted.entries == journal.entries and compacted.next_sequence == journal.next_sequence


def test_the_end_of_a_newer_try_is_not_the_end_of_the_older() -> None:
    disk = MemoryDisk()
    journal = Journal.open(disk, PATH)
    rejected = Ended(
        event_id="e", sequence=2, task_id="t", instance_id="a", epoch=2, completed_at="t", reason="rejected"
    )
    for record in (accepted("a"), running("a", 1), Outcome(ended=rejected), Acked(sequences=(2,))):
        journal.append(record)
    [entry] = reopened(disk).entries.values()
    assert entry.key == ("a", 1) and entry.ended is None and entry.running is not None
