"""A backfill whose server is cut off at any moment is carried on by the other, and the first may come back and stand by."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta

import pytest
import trio

from eventstore.errors import StoreTimeout, StoreUnavailable
from eventstore.event import Appended, Claim, RecordedEvent
from eventstore.memory import MemoryLog, NoFaults
from hetuflow.domain.backfill import BackfillState
from hetuflow.domain.backfill_window import start_of
from hetuflow.domain.commands import CancelBackfill, DisableSchedule, StartBackfill
from hetuflow.domain.decider import Address
from hetuflow.domain.schedule_state import ScheduleState
from hetuflow.protocol.messages import Dispatch
from tests.gateway.scripted import ScriptedAgent
from tests.scheduler.harness import Server, a_server, data
from tests.scheduler.hooks import types_of
from tests.support.ports import TrioClock

BACKFILL = Address("backfill", "b1")
COUNT = 5
CONCURRENT = 2
ENDS = ("TaskSucceeded", "TaskFailed", "TaskCancelled")


class CutOff(NoFaults):
    """From its append number `at` on (counted from 0) the server reaches the store no more, until `back`.

    `is_committed`: that append was written all the same, and the server does not know it.
    """

    def __init__(self, at: int, is_committed: bool) -> None:
        self._left, self._is_committed = at, is_committed
        self.is_cut = False

    async def before_commit(self, claims: Sequence[Claim]) -> None:
        await self.before_read("append")
        if _of_work(claims):
            self._left -= 1
            if self._left < 0 and not self._is_committed:
                self.is_cut = True
                raise StoreUnavailable

    async def after_commit(self, claims: Sequence[Claim], appended: Appended) -> None:
        if self._left < 0 and _of_work(claims):
            self.is_cut = True
            raise StoreTimeout

    async def before_read(self, what: str) -> None:
        if self.is_cut:
            raise StoreUnavailable

    def come_back(self) -> None:
        self.is_cut, self._left = False, 1 << 30


def _of_work(claims: Sequence[Claim]) -> bool:
    """Not the lives of servers, which are written as time goes by."""
    return any(type_.startswith(("Backfill", "Task", "Instance")) for type_ in types_of(claims))


@pytest.mark.parametrize("is_committed", [False, True])
@pytest.mark.parametrize("at", range(9))
async def test_the_other_server_goes_on(autojump_clock, at: int, is_committed: bool) -> None:
    log, clock = MemoryLog(), TrioClock()
    async with (
        a_server(log=log, clock=clock) as first,
        a_server(log=log, clock=clock, server_id="server-2") as second,
        trio.open_nursery() as nursery,
    ):
        cut = await begin(first, second, nursery, CutOff(at, is_committed))
        with trio.fail_after(600):
            state = await over(second)
        assert cut.is_cut and second.core.scheduler.leases.is_deciding, "it was the other one that ended it"
        assert (state.status, state.made, state.succeeded, state.left_out) == ("finished", COUNT, COUNT, 0)
        assert nominals(log) == window(await schedule(second))
        assert most_open(log) <= CONCURRENT
        cut.come_back()
        await trio.sleep(60)
        assert not first.core.scheduler.leases.is_deciding
        assert (len(nominals(log)), len(kinds(log, "BackfillFinished"))) == (COUNT, 1)
        for server in (first, second):
            assert (len(server.core.scheduler.backfills), len(server.core.scheduler.following)) == (0, 0)
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize("is_committed", [False, True])
@pytest.mark.parametrize("at", [0, 1, 2])
async def test_a_cancel_is_carried_out_by_the_other_server(autojump_clock, at: int, is_committed: bool) -> None:
    """The first server is cut off at its appends that cancel what waits, or that note its end."""
    log, clock = MemoryLog(), TrioClock()
    async with (
        a_server(log=log, clock=clock) as first,
        a_server(log=log, clock=clock, server_id="server-2") as second,
        trio.open_nursery() as nursery,
    ):
        agent = ScriptedAgent(second.core.gateway.serve_connection, nursery)
        await agent.connect(slots=1)
        nursery.start_soon(beat, agent)
        await a_backfill(first, second, concurrent=3)
        order = await agent.expect(Dispatch)
        await agent.say(agent.started(order))
        await trio.sleep(0.1)
        first.store.hooks = cut = CutOff(at, is_committed)
        await second.ask(BACKFILL, CancelBackfill())
        with trio.fail_after(600):
            while len(kinds(log, "TaskCancelled")) < 2:  # noqa: ASYNC110 - the log rings no bell
                await trio.sleep(1)
            await trio.sleep(60)
            await agent.say(agent.ended(order))
            state = await over(second)
        assert (state.status, state.made, state.succeeded, state.cancelled) == ("cancelled", 3, 1, 2)
        cut.come_back()
        await trio.sleep(60)
        assert [len(kinds(log, kind)) for kind in ("TaskCreated", "TaskCancelled", "BackfillFinished")] == [3, 2, 1]
        nursery.cancel_scope.cancel()


async def begin(first: Server, second: Server, nursery: trio.Nursery, cut: CutOff) -> CutOff:
    """A backfill that the first server decides and an agent of the second one runs."""
    agent = ScriptedAgent(second.core.gateway.serve_connection, nursery)
    await agent.connect()
    nursery.start_soon(agent.run)
    nursery.start_soon(beat, agent)
    await a_backfill(first, second, concurrent=CONCURRENT, hooks=cut)
    return cut


async def a_backfill(first: Server, second: Server, *, concurrent: int, hooks: NoFaults | None = None) -> None:
    assert first.core.scheduler.leases.is_deciding
    await first.schedule(await first.job())
    await first.ask(Address("schedule", "s1"), DisableSchedule())
    begin_at, *_, end_at = window(state := await schedule(first))
    started = start_of("b1", state, begin_at, end_at, first.clock.now(), max_concurrent=concurrent)
    first.store.hooks = hooks or first.store.hooks
    await second.ask(BACKFILL, StartBackfill(start=started))


async def beat(agent: ScriptedAgent) -> None:
    for n in range(1, 10_000):
        await trio.sleep(5)
        await agent.heartbeat(n)


async def schedule(server: Server) -> ScheduleState:
    return (await server.core.system.read(Address("schedule", "s1"))).state


def window(state: ScheduleState) -> list[datetime]:
    return [state.anchor_at - timedelta(seconds=10 * n) for n in reversed(range(COUNT))]


async def over(server: Server) -> BackfillState:
    """The backfill, when it is over."""
    while True:
        state: BackfillState = (await server.core.system.read(BACKFILL)).state
        if state.start is not None and not state.open_tasks and not server.core.scheduler.backfills:
            return state
        await trio.sleep(1)


def kinds(log: MemoryLog, *types: str) -> list[RecordedEvent]:
    return [event for event in log.events if event.type in types]


def nominals(log: MemoryLog) -> list[datetime]:
    return [datetime.fromisoformat(data(event)["nominal_at"]) for event in kinds(log, "TaskCreated")]


def most_open(log: MemoryLog) -> int:
    """The most of its tasks that the log has open at once."""
    most = count = 0
    for event in log.events:
        count += (event.type == "TaskCreated") - (event.type in ENDS)
        most = max(most, count)
    return most
