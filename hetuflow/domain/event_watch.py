"""What agents have to watch for an Event schedule."""

from __future__ import annotations

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
    pattern = TypePattern(state.event_type or "")
    types = tuple(each for each in FILE_TYPES if pattern.matches(each))
    globs = tuple(glob for glob in globs_at(state.event_filter, PATH) if glob.startswith("/")) if types else ()
    return WatchFor(state.schedule_id, state.job_id, globs, types) if globs else None
