"""Spools that an earlier life left: read block by block, up to what is whole."""

from __future__ import annotations

import hashlib

import pytest

from agent import spool as spool_module
from agent.spool import BLOCK_BYTES, CHUNK_BYTES_MAX, PIECE, FoundSpool, Owner, header
from hetuflow.ports.disk import DiskError
from tests.agent.world import MemoryDisk

PATH = "/runs/i.1.out"
OWNER = Owner(task_id="t", instance_id="i", epoch=1)


class BlockDisk(MemoryDisk):
    """Nobody may read a file whole."""

    largest = 0

    def read(self, path: str) -> bytes | None:
        raise AssertionError("a spool may be larger than memory")

    def read_range(self, path: str, offset: int, length: int) -> bytes:
        self.largest = max(self.largest, length)
        return super().read_range(path, offset, length)


def a_spool(pieces: list[tuple[int, bytes]]) -> bytes:
    return header(OWNER) + b"".join(PIECE.pack(stream, 1.0, len(data)) + data for stream, data in pieces)


def test_a_long_spool_is_read_block_by_block_and_summed_up() -> None:
    pieces = [(1 + number % 2, bytes([number % 251]) * (CHUNK_BYTES_MAX - number)) for number in range(100)]
    disk = BlockDisk()
    disk.files[PATH] = bytearray(a_spool(pieces))
    found = FoundSpool(disk, PATH)
    assert found.owner == OWNER and found.end == len(disk.files[PATH]) > 4 * BLOCK_BYTES
    told = found.summary()
    for stream, name in ((1, "stdout"), (2, "stderr")):
        written = b"".join(data for number, data in pieces if number == stream)
        digest = hashlib.sha256(written).hexdigest()
        assert told[name] == {"bytes": len(written), "kept": len(written), "shipped": len(written), "sha256": digest}
    assert disk.largest == BLOCK_BYTES


@pytest.mark.parametrize("block", [100, 101, 150, 1000])
def test_what_is_torn_is_left_out_wherever_a_block_ends(monkeypatch: pytest.MonkeyPatch, block: int) -> None:
    monkeypatch.setattr(spool_module, "BLOCK_BYTES", block)
    data = a_spool([(1, b"x" * length) for length in (1, 0, 50, 87, 3)])
    ends = [len(header(OWNER))]
    for length in (1, 0, 50, 87, 3):
        ends.append(ends[-1] + PIECE.size + length)
    for cut in range(ends[0], len(data) + 1):
        disk = BlockDisk()
        disk.files[PATH] = bytearray(data[:cut])
        assert FoundSpool(disk, PATH).end == max(end for end in ends if end <= cut)
        assert FoundSpool(MemoryDisk(), "-", data[:cut]).end == max(end for end in ends if end <= cut)


@pytest.mark.parametrize("data", [b"", b"\x00\x00\x00\x02{}", b"garbage"])
def test_what_is_no_spool_is_an_error(data: bytes) -> None:
    disk = BlockDisk()
    disk.files[PATH] = bytearray(data)
    with pytest.raises(DiskError, match="not an output spool"):
        FoundSpool(disk, PATH)
    with pytest.raises(DiskError):
        FoundSpool(disk, "/runs/missing.1.out")
