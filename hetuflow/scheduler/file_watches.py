"""Says to each agent that is connected here which files it is to watch: those that schedules wait for whose job it may run.

The wishes of the schedules are the memory (`WatchFor`); every server has them all, and each speaks to its own agents. What an
agent was told last on its session is not said again.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Iterable
from typing import Final

import trio
from attrs import frozen

from eventstore.errors import EventStoreError
from eventstore.event import RecordedEvent
from hetuflow.actors import ActorSystem
from hetuflow.actors.patience import FAILING, STOPPING, Patience
from hetuflow.domain.config import required_labels
from hetuflow.domain.decider import Address, Available, WatchFor
from hetuflow.domain.event_watch import Watches
from hetuflow.domain.events import JobDeleted, JobUpdated
from hetuflow.domain.lines import Requirement
from hetuflow.scheduler.agenda import Agenda
from hetuflow.scheduler.alarm import Alarm

log = logging.getLogger(__name__)

GLOBS_MAX: Final = 1000
"""Told to one agent."""

_ALTERS: Final = frozenset(cls.__name__ for cls in (JobUpdated, JobDeleted))


@frozen(slots=True)
class Told:
    session: str
    watches: Watches


class FileWatches:
    """`tell(agent id, session, watches)` hands what an agent is to watch to its connection."""

    def __init__(self, system: ActorSystem, agenda: Agenda) -> None:
        self._system = system
        self._agenda = agenda
        self._wishes: dict[str, WatchFor] = {}
        self._requirements: dict[str, Requirement | None] = {}
        self._told: dict[str, Told] = {}
        self._patience = Patience(most_seconds=5.0)
        self._alarm = Alarm()
        self.tell: Callable[[str, str, Watches], None] = _nobody

    def __repr__(self) -> str:
        return f"<FileWatches: {len(self._wishes)} schedules, {len(self._told)} agents told>"

    def add(self, wish: WatchFor) -> None:
        self._wishes[wish.schedule_id] = wish
        self._alarm.ring()

    def remove(self, wish: WatchFor) -> None:
        """A newer wish of the same schedule stays."""
        if self._wishes.get(wish.schedule_id) == wish:
            del self._wishes[wish.schedule_id]
            self._alarm.ring()

    def heard(self, event: RecordedEvent) -> None:
        """An event of the log: a job's labels and pin may have changed."""
        if event.type in _ALTERS and self._requirements.pop(Address.of_stream(event.stream_id).id, None) is not None:
            self._alarm.ring()

    def look_again(self) -> None:
        """An agent has come, or is counted otherwise."""
        if self._wishes or self._told:
            self._alarm.ring()

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        task_status.started()
        pause = 0.0  # wishes may have come before
        while True:
            await self._alarm.wait(pause)
            pause = math.inf
            try:
                await self._find_out()
            except STOPPING:
                return
            except (EventStoreError, *FAILING) as problem:
                log.warning("what agents are to watch cannot be found out yet: %s", problem)
                pause = self._patience.failed(None)
            else:
                self._patience.worked(None)
                self._tell_all()

    # --- inside ------------------------------------------------------------------------------------------------------

    async def _find_out(self) -> None:
        """What the jobs require, where it is not known."""
        wanted = {wish.job_id for wish in self._wishes.values()}
        for job_id in self._requirements.keys() - wanted:
            del self._requirements[job_id]
        unknown = [Address("job", job_id) for job_id in sorted(wanted - self._requirements.keys())]
        if not unknown:
            return
        for address, reading in (await self._system.read_many(unknown)).items():
            job = reading.state
            self._requirements[address.id] = (
                Requirement(required_labels(job.config), job.agent_id or None) if job.exists else None
            )

    def _tell_all(self) -> None:
        here = dict(self._agenda.sessions_here())
        for agent_id in self._told.keys() - here.keys():
            del self._told[agent_id]
        for agent_id, session in here.items():
            agent = self._agenda.available(agent_id)
            told = self._told.get(agent_id)
            if agent is None or self._agenda.session_of(agent_id) != session:
                continue
            watches = self._of(agent)
            before = told.watches if told is not None and told.session == session else None
            if watches != before and (watches or before is not None or told is not None):
                self._told[agent_id] = Told(session, watches)
                self.tell(agent_id, session, watches)

    def _of(self, agent: Available) -> Watches:
        found: dict[str, set[str]] = {}
        for wish in self._wishes.values():
            requirement = self._requirements.get(wish.job_id)
            if requirement is not None and requirement.fits(agent.agent_id, agent.labels):
                for glob in wish.globs:
                    found.setdefault(glob, set()).update(wish.types)
        return tuple((glob, tuple(sorted(found[glob]))) for glob in _first(sorted(found), agent.agent_id))


def _first(globs: list[str], agent_id: str) -> Iterable[str]:
    if len(globs) > GLOBS_MAX:
        log.error("agent %s is told the first %d of %d globs to watch", agent_id, GLOBS_MAX, len(globs))
    return globs[:GLOBS_MAX]


def _nobody(agent_id: str, session: str, watches: Watches) -> None:
    """While there is no gateway."""
