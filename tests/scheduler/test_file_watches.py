"""Which agents are told to watch which files, and what they observe, up to the task."""

from __future__ import annotations

from typing import Any

import trio

from eventstore.memory import MemoryLog
from hetuflow.domain.commands import DisableSchedule, EnableSchedule, UpdateAgent, UpdateJob, UpdateSchedule
from hetuflow.domain.decider import Address
from hetuflow.protocol.messages import Ack, FileWatch, Observed, WatchFiles
from tests.gateway.scripted import ScriptedAgent
from tests.scheduler.harness import Server, a_server, data
from tests.scheduler.hooks import Outage
from tests.support.ports import TrioClock

CREATED = ("file.created",)


def an_agent(server: Server, nursery: trio.Nursery, agent_id: str = "agent-1") -> ScriptedAgent:
    return ScriptedAgent(server.core.gateway.serve_connection, nursery, agent_id)


async def waits(server: Server, schedule_id: str = "s1", job: str = "job-1", **members: Any) -> None:
    config = members.pop("config", {})
    wanted = {
        "schedule_kind": 4,
        "interval_secs": None,
        "event_type": "file.created",
        "event_filter": {"path": "/in/*.csv"},
        **members,
    }
    await server.schedule(await server.job(job, **config), schedule_id, **wanted)


def watching(*globs: str, types: tuple[str, ...] = CREATED) -> WatchFiles:
    return WatchFiles(watches=tuple(FileWatch(glob=glob, types=types) for glob in globs))


def seen(sequence: int, path: str = "/in/a.csv", type_: str = "file.created", id_: str | None = None) -> Observed:
    return Observed(
        event_id=id_ or f"id-{sequence}", sequence=sequence, type=type_, at="2026-01-01T00:00:00Z", data={"path": path}
    )


async def test_what_an_agent_sees_is_a_task_once(autojump_clock) -> None:
    async with a_server() as server, trio.open_nursery() as nursery:
        await waits(server)
        agent = an_agent(server, nursery)
        await agent.connect()
        assert await agent.expect(WatchFiles) == watching("/in/*.csv")
        await agent.say(seen(1), seen(2, "/in/b.txt"), seen(1))
        await agent.acknowledged(1, 2)
        await agent.say(seen(3, id_="id-1"))  # said again by a later life, under another number
        await agent.acknowledged(3)
        received = [data(event) for event in server.events("ExternalEventReceived", stream="external-agent-agent-1")]
        assert [each["data"] for each in received] == [
            {"path": "/in/a.csv", "agent_id": "agent-1"},
            {"path": "/in/b.txt", "agent_id": "agent-1"},
        ]
        await trio.sleep(0.1)
        [task] = server.events("TaskCreated")
        assert data(task)["parameters"] == {"path": "/in/a.csv", "agent_id": "agent-1"}
        nursery.cancel_scope.cancel()


async def test_only_agents_that_may_run_the_job_watch(autojump_clock) -> None:
    async with a_server() as server, trio.open_nursery() as nursery:
        await waits(server, config={"labels": {"disk": "big"}})
        plain, big = an_agent(server, nursery, "plain"), an_agent(server, nursery, "big")
        await plain.connect()
        await big.connect(labels={"disk": "big"})
        assert await big.expect(WatchFiles) == watching("/in/*.csv")
        await plain.expect_nothing(WatchFiles)
        await server.ask(Address("job", "job-1"), UpdateJob(changes={"config": {"cmd": "true"}}))
        assert await plain.expect(WatchFiles) == watching("/in/*.csv")
        await server.ask(Address("job", "job-1"), UpdateJob(changes={"agent_id": "big"}))
        assert await plain.expect(WatchFiles) == watching()
        await server.ask(Address("agent", "big"), UpdateAgent(changes={"labels": {}}))
        await big.expect_nothing(WatchFiles)
        nursery.cancel_scope.cancel()


async def test_the_set_follows_the_schedules(autojump_clock) -> None:
    async with a_server() as server, trio.open_nursery() as nursery:
        agent = an_agent(server, nursery)
        await agent.connect()
        await waits(server)
        assert await agent.expect(WatchFiles) == watching("/in/*.csv")
        schedule = Address("schedule", "s1")
        everything = ("file.created", "file.deleted", "file.modified")
        changes = {"event_type": "file.*", "event_filter": {"path": ["/a/*", "/b/**", "not-absolute"]}}
        await server.ask(schedule, UpdateSchedule(changes=changes))
        assert await agent.expect(WatchFiles) == watching("/a/*", "/b/**", types=everything)
        await server.ask(schedule, DisableSchedule())
        assert await agent.expect(WatchFiles) == watching()
        await server.ask(schedule, EnableSchedule())
        assert await agent.expect(WatchFiles) == watching("/a/*", "/b/**", types=everything)
        await waits(server, "s2", "job-2", event_filter={"size": 1})  # names no paths: nothing to watch
        await waits(server, "s3", "job-3", event_type="mail.*")
        await agent.expect_nothing(WatchFiles)
        nursery.cancel_scope.cancel()


async def test_an_agent_of_another_server_watches_and_is_told_again_after_a_restart(autojump_clock) -> None:
    log, clock = MemoryLog(), TrioClock()
    standing_by = a_server(log=log, clock=clock, server_id="server-2")
    async with a_server(log=log, clock=clock) as first, standing_by as second, trio.open_nursery() as nursery:
        agent = an_agent(second, nursery)
        await agent.connect()
        await waits(first)
        assert await agent.expect(WatchFiles) == watching("/in/*.csv")
        await agent.say(seen(1))
        await agent.expect(Ack)
        await trio.sleep(0.5)
        assert len(first.events("TaskCreated")) == 1
        nursery.cancel_scope.cancel()
    async with a_server(log=log, clock=clock, seed=2) as third, trio.open_nursery() as nursery:
        agent = an_agent(third, nursery)
        await agent.connect(incarnation=2)
        assert await agent.expect(WatchFiles) == watching("/in/*.csv")
        nursery.cancel_scope.cancel()


async def test_nothing_is_acknowledged_that_is_not_committed(autojump_clock) -> None:
    outage = Outage(until=0)
    async with a_server(hooks=outage) as server, trio.open_nursery() as nursery:
        await waits(server)
        agent = an_agent(server, nursery)
        await agent.connect()
        await agent.expect(WatchFiles)
        outage.until = trio.current_time() + 3
        await agent.say(seen(1))
        await agent.expect_nothing(Ack)
        assert (await agent.expect(Ack)).sequences == (1,)
        nursery.cancel_scope.cancel()


async def test_what_no_agent_may_say_is_dropped(autojump_clock) -> None:
    async with a_server() as server, trio.open_nursery() as nursery:
        agent = an_agent(server, nursery)
        await agent.connect()
        await agent.say(seen(1, type_="task.failed"), seen(2, "/nul\0/a", "watch.failed"))
        await agent.acknowledged(1, 2)
        [received] = server.events("ExternalEventReceived")
        assert data(received)["data"]["path"] == "/nul\ufffd/a"
        nursery.cancel_scope.cancel()
