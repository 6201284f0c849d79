"""A paused node is a stopped process: nothing of it runs, and what it missed it meets in order when it is continued."""

from __future__ import annotations

import trio

from tests.support.nodes import Node, start_outside
from tests.support.simulate import run


def test_a_paused_node_does_nothing_and_then_everything_in_order() -> None:
    """Trio's queue of runnable tasks is private: an upgrade that finds another way into it fails here first."""

    async def main() -> list[tuple[str, float]]:
        seen: list[tuple[str, float]] = []
        node, event = Node("a"), trio.Event()
        outbox, inbox = trio.open_memory_channel[str](9)

        async def tick() -> None:
            while True:
                await trio.sleep(1)
                seen.append(("tick", trio.current_time()))

        async def wait() -> None:
            await event.wait()
            seen.append(("event", trio.current_time()))

        async def hurry() -> None:
            with trio.move_on_after(3.5):
                await trio.sleep_forever()
            seen.append(("deadline", trio.current_time()))

        async def receive() -> None:
            async for word in inbox:
                seen.append((word, trio.current_time()))

        async def child() -> None:
            async with trio.open_nursery() as inner:
                inner.start_soon(receive)
                inner.start_soon(wait)

        async with trio.open_nursery() as nursery:
            node.start_soon(nursery, tick)
            node.start_soon(nursery, hurry)
            node.start_soon(nursery, child)
            await trio.sleep(2.1)
            node.pause()
            outbox.send_nowait("said")
            await trio.sleep(2)
            event.set()
            await trio.sleep(6)
            seen.append(("resumed", trio.current_time()))
            node.resume()
            await trio.sleep(1.5)
            nursery.cancel_scope.cancel()
        return seen

    seen = run(1, main)
    assert seen[:3] == [("tick", 1.0), ("tick", 2.0), ("resumed", 10.1)]
    assert sorted(seen[3:-1]) == [("deadline", 10.1), ("event", 10.1), ("said", 10.1), ("tick", 10.1)]
    assert seen[-1] == ("tick", 11.1)


def test_a_paused_node_is_cancelled_when_it_is_continued() -> None:
    async def main() -> list[str]:
        seen: list[str] = []
        node, scope = Node("a"), trio.CancelScope()

        async def work() -> None:
            with scope:
                try:
                    await trio.sleep_forever()
                finally:
                    seen.append("ended")

        async with trio.open_nursery() as nursery:
            node.start_soon(nursery, work)
            await trio.sleep(1)
            node.pause()
            scope.cancel()
            await trio.sleep(1)
            seen.append("continued")
            node.resume()
        return seen

    assert run(1, main) == ["continued", "ended"]


def test_what_is_started_outside_goes_on() -> None:
    async def main() -> list[float]:
        seen: list[float] = []
        node = Node("a")

        async def kernel() -> None:
            await trio.sleep(5)
            seen.append(trio.current_time())

        async def work(nursery: trio.Nursery) -> None:
            start_outside(nursery, kernel)
            await trio.sleep_forever()

        async with trio.open_nursery() as nursery:
            node.start_soon(nursery, work, nursery)
            await trio.sleep(1)
            node.pause()
            await trio.sleep(9)
            node.resume()
            nursery.cancel_scope.cancel()
        return seen

    assert run(1, main) == [5.0]
