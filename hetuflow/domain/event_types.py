"""The names by which events are asked for: `file.created` as it was sent, hetuflow's own as `task.failed`, `agent.lost`."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

from hetuflow.domain.events import EVENT_TYPES, ExternalEventReceived
from hetuflow.glob import Glob, has_wildcard

_WORD = re.compile(r"[A-Z][a-z]*")

EXTERNAL: Final = ExternalEventReceived.__name__
"""Recorded under this name is what comes from outside; its own type is a member of it."""


def _dotted(name: str) -> str:
    """`TaskRetryScheduled` -> `task.retry_scheduled`."""
    first, *rest = _WORD.findall(name)
    return f"{first.lower()}.{'_'.join(word.lower() for word in rest)}"


OWN_TYPES: Final[Mapping[str, str]] = {
    cls.__name__: _dotted(cls.__name__) for cls in EVENT_TYPES if cls is not ExternalEventReceived
}
"""Recorded name -> the name it is asked for by."""

OWN_PREFIXES: Final = ("job.", "schedule.", "task.", "agent.", "server.")
"""What nobody else may send."""

FILE_TYPES: Final = ("file.created", "file.modified", "file.deleted")
"""What agents tell of files that they watch; anybody else may tell it too."""

OBSERVED_TYPES: Final = frozenset((*FILE_TYPES, "watch.started", "watch.failed"))
"""All that an agent may say it has observed."""

RULE: Final = "1 to 128 of A-Z a-z 0-9 _ . -, with * and ? as wildcards"
PATTERN: Final = r"[A-Za-z0-9_.*?-]{1,128}"
_PATTERN = re.compile(PATTERN)


def fault_of(event_type: str) -> tuple[str, tuple[str, ...]] | None:
    """What is wrong with the `event_type` of a schedule, and the names that are known; None when nothing is."""
    if not _PATTERN.fullmatch(event_type):
        return f"must be {RULE}", ()
    if not event_type.startswith(OWN_PREFIXES):
        return None
    known = tuple(OWN_TYPES.values())
    if has_wildcard(event_type):
        glob = Glob(event_type)
        return None if any(map(glob.matches, known)) else ("matches none of hetuflow's own events", known)
    return None if event_type in known else ("is none of hetuflow's own events", known)


class TypePattern:
    """An `event_type`: an exact name, or a glob."""

    __slots__ = ("_glob", "text")

    def __init__(self, text: str) -> None:
        self.text = text
        self._glob = Glob(text) if has_wildcard(text) else None

    @property
    def is_exact(self) -> bool:
        return self._glob is None

    def matches(self, event_type: str) -> bool:
        return event_type == self.text if self._glob is None else self._glob.matches(event_type)
