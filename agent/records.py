"""Records of a file that only grows, each with a CRC: what a kill, or a full disk, leaves of the last one is told apart.

record = u32 length, u32 crc32(body), body          (big-endian)
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from typing import Final

RECORD_BYTES_MAX: Final = 1024 * 1024
RESYNC_BYTES_MAX: Final = 64 * 1024
"""How far behind damage whole records are looked for."""


def framed(body: bytes) -> bytes:
    return len(body).to_bytes(4, "big") + zlib.crc32(body).to_bytes(4, "big") + body


def body_at(data: bytes, at: int) -> bytes | None:
    """The body of the record that starts at `at`, if a whole one does."""
    length = int.from_bytes(data[at : at + 4], "big")
    body = data[at + 8 : at + 8 + length]
    if not 0 < length <= RECORD_BYTES_MAX or len(body) < length:
        return None
    return body if zlib.crc32(body) == int.from_bytes(data[at + 4 : at + 8], "big") else None


def bodies(data: bytes) -> Iterator[tuple[bytes, int]]:
    """Bodies of whole records with the offset of their end. What is damaged is left out, and what is torn at the end."""
    at = 0
    while at < len(data):
        body = body_at(data, at)
        if body is not None:
            at += 8 + len(body)
            yield body, at
            continue
        nearest = range(at + 1, min(len(data), at + RESYNC_BYTES_MAX))
        found = next((further for further in nearest if body_at(data, further) is not None), None)
        if found is None:
            return
        at = found
