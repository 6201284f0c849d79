"""Schedules with exclusion calendars on a running server: what is read, what is guarded, and what an edit does."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import datetime, timedelta
from random import Random
from typing import Any

import pytest
import trio

from eventstore.event import RecordedEvent
from eventstore.memory import MemoryLog
from hetuflow.domain.commands import CreateCalendar, CreateSchedule, DisableSchedule, UpdateCalendar, UpdateSchedule
from hetuflow.domain.decider import Address
from hetuflow.domain.enums import ScheduleKind
from hetuflow.history.replay import Replay
from hetuflow.scheduler.calendars import ask_schedule
from tests.domain.test_calendar_rules import instant
from tests.scheduler.harness import Server, a_server
from tests.scheduler.test_ticker import data, ignored, nominal
from tests.support.ports import TrioClock


def seconds(server: Server, low: int, high: int) -> dict[str, Any]:
    begin = server.clock.now().replace(microsecond=0)
    return {
        "periods": [{name: (begin + timedelta(seconds=at)).isoformat() for name, at in (("from", low), ("to", high))}]
    }


async def calendar(server: Server, **members: Any) -> None:
    await server.ask(Address("calendar", "c"), CreateCalendar(calendar_id="c", **members))


async def under(server: Server, schedule_id: str = "s1", **members: Any) -> None:
    job = await server.job(f"job-of-{schedule_id}")
    command = CreateSchedule(
        schedule_id=schedule_id,
        job_id=job.job_id,
        **{"schedule_kind": ScheduleKind.INTERVAL, "interval_secs": 10, **members},
        exclude_calendars=("c",),
        guards=(job.guard,),
    )
    await ask_schedule(server.core.system, schedule_id, command)


async def test_what_is_excluded_is_skipped_with_the_next_fire(autojump_clock) -> None:
    async with a_server() as server:
        await calendar(server, **seconds(server, 15, 41))
        await under(server)
        await trio.sleep(60.5)
        assert [nominal(event) for event in server.events("ScheduleFired")] == [10, 50, 60]
        [skipped] = [data(event) for event in server.events("ScheduleSkipped")]
        assert (skipped["count"], skipped["reason"], skipped["calendars"]) == (3, "calendar", {"c": 1})


async def test_an_edit_frees_what_was_excluded_from_its_instant_on(autojump_clock) -> None:
    async with a_server() as server:
        await calendar(server, **seconds(server, 15, 10_000))
        await under(server)
        await trio.sleep(35)
        await server.ask(Address("calendar", "c"), UpdateCalendar(changes={"periods": ()}))
        await trio.sleep(20.5)
        assert [nominal(event) for event in server.events("ScheduleFired")] == [10, 40, 50]
        [skipped] = [data(event) for event in server.events("ScheduleSkipped")]
        assert (skipped["count"], skipped["calendars"]) == (2, {"c": 2})
        [replanned] = server.events("ScheduleReplanned")
        [edited] = server.events("CalendarUpdated")
        assert json.loads(replanned.metadata)["causation_id"] == str(edited.event_id)


async def test_an_edit_that_excludes_holds_for_the_next_fire(autojump_clock) -> None:
    async with a_server() as server:
        await calendar(server)
        await under(server)
        await trio.sleep(25)
        await server.ask(Address("calendar", "c"), UpdateCalendar(changes=seconds(server, 1, 21)))
        await trio.sleep(30.5)
        assert [nominal(event) for event in server.events("ScheduleFired")] == [10, 20, 50]


async def test_an_edit_between_the_read_and_the_commit_is_seen(autojump_clock, monkeypatch) -> None:
    """The guard refuses the fire, and it is decided anew under the calendar as it then is."""
    async with a_server() as server:
        await calendar(server)
        await under(server)
        ticker = server.core.scheduler._ticker
        read, edits = ticker._surroundings.read, [seconds(server, 5, 15)]

        async def read_and_edit(schedule_ids):
            found = await read(schedule_ids)
            if edits:
                await server.ask(Address("calendar", "c"), UpdateCalendar(changes=edits.pop()))
            return found

        await trio.sleep(5)
        monkeypatch.setattr(server.core.reactions, "heard", ignored)
        monkeypatch.setattr(ticker._surroundings, "read", read_and_edit)
        await trio.sleep(16)
        assert not edits
        # the edit came after 10 s had come: that nominal time is judged by the calendar as it was
        assert [nominal(event) for event in server.events("ScheduleFired")] == [10, 20]
        assert [data(event)["calendars"] for event in server.events("ScheduleFired")] == [{"c": 2}, {"c": 2}]


async def test_many_schedules_of_one_calendar_read_it_once_a_chunk(autojump_clock, monkeypatch) -> None:
    async with a_server() as server:
        await calendar(server, **seconds(server, 15, 41))
        for number in range(20):
            await under(server, f"s{number}")
        asked: list[list[Address]] = []
        read_many = server.core.system.read_many

        async def counted(addresses):
            asked.append(list(addresses))
            return await read_many(addresses)

        await trio.sleep(1)
        monkeypatch.setattr(server.core.system, "read_many", counted)
        await trio.sleep(60)
        assert len(server.events("ScheduleFired")) == 60
        assert sum(address.category == "calendar" for each in asked for address in each) <= 2 * 20 + 3
        chunks = [each for each in asked if len(each) > 2]
        assert all(sum(address.category == "calendar" for address in each) <= 1 for each in chunks)


async def test_a_schedule_without_calendars_reads_none(autojump_clock, monkeypatch) -> None:
    async with a_server() as server:
        await server.schedule(await server.job(), interval_secs=10)
        asked: list[Address] = []
        read_many = server.core.system.read_many

        async def counted(addresses):
            asked.extend(addresses)
            return await read_many(addresses)

        monkeypatch.setattr(server.core.system, "read_many", counted)
        await trio.sleep(30.5)
        assert {address.category for address in asked} == {"schedule", "job"}


async def test_disabling_under_a_calendar_leaves_nothing_undecided(autojump_clock) -> None:
    async with a_server() as server:
        await calendar(server, **seconds(server, 15, 10_000))
        await under(server)
        await trio.sleep(45)
        await ask_schedule(server.core.system, "s1", DisableSchedule())
        assert [data(event)["count"] for event in server.events("ScheduleSkipped")] == [3]


async def test_a_fire_after_a_crash_between_edit_and_reaction_obeys_the_edit(autojump_clock, monkeypatch) -> None:
    log, clock = MemoryLog(), TrioClock()
    async with a_server(log=log, clock=clock) as server:
        await calendar(server)
        await under(server)
        monkeypatch.setattr(server.core.reactions, "heard", ignored)  # it dies before it reacts
        await server.ask(Address("calendar", "c"), UpdateCalendar(changes=seconds(server, 5, 15)))
    async with a_server(log=log, clock=clock, seed=2) as server:
        await trio.sleep(21)
        assert [data(event)["reason"] for event in server.events("ScheduleSkipped")] == ["calendar"]
        assert [nominal(event) for event in server.events("ScheduleFired")] == [20]


@pytest.mark.parametrize("seed", range(6))
async def test_edits_from_another_server_and_a_takeover_leave_each_time_judged_as_it_was(
    autojump_clock, seed: int
) -> None:
    """Edits at random moments from the server that stands by; the deciding one dies half way."""
    log, clock, draw = MemoryLog(), TrioClock(), Random(seed)

    async def edit_at_random(server: Server, edits: int) -> None:
        for _ in range(edits):
            await trio.sleep(draw.uniform(0.5, 11))
            low = draw.randint(-15, 20)
            changes = seconds(server, low, low + draw.randint(1, 40))
            await server.ask(Address("calendar", "c"), UpdateCalendar(changes=changes))

    async with a_server(log=log, clock=clock, server_id="server-2") as second:
        async with a_server(log=log, clock=clock) as first:
            await calendar(first)
            for number in range(3):
                await under(first, f"s{number}", interval_secs=5, misfire_policy="fire_all")
            await edit_at_random(second, 8)
        await edit_at_random(second, 8)
        await trio.sleep(60)
        now = clock.now()
    editions = [
        (datetime.fromisoformat(data(event).get("updated_at", data(event).get("created_at"))), data(event)["periods"])
        for event in log.events
        if event.type in ("CalendarCreated", "CalendarUpdated")
    ]
    for number in range(3):
        judge([event for event in log.events if event.stream_id == f"schedule-s{number}"], editions, now)


def judge(stream: Sequence[RecordedEvent], editions: Sequence[tuple[datetime, Any]], now: datetime) -> None:
    """Every nominal time up to now is decided once, in order, and as the calendar said at that time."""

    def is_excluded(at: datetime) -> bool:
        periods = [each for since, each in editions if since < at][-1]
        return any(instant(each["from"]) <= at < instant(each["to"]) for each in periods)

    created = data(stream[0])
    at, step, fired = instant(created["anchor_at"]), timedelta(seconds=created["interval_secs"]), 0
    for event in stream:
        told = data(event)
        if event.type == "ScheduleFired":
            at += step
            fired += 1
            assert instant(told["nominal_at"]) == at and not is_excluded(at)
        elif event.type == "ScheduleSkipped":
            assert told["reason"] == "calendar" and instant(told["first_nominal_at"]) == at + step
            for _ in range(told["count"]):
                at += step
                assert is_excluded(at)
            assert instant(told["last_nominal_at"]) == at
    while (at := at + step) <= now - step:
        assert is_excluded(at), f"{at} is not decided"
    assert fired > 3


async def test_decisions_under_calendars_are_taken_again_the_same_from_the_log(autojump_clock) -> None:
    """What a calendar excluded is not written with each command: its version is, and replay looks it up."""
    async with a_server() as server:
        await calendar(server, **seconds(server, 15, 41), description="x" * 3000)
        await under(server)
        await trio.sleep(30)
        await server.ask(Address("calendar", "c"), UpdateCalendar(changes={"periods": (), "dates": ("2026-01-07",)}))
        await trio.sleep(30.5)
        await ask_schedule(server.core.system, "s1", UpdateSchedule(changes={"interval_secs": 7}))
        events = list(server.store.log.events)
    fires = [event for event in events if event.type == "ScheduleFired"]
    commands = [json.loads(event.metadata).get("command", {}) for event in events if event.stream_id == "schedule-s1"]
    told = [each["data"]["calendars"] for each in commands if "calendars" in each.get("data", {})]
    assert (
        len(fires) > 3 and [{"calendar_id": "c", "version": 1}] in told and [{"calendar_id": "c", "version": 2}] in told
    )

    async def load(stream_id: str, position: int) -> list[RecordedEvent]:
        return [event for event in events if event.stream_id == stream_id and event.position <= position]

    replay = Replay(load, states_max=2)
    await replay.check(events)
    assert replay.tally.differences == [] and replay.tally.same > 5
