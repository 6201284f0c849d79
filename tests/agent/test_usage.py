"""What running instances use: few figures, evenly spread, and no message that a frame cannot hold."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from agent.usage import POINTS_MAX, SLOT_SECONDS, UsageLog, slot_of, stride_of
from hetuflow.protocol.codec import MESSAGE_BYTES_MAX, MESSAGES
from hetuflow.protocol.messages import UsagePoint

VALUES = {"cpu_seconds": 1.5, "memory_bytes": 2**40, "disk_read": 2**40, "disk_write": 2**40, "processes": 4096}


def drained(log: UsageLog) -> list[UsagePoint]:
    return [point for usage in log.take() for each in usage.instances for point in each.points]


@given(st.integers(0, 10**7))
def test_stride_is_the_least_power_of_two_that_keeps_within_the_bound(slot: int) -> None:
    stride = stride_of(slot)
    assert stride & (stride - 1) == 0 and slot // stride < POINTS_MAX
    assert stride == 1 or slot // (stride // 2) >= POINTS_MAX


@given(st.lists(st.floats(0.1, 500), min_size=1, max_size=600), st.integers(1, 50))
def test_what_is_kept_is_bounded_and_spread_whatever_the_samples(pauses: list[float], take_every: int) -> None:
    """`take` may come seldom; what was sent and is thinned by the rule is what the server keeps."""
    log, elapsed, sent = UsageLog(), 0.0, list[UsagePoint]()
    for number, pause in enumerate(pauses):
        elapsed += pause
        log.sampled("i", 1, elapsed, VALUES)
        if number % take_every == 0:
            sent += drained(log)
    while more := drained(log):
        sent += more
    slots = [slot_of(point.elapsed_seconds) for point in sent]
    assert slots == sorted(set(slots))
    stride = stride_of(slot_of(elapsed))
    kept = [slot for slot in slots if slot % stride == 0]
    assert len(kept) <= POINTS_MAX


def test_a_sample_in_every_slot_is_kept_and_thinned_as_the_run_grows() -> None:
    log, sent = UsageLog(), list[int]()
    for slot in range(3 * POINTS_MAX):
        log.sampled("i", 1, slot * SLOT_SECONDS + 1, VALUES)
        sent += [slot_of(point.elapsed_seconds) for point in drained(log)]
    assert sent[:POINTS_MAX] == list(range(POINTS_MAX))
    assert sent[POINTS_MAX:] == [*range(POINTS_MAX, 2 * POINTS_MAX, 2), *range(2 * POINTS_MAX, 3 * POINTS_MAX, 4)]


def test_the_latest_figures_are_told_once_and_only_of_what_runs() -> None:
    log = UsageLog()
    log.sampled("a", 1, 3.0, VALUES)
    log.sampled("a", 1, 4.0, {**VALUES, "processes": 2, "not_known_here": 1})
    log.sampled("b", 1, 1.0, VALUES)
    log.ended("b")
    [usage] = log.take()
    [told] = usage.instances
    assert (told.instance_id, told.latest.elapsed_seconds, told.latest.processes) == ("a", 4.0, 2)
    assert [point.elapsed_seconds for point in told.points] == [3.0]
    assert log.take() == []


def test_a_new_epoch_begins_anew() -> None:
    log = UsageLog()
    log.sampled("a", 1, 500.0, VALUES)
    log.sampled("a", 2, 1.0, VALUES)
    [usage] = log.take()
    assert [(each.epoch, [point.elapsed_seconds for point in each.points]) for each in usage.instances] == [(2, [1.0])]


def test_no_message_is_too_large_for_a_frame() -> None:
    log = UsageLog()
    for slot in range(2 * POINTS_MAX):
        for number in range(120):
            log.sampled(f"0198c0de-0000-7000-8000-{number:012}", 10**6, slot * SLOT_SECONDS, VALUES)
    messages = log.take()
    assert len(messages) == 3
    assert max(len(MESSAGES.encode(message)) for message in messages) < MESSAGE_BYTES_MAX // 2
