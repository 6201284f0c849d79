"""asyncio in a thread: results, errors and cancellation cross as they should."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator

import pytest
import trio

from eventstore.errors import StoreClosed
from eventstore.postgres.bridge import Bridge


@pytest.fixture(name="bridge")
async def open_bridge() -> AsyncIterator[Bridge]:
    async with Bridge() as opened:
        yield opened


async def test_a_call_runs_in_the_thread_and_returns_its_result(bridge: Bridge) -> None:
    async def work(a: int, b: int) -> tuple[int, str]:
        await asyncio.sleep(0)
        return a + b, threading.current_thread().name

    assert await bridge.call(work, 1, 2) == (3, "postgres")


async def test_an_exception_crosses_as_it_is(bridge: Bridge) -> None:
    async def work() -> None:
        raise KeyError("x")

    with pytest.raises(KeyError, match="x"):
        await bridge.call(work)


async def test_a_cancelled_call_ends_only_when_the_asyncio_side_has_ended(bridge: Bridge) -> None:
    order: list[str] = []
    begun, release = trio.Event(), threading.Event()

    async def work() -> None:
        bridge.tell(begun.set)
        try:
            await asyncio.sleep(3600)
        finally:
            await asyncio.get_running_loop().run_in_executor(None, release.wait)
            order.append("asyncio ended")

    async def caller() -> None:
        try:
            await bridge.call(work)
        finally:
            order.append("trio ended")

    async with trio.open_nursery() as nursery:
        nursery.start_soon(caller)
        await begun.wait()
        nursery.cancel_scope.cancel()
        with trio.CancelScope(shield=True):
            await trio.testing.wait_all_tasks_blocked()
            assert order == []
        release.set()
    assert order == ["asyncio ended", "trio ended"]


async def test_a_cancelled_call_that_succeeds_all_the_same_keeps_its_result(bridge: Bridge) -> None:
    async def stubborn() -> str:
        try:
            await asyncio.sleep(3600)
        except asyncio.CancelledError:
            return "done"
        return "never"

    with trio.CancelScope() as scope:
        scope.cancel()
        with pytest.raises(trio.Cancelled):
            await bridge.call(stubborn)  # cancelled before it began: nothing was sent
    begun = trio.Event()

    async def work() -> str:
        bridge.tell(begun.set)
        return await stubborn()

    results: list[str] = []

    async def caller() -> None:
        results.append(await bridge.call(work))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(caller)
        await begun.wait()
        nursery.cancel_scope.cancel()
    assert results == ["done"]


async def test_many_calls_at_once(bridge: Bridge) -> None:
    async def work(n: int) -> int:
        await asyncio.sleep(0.001 * (n % 3))
        return n

    results: list[int] = []

    async def caller(n: int) -> None:
        results.append(await bridge.call(work, n))

    async with trio.open_nursery() as nursery:
        for n in range(300):
            nursery.start_soon(caller, n)
    assert sorted(results) == list(range(300))


async def test_the_end_of_the_bridge_ends_what_still_runs() -> None:
    ended: list[str] = []
    begun = trio.Event()

    async def work() -> None:
        bridge.tell(begun.set)
        try:
            await asyncio.sleep(3600)
        finally:
            ended.append("work")

    async def caller() -> None:
        with pytest.raises(StoreClosed):
            await bridge.call(work)

    async with trio.open_nursery() as nursery, Bridge() as bridge:
        nursery.start_soon(caller)
        await begun.wait()
    assert ended == ["work"]
    with pytest.raises(StoreClosed):
        await bridge.call(work)
    assert "postgres" not in [thread.name for thread in threading.enumerate() if thread.is_alive()]
