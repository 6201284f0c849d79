"""What the decision of a fire needs from elsewhere: the job of each schedule and its calendars, read for many at once.

Which job and which calendars a schedule has is remembered; what they are is read for every question. A schedule without
calendars costs nothing here, and one that was given others since says so when it is asked.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from attrs import Factory, frozen

from hetuflow.actors import ActorSystem
from hetuflow.domain.calendar import snapshot as calendar_snapshot
from hetuflow.domain.commands import CalendarSnapshot, JobSnapshot
from hetuflow.domain.decider import Address
from hetuflow.domain.job import snapshot as job_snapshot


@frozen(slots=True)
class Around:
    """`jobs` by schedule: None when it is deleted; absent when one of the two cannot be read. `calendars` by schedule,
    of those that have some."""

    jobs: Mapping[str, JobSnapshot | None]
    calendars: Mapping[str, Sequence[CalendarSnapshot]] = Factory(dict)


class Surroundings:
    def __init__(self, system: ActorSystem) -> None:
        self._system = system
        self._jobs_of: dict[str, str] = {}
        self._calendars_of: dict[str, Sequence[str]] = {}
        self._by_events: set[str] = set()

    def job_of(self, schedule_id: str) -> str | None:
        """The id of its job, once that has been read."""
        return self._jobs_of.get(schedule_id)

    def follows_events(self, schedule_id: str) -> bool:
        """Whether its fire goes on with what an event began."""
        return schedule_id in self._by_events

    def learn_calendars(self, schedule_id: str, calendar_ids: Sequence[str]) -> None:
        """It asked for these."""
        self._calendars_of[schedule_id] = calendar_ids

    def forget(self, schedule_id: str) -> None:
        self._jobs_of.pop(schedule_id, None)
        self._calendars_of.pop(schedule_id, None)
        self._by_events.discard(schedule_id)

    async def read(self, schedule_ids: Sequence[str]) -> Around:
        """As they are now; one read of the store for many. Raises errors of the store."""
        await self._learn([schedule_id for schedule_id in schedule_ids if schedule_id not in self._jobs_of])
        job_ids = {each: self._jobs_of[each] for each in schedule_ids if each in self._jobs_of}
        calendar_ids = {each: self._calendars_of[each] for each in job_ids if each in self._calendars_of}
        addresses = [Address("job", job_id) for job_id in dict.fromkeys(job_ids.values())]
        names = dict.fromkeys(name for each in calendar_ids.values() for name in each)
        addresses += [Address("calendar", name) for name in names]
        jobs: dict[str, JobSnapshot | None] = {}
        calendars: dict[str, CalendarSnapshot] = {}
        for address, reading in (await self._system.read_many(addresses)).items():
            if address.category == "calendar":
                calendars[address.id] = calendar_snapshot(address.id, reading.state, reading.version)
            else:
                jobs[address.id] = job_snapshot(reading.state, reading.version) if reading.state.exists else None
        return Around(
            {schedule_id: jobs[job_id] for schedule_id, job_id in job_ids.items() if job_id in jobs},
            {each: [calendars[name] for name in names if name in calendars] for each, names in calendar_ids.items()},
        )

    async def _learn(self, unknown: Sequence[str]) -> None:
        if not unknown:
            return
        found = await self._system.read_many([Address("schedule", schedule_id) for schedule_id in unknown])
        for address, reading in found.items():
            if reading.version:
                self._jobs_of[address.id] = reading.state.job_id
                if reading.state.is_event:
                    self._by_events.add(address.id)
                if reading.state.exclude_calendars:
                    self._calendars_of[address.id] = reading.state.exclude_calendars
