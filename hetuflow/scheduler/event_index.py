"""Which schedules wait for which events, as of a position of the log: a fold of what defines schedules, and its snapshot.

Every schedule for events is known, also one that is switched off; of a schedule whose kind is changed to Event it is taken
that it is enabled. So an event may be found to match too much, never too little: the schedule itself decides.

A look-up is one in a table by the event's type, and one try of each glob of types: it does not grow with the schedules.
"""

from __future__ import annotations

import json
import logging
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping
from datetime import datetime
from typing import Any, Final

from attrs import define, evolve, field

from eventstore.event import RecordedEvent
from hetuflow.domain.decider import Address
from hetuflow.domain.enums import ScheduleKind, ScheduleStatus
from hetuflow.domain.event_filter import Condition, condition, faults
from hetuflow.domain.event_types import EXTERNAL, OWN_TYPES, TypePattern
from hetuflow.domain.events import (
    JobEnabled,
    ScheduleCreated,
    ScheduleDeleted,
    ScheduleDisabled,
    ScheduleEnabled,
    ScheduleExpired,
    ScheduleSuspended,
    ScheduleUpdated,
)
from hetuflow.domain.schedule_state import matches_anew

log = logging.getLogger(__name__)

JOBS_REMEMBERED_MAX: Final = 10_000

JSON = Mapping[str, Any]


@define(slots=True)
class Waiting:
    """A schedule for events, as defined at `defined_at`; `since` is the position of that event of its stream.

    Its filter is prepared when it is asked for the first time: of very many schedules few see an event soon.
    """

    schedule_id: str
    job_id: str
    event_type: str
    event_filter: JSON | None
    defined_at: datetime
    since: int
    is_enabled: bool
    _condition: Condition | None = field(init=False, default=None, eq=False, repr=False)

    def fits(self, data: JSON) -> bool:
        if self._condition is None:
            self._condition = _prepared(self)
        return self._condition(data)

    def as_json(self) -> dict[str, Any]:
        names = ("schedule_id", "job_id", "event_type", "event_filter", "since", "is_enabled")
        return {**{name: getattr(self, name) for name in names}, "defined_at": self.defined_at.isoformat()}

    @classmethod
    def of_json(cls, found: Mapping[str, Any]) -> Waiting:
        return cls(**{**found, "defined_at": datetime.fromisoformat(found["defined_at"])})


def _prepared(waiting: Waiting) -> Condition:
    """A filter that this program cannot read fits nothing: it must not keep the events from all other schedules."""
    if faults(waiting.event_filter or {}):
        log.error("the event filter of schedule %s cannot be read: it fits nothing", waiting.schedule_id)
        return lambda data: False
    return condition(waiting.event_filter)


class EventIndex:
    """`position`: what was recorded up to it has been applied. `changes` counts what was changed by it."""

    def __init__(self, position: int = 0) -> None:
        self.position = position
        self.changes = 0
        self._waiting: dict[str, Waiting] = {}
        self._exact: dict[str, dict[str, None]] = {}
        self._globs: dict[str, tuple[TypePattern, dict[str, None]]] = {}
        self._jobs_enabled: OrderedDict[str, datetime] = OrderedDict()

    def __len__(self) -> int:
        return len(self._waiting)

    def __iter__(self) -> Iterator[Waiting]:
        return iter(self._waiting.values())

    @property
    def is_idle(self) -> bool:
        """Whether no event can match anything."""
        return not self._exact and not self._globs

    def job_enabled_at(self, job_id: str) -> datetime | None:
        """The job's last enabling among what was applied, if it is remembered."""
        return self._jobs_enabled.get(job_id)

    def waiting_for(self, event_type: str) -> Iterator[Waiting]:
        """The enabled schedules whose type fits, whatever their filter."""
        for schedule_id in self._exact.get(event_type, ()):
            yield self._waiting[schedule_id]
        for pattern, schedule_ids in self._globs.values():
            if pattern.matches(event_type):
                for schedule_id in schedule_ids:
                    yield self._waiting[schedule_id]

    # --- the fold ----------------------------------------------------------------------------------------------------

    def apply(self, event: RecordedEvent) -> None:
        """The next event of the log; one that was applied before changes nothing."""
        if event.position <= self.position:
            return
        self.position = event.position
        change = _CHANGES.get(event.type)
        if change is not None:
            change(self, event)

    def _created(self, event: RecordedEvent) -> None:
        data = json.loads(event.data)
        if data["schedule_kind"] == ScheduleKind.EVENT:
            self._put(_waiting(event, data, data["created_at"], is_enabled=data["status"] == ScheduleStatus.ENABLED))

    def _updated(self, event: RecordedEvent) -> None:
        data = json.loads(event.data)
        known = self._waiting.get(data["schedule_id"])
        if data["schedule_kind"] != ScheduleKind.EVENT:
            self._drop(data["schedule_id"])
        elif known is None or matches_anew(data["changed"]):
            self._put(_waiting(event, data, data["updated_at"], is_enabled=known is None or known.is_enabled))

    def _enabled(self, event: RecordedEvent) -> None:
        known = self._waiting.get(Address.of_stream(event.stream_id).id)
        if known is not None:
            at = datetime.fromisoformat(json.loads(event.data)["enabled_at"])
            self._put(evolve(known, is_enabled=True, defined_at=at, since=event.position))

    def _switched_off(self, event: RecordedEvent) -> None:
        known = self._waiting.get(Address.of_stream(event.stream_id).id)
        if known is not None:
            self._put(evolve(known, is_enabled=False))

    def _deleted(self, event: RecordedEvent) -> None:
        self._drop(Address.of_stream(event.stream_id).id)

    def _job_enabled(self, event: RecordedEvent) -> None:
        job_id = Address.of_stream(event.stream_id).id
        self._jobs_enabled[job_id] = datetime.fromisoformat(json.loads(event.data)["enabled_at"])
        self._jobs_enabled.move_to_end(job_id)
        if len(self._jobs_enabled) > JOBS_REMEMBERED_MAX:
            self._jobs_enabled.popitem(last=False)

    # --- the tables --------------------------------------------------------------------------------------------------

    def _put(self, waiting: Waiting) -> None:
        self._drop(waiting.schedule_id)
        self._waiting[waiting.schedule_id] = waiting
        self.changes += 1
        if not waiting.is_enabled:
            return
        pattern = TypePattern(waiting.event_type)
        if pattern.is_exact:
            self._exact.setdefault(waiting.event_type, {})[waiting.schedule_id] = None
        else:
            self._globs.setdefault(waiting.event_type, (pattern, {}))[1][waiting.schedule_id] = None

    def _drop(self, schedule_id: str) -> None:
        known = self._waiting.pop(schedule_id, None)
        if known is None:
            return
        self.changes += 1
        exact, (_, of_glob) = self._exact.get(known.event_type), self._globs.get(known.event_type, (None, {}))
        of_glob.pop(schedule_id, None)
        if not of_glob:
            self._globs.pop(known.event_type, None)
        if exact is not None:
            exact.pop(schedule_id, None)
            if not exact:
                del self._exact[known.event_type]

    # --- the snapshot ------------------------------------------------------------------------------------------------

    def as_json(self) -> dict[str, Any]:
        return {"position": self.position, "waiting": [each.as_json() for each in self]}

    @classmethod
    def of_json(cls, found: Mapping[str, Any]) -> EventIndex:
        index = cls(found["position"])
        for each in found["waiting"]:
            index._put(Waiting.of_json(each))
        index.changes = 0
        return index


def _waiting(event: RecordedEvent, data: JSON, defined_at: str, *, is_enabled: bool) -> Waiting:
    return Waiting(
        schedule_id=data["schedule_id"],
        job_id=data["job_id"],
        event_type=data["event_type"],
        event_filter=data["event_filter"],
        defined_at=datetime.fromisoformat(defined_at),
        since=event.position,
        is_enabled=is_enabled,
    )


_CHANGES: Final[Mapping[str, Callable[[EventIndex, RecordedEvent], None]]] = {
    ScheduleCreated.__name__: EventIndex._created,
    ScheduleUpdated.__name__: EventIndex._updated,
    ScheduleEnabled.__name__: EventIndex._enabled,
    ScheduleDisabled.__name__: EventIndex._switched_off,
    ScheduleSuspended.__name__: EventIndex._switched_off,
    ScheduleExpired.__name__: EventIndex._switched_off,
    ScheduleDeleted.__name__: EventIndex._deleted,
    JobEnabled.__name__: EventIndex._job_enabled,
}

DEFINING: Final = tuple(name for name in _CHANGES if name != JobEnabled.__name__)
"""The types of event that the fold is of."""


def named(event: RecordedEvent) -> tuple[str, JSON | None]:
    """The type that an event is asked for by, and its data where they had to be read for it."""
    if event.type != EXTERNAL:
        return OWN_TYPES.get(event.type, event.type), None
    received = json.loads(event.data)
    return received["type"], received["data"]
