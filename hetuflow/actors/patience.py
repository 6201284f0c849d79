"""For those who ask actors again: which failures pass by themselves, and how long to leave alone what failed."""

from __future__ import annotations

from collections.abc import Hashable
from typing import Final

from eventstore.errors import InvalidEvent, StoreClosed, StoreTimeout, StoreUnavailable, WrongExpectedVersion
from hetuflow.actors.errors import Crashed, GuardLost, MailboxFull, Quarantined, SystemStopped

PASSING: Final = (StoreUnavailable, StoreTimeout, WrongExpectedVersion, MailboxFull, Quarantined)
"""Nothing is wrong with the question: ask again later."""

STOPPING: Final = (SystemStopped, StoreClosed)
"""The process is stopping: ask no more; the next start finds the work in the log."""

UNSTORABLE: Final = (InvalidEvent,)
"""The command carried values that the log cannot hold."""

FAILING: Final = (*PASSING, *UNSTORABLE, Crashed, GuardLost)
"""All that `ask` raises beside the domain's no (`Rejected`) and the end of the process (`STOPPING`)."""


class Patience:
    """Counts failures per key and answers with a pause that doubles. Only failing keys take memory."""

    def __init__(self, *, first_seconds: float = 0.1, most_seconds: float = 30.0) -> None:
        self._first_seconds, self._most_seconds = first_seconds, most_seconds
        self._failures: dict[Hashable, int] = {}

    def __len__(self) -> int:
        return len(self._failures)

    def failed(self, key: Hashable) -> float:
        """Count a failure; return the seconds to leave it alone."""
        count = self._failures[key] = self._failures.get(key, 0) + 1
        return self.seconds(count)

    def failures(self, key: Hashable) -> int:
        return self._failures.get(key, 0)

    def worked(self, key: Hashable) -> None:
        self._failures.pop(key, None)

    def seconds(self, failures: int) -> float:
        """The pause after so many failures in a row."""
        pause: float = self._first_seconds * 2 ** min(failures - 1, 20)
        return min(pause, self._most_seconds)
