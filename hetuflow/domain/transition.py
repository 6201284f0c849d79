"""An event that cannot follow is a defect, never an answer.

Every lifecycle is a table (status -> event type -> status); each `evolve` looks its event up there before it changes
anything. The log must always fold: an event that the table does not allow is never appended, because the kernel evolves
before it appends.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from enum import IntEnum
from typing import Any

from hetuflow.domain.events import Event
from hetuflow.domain.rejection import Rejected


class IllegalTransition(Exception):
    """The event cannot follow in this state."""

    def __init__(self, subject: str, status: IntEnum | str | None, event: type[Event], why: str = "") -> None:
        self.subject, self.status, self.event, self.why = subject, status, event, why
        named = status.name if isinstance(status, IntEnum) else status or "ABSENT"
        super().__init__(f"{subject} in {named} cannot take {event.__name__}{': ' if why else ''}{why}")


def changed_members(current: object, wanted: Mapping[str, Any], editable: Sequence[str]) -> tuple[str, ...]:
    """Return the names in `wanted` whose value differs from that attribute of `current`, in the order of `editable`.

    Raises:
      Rejected: `invalid`, a member that cannot be changed.
    """
    for name in wanted:
        if name not in editable:
            raise Rejected("invalid", f"{name} cannot be changed", {"path": name})
    return tuple(name for name in editable if name in wanted and wanted[name] != getattr(current, name))
