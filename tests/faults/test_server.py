"""The launcher: its fuse, its clock, and a fail point in a real process."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

from tests.faults.server import Fuse, OffsetClock, set_offset


def test_a_fuse_burns_at_the_nth_passing_of_its_point_once_it_is_lit() -> None:
    fuse = Fuse("after_commit", 2, False)
    assert not any(fuse.passing("after_commit") for _ in range(5))
    fuse.is_lit = True
    assert [fuse.passing(point) for point in ("before_commit", "after_commit", "before_send", "after_commit")] == [
        *(False, False, False),
        True,
    ]
    assert not fuse.passing("after_commit"), "once"


def test_the_clock_follows_the_file(tmp_path: Path) -> None:
    path = tmp_path / "clock"
    set_offset(path, 0.0)
    clock = OffsetClock(path)
    for hours in (1, -1, 0):
        set_offset(path, hours * 3600.0)
        before = datetime.now(UTC)
        assert timedelta(0) <= clock.now() - timedelta(hours=hours) - before < timedelta(minutes=5)
