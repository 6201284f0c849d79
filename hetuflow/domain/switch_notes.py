"""The note that a user gives when something is switched on or off."""

from __future__ import annotations

from hetuflow.domain.rejection import Rejected

NOTE_LENGTH_MAX = 1000


def checked_note(note: str | None) -> str | None:
    """The note as it is kept; an empty one is none.

    Raises:
      Rejected: `invalid`, it is too long.
    """
    if note is not None and len(note) > NOTE_LENGTH_MAX:
        raise Rejected("invalid", f"note: at most {NOTE_LENGTH_MAX} characters", {"path": "note"})
    return note or None
