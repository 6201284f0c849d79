"""Event schedules, obeyed: each matching event makes one task, whoever crashes when, and whichever server decides."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import timedelta
from typing import Any

import pytest
import trio

from eventstore.errors import StoreTimeout, StoreUnavailable
from eventstore.event import Claim, RecordedEvent
from eventstore.memory import MemoryLog, NoFaults
from hetuflow.actors.catalogue import event_codec
from hetuflow.domain.commands import (
    DeleteJob,
    DisableJob,
    DisableSchedule,
    EnableJob,
    EnableSchedule,
    ReceiveEvent,
    UpdateSchedule,
)
from hetuflow.domain.decider import Address
from hetuflow.domain.enums import ScheduleKind
from hetuflow.domain.events import ExternalEventReceived
from hetuflow.protocol.messages import Dispatch
from hetuflow.scheduler.event_cursor import CURSOR, INDEX, SCHEMA
from tests.gateway.scripted import ScriptedAgent
from tests.scheduler.harness import Server, a_server, data
from tests.support.ports import SeededRandom, TrioClock

SETTLED = 1.5
"""Longer than the cursor waits before it is kept."""


async def send(server: Server, id_: str, type_: str = "file.created", **content: Any) -> int:
    command = ReceiveEvent(
        id=id_, source="test", type=type_, data=content, time=server.clock.now(), digest=id_, known_until=10**9
    )
    return (await server.ask(Address("external", "test"), command)).position


async def waits(server: Server, schedule_id: str = "s1", job: str = "job-1", **members: Any) -> None:
    wanted = {"schedule_kind": ScheduleKind.EVENT, "interval_secs": None, "event_type": "file.*", **members}
    await server.schedule(await server.job(job), schedule_id, **wanted)


def made(server: Server, schedule_id: str | None = None) -> list[dict[str, Any]]:
    tasks = [data(event) for event in server.events("TaskCreated")]
    return [task for task in tasks if schedule_id in (None, task["schedule_id"])]


def decided(server: Server, schedule_id: str = "s1") -> list[str]:
    found = server.events("ScheduleFired", "ScheduleSkipped", stream=f"schedule-{schedule_id}")
    return [data(event).get("reason", "fired") for event in found]


def conversation(event: RecordedEvent) -> str:
    return str(json.loads(event.metadata)["correlation_id"])


async def test_a_matching_event_makes_one_task_and_is_its_cause(autojump_clock) -> None:
    async with a_server() as server:
        await send(server, "before", path="/in/x.csv")
        await waits(server, event_filter={"path": "/in/*.csv"}, parameters={"mode": "fast"})
        for id_, path in (("a", "/in/a.csv"), ("b", "/in/deep/b.csv"), ("c", "/in/c.csv")):
            await send(server, id_, path=path)
        await send(server, "d", "mail.received", path="/in/d.csv")
        await trio.sleep(0.1)
        assert [task["parameters"] for task in made(server)] == [
            {"mode": "fast", "path": "/in/a.csv"},
            {"mode": "fast", "path": "/in/c.csv"},
        ]
        received = {data(event)["id"]: event for event in server.events("ExternalEventReceived")}
        [first, _] = server.events("TaskCreated")
        metadata = json.loads(first.metadata)
        assert metadata["causation_id"] == str(received["a"].event_id)
        assert metadata["correlation_id"] == json.loads(received["a"].metadata)["correlation_id"]
        assert data(first)["event"]["position"] == received["a"].position
        assert (data(first)["trigger"], data(first)["schedule_kind"]) == ("event", 4)


async def test_a_task_is_dispatched_with_its_creation(autojump_clock) -> None:
    async with a_server() as server, trio.open_nursery() as nursery:
        agent = ScriptedAgent(server.core.gateway.serve_connection, nursery)
        await agent.connect()
        await waits(server)
        await send(server, "a", path="/x")
        order = await agent.expect(Dispatch)
        assert order.environment["HETUFLOW_PARAM_PATH"] == "/x"
        assert server.history(order.task_id)[:3] == ["TaskCreated", "TaskLocked", "TaskDispatched"]
        nursery.cancel_scope.cancel()


async def test_what_happens_while_no_server_runs_is_decided_by_the_next(autojump_clock) -> None:
    log, clock = MemoryLog(), TrioClock()
    async with a_server(log=log, clock=clock) as server:
        await waits(server)
        await send(server, "a")
        await trio.sleep(SETTLED)
        assert log.snapshots[(CURSOR, SCHEMA)].version >= len(server.events()) - 2
    for id_ in ("b", "c"):
        received = ExternalEventReceived(
            id=id_, source="test", type="file.created", data={}, time=clock.now(), digest=""
        )
        new = event_codec().encode(received, received.recorded_id, {})
        log.commit([Claim("external-test", log.version("external-test"), [new])], clock.now())
    async with a_server(log=log, clock=clock, seed=3) as server:
        await trio.sleep(0.2)
        assert decided(server) == ["fired"] * 3
        assert len({task["task_id"] for task in made(server)}) == len(made(server)) == 3


async def test_without_what_is_kept_everything_is_found_out_again(autojump_clock) -> None:
    log, clock = MemoryLog(), TrioClock()
    async with a_server(log=log, clock=clock) as server:
        await waits(server)
        await send(server, "a")
        await trio.sleep(SETTLED)
    for lost in (CURSOR, INDEX):
        log.snapshots.pop((lost, SCHEMA), None)
        async with a_server(log=log, clock=clock, seed=hash(lost) % 1000) as server:
            await send(server, f"after-{lost}")
            await trio.sleep(SETTLED)
    assert decided(server) == ["fired"] * 3


@pytest.mark.parametrize("answered", [True, False], ids=["committed", "lost"])
async def test_a_crash_between_event_and_task_loses_and_doubles_nothing(autojump_clock, answered: bool) -> None:
    log, clock = MemoryLog(), TrioClock()
    async with a_server(log=log, clock=clock) as server:
        await waits(server)
        await trio.sleep(SETTLED)
    async with a_server(log=log, clock=clock, seed=2, hooks=CrashOnFire(answered)) as server:
        await send(server, "a")
        await trio.sleep(0.5)
        assert decided(server) == ["fired"] * answered
    async with a_server(log=log, clock=clock, seed=3) as server:
        await trio.sleep(0.5)
        assert decided(server) == ["fired"] and len(made(server)) == 1


class CrashOnFire(NoFaults):
    """The process dies when a fire is appended: before it is written, or before the answer is heard."""

    def __init__(self, is_written: bool) -> None:
        self._is_written = is_written

    async def before_commit(self, claims: Sequence[Claim]) -> None:
        if not self._is_written and _fires(claims):
            await trio.sleep_forever()

    async def after_commit(self, claims: Sequence[Claim], appended: object) -> None:
        if self._is_written and _fires(claims):
            await trio.sleep_forever()


def _fires(claims: Sequence[Claim]) -> bool:
    return any(event.type == "ScheduleFired" for claim in claims for event in claim.events)


async def test_the_server_that_takes_over_goes_on_and_repeats_nothing(autojump_clock) -> None:
    log, clock = MemoryLog(), TrioClock()
    async with a_server(log=log, clock=clock, server_id="server-2") as other:
        async with a_server(log=log, clock=clock) as first:
            await waits(first)
            await send(first, "a")
            await trio.sleep(0.1)
        # the one that stood by, or decided from the beginning, goes on
        await trio.sleep(15)
        await send(other, "b")
        await trio.sleep(SETTLED)
        assert decided(other) == ["fired", "fired"]
        async with a_server(log=log, clock=clock, server_id="server-3") as third:
            await waits(third, "s2", "job-2")  # by a server that does not decide
            await send(third, "c")
            await trio.sleep(0.5)
            assert decided(third) == ["fired"] * 3 and decided(third, "s2") == ["fired"]


async def test_many_events_for_many_schedules_are_each_one_task(autojump_clock) -> None:
    log, clock = MemoryLog(), TrioClock()
    async with a_server(log=log, clock=clock) as server:
        for n in range(5):
            await waits(server, f"s{n}", f"job-{n}", event_type="file.*" if n % 2 else "file.created")
        for n in range(30):
            await send(server, f"e{n}")
        await trio.sleep(1)
        for n in range(5):
            assert len(made(server, f"s{n}")) == 30
            order = [data(event)["event_position"] for event in server.events("ScheduleFired", stream=f"schedule-s{n}")]
            assert order == sorted(order)
        assert server.core.scheduler.events.matched == 150


async def test_only_events_after_an_enabling_an_edit_or_a_creation(autojump_clock) -> None:
    async with a_server() as server:
        await waits(server)
        schedule = Address("schedule", "s1")
        await server.ask(schedule, DisableSchedule())
        await send(server, "while-off")
        await server.ask(schedule, EnableSchedule())
        await send(server, "while-on")
        await trio.sleep(0.1)
        await server.ask(schedule, UpdateSchedule(changes={"event_type": "mail.*"}))
        await send(server, "of-another-type")
        await send(server, "mail", "mail.received")
        await trio.sleep(0.1)
        assert [data(event)["event_id"] for event in server.events("ScheduleFired")] == [
            str(event.event_id)
            for event in server.events("ExternalEventReceived")
            if data(event)["id"] in ("while-on", "mail")
        ]


async def test_a_schedule_may_become_one_for_events_and_cease_to_be(autojump_clock) -> None:
    async with a_server() as server:
        await server.schedule(await server.job())
        schedule = Address("schedule", "s1")
        await server.ask(schedule, UpdateSchedule(changes={"schedule_kind": 4, "event_type": "x"}))
        await send(server, "a", "x")
        await trio.sleep(0.1)
        assert decided(server) == ["fired"]
        await server.ask(schedule, UpdateSchedule(changes={"schedule_kind": 2}))
        await send(server, "b", "x")
        await trio.sleep(0.1)
        assert decided(server) == ["fired"]


async def test_a_job_that_is_switched_off_skips_and_one_that_is_on_again_does_not(autojump_clock) -> None:
    clock = TrioClock()
    async with a_server(clock=clock) as server:
        await waits(server)
        await server.ask(Address("job", "job-1"), DisableJob())
        await send(server, "a")
        await trio.sleep(0.1)
        await server.ask(Address("job", "job-1"), EnableJob())
        await send(server, "b")  # at the very instant of the enabling
        await trio.sleep(0.1)
        assert decided(server) == ["job_disabled", "fired"]


async def test_a_deleted_job_takes_its_schedule_along(autojump_clock) -> None:
    async with a_server() as server:
        await waits(server)
        await server.ask(Address("job", "job-1"), DeleteJob())
        await send(server, "a")
        await trio.sleep(1)
        assert not made(server) and len(server.events("ScheduleDeleted")) == 1


async def test_a_debounced_task_survives_a_restart(autojump_clock) -> None:
    log, clock = MemoryLog(), TrioClock()
    async with a_server(log=log, clock=clock) as server:
        await waits(server, debounce_seconds=10)
        await send(server, "a", n=1)
        await trio.sleep(4)
        await send(server, "b", n=2)
        await trio.sleep(4)
    async with a_server(log=log, clock=clock, seed=2) as server:
        await trio.sleep(5.9)
        assert decided(server) == ["debounced"]
        await trio.sleep(0.2)
        assert decided(server) == ["debounced", "fired"]
        assert made(server)[0]["parameters"] == {"n": 2, "event_count": 2}
        [held] = [event for event in server.events("ScheduleEventHeld") if data(event)["count"] == 2]
        [fired] = server.events("ScheduleFired")
        assert conversation(fired) == conversation(held)


async def test_it_expires_after_its_window(autojump_clock) -> None:
    clock = TrioClock()
    async with a_server(clock=clock) as server:
        await waits(server, end_time=clock.now() + timedelta(seconds=5))
        await trio.sleep(7)
        assert len(server.events("ScheduleExpired")) == 1


# --- chains of own events --------------------------------------------------------------------------------------------


async def test_own_events_start_chains_of_jobs(autojump_clock) -> None:
    async with a_server() as server, trio.open_nursery() as nursery:
        agent = ScriptedAgent(server.core.gateway.serve_connection, nursery)
        await agent.connect()
        job = await server.job("first", max_retries=0)
        await waits(server, event_type="task.failed", event_filter={"job_id": "first"})
        await server.task(job)
        order = await agent.expect(Dispatch)
        await agent.say(agent.started(order), agent.ended(order, reason="exit_code"))
        follows = await agent.expect(Dispatch)
        assert follows.environment["HETUFLOW_PARAM_TASK_ID"] == "t1"
        assert follows.environment["HETUFLOW_EVENT_TYPE"] == "task.failed"
        nursery.cancel_scope.cancel()


async def test_a_schedule_does_not_match_what_itself_or_its_tasks_do(autojump_clock) -> None:
    async with a_server() as server:
        await waits(server, event_type="*")
        await send(server, "a")
        await trio.sleep(2)
        assert len([task for task in made(server) if task["event"]["type"] == "file.created"]) == 1
        assert len(made(server)) < 10


async def test_two_that_start_each_other_are_cut(autojump_clock, caplog) -> None:
    async with a_server() as server:
        await waits(server, "s1", "job-1", event_type="task.created")
        await waits(server, "s2", "job-2", event_type="task.created")
        await server.task(await server.job("job-3"))
        await trio.sleep(5)
        reasons = decided(server, "s1") + decided(server, "s2")
        assert set(reasons) == {"fired", "loop_guard"}
        assert max(task["event"]["depth"] for task in made(server) if task["event"]) == 8
        assert reasons.count("loop_guard") == 2
        assert sum("start each other" in record.message for record in caplog.records) == 2


# --- anything may fail -------------------------------------------------------------------------------------------------


class Moody(NoFaults):
    """Appends are lost, answers are lost, reads fail: by a seeded coin."""

    def __init__(self, random: SeededRandom) -> None:
        self._random = random
        self.is_on = True

    async def before_commit(self, claims: Sequence[Claim]) -> None:
        await self._perhaps(StoreUnavailable)

    async def after_commit(self, claims: Sequence[Claim], appended: object) -> None:
        await self._perhaps(StoreTimeout)

    async def before_read(self, what: str) -> None:
        if what != "beat":
            await self._perhaps(StoreUnavailable)

    async def _perhaps(self, error: type[Exception]) -> None:
        await trio.sleep(self._random.uniform(0, 0.02))
        if self.is_on and self._random.uniform(0, 1) < 0.15:
            raise error("a bad moment")


@pytest.mark.parametrize("seed", range(12))
async def test_whatever_fails_each_event_is_decided_once(autojump_clock, seed: int) -> None:
    log, clock, random = MemoryLog(), TrioClock(), SeededRandom(seed)
    async with a_server(log=log, clock=clock) as server:
        await waits(server, "s1", "job-1")
        await waits(server, "s2", "job-2", event_type="*", event_filter={"n": {"$lt": 20}}, debounce_seconds=seed % 3)
        await waits(server, "s3", "job-3", overlap_policy="queue")
    sent = 0
    for life in range(4):
        hooks = Moody(random)
        others = f"server-{life % 2 + 1}"
        async with a_server(log=log, clock=clock, seed=life + 2, hooks=hooks, server_id=others):
            for _ in range(6):
                received = ExternalEventReceived(
                    id=str(sent), source="test", type="file.created", data={"n": sent}, time=clock.now(), digest=""
                )
                new = event_codec().encode(received, received.recorded_id, {})
                log.commit([Claim("external-test", log.version("external-test"), [new])], clock.now())
                sent += 1
                await trio.sleep(random.uniform(0, 0.6))
    async with a_server(log=log, clock=clock, seed=99, server_lost_seconds=10) as server:
        await trio.sleep(60)
        for schedule_id, expected in (("s1", sent), ("s2", 20), ("s3", sent)):
            found = server.events("ScheduleFired", "ScheduleSkipped", stream=f"schedule-{schedule_id}")
            ids = [data(event)["event_id"] for event in found]
            assert len(ids) == len(set(ids)) == expected, schedule_id
            fired = [data(event)["task_id"] for event in found if event.type == "ScheduleFired"]
            assert sorted(fired) == sorted(task["task_id"] for task in made(server, schedule_id))
            positions = [data(event)["event_position"] for event in found]
            assert positions == sorted(positions)
