"""What comes thick shares a turn; what is alone does not wait."""

from __future__ import annotations

import trio
import trio.testing

from agent.gathering import WINDOW_SECONDS_MAX, Gathering, window_seconds
from agent.wakeup import Wakeup


def test_the_window_is_as_long_as_there_is_to_share() -> None:
    assert [window_seconds(0), window_seconds(1)] == [0, 0]
    assert 0 < window_seconds(4) < window_seconds(16) <= WINDOW_SECONDS_MAX == window_seconds(1000)


def test_only_what_follows_closely_waits() -> None:
    gathering, window = Gathering(), window_seconds(1000)
    assert gathering.done(10.0, 1000) == 10.0
    assert gathering.done(10.0 + window / 2, 1000) == 10.0 + window / 2 + window
    assert gathering.done(20.0, 1000) == 20.0
    assert gathering.done(20.0 + window / 2, 1) == 20.0 + window / 2


async def test_what_is_wanted_soon_may_wait_for_the_rest(autojump_clock: trio.testing.MockClock) -> None:
    wakeup = Wakeup()
    wakeup.soon()
    await wakeup.wait(rest_until=4.0)
    assert trio.current_time() == 4.0


async def test_what_is_wanted_now_does_not(autojump_clock: trio.testing.MockClock) -> None:
    wakeup = Wakeup()

    async def later() -> None:
        await trio.sleep(1)
        wakeup.soon()
        await trio.sleep(1)
        wakeup.set()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(later)
        await wakeup.wait(rest_until=4.0)
        assert trio.current_time() == 2.0
    await wakeup.wait(until=3.0, rest_until=4.0)  # a deadline comes first, and both wishes were heard
    assert trio.current_time() == 3.0


async def test_after_the_rest_soon_is_now(autojump_clock: trio.testing.MockClock) -> None:
    wakeup = Wakeup()

    async def later() -> None:
        await trio.sleep(6)
        wakeup.soon()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(later)
        await wakeup.wait(rest_until=4.0)
        assert trio.current_time() == 6.0
