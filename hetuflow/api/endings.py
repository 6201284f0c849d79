"""What the log says of the end of an instance: when, and which files it left behind."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from attrs import frozen

from eventstore.store import EventStore

ENDS = ("InstanceSucceeded", "InstanceFailed", "InstanceCancelled")


@frozen(slots=True, kw_only=True)
class InstanceEnd:
    """`artifacts`: what its agent says of each file; see `hetuflow.protocol.messages.Ended`."""

    ended_at: datetime
    artifacts: Sequence[Mapping[str, Any]]

    def artifact(self, path: str) -> Mapping[str, Any] | None:
        """The file of this path, if it was collected."""
        return next((each for each in self.artifacts if each.get("path") == path and each.get("sha256")), None)


async def end_of_instance(store: EventStore, task_id: str, instance_id: str) -> InstanceEnd | None:
    """None while it has not ended."""
    found = None
    for event in await store.read_stream(f"task-{task_id}"):
        if event.type in ENDS:
            data = json.loads(event.data)
            if data.get("instance_id") == instance_id:
                found = InstanceEnd(ended_at=event.recorded_at, artifacts=data.get("artifacts") or ())
    return found
