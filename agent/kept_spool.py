"""The spool of an instance whose output a keeper writes, as the agent knows it: what the keeper has said of it so far."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import structlog

from agent.spool import FoundSpool, Owner, SmallSpools
from hetuflow.ports.disk import Disk, DiskError

log = structlog.get_logger()


class KeptSpool:
    """See `agent.spool.Source`. What is in no file is kept here, and in the journal for the next life."""

    def __init__(self, disk: Disk, path: str, owner: Owner, journal: SmallSpools) -> None:
        self._disk, self.path, self.owner, self._journal = disk, path, owner, journal
        self._small: bytes | None = b""
        self.end = 0

    @property
    def is_small(self) -> bool:
        return self._small is not None

    def grew(self, spool_bytes: int, data: bytes) -> None:
        """The keeper says: so long now; `data` are its new bytes while it has no file."""
        if data and self._small is not None:
            self._small += data
            try:
                self._journal.captured(self.owner, data)
            except DiskError as exc:  # the keeper has it too
                log.error("a little output is not in the journal", instance_id=self.owner.instance_id, error=str(exc))
        elif not data and spool_bytes > self.end and self._small is not None:
            self._small = None
            self._journal.spilled(self.owner)
        self.end = spool_bytes

    def recover(self, captured: bytes) -> None:
        """What an earlier life of the agent has left: in a file, or as `captured` in its journal."""
        try:
            found = FoundSpool(self._disk, self.path)
        except DiskError:
            found = None
        if found is not None and found.end >= len(captured):
            self._small, self.end = None, found.end
        else:
            self._small, self.end = captured, len(captured)

    def adopt(self, spool_bytes: int, small: bytes) -> None:
        """A keeper has it whole: so long, and `small` while it has no file."""
        if self._small is not None and small:
            self.grew(spool_bytes, small[len(self._small) :])
        else:
            self.grew(spool_bytes, b"")

    def cut_off(self) -> Mapping[str, Any] | None:
        """Its keeper is gone, and nothing comes any more: the `output` member of the last report."""
        try:
            found = FoundSpool(self._disk, self.path, self._small)
            summary = found.summary()
        except DiskError:
            return None
        self.end = found.end
        return summary

    def read(self, at: int, length: int) -> bytes:
        if self._small is not None:
            return self._small[at : at + length]
        return self._disk.read_range(self.path, at, length)

    def remove(self) -> None:
        if self._small is None:
            self._disk.remove(self.path)
