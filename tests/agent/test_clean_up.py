"""Old directories go by age and when the disk runs full; what is in use stays; a disk that stays full takes nothing in."""

from __future__ import annotations

import pytest
import trio

from agent.clean_up import GOOD_SECONDS, LOOK_SECONDS, CleanUp, FreeSpace, plain_remove
from tests.support.disk import Life, MemoryDisk
from tests.support.ports import TrioClock

WORK = "/work"


class Place:
    """`room`: bytes that are free at first."""

    def __init__(self, room: int | None = None, free_min: str = "0", older_than: float = 3600.0) -> None:
        self.disk = MemoryDisk(TrioClock())
        self.disk.room_bytes = room
        self.used: set[str] = set()
        mounted = self.disk.mount(Life())
        self.clean_up = CleanUp(
            mounted,
            WORK,
            plain_remove(mounted),
            lambda: frozenset(self.used),
            older_than_seconds=older_than,
            free_min=FreeSpace.parse(free_min),
        )

    def write(self, name: str, size: int = 100) -> None:
        self.disk.directories.setdefault(f"{WORK}/{name}", trio.current_time())
        self.disk.write(f"{WORK}/{name}/file", bytes(size))

    @property
    def names(self) -> list[str]:
        return sorted(path.rpartition("/")[2] for path in self.disk.directories)


async def test_what_is_old_goes_and_what_is_used_or_young_stays(autojump_clock) -> None:
    place = Place(older_than=100)
    for name in ("old", "used"):
        place.write(name)
    place.used.add("used")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(place.clean_up.run)
        await trio.sleep(99)
        place.write("young")
        assert place.names == ["old", "used", "young"]
        await trio.sleep(2)
        assert place.names == ["used", "young"]
        place.used.clear()
        await trio.sleep(100)
        assert place.names == []
        nursery.cancel_scope.cancel()


async def test_a_path_may_be_in_use_too(autojump_clock) -> None:
    place = Place(older_than=10)
    place.write("spool")
    place.used.add(f"{WORK}/spool")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(place.clean_up.run)
        await trio.sleep(30)
        assert place.names == ["spool"]
        nursery.cancel_scope.cancel()


async def test_the_oldest_goes_first_until_enough_is_free(autojump_clock) -> None:
    place = Place(room=1000, free_min="500")
    async with trio.open_nursery() as nursery:
        for name in ("c-first", "b-second", "a-third", "used"):
            place.write(name, 200)
            await trio.sleep(1)
        place.used.add("used")
        assert place.clean_up.refusal() is not None
        nursery.start_soon(place.clean_up.run)
        await trio.sleep(1)
        assert place.names == ["a-third", "used"] and place.disk.room_bytes == 600
        assert place.clean_up.refusal() is None
        nursery.cancel_scope.cancel()


async def test_a_disk_that_fills_up_meanwhile_is_noticed(autojump_clock) -> None:
    place = Place(room=1000, free_min="500B")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(place.clean_up.run)
        await trio.sleep(1)
        place.write("ended", 600)
        await trio.sleep(LOOK_SECONDS)
        assert place.names == []
        nursery.cancel_scope.cancel()


async def test_a_dispatch_does_not_wait_for_the_next_look(autojump_clock) -> None:
    place = Place(room=1000, free_min="500")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(place.clean_up.run)
        await trio.sleep(0.1)
        place.write("ended", 600)
        assert place.clean_up.refusal() is not None
        await trio.sleep(0.1)
        assert place.clean_up.refusal() is None
        nursery.cancel_scope.cancel()


async def test_that_enough_is_free_is_believed_for_a_second(autojump_clock) -> None:
    """And that too little is, for no moment."""
    place = Place(room=1000, free_min="500")
    assert place.clean_up.refusal() is None
    place.write("late", 600)
    await trio.sleep(GOOD_SECONDS / 2)
    assert place.clean_up.refusal() is None
    await trio.sleep(GOOD_SECONDS / 2)
    assert place.clean_up.refusal() is not None
    place.disk.remove(f"{WORK}/late")
    assert place.clean_up.refusal() is None


async def test_what_is_used_never_goes_and_nothing_new_is_taken_in(autojump_clock) -> None:
    place = Place(room=1000, free_min="500")
    place.write("used", 600)
    place.used.add("used")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(place.clean_up.run)
        await trio.sleep(1000)
        assert place.names == ["used"]
        refusal = place.clean_up.refusal()
        assert refusal == "disk: 0 MB are free at /work, executor.disk_free_min is 500"
        nursery.cancel_scope.cancel()


async def test_what_nobody_needs_any_more_goes_at_once_and_a_clear_when_it_is_asked_for(autojump_clock) -> None:
    place = Place()
    for name in ("settled", "finished"):
        place.write(name)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(place.clean_up.run)
        await trio.sleep(61)
        place.write("young")
        place.clean_up.discard(f"{WORK}/settled")
        await trio.sleep(0.1)
        assert place.names == ["finished", "young"]
        place.clean_up.clear(60)
        await trio.sleep(0.1)
        assert place.names == ["young"]
        nursery.cancel_scope.cancel()


async def test_what_cannot_be_removed_holds_up_nothing(autojump_clock) -> None:
    place = Place(older_than=10)
    place.write("stuck")
    place.write("old")
    remove = place.clean_up._remove

    async def stubborn(path: str) -> None:
        if path.endswith("stuck"):
            raise OSError("busy")
        await remove(path)

    place.clean_up._remove = stubborn
    async with trio.open_nursery() as nursery:
        nursery.start_soon(place.clean_up.run)
        await trio.sleep(30)
        assert place.names == ["stuck"]
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize(
    ("text", "of_10_gb"),
    [
        ("0", 0),
        ("500", 500),
        ("500B", 500),
        ("1.5 GB", 1_500_000_000),
        ("2GiB", 2 * 1024**3),
        ("100MB", 100_000_000),
        ("1K", 1000),
        ("5%", 500_000_000),
        ("0.5 %", 50_000_000),
    ],
)
def test_sizes_and_shares(text: str, of_10_gb: int) -> None:
    assert FreeSpace.parse(text).of(10 * 1000**3) == of_10_gb


@pytest.mark.parametrize("text", ["", "x", "-1", "100%", "-5%", "5 percent", "1XB", "nan", "inf", "1e400"])
def test_what_is_no_size(text: str) -> None:
    with pytest.raises(ValueError):
        FreeSpace.parse(text)
