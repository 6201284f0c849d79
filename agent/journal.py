"""What the agent must not forget when it is killed: an append-only file of msgpack records, each with a CRC.

    file    = record*
    record  = u32 length, u32 crc32(body), body          (big-endian)
    body    = [tag, map]                                 (as messages on the wire; unknown tags are skipped)

Life of an instance: `Accepted` (before its process is spawned), `Running` (with pid and identity of the process),
`Captured` (a little output), `Stored` (how far the server has it), `Outcome`, then `Acked`. A record reaches the operating system before the call returns, so it survives a crash of the agent; only
outcomes are fsynced, many with one call, because only they are promised to the server (a machine that crashes has no
processes left to remember).

Dead records (acknowledged, or superseded) are dropped by rewriting the file when most of it is dead. A torn tail, as a
crash leaves it, is cut off. Damage in the middle is kept aside as `<path>.damaged`, and what precedes it is used.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from typing import Final

from attrs import define, frozen

from agent.spool import Cursor
from hetuflow.ports.disk import AppendFile, Disk, DiskError
from hetuflow.protocol.errors import RemoteProtocolError
from hetuflow.protocol.messages import Dispatch, Ended, Observed, Report, Started
from hetuflow.protocol.tagged import Tagged

RECORD_BYTES_MAX: Final = 1024 * 1024
RESYNC_BYTES_MAX: Final = 64 * 1024
"""How far behind damage whole records are looked for."""
COMPACT_BYTES_MIN: Final = 1024 * 1024
"""Below this size the file is never rewritten: a rewrite costs two fsyncs."""
LIVE_SHARE_MAX: Final = 0.25
"""The file is rewritten when less than this share of its records is live: amortised one extra write per record."""


@frozen(slots=True, kw_only=True)
class Opened:
    """First record of a file: where numbering goes on."""

    next_sequence: int
    last_acked: int = 0


@frozen(slots=True, kw_only=True)
class Accepted:
    """`order`: what is needed of it until its end, when that is more than that it was accepted; see `agent.run`."""

    task_id: str
    instance_id: str
    epoch: int
    order: Dispatch | None = None


@frozen(slots=True, kw_only=True)
class Running:
    """The report, and what tells the process apart from a later one with the same pid."""

    started: Started
    identity: str | None = None


@frozen(slots=True, kw_only=True)
class Outcome:
    ended: Ended


@frozen(slots=True, kw_only=True)
class Acked:
    sequences: tuple[int, ...]


@frozen(slots=True, kw_only=True)
class Forgotten:
    """Instances that the server does not want to hear of."""

    instance_ids: tuple[str, ...]


@frozen(slots=True, kw_only=True)
class Captured:
    """Output of an instance that has written little so far: it needs no file of its own (see `output`)."""

    instance_id: str
    epoch: int
    data: bytes


@frozen(slots=True, kw_only=True)
class Spilled:
    """The instance's output has got a file, which holds what was captured here."""

    instance_id: str
    epoch: int


@frozen(slots=True, kw_only=True)
class Noticed:
    """Something that was observed on this machine, until it is acknowledged."""

    observed: Observed


@frozen(slots=True, kw_only=True)
class Stored:
    """The server has stored the instance's output up to there, for good."""

    instance_id: str
    epoch: int
    cursor: Cursor


Record = Opened | Accepted | Running | Outcome | Acked | Forgotten | Captured | Spilled | Noticed | Stored

RECORDS: Tagged[Record] = Tagged(
    {
        1: Opened,
        2: Accepted,
        3: Running,
        4: Outcome,
        5: Acked,
        6: Forgotten,
        7: Captured,
        8: Spilled,
        9: Noticed,
        10: Stored,
    }
)

Key = tuple[str, int]
"""Instance and epoch: an instance that is dispatched again is another one to the journal."""


@define(slots=True, kw_only=True)
class Entry:
    """All that is known of one instance: `running` and `ended` appear in this order; `acked` sequences are done."""

    accepted: Accepted
    running: Running | None = None
    ended: Ended | None = None
    started_acked: bool = False
    captured: bytes = b""
    stored: Cursor | None = None

    @property
    def key(self) -> Key:
        return self.accepted.instance_id, self.accepted.epoch

    def unacked(self) -> Iterator[Report]:
        if self.running is not None and not self.started_acked:
            yield self.running.started
        if self.ended is not None:
            yield self.ended

    def records(self) -> Iterator[Record]:
        yield self.accepted
        if self.running is not None:
            yield self.running
            if self.started_acked:
                yield Acked(sequences=(self.running.started.sequence,))
        if self.captured:
            yield Captured(instance_id=self.accepted.instance_id, epoch=self.accepted.epoch, data=self.captured)
        if self.stored is not None:
            yield Stored(instance_id=self.accepted.instance_id, epoch=self.accepted.epoch, cursor=self.stored)
        if self.ended is not None:
            yield Outcome(ended=self.ended)


class Journal:
    """Open with `Journal.open`. One owner; every method but `sync` is synchronous. Raises `DiskError` when it must."""

    def __init__(self, disk: Disk, path: str) -> None:
        self._disk, self._path = disk, path
        self._file: AppendFile | None = None
        self._records = 0
        self._bytes = 0
        self._compact_at_bytes = COMPACT_BYTES_MIN
        self._torn = False
        self._by_sequence: dict[int, Key] = {}
        self.entries: dict[Key, Entry] = {}
        """In order of acceptance: everything not yet acknowledged to the end."""
        self.observed: dict[int, Observed] = {}
        """By sequence: what was observed and is not acknowledged."""
        self.next_sequence = 1
        self.last_acked = 0
        self.damage: str | None = None
        """What was wrong with the file when it was opened; None when nothing was."""

    @property
    def size_bytes(self) -> int:
        """Of its file."""
        return self._bytes

    @property
    def is_whole(self) -> bool:
        """Whether the file has all that was appended. What a full disk has refused comes with the next record it takes."""
        return not self._torn

    @classmethod
    def open(cls, disk: Disk, path: str) -> Journal:
        """Read what is there, repair its end, and be ready to append."""
        journal = cls(disk, path)
        data = disk.read(path) or b""
        intact = 0
        for record, end in _parse(data):
            intact = end
            journal._fold(record)
            journal._records += 1
        journal._bytes = intact
        if intact < len(data):
            journal._repair(data, intact)
        if not data:
            journal._append(Opened(next_sequence=1))
        return journal

    def take_sequence(self) -> int:
        sequence = self.next_sequence
        self.next_sequence += 1
        return sequence

    def append(self, record: Record) -> None:
        """Write to the operating system. Raises `DiskError`; the record counts in memory all the same."""
        self._fold(record)
        self._append(record)

    async def sync(self) -> None:
        """Everything appended before this call is on the disk when it returns. Raises `DiskError`."""
        file = self._file
        if file is None:
            return
        try:
            await file.sync()
        except DiskError:
            if file is not self._file:  # all of it was written afresh meanwhile, and that is on the disk
                return
            self._torn = True  # the system may have dropped what it could not write, and says so once
            raise

    @property
    def may_be_mostly_dead(self) -> bool:
        """Whether `compact_if_mostly_dead` would have a look."""
        return self._bytes >= self._compact_at_bytes

    def compact_if_mostly_dead(self) -> bool:
        """Rewrite the file when it is worth it; True when it was. Raises `DiskError`; the file that is there is then used.

        Never while a `sync` is under way: it closes the file.
        """
        if not self.may_be_mostly_dead:
            return False
        self._compact_at_bytes = 2 * self._bytes
        live = sum(len(list(entry.records())) for entry in self.entries.values()) + len(self.observed) + 1
        if live > self._records * LIVE_SHARE_MAX:
            return False
        try:
            self._rewrite()
        except DiskError:
            self.close()  # the new file may be in its place all the same: whichever lies there is whole, and is opened again
            raise
        return True

    def close(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None

    # --- inside ----------------------------------------------------------------------------------------------------

    def _append(self, record: Record) -> None:
        if self._torn:  # the record is folded already, so the whole file, written afresh, contains it
            self._rewrite()
            return
        data = _frame(record)
        try:
            if self._file is None:
                self._file = self._disk.open_append(self._path)
            self._file.append(data)
        except DiskError:
            self._torn = True  # half a record may stand there, and nothing may follow it; or none, and it is missing
            raise
        self._records += 1
        self._bytes += len(data)

    def _rewrite(self) -> None:
        records: list[Record] = [Opened(next_sequence=self.next_sequence, last_acked=self.last_acked)]
        for entry in self.entries.values():
            records.extend(entry.records())
        records.extend(Noticed(observed=observed) for observed in self.observed.values())
        data = b"".join(map(_frame, records))
        self._disk.replace(self._path, data)
        self.close()
        self._records, self._bytes, self._torn = len(records), len(data), False
        self._compact_at_bytes = max(COMPACT_BYTES_MIN, 2 * len(data))

    def _repair(self, data: bytes, intact: int) -> None:
        """Cut off a torn tail. If whole records follow the damage, it is no torn tail: keep the file for people."""
        if any(_parse_at(data, at) for at in range(intact + 1, min(len(data), intact + RESYNC_BYTES_MAX))):
            self.damage = (
                f"{self._path}: damaged at byte {intact} of {len(data)}; the file is kept as {self._path}.damaged"
            )
            self._disk.replace(f"{self._path}.damaged", data)
        else:
            self.damage = f"{self._path}: the last {len(data) - intact} bytes were torn and are dropped"
        self._rewrite()

    def _fold(self, record: Record) -> None:
        match record:
            case Opened(next_sequence=following, last_acked=acked):
                self.next_sequence = max(self.next_sequence, following)
                self.last_acked = max(self.last_acked, acked)
            case Accepted():
                self.entries[(record.instance_id, record.epoch)] = Entry(accepted=record)
            case Running(started=started):
                entry = self._entry_of(started)
                if entry is not None:
                    entry.running = record
            case Outcome(ended=ended):
                entry = self._entry_of(ended)
                if entry is None:  # rejected: reported without having been accepted
                    accepted = Accepted(task_id=ended.task_id, instance_id=ended.instance_id, epoch=ended.epoch)
                    entry = self.entries.setdefault((ended.instance_id, ended.epoch), Entry(accepted=accepted))
                entry.ended = ended
            case Captured(instance_id=instance_id, epoch=epoch, data=data):
                if (instance_id, epoch) in self.entries:
                    self.entries[(instance_id, epoch)].captured += data
            case Spilled(instance_id=instance_id, epoch=epoch):
                if (instance_id, epoch) in self.entries:
                    self.entries[(instance_id, epoch)].captured = b""
            case Stored(instance_id=instance_id, epoch=epoch, cursor=cursor):
                if (instance_id, epoch) in self.entries:
                    self.entries[(instance_id, epoch)].stored = cursor
            case Noticed(observed=observed):
                self.next_sequence = max(self.next_sequence, observed.sequence + 1)
                self.observed[observed.sequence] = observed
            case Acked(sequences=sequences):
                for sequence in sequences:
                    self._acknowledge(sequence)
            case Forgotten(instance_ids=instance_ids):
                for key in [key for key in self.entries if key[0] in instance_ids]:
                    del self.entries[key]

    def _entry_of(self, report: Report) -> Entry | None:
        self.next_sequence = max(self.next_sequence, report.sequence + 1)
        key = (report.instance_id, report.epoch)
        self._by_sequence[report.sequence] = key
        return self.entries.get(key)

    def _acknowledge(self, sequence: int) -> None:
        self.last_acked = max(self.last_acked, sequence)
        if self.observed.pop(sequence, None) is not None:
            return
        key = self._by_sequence.pop(sequence, None)
        entry = self.entries.get(key) if key is not None else None
        if entry is None:
            return
        if entry.ended is not None and entry.ended.sequence == sequence:
            del self.entries[entry.key]
        elif entry.running is not None and entry.running.started.sequence == sequence:
            entry.started_acked = True


def _frame(record: Record) -> bytes:
    body = RECORDS.encode(record)
    return len(body).to_bytes(4, "big") + zlib.crc32(body).to_bytes(4, "big") + body


def _parse(data: bytes) -> Iterator[tuple[Record, int]]:
    """Records with the offset of their end, up to the first that is torn or damaged."""
    at = 0
    while body := _parse_at(data, at):
        at += 8 + len(body)
        try:
            record = RECORDS.decode(body)
        except RemoteProtocolError:
            return
        if record is not None:
            yield record, at


def _parse_at(data: bytes, at: int) -> bytes | None:
    """The body of the record that starts at `at`, if a whole one does."""
    length = int.from_bytes(data[at : at + 4], "big")
    body = data[at + 8 : at + 8 + length]
    if not 0 < length <= RECORD_BYTES_MAX or len(body) < length:
        return None
    return body if zlib.crc32(body) == int.from_bytes(data[at + 4 : at + 8], "big") else None
