"""What must not be forgotten when the keeper is killed: an append-only file of records (`agent.records`).

Life of an instance: `Intent` (before anything is started), `Started`, `Captured` (a little output) or `Spilled` (it has
its file), `Recorded` (how it ended), `Dropped` (the agent has it). A record reaches the operating system before the call
returns, so it survives a kill of keeper and agent. Nothing is fsynced: a machine that crashes has no processes left, and
what the server was told is in the agent's journal, which is.

The file is emptied when nothing in it is wanted any more, and written afresh when most of it is not.
"""

from __future__ import annotations

from typing import Final

from attrs import define, frozen

from agent.keeper.messages import Finished, Held, Launched
from agent.records import bodies, framed
from agent.spool import FoundSpool, Owner
from hetuflow.ports.disk import AppendFile, Disk, DiskError
from hetuflow.protocol.errors import RemoteProtocolError
from hetuflow.protocol.tagged import Tagged

EMPTY_BYTES_MIN: Final = 64 * 1024
"""A smaller file is not emptied: a rewrite costs more than its bytes."""
COMPACT_BYTES_MIN: Final = 1024 * 1024
LIVE_SHARE_MAX: Final = 0.25

Key = tuple[str, int]
"""Instance and epoch."""


@frozen(slots=True, kw_only=True)
class Opened:
    """First record of a file. Processes of another boot are gone, whatever their numbers say."""

    boot_id: str
    mark: str = ""


@frozen(slots=True, kw_only=True)
class Intent:
    task_id: str
    instance_id: str
    epoch: int
    spool_path: str


@frozen(slots=True, kw_only=True)
class Started:
    launched: Launched


@frozen(slots=True, kw_only=True)
class Captured:
    instance_id: str
    epoch: int
    data: bytes


@frozen(slots=True, kw_only=True)
class Spilled:
    instance_id: str
    epoch: int


@frozen(slots=True, kw_only=True)
class Recorded:
    finished: Finished
    spool_bytes: int = 0


@frozen(slots=True, kw_only=True)
class Dropped:
    ended: tuple[Key, ...]


Record = Opened | Intent | Started | Captured | Spilled | Recorded | Dropped

RECORDS: Tagged[Record] = Tagged({1: Opened, 2: Intent, 3: Started, 4: Captured, 5: Spilled, 6: Recorded, 7: Dropped})


@define(slots=True, kw_only=True)
class Entry:
    """All that the log has of one instance."""

    intent: Intent
    launched: Launched | None = None
    small: bytes = b""
    is_spilled: bool = False
    recorded: Recorded | None = None

    @property
    def key(self) -> Key:
        return self.intent.instance_id, self.intent.epoch

    def records(self) -> list[Record]:
        instance_id, epoch = self.key
        found: list[Record] = [self.intent]
        if self.launched is not None:
            found.append(Started(launched=self.launched))
        if self.is_spilled:
            found.append(Spilled(instance_id=instance_id, epoch=epoch))
        elif self.small:
            found.append(Captured(instance_id=instance_id, epoch=epoch, data=self.small))
        if self.recorded is not None:
            found.append(self.recorded)
        return found

    def as_launched(self) -> Launched:
        """`pid` 0: it was not started, or nobody could say so any more."""
        return self.launched or not_launched(self.intent.task_id, self.intent.instance_id, self.intent.epoch)

    def found_spool(self, disk: Disk) -> FoundSpool | None:
        """Its output, as far as it is whole; None when there is none."""
        try:
            if not self.is_spilled:
                return FoundSpool(disk, "log", self.small) if self.small else None
            return FoundSpool(disk, self.intent.spool_path)
        except DiskError:
            return None

    def kept_small(self, length: int) -> bytes:
        """Its spool of this length, while that has no file. What a full disk refused may stand behind it."""
        return b"" if self.is_spilled else self.small[:length]

    def held(self, disk: Disk) -> Held:
        if self.recorded is not None:
            length = self.recorded.spool_bytes
        else:
            spool = self.found_spool(disk)
            length = spool.end if spool is not None else 0
        return Held(
            launched=self.as_launched(),
            small=self.kept_small(length),
            spool_bytes=length,
            finished=self.recorded.finished if self.recorded is not None else None,
        )


def not_launched(task_id: str, instance_id: str, epoch: int) -> Launched:
    return Launched(
        task_id=task_id, instance_id=instance_id, epoch=epoch, pid=0, identity="", started_at="", isolation=""
    )


def read_log(disk: Disk, path: str) -> list[Held]:
    """What the log says of every instance that was not settled. `finished` None: no end is recorded. Changes nothing.

    Raises `DiskError` when the file cannot be read; what is damaged is left out.
    """
    log = Log(disk, path)
    log.fold_file(disk.read(path) or b"")
    return [entry.held(disk) for entry in log.entries.values()]


class Log:
    """Open with `Log.open`. One owner. A method that writes raises `DiskError`; in memory the record counts all the same."""

    def __init__(self, disk: Disk, path: str) -> None:
        self._disk, self._path = disk, path
        self._file: AppendFile | None = None
        self._bytes = self._records = 0
        self._compact_at_bytes = COMPACT_BYTES_MIN
        self._torn = False
        self._opened = Opened(boot_id="")
        self.entries: dict[Key, Entry] = {}
        self.earlier: Opened | None = None
        """What the keeper before this one wrote of itself; None: there was none."""
        self.problem: str | None = None
        """Why the file could not be written when it was opened."""

    @property
    def is_whole(self) -> bool:
        """Whether the file has all that was appended."""
        return not self._torn

    def catch_up(self) -> None:
        """Write what a full disk has refused, if there is anything."""
        if self._torn:
            self._rewrite()

    @classmethod
    def open(cls, disk: Disk, path: str, *, boot_id: str, mark: str) -> Log:
        """Read what an earlier keeper left, and begin a file of our own with it. Raises `DiskError` when it cannot be read.

        That it cannot be written (a full disk) is no reason not to end, and to tell, what was left: see `problem`.
        """
        log = cls(disk, path)
        log.fold_file(disk.read(path) or b"")
        if log._records:
            log.earlier = log._opened
        log._opened = Opened(boot_id=boot_id, mark=mark)
        try:
            log._rewrite()
        except DiskError as exc:
            log.problem, log._torn = str(exc), True
        return log

    def fold_file(self, data: bytes) -> None:
        """Every record that is whole: a damaged one must not hide what was started after it."""
        for body, end in bodies(data):
            try:
                record = RECORDS.decode(body)
            except RemoteProtocolError:
                continue
            self._bytes = end
            self._records += 1
            if record is not None:
                self._fold(record)

    def append(self, *records: Record) -> None:
        """In one write."""
        if not records:
            return
        for record in records:
            self._fold(record)
        if self._torn:  # the records are folded already, so the whole file, written afresh, contains them
            self._rewrite()
            return
        data = b"".join([framed(RECORDS.encode(record)) for record in records])
        try:
            if self._file is None:
                self._file = self._disk.open_append(self._path)
            self._file.append(data)
        except DiskError:
            self._torn = True  # half a record may stand there, and nothing may follow it; or none, and it is missing
            raise
        self._records += len(records)
        self._bytes += len(data)

    def drop(self, keys: tuple[Key, ...]) -> None:
        """Nobody wants these any more."""
        self.append(Dropped(ended=keys))
        if not self.entries and self._bytes >= EMPTY_BYTES_MIN:
            self._rewrite()
        elif self._bytes >= self._compact_at_bytes:
            self._compact_at_bytes = 2 * self._bytes
            if sum(len(entry.records()) for entry in self.entries.values()) <= self._records * LIVE_SHARE_MAX:
                self._rewrite()

    def close(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None

    # --- where spools begin, see `agent.spool.SmallSpools` ---------------------------------------------------------

    def captured(self, owner: Owner, data: bytes) -> None:
        self.append(Captured(instance_id=owner.instance_id, epoch=owner.epoch, data=data))

    def spilled(self, owner: Owner) -> None:
        self.append(Spilled(instance_id=owner.instance_id, epoch=owner.epoch))

    # --- inside ----------------------------------------------------------------------------------------------------

    def _rewrite(self) -> None:
        records: list[Record] = [self._opened]
        for entry in self.entries.values():
            records.extend(entry.records())
        data = b"".join(framed(RECORDS.encode(record)) for record in records)
        self._disk.replace(self._path, data)
        self.close()
        self._records, self._bytes, self._torn = len(records), len(data), False
        self._compact_at_bytes = max(COMPACT_BYTES_MIN, 2 * len(data))

    def _fold(self, record: Record) -> None:
        match record:
            case Opened():
                self._opened = record
            case Intent(instance_id=instance_id, epoch=epoch):
                self.entries[(instance_id, epoch)] = Entry(intent=record)
            case Started(launched=launched):
                key = (launched.instance_id, launched.epoch)
                if key not in self.entries:  # its intent was damaged
                    intent = Intent(task_id=launched.task_id, instance_id=key[0], epoch=key[1], spool_path="")
                    self.entries[key] = Entry(intent=intent)
                self.entries[key].launched = launched
            case Captured(instance_id=instance_id, epoch=epoch, data=data):
                if entry := self.entries.get((instance_id, epoch)):
                    entry.small += data
            case Spilled(instance_id=instance_id, epoch=epoch):
                if entry := self.entries.get((instance_id, epoch)):
                    entry.small, entry.is_spilled = b"", True
            case Recorded(finished=finished):
                if entry := self.entries.get((finished.instance_id, finished.epoch)):
                    entry.recorded = record
            case Dropped(ended=ended):
                for key in ended:
                    self.entries.pop(key, None)
