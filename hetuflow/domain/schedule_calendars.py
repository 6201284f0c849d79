"""The exclusion calendars of a schedule's decision: told with the command, checked, guarded.

A schedule knows the names of its calendars. What they exclude is told with each question that needs it; a decision made
with it is committed only while the calendar still has that version, so that every nominal time after an edit is decided
under the edited calendar, and none before it.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from hetuflow.domain.commands import CalendarSnapshot
from hetuflow.domain.decider import Guard
from hetuflow.domain.excluded_times import Ahead
from hetuflow.domain.exclusion import Exclusion
from hetuflow.domain.rejection import Rejected

CALENDARS_UNKNOWN = "calendars_unknown"
MEMBER = "exclude_calendars"


def exclusion_of(calendar_ids: Sequence[str], told: Sequence[CalendarSnapshot]) -> Exclusion | None:
    """What these calendars exclude; None for none.

    Raises:
      Rejected: `calendars_unknown`, with all the `calendar_ids`, when the command does not tell of one of them.
    """
    if not calendar_ids:
        return None
    return Exclusion(tuple(each.calendar for each in _told(calendar_ids, told)))


def guards_of(calendar_ids: Sequence[str], told: Sequence[CalendarSnapshot]) -> tuple[Guard, ...]:
    return tuple(each.guard for each in _told(calendar_ids, told)) if calendar_ids else ()


def versions_of(exclusion: Exclusion | None) -> dict[str, int]:
    return {} if exclusion is None else exclusion.versions


def check_referable(calendar_ids: Sequence[str], told: Sequence[CalendarSnapshot], now: datetime) -> None:
    """Raise `Rejected` unless a schedule may begin to refer to these."""
    for snapshot in _told(calendar_ids, told) if calendar_ids else ():
        calendar_id = snapshot.calendar.calendar_id
        if not snapshot.exists:
            raise Rejected(
                "not_found",
                f"there is no calendar {calendar_id}",
                {"kind": "calendar", "id": calendar_id, "path": MEMBER},
            )
        if snapshot.sealed_until_at is not None and now < snapshot.sealed_until_at:
            message = f"calendar {calendar_id} is about to be deleted; try again"
            raise Rejected("version_conflict", message, {"kind": "calendar", "id": calendar_id})


def check_fires_at_all(ahead: Ahead) -> None:
    """Raise `Rejected` when every fire that could be found is excluded."""
    if not ahead.is_free and ahead.at is not None:
        message = f"{MEMBER}: they exclude every fire up to {ahead.at.isoformat().replace('+00:00', 'Z')}"
        raise Rejected("invalid", message, {"path": MEMBER})


def _told(calendar_ids: Sequence[str], told: Sequence[CalendarSnapshot]) -> list[CalendarSnapshot]:
    known = {each.calendar.calendar_id: each for each in told}
    if any(calendar_id not in known for calendar_id in calendar_ids):
        message = "what its calendars exclude is not told"
        raise Rejected(CALENDARS_UNKNOWN, message, {"calendar_ids": list(calendar_ids)})
    return [known[calendar_id] for calendar_id in calendar_ids]
