"""Tasks that wait for others: not dispatched before all of those have ended, whatever crashes in between."""

from __future__ import annotations

import trio

from eventstore.memory import MemoryLog
from hetuflow.actors import ActorSystem, Answer, Context
from hetuflow.domain.commands import CancelTask, CreateTask, CreateTasks, RetryTask, SettleDependencies
from hetuflow.domain.decider import Address
from hetuflow.domain.need import Need
from hetuflow.protocol.messages import Dispatch
from tests.gateway.scripted import ScriptedAgent
from tests.scheduler.harness import Server, a_server, data
from tests.scheduler.hooks import Outage
from tests.support.ports import TrioClock


async def an_agent(server: Server, nursery: trio.Nursery) -> ScriptedAgent:
    agent = ScriptedAgent(server.core.gateway.serve_connection, nursery)
    await agent.connect()
    return agent


def after(*task_ids: str, on_failure: str = "cancel") -> dict[str, object]:
    return {"task_ids": list(task_ids), "on_failure": on_failure}


async def test_a_task_is_dispatched_when_all_that_it_waits_for_have_ended(autojump_clock) -> None:
    async with a_server() as server, trio.open_nursery() as nursery:
        job = await server.job()
        await server.task(job, "t1")
        await server.task(job, "t2")
        await server.task(job, "t3", dependencies=after("t1", "t2"))
        agent = await an_agent(server, nursery)
        orders = {order.task_id: order for order in [await agent.expect(Dispatch) for _ in range(2)]}
        assert set(orders) == {"t1", "t2"}
        await agent.say(agent.started(orders["t1"]), agent.ended(orders["t1"]))
        await agent.expect_nothing(Dispatch)
        await agent.say(agent.started(orders["t2"]), agent.ended(orders["t2"]))
        assert (await agent.expect(Dispatch)).task_id == "t3"
        assert [data(event)["open_count"] for event in server.events("TaskDependencySettled")] == [1, 0]
        nursery.cancel_scope.cancel()


async def test_a_free_slot_is_not_given_to_a_task_that_waits(autojump_clock) -> None:
    async with a_server() as server, trio.open_nursery() as nursery:
        agent = await an_agent(server, nursery)
        job = await server.job()
        await server.task(job, "t1", scheduled_at=server.clock.now().replace(year=2100))
        with server.core.scheduler.reserved(Need.of(job)) as placement:
            await server.task(job, "t2", dependencies=after("t1"), placement=placement)
        await agent.expect_nothing(Dispatch)
        assert server.history("t2") == ["TaskCreated"]
        nursery.cancel_scope.cancel()


async def test_what_ended_while_no_server_was_there_is_told_after_the_start(autojump_clock) -> None:
    """The wait is an intent of the waiting task: it is there again after a crash at any moment."""
    log, clock = MemoryLog(), TrioClock()
    async with a_server(log=log, clock=clock) as server:
        job = await server.job()
        await server.task(job, "t1")
        await server.task(job, "t2", dependencies=after("t1"))
    settled = [event for event in log.events if event.type == "TaskDependencySettled"]
    assert settled == []
    async with a_server(log=log, clock=clock, seed=2) as server, trio.open_nursery() as nursery:
        agent = await an_agent(server, nursery)
        order = await agent.expect(Dispatch)
        server.store.hooks = Outage(trio.current_time() + 5)  # and the store is away when it is to be told
        await agent.say(agent.started(order), agent.ended(order))
        assert (order.task_id, (await agent.expect(Dispatch)).task_id) == ("t1", "t2")
        nursery.cancel_scope.cancel()


async def test_an_end_that_nobody_told_is_found_at_the_start(autojump_clock) -> None:
    log, clock = MemoryLog(), TrioClock()
    async with a_server(log=log, clock=clock) as server:
        job = await server.job()
        await server.task(job, "t1")
        await server.ask(Address("task", "t1"), CancelTask())
        made = CreateTask(task_id="t2", job=job, trigger="api", dependencies=after("t1"))
        await server.ask(Address("task", "t2"), made)
        server.core.scheduler.dependencies.remove(next(iter(server.core.scheduler.dependencies._awaiting.values())))
    assert [event.type for event in log.events if event.stream_id == "task-t2"] == ["TaskCreated"]
    async with a_server(log=log, clock=clock, seed=2) as server:
        await trio.testing.wait_all_tasks_blocked(0.01)
        assert server.history("t2")[-2:] == ["InstanceCancelled", "TaskCancelled"]


class ReopenedBetween:
    """The actors, with one thing that happens between the look at an end and the word of it: it is opened again."""

    def __init__(self, system: ActorSystem) -> None:
        self.system = system
        self.read_many = system.read_many
        self.reopened: list[str] = []

    async def ask(self, address: Address, command: object, context: Context) -> Answer:
        if isinstance(command, SettleDependencies) and not self.reopened:
            self.reopened += command.settled
            await self.system.ask(Address("task", self.reopened[0]), RetryTask())
        return await self.system.ask(address, command, context)


async def test_an_end_that_does_not_stand_any_more_is_not_told(autojump_clock) -> None:
    """A user's retry may come between: then the follower waits for the new end, and is not given up on the old one."""
    async with a_server() as server, trio.open_nursery() as nursery:
        dependencies = server.core.scheduler.dependencies
        between = dependencies._system = ReopenedBetween(dependencies._system)
        job = await server.job()
        await server.task(job, "t1")
        await server.task(job, "t2", dependencies=after("t1"))
        await server.ask(Address("task", "t1"), CancelTask())
        agent = await an_agent(server, nursery)
        order = await agent.expect(Dispatch)
        assert (order.task_id, between.reopened) == ("t1", ["t1"])
        await agent.say(agent.started(order), agent.ended(order))
        assert (await agent.expect(Dispatch)).task_id == "t2"
        nursery.cancel_scope.cancel()


async def test_a_long_chain_is_followed(autojump_clock) -> None:
    async with a_server() as server:
        job = await server.job()
        names = [f"t{n}" for n in range(300)]
        tasks = [
            CreateTask(task_id=name, job=job, trigger="api", dependencies=after(names[n - 1]) if n else None)
            for n, name in enumerate(names)
        ]
        await server.ask(Address("task", names[0]), CreateTasks(tasks=tasks))
        await server.ask(Address("task", names[0]), CancelTask())
        with trio.fail_after(60):
            async with server.store.subscribe(after=0) as batches:
                cancelled = 0
                async for batch in batches:
                    cancelled += sum(event.type == "TaskCancelled" for event in batch)
                    if cancelled == len(names):
                        break
        await trio.testing.wait_all_tasks_blocked()
        assert len(server.core.scheduler.dependencies) == 0
