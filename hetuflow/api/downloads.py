"""Answers that are the bytes of a file: headers, one range, and a body that is read as the client takes it."""

from __future__ import annotations

import re
from base64 import b64encode
from collections.abc import Awaitable, Callable
from urllib.parse import quote

from hetuflow.api.call import Call, Reply
from hetuflow.api.errors import ApiError
from hetuflow.api.streaming import Write

READ_BYTES = 1024 * 1024
"""Read from the database at once."""

Read = Callable[[int, int], Awaitable[bytes]]
"""(offset, at most so many bytes) -> bytes; b"" beyond the end."""

_RANGE = re.compile(r"bytes=(\d{0,18})-(\d{0,18})")


class CutShort(Exception):
    """The file has fewer bytes than were promised."""


def download(call: Call, name: str, total: int, sha256: str, read: Read, position: int | None = None) -> Reply:
    """The file, or the range of it that was asked for. Nothing in it is ever shown as a page of this server's.

    Raises:
      ApiError: 416, the range lies outside the file; 429.
    """
    first, end = _wanted(call.head.text(b"range"), total)
    is_part = (first, end) != (0, total)
    if call.head.method != "HEAD":
        call.memory.streams.require_room()

    async def produce(write: Write) -> None:
        at = first
        while at < end:
            data = await read(at, min(READ_BYTES, end - at))
            if not data:
                raise CutShort(f"{name} has no byte {at}, of {total}")
            await write(data)
            at += len(data)

    headers = (
        (b"content-length", str(end - first).encode()),
        (b"content-disposition", b"attachment; filename*=UTF-8''" + quote(name.rpartition("/")[2], safe="").encode()),
        (b"x-content-type-options", b"nosniff"),
        (b"accept-ranges", b"bytes"),
        (b"etag", f'"{sha256}"'.encode()),
        (b"repr-digest", b"sha-256=:" + b64encode(bytes.fromhex(sha256)) + b":"),
        *(((b"content-range", f"bytes {first}-{end - 1}/{total}".encode()),) if is_part else ()),
    )
    return Reply(
        position=position,
        status=206 if is_part else 200,
        content_type=b"application/octet-stream",
        headers=headers,
        body=produce,
    )


def _wanted(header: str | None, total: int) -> tuple[int, int]:
    """First byte and the one after the last. A header that is not one range of bytes is ignored, as RFC 9110 says."""
    found = None if header is None else _RANGE.fullmatch(header.strip())
    if found is None or not (found[1] or found[2]):
        return 0, total
    if not found[1]:
        first, end = max(0, total - int(found[2])), total
    else:
        first, end = int(found[1]), min(total, int(found[2]) + 1 if found[2] else total)
        if found[2] and int(found[2]) < first:
            return 0, total
    if first >= total or first >= end:
        detail = {"bytes_total": total}
        raise ApiError(
            416,
            f"the file has {total} bytes: the range {header} lies outside",
            detail,
            headers=[(b"content-range", f"bytes */{total}".encode())],
        )
    return first, end
