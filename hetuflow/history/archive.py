"""A log as a file: JSON lines or MessagePack, written and read as a stream, and verified while it is read.

A header, one record per event in the order of positions, and a trailer with their number and a digest over all of them:
a file that was cut short, changed or put together differently is refused, and so is one with a gap in positions or in the
versions of a stream. Output of instances is not part of the log, and not of the file.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import UTC, datetime
from pathlib import PurePath
from typing import Any
from uuid import UUID

import msgpack
import msgspec

from eventstore.event import RecordedEvent

JSON_LINES, MSGPACK = "jsonl", "msgpack"
FORMATS = (JSON_LINES, MSGPACK)
SUFFIXES = {".jsonl": JSON_LINES, ".ndjson": JSON_LINES, ".msgpack": MSGPACK, ".mpk": MSGPACK}
VERSION = 1

_sorted = msgspec.json.Encoder(order="sorted").encode
_decode = msgspec.json.Decoder().decode


class ArchiveError(Exception):
    """The file is no whole, unchanged log; the message says where and what."""


def format_of(name: str) -> str | None:
    """By the suffix; None when it says nothing."""
    return SUFFIXES.get(PurePath(name).suffix.lower())


class Writer:
    """Writes a log: `add` the events in order, then `finish`. `write` takes pieces of bytes."""

    def __init__(self, write: Callable[[bytes], object], form: str, *, exported_at: datetime) -> None:
        self._write, self._form = write, form
        self._digest = hashlib.sha256()
        self.events = 0
        self.position = 0
        self._put({"hetuflow_log": VERSION, "exported_at": exported_at.astimezone(UTC).isoformat()})

    def add(self, event: RecordedEvent) -> None:
        record = {
            "position": event.position,
            "recorded_at": event.recorded_at.astimezone(UTC).isoformat(timespec="microseconds"),
            "version": event.version,
            "schema": event.schema,
            "event_id": str(event.event_id),
            "stream_id": event.stream_id,
            "type": event.type,
            "data": _decode(event.data),
            "metadata": _decode(event.metadata),
        }
        self._digest.update(_sorted(record))
        self._put(record)
        self.events += 1
        self.position = event.position

    def finish(self) -> str:
        """Write the trailer; return the digest."""
        digest = self._digest.hexdigest()
        self._put({"events": self.events, "last_position": self.position, "sha256": digest})
        return digest

    def _put(self, value: Mapping[str, Any]) -> None:
        self._write(_sorted(value) + b"\n" if self._form == JSON_LINES else msgpack.packb(value))


def read(pieces: Iterable[bytes]) -> Iterator[RecordedEvent]:
    """The events of a log file, of either format, in order. Consume it to the end: only then it is verified.

    Raises:
      ArchiveError.
    """
    records = _records(pieces)
    header = next(records, None)
    if not isinstance(header, dict) or "hetuflow_log" not in header:
        raise ArchiveError("it does not begin like a log that `hetuflow events export` wrote")
    if header["hetuflow_log"] != VERSION:
        raise ArchiveError(f"it is of version {header['hetuflow_log']}; this program reads version {VERSION}")
    digest, position = hashlib.sha256(), 0
    versions: dict[str, int] = {}
    before = datetime.min.replace(tzinfo=UTC)
    for record in records:
        if not isinstance(record, dict):
            raise ArchiveError(f"after position {position} stands something that is no event")
        if "sha256" in record:
            _check_trailer(record, position, digest.hexdigest())
            if next(records, None) is not None:
                raise ArchiveError("something follows after its end")
            return
        event = _event(record, position)
        if event.position != position + 1:
            raise ArchiveError(f"a gap: position {event.position} follows {position}")
        if event.version != versions.get(event.stream_id, 0) + 1:
            known = versions.get(event.stream_id, 0)
            raise ArchiveError(
                f"position {event.position}: version {event.version} of {event.stream_id} follows version {known}"
            )
        if event.recorded_at < before:
            raise ArchiveError(f"position {event.position} was recorded before the one before it")
        digest.update(_sorted(record))
        position, before, versions[event.stream_id] = event.position, event.recorded_at, event.version
        yield event
    raise ArchiveError(f"it is cut short: it ends after position {position} without a trailer")


def _check_trailer(record: Mapping[str, Any], position: int, digest: str) -> None:
    if (record.get("events"), record.get("last_position")) != (position, position):
        raise ArchiveError(f"its trailer tells of {record.get('events')} events, it holds {position}")
    if record["sha256"] != digest:
        raise ArchiveError("its digest is another: something in it was changed")


def _event(record: Mapping[str, Any], position: int) -> RecordedEvent:
    try:
        return RecordedEvent(
            position=int(record["position"]),
            recorded_at=datetime.fromisoformat(record["recorded_at"]),
            version=int(record["version"]),
            schema=int(record["schema"]),
            event_id=UUID(record["event_id"]),
            stream_id=str(record["stream_id"]),
            type=str(record["type"]),
            data=_sorted(record["data"]).decode(),
            metadata=_sorted(record["metadata"]).decode(),
        )
    except (KeyError, TypeError, ValueError) as exc:
        raise ArchiveError(f"what follows position {position} is no event: {exc!r}") from exc


def _records(pieces: Iterable[bytes]) -> Iterator[Any]:
    rest = iter(pieces)
    first = next(rest, b"")
    try:
        if first[:1] == b"{":
            yield from _lines(first, rest)
        else:
            unpacker = msgpack.Unpacker(raw=False, strict_map_key=True)
            for piece in (first, *()) if not first else _chain(first, rest):
                unpacker.feed(piece)
                yield from unpacker
    except (msgspec.MsgspecError, msgpack.UnpackException, ValueError) as exc:
        raise ArchiveError(f"it is neither JSON lines nor MessagePack: {exc}") from exc


def _chain(first: bytes, rest: Iterator[bytes]) -> Iterator[bytes]:
    yield first
    yield from rest


def _lines(first: bytes, rest: Iterator[bytes]) -> Iterator[Any]:
    tail = b""
    for piece in _chain(first, rest):
        *whole, tail = (tail + piece).split(b"\n")
        for line in whole:
            yield _decode(line)
    if tail.strip():
        yield _decode(tail)
