"""Events from outside and files: each that is told of has exactly one run."""

from __future__ import annotations

import time
import uuid
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

import trio
from attrs import define

from tests.faults.features.feature import Feature, Job
from tests.faults.verdict import Slot

EVENT_EVERY_SECONDS = 0.5
FILE_EVERY_SECONDS = 0.7
WATCHER = "agent-02"
"""Watches the files: not the agent that most faults end or cut off."""
WATCHED_SECONDS_MAX = 30.0


def told(job: str, mark: str) -> Slot:
    return Slot(job=job, schedule="told", nominal=datetime.now(UTC), mark=mark)


@define
class Events(Feature):
    name = "event"
    jobs = (Job(name="event", seconds=0.05),)

    async def create(self) -> None:
        await self.schedule(
            "event", kind="event", event_type="faults.*", event_filter={"round": self.start.isoformat()}
        )

    async def ask(self) -> None:
        async with trio.open_nursery() as nursery:
            while time.time() < self.end.timestamp():
                mark = str(uuid.uuid4())
                self.slots.append(told("event", mark))
                data = {"round": self.start.isoformat(), "mark": mark}
                nursery.start_soon(
                    self.asker.until_sure,
                    "/events",
                    {"type": "faults.told", "source": "faults", "id": mark, "data": data},
                )
                await trio.sleep(EVENT_EVERY_SECONDS)


@define
class Files(Feature):
    name = "file"
    jobs = (Job(name="file", seconds=0.05, agent=WATCHER),)

    @property
    def inbox(self) -> Path:
        return self.asker.cluster.directory / f"inbox-{self.start.timestamp():.0f}"

    async def create(self) -> None:
        self.inbox.mkdir()
        await self.schedule(
            "file", kind="event", event_type="file.created", event_filter={"path": f"{self.inbox}/*.csv"}
        )

    async def ask(self) -> None:
        if not await self._is_watched():
            return
        number = 0
        while time.time() < self.end.timestamp():
            path = self.inbox / f"{number}.csv"
            self.slots.append(told("file", str(path)))
            path.touch()
            (self.inbox / f"{number}.txt").touch()  # which nobody waits for
            number += 1
            await trio.sleep(FILE_EVERY_SECONDS)

    async def _is_watched(self) -> bool:
        """Whether the agent says so before things break; where it is late, this round has no files."""
        query = f"/events?stream=external-agent-{WATCHER}&event_type=watch.started&limit=1000"
        with trio.move_on_after(self.start.timestamp() + 1.0 - time.time()):
            while True:
                if any(
                    row["data"]["data"]["path"] == str(self.inbox) for row in (await self.asker.get(query))["result"]
                ):
                    return True
                await trio.sleep(0.1)
        return False


FEATURES: Sequence[type[Feature]] = (Events, Files)
