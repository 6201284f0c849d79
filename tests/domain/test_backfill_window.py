"""The window of a backfill: the nominal times that a preview shows for it, over every change of the clocks, and its bounds."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import attrs
import pytest
from hypothesis import given as property_of
from hypothesis import settings
from hypothesis import strategies as st

from hetuflow.domain.backfill import BACKFILL
from hetuflow.domain.backfill_window import TOTAL_MAX, start_of, trigger_of
from hetuflow.domain.commands import AdvanceBackfill, NoteBackfillEnds, StartBackfill, TaskEnd
from hetuflow.domain.decider import Address
from hetuflow.domain.identity import task_id_of
from hetuflow.domain.preview import preview
from hetuflow.domain.rejection import Rejected
from hetuflow.domain.schedule_state import JUST_BEFORE, ScheduleState
from hetuflow.domain.trigger import occurrences_between
from tests.support.given import NOW, given
from tests.support.schedules import SCHEDULE_ID, a_cron, a_minutely, a_schedule
from tests.support.tasks import a_job

CHANGES = {
    "Europe/Berlin": ("2025-03-30T01:00Z", "2025-10-26T01:00Z"),
    "America/New_York": ("2025-03-09T07:00Z", "2025-11-02T06:00Z"),
    "Australia/Lord_Howe": ("2025-04-05T15:00Z", "2025-10-04T15:30Z"),
    "America/Santiago": ("2025-04-06T03:00Z", "2025-09-07T04:00Z"),
    "UTC": ("2025-06-01T00:00Z",),
}
"""Zone -> instants at which its clocks change; whole and half hours, at night and at midnight."""

EXPRESSIONS = ("30 2 * * *", "0 0 * * *", "*/20 * * * *", "15 */2 * * *", "0 0/30 1-3 * * ?", "0 1,2 * * SUN", "@daily")
HOUR = timedelta(hours=1)


@st.composite
def windows(draw: st.DrawFn) -> tuple[ScheduleState, datetime, datetime]:
    """A schedule, and a window of days about a change of its zone's clocks."""
    zone = draw(st.sampled_from(sorted(CHANGES)))
    change = datetime.fromisoformat(draw(st.sampled_from(CHANGES[zone]))).astimezone(UTC)
    edges = draw(st.lists(st.integers(-60 * 36, 60 * 36), min_size=2, max_size=2).map(sorted))
    begin, end = (change + timedelta(minutes=minutes) for minutes in edges)
    bounds = {
        "start_time": draw(st.sampled_from([None, None, change - 7 * HOUR, change + HOUR / 2])),
        "end_time": draw(st.sampled_from([None, NOW + 1000 * HOUR])),
    }
    expression = draw(st.sampled_from([None, *EXPRESSIONS]))
    if expression is not None:
        return a_schedule(a_cron(expression, timezone=zone, **bounds)).state, begin, end
    bounds["start_time"] = change - 50 * HOUR
    return a_schedule(a_minutely(interval_secs=60 * draw(st.integers(7, 90)), **bounds)).state, begin, end


def previewed(state: ScheduleState, begin: datetime, end: datetime) -> list[datetime]:
    found = preview(state, state.anchor_at, now=NOW, after=begin - JUST_BEFORE, count=1000, fires_left=None)
    return [each.at for each in found.fires if each.at <= end]


@settings(max_examples=150, deadline=None)
@property_of(windows())
def test_its_times_are_those_that_a_preview_shows_and_each_becomes_a_task(
    drawn: tuple[ScheduleState, datetime, datetime],
) -> None:
    state, begin, end = drawn
    expected = previewed(state, begin, end)
    if not expected:
        with pytest.raises(Rejected, match="no nominal time"):
            start_of("b", state, begin, end, NOW, max_concurrent=100)
        return
    start = start_of("b", state, begin, end, NOW, max_concurrent=100)
    rule = trigger_of(attrs.asdict(start, recurse=False))
    assert list(occurrences_between(rule, begin - JUST_BEFORE, end, 1000)) == expected
    assert start.total == len(expected)
    assert made_by(StartBackfill(start=start), expected) == [task_id_of(SCHEDULE_ID, at) for at in expected]


def made_by(start: StartBackfill, times: list[datetime]) -> list[str]:
    """The tasks that it makes, in their order, when each ends at once."""
    at, made = given(BACKFILL).when(start), list[str]()
    none_exists = dict.fromkeys((task_id_of(SCHEDULE_ID, each) for each in times), False)
    while at.state.is_running:
        at = at.when(AdvanceBackfill(job=a_job(), has_task=none_exists, guards=()))
        opened = [address.id for address in at.decision.opened if isinstance(address, Address)]
        made += opened
        ends = [TaskEnd(task_id=task_id, status=100, ended_at=NOW) for task_id in opened]
        at = at.when(NoteBackfillEnds(ends=ends))
    assert (at.state.made, at.state.left_out, at.state.succeeded) == (len(made), 0, len(made))
    return made


@pytest.mark.parametrize(("more", "is_refused"), [(0, False), (1, True)])
def test_the_bound_of_its_nominal_times_is_exact(more: int, is_refused: bool) -> None:
    state = a_schedule(a_minutely(interval_secs=1)).state
    window = NOW - timedelta(seconds=TOTAL_MAX - 1 + more), NOW
    if is_refused:
        with pytest.raises(Rejected) as refused:
            start_of("b", state, *window, NOW, max_concurrent=1)
        assert refused.value.detail["path"] == "to" and f"{TOTAL_MAX + 1} nominal times" in str(refused.value)
    else:
        assert start_of("b", state, *window, NOW, max_concurrent=1).total == TOTAL_MAX


@property_of(first=st.integers(-10_000, 10_000), last=st.integers(-10_000, 10_000))
def test_a_window_is_refused_by_its_member_or_lies_in_what_is_decided(first: int, last: int) -> None:
    """No window whatsoever reaches what the schedule itself will decide."""
    state = a_schedule(a_minutely()).state
    begin, end = NOW + timedelta(seconds=first), NOW + timedelta(seconds=last)
    try:
        start = start_of("b", state, begin, end, NOW, max_concurrent=1)
    except Rejected as refused:
        has_none = begin > NOW or begin > end or not any((first <= 60 * n <= min(last, 0)) for n in range(-200, 1))
        assert has_none and refused.detail["path"] == ("to" if end < begin else "from")
    else:
        assert begin <= end and start.until_at <= NOW and start.total >= 1


def test_a_window_after_the_end_of_an_interval_has_no_times() -> None:
    """Of one without a beginning, whose grid is counted from the window."""
    state = a_schedule(a_minutely(interval_secs=3600, start_time=None, end_time=NOW + 10 * HOUR)).state
    with pytest.raises(Rejected, match="no nominal time"):
        start_of("b", state, NOW + 11 * HOUR, NOW + 30 * HOUR, NOW + 40 * HOUR, max_concurrent=1)
