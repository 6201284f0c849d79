"""Daemons over a whole core: kept running, moved, stopped and replaced, whatever crashes in between."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Sequence
from datetime import timedelta
from typing import Any

import pytest
import trio

from eventstore.event import RecordedEvent
from eventstore.memory import MemoryLog
from hetuflow.domain.commands import (
    CancelTask,
    DeleteJob,
    DeleteSchedule,
    DisableJob,
    DisableSchedule,
    EnableJob,
    EnableSchedule,
    RetryTask,
    SealJob,
    UpdateJob,
    UpdateSchedule,
)
from hetuflow.domain.decider import Address
from hetuflow.domain.enums import ScheduleKind
from hetuflow.domain.rejection import Rejected
from hetuflow.ports.network import ConnectionLost
from hetuflow.protocol.messages import Dispatch, Stop
from tests.gateway.scripted import ScriptedAgent
from tests.scheduler.harness import Server, a_server, data, seconds
from tests.scheduler.hooks import LostAnswers, Outage
from tests.support.daemons import most_open
from tests.support.ports import TrioClock

SCHEDULE = Address("schedule", "s1")
JOB = Address("job", "job-1")


class Programs:
    """An agent whose programs run until they are stopped, or until the test says how they end."""

    def __init__(self, server: Server, nursery: trio.Nursery, agent_id: str = "agent-1") -> None:
        self.agent = ScriptedAgent(server.core.gateway.serve_connection, nursery, agent_id)
        self.running: dict[str, Dispatch] = {}
        self.stops = True

    async def run(self, *, task_status: trio.TaskStatus[None], **hello: Any) -> None:
        await self.agent.connect(lost_after_seconds=20.0, **hello)
        task_status.started()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._beat)
            with contextlib.suppress(ConnectionLost):
                while True:
                    await self._heed(self.agent.told.pop(0) if self.agent.told else None)
            nursery.cancel_scope.cancel()

    async def _beat(self) -> None:
        with contextlib.suppress(ConnectionLost):
            for sequence in itertools.count(1):
                await trio.sleep(4)
                await self.agent.heartbeat(sequence)

    async def _heed(self, message: object) -> None:
        if isinstance(message, Dispatch):
            self.running[message.task_id] = message
            await self.agent.say(self.agent.started(message))
        elif isinstance(message, Stop) and self.stops:
            for order in [each for each in self.running.values() if each.instance_id == message.instance_id]:
                await self.end(order.task_id, "cancelled", signal=15)
        elif message is None:
            self.agent.told += self.agent.protocol.receive(await self.agent.stream.receive())

    async def end(self, task_id: str, reason: str | None = "exit_code", **members: Any) -> None:
        order = self.running.pop(task_id)
        await self.agent.say(self.agent.ended(order, reason, **members))


def started(server: Server) -> list[dict[str, Any]]:
    return [data(event) for event in server.events("SeatStarted")]


def starts_of(server: Server, seat: int) -> list[float]:
    """When the seat was filled, since the beginning of time."""
    return seconds([event for event in server.events("SeatStarted") if data(event)["seat"] == seat])


def of(server: Server, type_: str, member: str) -> list[Any]:
    return [data(event)[member] for event in server.events(type_)]


async def a_daemon(server: Server, instances: int = 1, retry_interval: int = 10, **daemon: Any) -> None:
    job = await server.job(retry_interval=retry_interval)
    await server.schedule(
        job, schedule_kind=ScheduleKind.DAEMON, interval_secs=None, daemon={"instances": instances, **daemon}
    )


async def programs(server: Server, nursery: trio.Nursery, agent_id: str = "agent-1", **hello: Any) -> Programs:
    found = Programs(server, nursery, agent_id)

    async def run(*, task_status: trio.TaskStatus[None]) -> None:
        await found.run(task_status=task_status, **hello)

    await nursery.start(run)
    return found


def events_of(log: MemoryLog, *types: str) -> list[RecordedEvent]:
    return [event for event in log.events if event.type in types]


# --- kept running ------------------------------------------------------------------------------------------------------


async def test_every_seat_is_filled_at_once_and_each_program_knows_its_seat(autojump_clock) -> None:
    async with a_server() as server, trio.open_nursery() as nursery:
        agent = await programs(server, nursery)
        await a_daemon(server, 3)
        await trio.sleep(1)
        assert {order.environment["HETUFLOW_SEAT"] for order in agent.running.values()} == {"0", "1", "2"}
        assert [each["seat"] for each in started(server)] == [0, 1, 2]
        assert {order.timeout_seconds for order in agent.running.values()} == {0}
        assert most_open(server.store.log.events, "s1") == 3
        nursery.cancel_scope.cancel()


async def test_what_ends_starts_again_after_a_back_off_that_grows_only_by_failures(autojump_clock) -> None:
    async with a_server() as server, trio.open_nursery() as nursery:
        agent = await programs(server, nursery)
        await a_daemon(server, retry_interval=10, backoff_factor=3, backoff_max_seconds=80)
        ends = []
        for reason in ("exit_code", "exit_code", "signal", "exit_code", None, "exit_code"):
            while not agent.running:  # noqa: ASYNC110
                await trio.sleep(0.05)
            ends.append((server.clock.now() - server.store.log.events[0].recorded_at).total_seconds())
            await agent.end(next(iter(agent.running)), reason)
        await trio.sleep(20)
        waits = [b - a for a, b in zip(ends, starts_of(server, 0)[1:], strict=True)]
        assert waits == pytest.approx([10, 30, 80, 80, 10, 10], abs=0.05)
        assert of(server, "SeatEnded", "failures") == [1, 2, 3, 4, 0, 1]
        nursery.cancel_scope.cancel()


async def test_a_daemon_that_is_gone_before_its_turn_is_left_alone(autojump_clock) -> None:
    """It is taken for its turn in one step of the loop, and its turn begins in a later one."""
    async with a_server() as server, trio.open_nursery() as nursery:
        await programs(server, nursery)
        await a_daemon(server)
        await trio.sleep(1)
        daemons = server.core.scheduler.daemons
        [wish] = daemons._wishes.values()
        daemons._ask_soon(wish.schedule_id)
        daemons._in_hand.add(wish.schedule_id)
        daemons._asking += 1
        daemons.remove(wish)
        await daemons._tend(wish.schedule_id)
        assert daemons._asking == 0 and not daemons._in_hand and not daemons._to_ask
        nursery.cancel_scope.cancel()


async def test_what_is_due_by_a_wrong_clock_is_waited_for_without_haste(autojump_clock, monkeypatch) -> None:
    """While the clock is wrong nothing is started, and the seat that is due does not keep the processor busy."""
    clock = TrioClock()
    async with a_server(clock=clock, store_now=clock.another().now) as server, trio.open_nursery() as nursery:
        agent = await programs(server, nursery)
        await a_daemon(server, retry_interval=10)
        await trio.sleep(1)
        await agent.end(next(iter(agent.running)))
        await trio.sleep(1)
        alarm = server.core.scheduler.daemons._alarm
        wait, waits = alarm.wait, itertools.count()

        async def counted(seconds: float) -> None:
            assert next(waits) < 200, "it does nothing but look"
            await wait(seconds)

        monkeypatch.setattr(alarm, "wait", counted)
        clock.step(3600)
        await trio.sleep(60)
        assert not agent.running
        clock.step(-3600)
        await trio.sleep(10)
        assert len(agent.running) == 1
        nursery.cancel_scope.cancel()


async def test_a_run_that_lived_long_enough_starts_over_with_the_first_delay(autojump_clock) -> None:
    async with a_server() as server, trio.open_nursery() as nursery:
        agent = await programs(server, nursery)
        await a_daemon(server, retry_interval=5, healthy_after_seconds=1)
        await trio.sleep(1)
        for _ in range(3):
            (task_id,) = agent.running
            order = agent.running.pop(task_id)
            end = agent.agent.ended(order, "exit_code", exit_code=1)  # started at 08:00:01, ended at 08:00:02
            await agent.agent.say(end)
            await trio.sleep(5.5)
        assert of(server, "SeatEnded", "failures") == [0, 0, 0]
        assert of(server, "SeatEnded", "lived_seconds") == [1, 1, 1]
        nursery.cancel_scope.cancel()


async def test_a_user_s_cancel_is_an_end_like_any_other(autojump_clock) -> None:
    async with a_server() as server, trio.open_nursery() as nursery:
        agent = await programs(server, nursery)
        await a_daemon(server, retry_interval=5)
        await trio.sleep(1)
        (first,) = agent.running
        await server.ask(Address("task", first), CancelTask())
        await trio.sleep(6)
        assert of(server, "SeatEnded", "outcome") == ["cancelled"]
        assert list(agent.running) != [first] and len(agent.running) == 1
        with pytest.raises(Rejected, match="the daemon starts the next one"):
            await server.ask(Address("task", first), RetryTask())
        nursery.cancel_scope.cancel()


async def test_a_program_that_ends_at_once_is_not_started_more_than_once_a_second(autojump_clock) -> None:
    async with a_server() as server, trio.open_nursery() as nursery:
        agent = ScriptedAgent(server.core.gateway.serve_connection, nursery)
        await agent.connect()
        nursery.start_soon(agent.run)
        await a_daemon(server, retry_interval=0)
        await trio.sleep(10.5)
        at = starts_of(server, 0)
        assert len(at) == 11 and all(b - a >= 1 for a, b in itertools.pairwise(at))
        nursery.cancel_scope.cancel()


async def test_too_many_restarts_disable_it_and_the_log_says_why(autojump_clock) -> None:
    async with a_server() as server, trio.open_nursery() as nursery:
        agent = await programs(server, nursery)
        await a_daemon(server, 2, retry_interval=1, backoff_factor=1, restart_limit=3, restart_window_seconds=60)
        for _ in range(6):
            await trio.sleep(1.5)
            for order in list(agent.running.values()):
                if order.environment["HETUFLOW_SEAT"] == "1":
                    await agent.end(order.task_id)
        (gave_up,) = [data(event) for event in server.events("DaemonGaveUp")]
        assert (gave_up["restarts"], gave_up["limit"], gave_up["seat"]) == (4, 3, 1)
        assert of(server, "SeatsStopping", "cause") == ["gave_up"] and not agent.running
        assert len(server.events("DaemonStopped")) == 1
        await server.ask(SCHEDULE, EnableSchedule())
        await trio.sleep(1)
        assert len(agent.running) == 2, "enabled again, nothing of the past counts"
        nursery.cancel_scope.cancel()


# --- another agent -----------------------------------------------------------------------------------------------------


async def test_it_moves_to_another_agent_when_its_agent_is_lost(autojump_clock) -> None:
    async with a_server() as server, trio.open_nursery() as nursery:
        first = await programs(server, nursery, "agent-1")
        await a_daemon(server, retry_interval=600)
        await trio.sleep(1)
        assert len(first.running) == 1
        await first.agent.drop()
        second = await programs(server, nursery, "agent-2")
        await trio.sleep(40)
        assert len(second.running) == 1, "without waiting for the back-off: it is not the program's fault"
        assert [each["why"] for each in started(server)] == ["started", "moved"]
        assert of(server, "SeatEnded", "reason") == ["lost"]
        assert of(server, "SeatEnded", "is_counted") == [False]
        assert most_open(server.store.log.events, "s1") == 1
        nursery.cancel_scope.cancel()


async def test_what_starts_again_goes_where_no_other_instance_runs(autojump_clock) -> None:
    async with a_server() as server, trio.open_nursery() as nursery:
        first = await programs(server, nursery, "agent-1", slots=10)
        await a_daemon(server, 2, retry_interval=1)
        await trio.sleep(1)
        assert len(first.running) == 2
        second = await programs(server, nursery, "agent-2", slots=2)
        other = await server.job("job-2")
        await server.task(other, "t1")  # on the agent without load
        await trio.sleep(1)
        assert list(second.running) == ["t1"]
        await first.end(next(iter(first.running)))
        await trio.sleep(2)
        assert len(first.running) == 1 and len(second.running) == 2, "although it is the fuller one"
        nursery.cancel_scope.cancel()


# --- switched off ------------------------------------------------------------------------------------------------------


async def test_a_disabled_daemon_stops_and_an_enabled_one_starts(autojump_clock) -> None:
    async with a_server() as server, trio.open_nursery() as nursery:
        agent = await programs(server, nursery)
        await a_daemon(server, 2)
        await trio.sleep(1)
        await server.ask(SCHEDULE, DisableSchedule())
        await trio.sleep(1)
        assert not agent.running
        cancelled = [data(event) for event in server.events("TaskCancelled")]
        assert [(each["cause"], each["reason"]) for each in cancelled] == [("daemon", "its schedule was disabled")] * 2
        assert len(server.events("DaemonStopped")) == 1
        await trio.sleep(1000)
        assert len(started(server)) == 2
        await server.ask(SCHEDULE, EnableSchedule())
        await trio.sleep(1)
        assert len(agent.running) == 2 and [each["incarnation"] for each in started(server)] == [1, 1, 2, 2]
        nursery.cancel_scope.cancel()


async def test_enabled_while_it_stops_it_waits_for_the_end(autojump_clock) -> None:
    async with a_server() as server, trio.open_nursery() as nursery:
        agent = await programs(server, nursery)
        await a_daemon(server)
        await trio.sleep(1)
        agent.stops = False
        await server.ask(SCHEDULE, DisableSchedule())
        await trio.sleep(1)
        await server.ask(SCHEDULE, EnableSchedule())
        await trio.sleep(5)
        assert len(started(server)) == 1
        (task_id,) = agent.running
        await agent.end(task_id, "cancelled", signal=9)
        await trio.sleep(1.5)
        assert len(agent.running) == 1 and most_open(server.store.log.events, "s1") == 1
        nursery.cancel_scope.cancel()


async def test_a_disabled_job_stops_its_daemons_until_it_is_enabled(autojump_clock) -> None:
    async with a_server() as server, trio.open_nursery() as nursery:
        agent = await programs(server, nursery)
        await a_daemon(server)
        await trio.sleep(1)
        await server.ask(JOB, DisableJob())
        await trio.sleep(1)
        assert not agent.running and of(server, "SeatsStopping", "cause") == ["job_disabled"]
        asked = server.core.scheduler.daemons.asked
        await trio.sleep(1000)
        assert server.core.scheduler.daemons.asked == asked, "it is not asked again and again"
        await server.ask(JOB, EnableJob())
        await trio.sleep(1)
        assert len(agent.running) == 1
        nursery.cancel_scope.cancel()


async def test_a_deleted_daemon_leaves_its_tasks_alone(autojump_clock) -> None:
    async with a_server() as server, trio.open_nursery() as nursery:
        agent = await programs(server, nursery)
        await a_daemon(server)
        await trio.sleep(1)
        await server.ask(SCHEDULE, DeleteSchedule())
        await trio.sleep(5)
        assert len(agent.running) == 1
        await agent.end(next(iter(agent.running)))
        await trio.sleep(1000)
        assert len(started(server)) == 1 and len(server.core.scheduler.daemons) == 0
        nursery.cancel_scope.cancel()


async def test_nothing_is_started_for_a_job_that_is_about_to_be_deleted(autojump_clock) -> None:
    async with a_server() as server, trio.open_nursery() as nursery:
        agent = await programs(server, nursery)
        await a_daemon(server, retry_interval=1)
        await trio.sleep(1)
        await server.ask(JOB, SealJob())
        await agent.end(next(iter(agent.running)))
        await trio.sleep(3)
        assert len(started(server)) == 1
        await server.ask(JOB, DeleteJob())
        await trio.sleep(60)
        assert of(server, "ScheduleDeleted", "reason") == ["job_deleted"] and len(started(server)) == 1
        nursery.cancel_scope.cancel()


async def test_it_runs_between_start_and_end(autojump_clock) -> None:
    async with a_server() as server, trio.open_nursery() as nursery:
        agent = await programs(server, nursery)
        job = await server.job()
        now = server.clock.now()
        await server.schedule(
            job,
            schedule_kind=ScheduleKind.DAEMON,
            interval_secs=None,
            start_time=now + timedelta(seconds=30),
            end_time=now + timedelta(seconds=90),
        )
        await trio.sleep(29)
        assert not started(server)
        await trio.sleep(2)
        assert len(agent.running) == 1
        await trio.sleep(60)
        assert not agent.running and of(server, "ScheduleExpired", "reason") == ["end_time"]
        assert of(server, "SeatsStopping", "cause") == ["expired"]
        nursery.cancel_scope.cancel()


async def test_fewer_and_more_instances(autojump_clock) -> None:
    async with a_server() as server, trio.open_nursery() as nursery:
        agent = await programs(server, nursery)
        await a_daemon(server, 3)
        await trio.sleep(1)
        await server.ask(SCHEDULE, UpdateSchedule(changes={"daemon": {"instances": 1}}))
        await trio.sleep(1)
        assert [order.environment["HETUFLOW_SEAT"] for order in agent.running.values()] == ["0"]
        await server.ask(SCHEDULE, UpdateSchedule(changes={"daemon": {"instances": 4}}))
        await trio.sleep(1)
        assert len(agent.running) == 4 and most_open(server.store.log.events, "s1") == 4
        nursery.cancel_scope.cancel()


async def test_a_schedule_that_is_made_another_kind_stops_what_it_kept_running(autojump_clock) -> None:
    async with a_server() as server, trio.open_nursery() as nursery:
        agent = await programs(server, nursery)
        await a_daemon(server)
        await trio.sleep(1)
        changes = {"schedule_kind": int(ScheduleKind.INTERVAL), "interval_secs": 10}
        await server.ask(SCHEDULE, UpdateSchedule(changes=changes))
        await trio.sleep(1)
        assert not agent.running and of(server, "SeatsStopping", "cause") == ["kind_changed"]
        await trio.sleep(10)
        assert len(server.events("ScheduleFired")) == 1
        nursery.cancel_scope.cancel()


# --- edited ------------------------------------------------------------------------------------------------------------


async def test_an_edit_of_the_job_replaces_the_instances_one_after_another(autojump_clock) -> None:
    async with a_server() as server, trio.open_nursery() as nursery:
        agent = await programs(server, nursery, slots=10)
        await a_daemon(server, 3, ready_after_seconds=10)
        await trio.sleep(15)
        await server.ask(JOB, UpdateJob(changes={"environment": {"VERSION": "2"}}))
        await trio.sleep(60)
        assert {order.environment.get("VERSION") for order in agent.running.values()} == {"2"}
        at = [starts_of(server, seat)[1] for seat in range(3)]
        assert at[1] - at[0] == pytest.approx(10, abs=1.2) and at[2] - at[1] == pytest.approx(10, abs=1.2)
        assert of(server, "SeatsStopping", "seats") == [[0], [1], [2]]
        assert [each["why"] for each in started(server)[3:]] == ["edited"] * 3
        await server.ask(JOB, UpdateJob(changes={"description": "no program sees this"}))
        await trio.sleep(60)
        assert len(started(server)) == 6
        nursery.cancel_scope.cancel()


async def test_a_second_edit_starts_over_with_the_newest_version(autojump_clock) -> None:
    async with a_server() as server, trio.open_nursery() as nursery:
        agent = await programs(server, nursery, slots=10)
        await a_daemon(server, 3, ready_after_seconds=10)
        await trio.sleep(15)
        await server.ask(JOB, UpdateJob(changes={"environment": {"VERSION": "2"}}))
        await trio.sleep(15)  # the first is replaced, the second under way
        await server.ask(SCHEDULE, UpdateSchedule(changes={"parameters": {"colour": "green"}}))
        await trio.sleep(60)
        assert {order.environment.get("HETUFLOW_PARAM_COLOUR") for order in agent.running.values()} == {"green"}
        assert all(order.environment["VERSION"] == "2" for order in agent.running.values())
        nursery.cancel_scope.cancel()


async def test_a_broken_version_stops_at_the_first_instance(autojump_clock) -> None:
    async with a_server() as server, trio.open_nursery() as nursery:
        agent = await programs(server, nursery, slots=10)
        await a_daemon(server, 3, retry_interval=5, ready_after_seconds=10)
        await trio.sleep(15)
        await server.ask(JOB, UpdateJob(changes={"environment": {"VERSION": "2"}}))
        for _ in range(100):
            await trio.sleep(1)
            for order in [each for each in agent.running.values() if each.environment.get("VERSION") == "2"]:
                await agent.end(order.task_id)
        assert sum(order.environment.get("VERSION") is None for order in agent.running.values()) == 2
        await server.ask(JOB, UpdateJob(changes={"environment": {"VERSION": "3"}}))
        await trio.sleep(3)
        versions = sorted(str(order.environment.get("VERSION")) for order in agent.running.values())
        assert versions == ["3", "None", "None"], "the fix does not wait for the back-off"
        nursery.cancel_scope.cancel()


# --- crashes and several servers ---------------------------------------------------------------------------------------


async def test_an_end_that_no_server_heard_of_is_found_at_the_start(autojump_clock) -> None:
    log, clock = MemoryLog(), TrioClock()
    async with a_server(log=log, clock=clock) as server:
        await a_daemon(server, retry_interval=30)
        await trio.sleep(1)
        task_id = started(server)[0]["task_id"]
        server.core.scheduler.daemons._of_task.clear()  # deaf, as in the moment of a crash
        await server.ask(Address("task", task_id), CancelTask())
        await trio.sleep(1)
    assert not events_of(log, "SeatEnded")
    await trio.sleep(100)
    async with a_server(log=log, clock=clock, seed=2) as server, trio.open_nursery() as nursery:
        agent = await programs(server, nursery)
        await trio.sleep(1)
        assert len(agent.running) == 1 and len(events_of(log, "SeatStarted")) == 2
        nursery.cancel_scope.cancel()


async def test_a_daemon_switched_off_before_a_crash_is_stopped_after_it(autojump_clock) -> None:
    log, clock = MemoryLog(), TrioClock()
    async with a_server(log=log, clock=clock) as server:
        await a_daemon(server)
        await trio.sleep(1)
        server.core.scheduler.daemons._wishes.clear()
        await server.ask(SCHEDULE, DisableSchedule())
    assert not events_of(log, "TaskCancelled")
    async with a_server(log=log, clock=clock, seed=2):
        await trio.sleep(1)
        assert len(events_of(log, "TaskCancelled")) == 1 and len(events_of(log, "DaemonStopped")) == 1


async def test_an_edit_before_a_crash_is_found_after_it(autojump_clock) -> None:
    log, clock = MemoryLog(), TrioClock()
    async with a_server(log=log, clock=clock) as server, trio.open_nursery() as nursery:
        await programs(server, nursery)
        await a_daemon(server, ready_after_seconds=0)
        await trio.sleep(1)
        server.core.scheduler.daemons._of_job.clear()
        await server.ask(JOB, UpdateJob(changes={"environment": {"VERSION": "2"}}))
        nursery.cancel_scope.cancel()
    async with a_server(log=log, clock=clock, seed=2):
        await trio.sleep(60)
        created = [data(event)["environment"] for event in events_of(log, "TaskCreated")]
        assert created[-1]["VERSION"] == "2"


@pytest.mark.parametrize("hooks", [LostAnswers(3), LostAnswers(2, "SeatStarted"), LostAnswers(2, "SeatEnded")])
async def test_answers_that_are_lost_start_nothing_twice(autojump_clock, hooks) -> None:
    async with a_server(hooks=hooks) as server, trio.open_nursery() as nursery:
        agent = await programs(server, nursery)
        await a_daemon(server, 2, retry_interval=1)
        for _ in range(20):
            await trio.sleep(2)
            for task_id in list(agent.running):
                await agent.end(task_id, None)
        assert most_open(server.store.log.events, "s1") == 2
        assert len(started(server)) >= 20
        nursery.cancel_scope.cancel()


async def test_it_goes_on_after_an_outage_of_the_store(autojump_clock) -> None:
    async with a_server() as server, trio.open_nursery() as nursery:
        agent = await programs(server, nursery)
        await a_daemon(server, retry_interval=1)
        await trio.sleep(1)
        server.store.hooks = Outage(trio.current_time() + 5)
        await agent.end(next(iter(agent.running)), None)
        await trio.sleep(20)
        assert len(agent.running) == 1 and len(started(server)) == 2
        nursery.cancel_scope.cancel()


async def test_news_of_a_task_that_cannot_be_read_is_told_when_it_can(autojump_clock, monkeypatch) -> None:
    async with a_server() as server, trio.open_nursery() as nursery:
        agent = await programs(server, nursery)
        await a_daemon(server, retry_interval=1)
        await trio.sleep(1)
        system = server.core.system
        read_many = system.read_many
        deaf_until = trio.current_time() + 5

        async def read_little(addresses: Sequence[Address]) -> Any:
            found = await read_many(addresses)
            is_deaf = trio.current_time() < deaf_until
            return {each: found[each] for each in found if each.category != "task" or not is_deaf}

        monkeypatch.setattr(system, "read_many", read_little)
        await agent.end(next(iter(agent.running)), None)
        await trio.sleep(4)
        assert not server.events("SeatEnded")
        await trio.sleep(10)
        assert len(server.events("SeatEnded")) == 1 and len(agent.running) == 1
        nursery.cancel_scope.cancel()


async def server_one(
    log: MemoryLog, clock: TrioClock, *, task_status: trio.TaskStatus[tuple[Server, trio.CancelScope]]
) -> None:
    """A server that decides until its scope is cancelled."""
    with trio.CancelScope() as scope:
        async with a_server(log=log, clock=clock) as server:
            task_status.started((server, scope))
            await trio.sleep_forever()


async def test_another_server_takes_a_daemon_over(autojump_clock) -> None:
    """The one that decides goes, with the agent of one seat: the other goes on, and never has more than is wanted."""
    log, clock = MemoryLog(), TrioClock()
    async with trio.open_nursery() as nursery:
        first, scope = await nursery.start(server_one, log, clock)
        async with a_server(log=log, clock=clock, server_id="server-2") as second:
            there = await programs(second, nursery, "agent-2", slots=1)
            here = await programs(first, nursery, "agent-1", slots=1)
            await a_daemon(second, 2, retry_interval=5)  # asked of the one that stands by
            await trio.sleep(5)
            assert len(here.running) == len(there.running) == 1
            await here.end(next(iter(here.running)), None)
            await trio.sleep(10)
            assert len(here.running) == 1 and len(events_of(log, "SeatStarted")) == 3
            await second.ask(JOB, UpdateJob(changes={"environment": {"VERSION": "2"}}))
            await trio.sleep(30)
            assert {order.environment["VERSION"] for order in (here.running | there.running).values()} == {"2"}
            scope.cancel()
            more = await programs(second, nursery, "agent-3", slots=1)
            await trio.sleep(60)
            assert len(there.running) == len(more.running) == 1
            await there.end(next(iter(there.running)), None)
            await trio.sleep(10)
            assert len(there.running) == 1 and most_open(log.events, "s1") == 2
            nursery.cancel_scope.cancel()
