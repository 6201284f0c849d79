"""What agents have to watch for an Event schedule."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hetuflow.domain.decider import WatchFor
from hetuflow.domain.event_filter import globs_at
from hetuflow.domain.event_types import FILE_TYPES, TypePattern
from hetuflow.domain.schedule_state import ScheduleState

PATH = "path"

Watches = tuple[tuple[str, tuple[str, ...]], ...]
"""What one agent is to watch: (glob, types of event), sorted."""


def file_watch_of(state: ScheduleState) -> WatchFor | None:
    """The files that an enabled schedule waits for; None when its type is of no file, or its filter names no paths.

    Which agents have them nobody knows: those that may run its job are asked. A path that is not absolute means nothing to
    an agent: who sends such events does so himself.
    """
    types, globs = watched(state.event_type, state.event_filter)
    return WatchFor(state.schedule_id, state.job_id, globs, types) if globs else None


def watched(event_type: str | None, event_filter: Mapping[str, Any] | None) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The types of file events that are asked for, and the globs of the files to watch for them. Types without globs: only
    who sends such events starts the schedule.
    """
    pattern = TypePattern(event_type or "")
    types = tuple(each for each in FILE_TYPES if pattern.matches(each))
    return types, tuple(glob for glob in globs_at(event_filter, PATH) if glob.startswith("/")) if types else ()
