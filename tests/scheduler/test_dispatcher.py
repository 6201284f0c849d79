"""Tasks get slots: best first, commit before send, and whatever fails comes back."""

from __future__ import annotations

from datetime import timedelta

import trio
import trio.testing

from eventstore.memory import MemoryLog
from hetuflow.domain.commands import CancelTask, DrainAgent, UndrainAgent, UpdateAgent
from hetuflow.domain.decider import Address
from hetuflow.domain.need import Need
from hetuflow.protocol.messages import Dispatch, Standing
from tests.gateway.scripted import ScriptedAgent
from tests.scheduler.harness import Server, a_server, data
from tests.scheduler.hooks import LostAnswers, Outage, Recording, Slow
from tests.support.ports import TrioClock


async def an_agent(server: Server, nursery: trio.Nursery, agent_id: str = "agent-1", **members) -> ScriptedAgent:
    agent = ScriptedAgent(server.core.gateway.serve_connection, nursery, agent_id)
    await agent.connect(**members)
    return agent


async def test_a_pending_task_is_sent_when_an_agent_comes(autojump_clock) -> None:
    async with a_server() as server, trio.open_nursery() as nursery:
        await server.task(await server.job(cmd="echo", args=["hello"]))
        assert server.history() == ["TaskCreated"]
        agent = await an_agent(server, nursery)
        order = await agent.expect(Dispatch)
        assert (order.task_id, order.cmd, order.args, order.epoch) == ("t1", "echo", ("hello",), 1)
        assert server.history() == ["TaskCreated", "TaskLocked", "TaskDispatched"]
        nursery.cancel_scope.cancel()


async def test_nothing_is_sent_before_its_commit(autojump_clock) -> None:
    async with a_server() as server, trio.open_nursery() as nursery:
        agent = await an_agent(server, nursery)
        server.store.hooks = Slow("TaskDispatched", 5)
        await server.task(await server.job())
        begun = trio.current_time()
        await agent.expect(Dispatch)
        assert trio.current_time() - begun == 5
        nursery.cancel_scope.cancel()


async def test_higher_priority_and_then_age_go_first(autojump_clock) -> None:
    async with a_server() as server, trio.open_nursery() as nursery:
        job = await server.job()
        for task_id, priority in (("old", 0), ("urgent", 5), ("young", 0)):
            await server.task(job, task_id, priority=priority)
            await trio.sleep(0.1)
        agent = await an_agent(server, nursery, slots=1)
        served = []
        for _ in range(3):
            order = await agent.expect(Dispatch)
            served.append(order.task_id)
            await agent.say(agent.started(order), agent.ended(order))
        assert served == ["urgent", "old", "young"]
        nursery.cancel_scope.cancel()


async def test_labels_and_pins_are_obeyed(autojump_clock) -> None:
    async with a_server() as server, trio.open_nursery() as nursery:
        plain = await an_agent(server, nursery, "plain")
        gpu = await an_agent(server, nursery, "gpu", labels={"gpu": "yes"})
        await server.task(await server.job("needs-gpu", labels={"gpu": "yes"}), "t-gpu")
        assert (await gpu.expect(Dispatch)).task_id == "t-gpu"
        await plain.expect_nothing(Dispatch)
        nursery.cancel_scope.cancel()


async def test_work_spreads_over_the_least_loaded(autojump_clock) -> None:
    async with a_server() as server, trio.open_nursery() as nursery:
        agents = [await an_agent(server, nursery, agent_id, slots=2) for agent_id in ("a", "b")]
        job = await server.job()
        for n in range(4):
            await server.task(job, f"t{n}")
            await trio.testing.wait_all_tasks_blocked()
        for agent in agents:
            for _ in range(2):
                await agent.expect(Dispatch)
        nursery.cancel_scope.cancel()


async def test_a_limit_of_the_cluster_is_kept(autojump_clock) -> None:
    async with a_server(tasks_max=2) as server, trio.open_nursery() as nursery:
        agent = await an_agent(server, nursery, slots=10)
        job = await server.job()
        for n in range(3):
            await server.task(job, f"t{n}")
        orders = [await agent.expect(Dispatch) for _ in range(2)]
        await agent.expect_nothing(Dispatch)
        await agent.say(agent.started(orders[0]), agent.ended(orders[0]))
        assert (await agent.expect(Dispatch)).task_id == "t2"
        nursery.cancel_scope.cancel()


async def test_a_task_starts_not_before_its_time(autojump_clock) -> None:
    async with a_server() as server, trio.open_nursery() as nursery:
        agent = await an_agent(server, nursery)
        begun = trio.current_time()
        await server.task(await server.job(), scheduled_at=server.clock.now() + timedelta(seconds=12.5))
        await agent.expect(Dispatch)
        assert trio.current_time() - begun == 12.5
        nursery.cancel_scope.cancel()


async def test_a_draining_agent_gets_nothing_new(autojump_clock) -> None:
    async with a_server() as server, trio.open_nursery() as nursery:
        agent = await an_agent(server, nursery)
        await server.ask(Address("agent", "agent-1"), DrainAgent())
        await server.task(await server.job())
        await agent.expect_nothing(Dispatch)
        nursery.cancel_scope.cancel()


async def test_nothing_is_committed_for_an_agent_that_was_drained_meanwhile(autojump_clock) -> None:
    """Also while the agent's drain is under way: the dispatch relies on the agent as it was, and is refused."""
    async with a_server() as server, trio.open_nursery() as nursery:
        agent = await an_agent(server, nursery)
        job = await server.job()
        server.store.hooks = Slow("TaskDispatched", 5.0)
        await server.task(job)
        await trio.testing.wait_all_tasks_blocked()
        await server.ask(Address("agent", "agent-1"), DrainAgent(reason="new disk"))
        await agent.expect_nothing(Dispatch, seconds=60)
        assert server.history() == ["TaskCreated"]
        assert await agent.expect(Standing) == Standing(draining=True, reason="new disk")
        await server.ask(Address("agent", "agent-1"), UndrainAgent())
        assert await agent.expect(Standing) == Standing()
        assert (await agent.expect(Dispatch)).task_id == "t1"
        nursery.cancel_scope.cancel()


async def test_what_runs_on_a_draining_agent_goes_on(autojump_clock) -> None:
    async with a_server() as server, trio.open_nursery() as nursery:
        agent = await an_agent(server, nursery)
        await server.task(await server.job())
        order = await agent.expect(Dispatch)
        await server.ask(Address("agent", "agent-1"), DrainAgent())
        await agent.say(agent.started(order), agent.ended(order))
        await agent.acknowledged(2)
        assert server.history()[-1] == "TaskSucceeded"
        nursery.cancel_scope.cancel()


async def test_an_agent_is_told_how_it_is_counted_when_that_is_not_what_it_declared(autojump_clock) -> None:
    async with a_server() as server, trio.open_nursery() as nursery:
        agent = await an_agent(server, nursery, labels={"zone": "a"})
        await agent.expect_nothing(Standing)
        await server.ask(Address("agent", "agent-1"), UpdateAgent(changes={"labels": {"zone": "b"}}))
        assert await agent.expect(Standing) == Standing(labels={"zone": "b"})
        await server.ask(Address("agent", "agent-1"), UpdateAgent(changes={"description": "x"}))
        await server.ask(Address("agent", "agent-1"), DrainAgent())
        assert await agent.expect(Standing) == Standing(labels={"zone": "b"}, draining=True)
        await agent.drop()
        again = await an_agent(server, nursery, labels={"zone": "a"}, incarnation=2)
        assert await again.expect(Standing) == Standing(labels={"zone": "b"}, draining=True)
        nursery.cancel_scope.cancel()


async def test_new_labels_of_an_agent_count_at_once(autojump_clock) -> None:
    async with a_server() as server, trio.open_nursery() as nursery:
        agent = await an_agent(server, nursery)
        await server.task(await server.job(labels={"zone": "a"}))
        await agent.expect_nothing(Dispatch)
        await server.ask(Address("agent", "agent-1"), UpdateAgent(changes={"labels": {"zone": "a"}}))
        await agent.expect(Dispatch)
        nursery.cancel_scope.cancel()


async def test_a_store_that_is_away_gives_slot_and_task_back(autojump_clock) -> None:
    async with a_server() as server, trio.open_nursery() as nursery:
        agent = await an_agent(server, nursery, slots=1)
        job = await server.job()
        await server.task(job)
        server.store.hooks = Outage(trio.current_time() + 20)
        begun = trio.current_time()
        await agent.expect(Dispatch)
        assert 20 <= trio.current_time() - begun < 40
        status = server.core.scheduler.status().agenda
        assert (status.instances, status.reserved, status.slots_free) == (1, 0, 0)
        nursery.cancel_scope.cancel()


async def test_a_dispatch_whose_answer_was_lost_is_sent_once(autojump_clock) -> None:
    async with a_server() as server, trio.open_nursery() as nursery:
        job = await server.job()
        await server.task(job)
        server.store.hooks = LostAnswers(2, "TaskDispatched")
        agent = await an_agent(server, nursery)
        order = await agent.expect(Dispatch)
        await agent.expect_nothing(Dispatch, 60)
        assert order.epoch == 1
        assert server.history().count("TaskDispatched") == 1
        nursery.cancel_scope.cancel()


async def test_a_task_cancelled_while_it_waits_is_never_sent(autojump_clock) -> None:
    async with a_server() as server, trio.open_nursery() as nursery:
        await server.task(await server.job())
        await server.ask(Address("task", "t1"), CancelTask())
        agent = await an_agent(server, nursery)
        await agent.expect_nothing(Dispatch)
        assert server.core.scheduler.status().agenda.reserved == 0
        nursery.cancel_scope.cancel()


async def test_an_agent_that_refuses_is_left_alone_for_a_while(autojump_clock) -> None:
    """Each try costs three appends: a full disk on an agent must not become a busy loop through the store."""
    async with a_server() as server, trio.open_nursery() as nursery:
        agent = await an_agent(server, nursery)
        await server.task(await server.job())
        begun = trio.current_time()
        for _ in range(6):
            order = await agent.expect(Dispatch)
            await agent.say(agent.ended(order, "rejected", error_message="disk full"))
        assert trio.current_time() - begun >= 0.25 + 0.5 + 1 + 2 + 4
        order = await agent.expect(Dispatch)
        assert order.epoch == 7
        await agent.say(agent.started(order))
        nursery.cancel_scope.cancel()


async def test_orders_that_were_refused_together_count_once(autojump_clock) -> None:
    """Five that were on their way when the disk was found full are one failure, not five: it is asked again soon."""
    async with a_server() as server, trio.open_nursery() as nursery:
        agent = await an_agent(server, nursery, slots=5)
        job = await server.job()
        for number in range(5):
            await server.task(job, f"t{number}")
        orders = [await agent.expect(Dispatch) for _ in range(5)]
        begun = trio.current_time()
        for order in orders:
            await agent.say(agent.ended(order, "rejected", error_message="disk full"))
        await agent.expect(Dispatch)
        assert trio.current_time() - begun < 1.0
        nursery.cancel_scope.cancel()


async def test_an_eager_slot_is_given_back_used_or_not(autojump_clock) -> None:
    async with a_server() as server, trio.open_nursery() as nursery:
        agent = await an_agent(server, nursery, slots=2)
        job = await server.job()
        appends: list[list[str]] = []
        server.store.hooks = Recording(appends)
        with server.core.scheduler.reserved(Need.of(job)) as placement:
            await server.task(job, placement=placement)
        await agent.expect(Dispatch)
        assert appends == [["TaskCreated", "TaskLocked", "TaskDispatched"]]
        with server.core.scheduler.reserved(Need.of(job)) as placement:
            assert placement is not None
            assert server.core.scheduler.reserve(Need.of(job)) is None
        status = server.core.scheduler.status().agenda
        assert (status.reserved, status.slots_free) == (0, 1)
        nursery.cancel_scope.cancel()


async def test_waiting_tasks_are_served_after_a_restart(autojump_clock) -> None:
    log, clock = MemoryLog(), TrioClock()
    async with a_server(log=log, clock=clock) as server:
        await server.task(await server.job())
    async with a_server(log=log, clock=clock, seed=2) as server, trio.open_nursery() as nursery:
        agent = await an_agent(server, nursery)
        assert (await agent.expect(Dispatch)).task_id == "t1"
        nursery.cancel_scope.cancel()


async def test_a_retry_waits_for_its_interval(autojump_clock) -> None:
    async with a_server() as server, trio.open_nursery() as nursery:
        agent = await an_agent(server, nursery)
        await server.task(await server.job(max_retries=1, retry_interval=30))
        order = await agent.expect(Dispatch)
        begun = trio.current_time()
        await agent.say(agent.started(order), agent.ended(order, "exit_code", exit_code=3))
        again = await agent.expect(Dispatch)
        assert trio.current_time() - begun >= 28
        assert (again.attempt, again.epoch) == (2, 2)
        [retry] = server.events("TaskRetryScheduled")
        assert data(retry)["retry_count"] == 1
        nursery.cancel_scope.cancel()


async def test_a_retry_rather_elsewhere_goes_to_another_agent_and_back_only_for_want_of_one(autojump_clock) -> None:
    async with a_server() as server, trio.open_nursery() as nursery:
        first = await an_agent(server, nursery, "agent-1", slots=9)
        retry = {"prefer_other_agent": True}
        await server.task(await server.job(max_retries=2, retry_interval=1, retry=retry))
        order = await first.expect(Dispatch)
        second = await an_agent(server, nursery, "agent-2", slots=1)
        await first.say(first.started(order), first.ended(order, "exit_code", exit_code=3))
        again = await second.expect(Dispatch)
        assert (again.task_id, again.attempt) == ("t1", 2)
        await second.say(second.started(again), second.ended(again, "exit_code", exit_code=3))
        last = await first.expect(Dispatch)  # both have been tried: the less loaded one, at once
        assert last.attempt == 3
        placements = [data(event)["placement"] for event in server.events("TaskDispatched")]
        assert [each.get("avoided") for each in placements] == [None, ["agent-1"], ["agent-1", "agent-2"]]
        nursery.cancel_scope.cancel()


class LostAnswersAndSlowReads(LostAnswers):
    async def before_read(self, what: str) -> None:
        await trio.sleep(1)


async def test_a_slot_that_may_be_taken_is_not_used_again_while_nobody_knows(autojump_clock) -> None:
    """The dispatch was committed, both its answers got lost, and the log is slow to say so."""
    async with a_server(tasks_max=1) as server, trio.open_nursery() as nursery:
        job = await server.job()
        await server.task(job, "t1")
        await server.task(job, "t2")
        server.store.hooks = LostAnswersAndSlowReads(2, "TaskDispatched")
        agent = await an_agent(server, nursery, slots=2)
        order = await agent.expect(Dispatch)
        await trio.sleep(30)
        assert len(server.events("TaskDispatched")) == 1
        await agent.say(agent.started(order), agent.ended(order))
        following = await agent.expect(Dispatch)
        assert {order.task_id, following.task_id} == {"t1", "t2"}
        nursery.cancel_scope.cancel()
