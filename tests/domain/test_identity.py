"""Derived ids: the same for whoever decides, shaped as version 7, and frozen for ever."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from uuid import RFC_4122, UUID

from hypothesis import given
from hypothesis import strategies as st

from hetuflow.domain.identity import instance_id_of, task_id_of

SCHEDULE = "0198c0de-0000-7000-8000-000000000001"
NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
moments = st.datetimes(datetime(1970, 1, 1), datetime(9999, 12, 31), timezones=st.just(UTC))  # noqa: DTZ001


def test_ids_never_change_between_releases() -> None:
    """Two servers of different versions must name one task alike, and an id once used is never free again."""
    assert task_id_of(SCHEDULE, NOON) == "019ca945-0a00-7b5f-8dc3-3e20935680ea"
    assert instance_id_of("019ca945-0a00-7b5f-8dc3-3e20935680ea", 1) == "019ca945-0a00-7b72-9575-2cb6807b4780"


@given(moments, st.uuids())
def test_task_ids_are_version_7_and_carry_the_nominal_time(at: datetime, schedule: UUID) -> None:
    derived = UUID(task_id_of(str(schedule), at))
    assert (derived.version, derived.variant) == (7, RFC_4122)
    assert derived.int >> 80 == (at - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(milliseconds=1)


@given(st.uuids(), st.integers(1, 2000))
def test_instance_ids_are_version_7_and_sort_beside_their_task(task: UUID, attempt: int) -> None:
    derived = UUID(instance_id_of(str(task), attempt))
    assert (derived.version, derived.variant) == (7, RFC_4122)
    assert derived.int >> 80 == task.int >> 80


def test_the_zone_of_an_instant_does_not_matter() -> None:
    assert task_id_of(SCHEDULE, NOON) == task_id_of(SCHEDULE, NOON.astimezone(timezone(timedelta(hours=5, minutes=30))))


def test_other_schedules_times_and_attempts_give_other_ids() -> None:
    times = [NOON + timedelta(microseconds=n) for n in range(500)]
    tasks = {task_id_of(s, at) for s in (SCHEDULE, SCHEDULE[:-1] + "2") for at in times}
    instances = {instance_id_of(task, attempt) for task in tasks for attempt in (1, 2)}
    assert (len(tasks), len(instances), len(tasks | instances)) == (1000, 2000, 3000)


def test_what_is_created_is_text_that_a_uuid_prints_the_same() -> None:
    derived = task_id_of(SCHEDULE, NOON)
    assert str(UUID(derived)) == derived
