"""What everybody can see of a daemon: its open tasks, from the events alone."""

from __future__ import annotations

import json
from collections.abc import Iterable

from eventstore.event import RecordedEvent

ENDS = frozenset({"TaskSucceeded", "TaskFailed", "TaskCancelled"})


def most_open(events: Iterable[RecordedEvent], schedule_id: str) -> int:
    """The most tasks of the daemon that were open at once, at any position of the log."""
    open_ids: set[str] = set()
    most = 0
    for event in events:
        task_id = event.stream_id.partition("-")[2]
        if event.type == "TaskCreated":
            data = json.loads(event.data)
            if data["trigger"] == "daemon" and data["schedule_id"] == schedule_id:
                open_ids.add(task_id)
        elif event.type == "TaskReopened" and json.loads(event.data)["task_id"] in open_ids:
            raise AssertionError("a task of a daemon was opened again")
        elif event.type in ENDS:
            open_ids.discard(task_id)
        most = max(most, len(open_ids))
    return most
