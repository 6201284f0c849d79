"""The writing side of output: counts, digests, cuts."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any, Final

from agent.spool import CHUNK_BYTES_MAX, PIECE, STREAM_NAMES, Spool, StreamTally
from hetuflow.ports.disk import DiskError


class Capture:
    """The writing side: one per instance, owned by the task that reads the process's pipes.

    Keeps the first `bytes_max` bytes of both streams together; the rest is counted and part of the digests, and
    `finish` leaves a marker line in the stream that was cut last. What cannot be spooled counts as cut.
    """

    def __init__(self, spool: Spool, *, bytes_max: int, grown: Callable[[], None]) -> None:
        self._spool = spool
        self._bytes_left = bytes_max
        self._grown = grown
        self._last_cut: int | None = None
        self.error: str | None = None
        """Why the spool could not be written."""
        self.dropped = 0
        self.tallies = {number: StreamTally() for number in STREAM_NAMES}

    def write(self, stream: int, data: bytes, at: datetime) -> None:
        tally = self.tallies[stream]
        tally.write(data)
        kept = self._keep(stream, data[: self._bytes_left] if len(data) > self._bytes_left else data, at)
        tally.kept += kept
        self._bytes_left -= kept
        if kept < len(data):
            self.dropped += len(data) - kept
            self._last_cut = stream
            self._bytes_left = 0  # what follows a gap would be shown as if there were none

    def finish(self, at: datetime) -> None:
        """No more output will come: mark a cut and close the file."""
        if self._last_cut is not None:
            self._keep(self._last_cut, f"\n[hetuflow: output cut, {self.dropped} bytes dropped]\n".encode(), at)
        self._spool.close()

    def summary(self) -> Mapping[str, Any]:
        """The `output` member of the instance's final report."""
        return {
            **{STREAM_NAMES[number]: tally.summary() for number, tally in self.tallies.items()},
            "dropped": self.dropped,
        }

    def _keep(self, stream: int, data: bytes, at: datetime) -> int:
        """Bytes that were spooled."""
        done = 0
        while done < len(data) and self.error is None:
            piece = data[done : done + CHUNK_BYTES_MAX]
            try:
                self._spool.append(PIECE.pack(stream, at.timestamp(), len(piece)) + piece)
            except DiskError as exc:
                self.error = str(exc)
                break
            done += len(piece)
        if done:
            self.tallies[stream].shipped += done
            self._grown()
        return done


NOTHING_WRITTEN: Final[Mapping[str, Any]] = {
    **{name: StreamTally().summary() for name in STREAM_NAMES.values()},
    "dropped": 0,
}
"""The summary of who has written nothing."""
