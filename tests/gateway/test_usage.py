"""What agents tell of their instances: believed about their own, gathered, dropped rather than waited for."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import trio
from trio.testing import MockClock

from hetuflow.gateway.usage import (
    AGENT_POINT_SECONDS,
    GATHER_SECONDS,
    WAITING_MAX,
    Beat,
    Condition,
    UsageAt,
    UsageIntake,
    UsageUnavailable,
    bounded,
)
from hetuflow.protocol.messages import InstanceUsage, UsagePoint

START = datetime(2026, 1, 5, 8, tzinfo=UTC)


class Sink:
    def __init__(self) -> None:
        self.stored: list[tuple[float, list[str], list[str]]] = []
        self.is_away = False

    async def store(self, points: Sequence[UsageAt], beats: Sequence[tuple[str, Beat]]) -> None:
        if self.is_away:
            raise UsageUnavailable("away")
        self.stored.append((trio.current_time(), [each.instance_id for each in points], [each for each, _ in beats]))


def used(name: str) -> UsageAt:
    return UsageAt(name, 1, START, UsagePoint(elapsed_seconds=1.0))


async def test_what_comes_within_some_seconds_is_written_at_once(autojump_clock: MockClock) -> None:
    sink = Sink()
    intake = UsageIntake(sink)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(intake.run)
        await trio.sleep(100)
        intake.put([used("a")])
        intake.put([used("b")], [("agent-1", Beat(START, {}))])
        await trio.sleep(GATHER_SECONDS + 1)
        intake.put([used("c")])
        await trio.sleep(3600)
        nursery.cancel_scope.cancel()
    assert sink.stored == [
        (100 + GATHER_SECONDS, ["a", "b"], ["agent-1"]),
        (101 + 2 * GATHER_SECONDS, ["c"], []),
    ]


async def test_while_it_cannot_be_stored_the_newest_are_kept_and_the_rest_counted(autojump_clock: MockClock) -> None:
    sink = Sink()
    sink.is_away = True
    intake = UsageIntake(sink)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(intake.run)
        for number in range(WAITING_MAX + 10):
            intake.put([used(str(number))])
            if number % 5000 == 0:
                await trio.sleep(GATHER_SECONDS * 2)
        sink.is_away = False
        await trio.sleep(600)
        nursery.cancel_scope.cancel()
    [(_, points, _)] = sink.stored
    assert points == [str(number) for number in range(10, WAITING_MAX + 10)] and intake.dropped == 10


def test_times_are_counted_back_from_the_latest_figures() -> None:
    condition = Condition()
    told = InstanceUsage(
        instance_id="i",
        epoch=1,
        latest=UsagePoint(elapsed_seconds=30.0, cpu_seconds=15.0),
        points=(UsagePoint(elapsed_seconds=10.0), UsagePoint(elapsed_seconds=20.0), UsagePoint(elapsed_seconds=31.0)),
    )
    kept = condition.use(told, START)
    assert [each.at for each in kept] == [START - timedelta(seconds=20), START - timedelta(seconds=10)]
    assert condition.usage["i"].cores == 0.5
    more = InstanceUsage(instance_id="i", epoch=1, latest=UsagePoint(elapsed_seconds=40.0, cpu_seconds=35.0))
    assert condition.use(more, START) == [] and condition.usage["i"].cores == 2.0
    again = InstanceUsage(instance_id="i", epoch=2, latest=UsagePoint(elapsed_seconds=4.0, cpu_seconds=1.0))
    condition.use(again, START)
    assert condition.usage["i"].cores == 0.25
    condition.forget("i")
    assert not condition.usage


@pytest.mark.parametrize("figure", [
    {"elapsed_seconds": float("nan")}, {"elapsed_seconds": -1.0}, {"elapsed_seconds": 1.0, "memory_bytes": 2**63},
    {"elapsed_seconds": 1.0, "processes": 2**31}, {"elapsed_seconds": 1.0, "cpu_seconds": float("inf")},
])  # fmt: skip
def test_what_the_tables_cannot_hold_is_left_out(figure: dict[str, Any]) -> None:
    condition = Condition()
    bad = UsagePoint(**figure)
    good = UsagePoint(elapsed_seconds=5.0)
    assert condition.use(InstanceUsage(instance_id="i", epoch=1, latest=good, points=(bad,)), START) == []
    assert condition.use(InstanceUsage(instance_id="j", epoch=1, latest=bad, points=(good,)), START) == []
    assert list(condition.usage) == ["i"]


def test_about_one_heartbeat_in_a_minute_is_kept_whatever_the_clock_does() -> None:
    condition, kept = Condition(), []
    for seconds in [*range(0, 200, 7), 100, 1000]:
        beat = condition.beat({"load": 1.0}, START + timedelta(seconds=seconds))
        if beat is not None:
            kept.append((beat.at - START).total_seconds())
    assert kept == [0, 63, 126, 189, 100, 1000]
    assert AGENT_POINT_SECONDS == 60 and len(condition.beats) == 10


def test_facts_are_what_json_holds_and_short() -> None:
    deep: Any = "x"
    for _ in range(50):
        deep = {"a": deep}
    shown = bounded(
        {"text": "a\0" + "b" * 10_000, "number": float("inf"), "many": list(range(1000)), "deep": deep, "odd": b"1"}
    )
    assert (shown["text"][:2], len(shown["text"]), shown["number"], len(shown["many"])) == ("a\ufffd", 500, None, 200)
    assert len(repr(shown["deep"])) < 1000 and shown["odd"] == "b'1'"
