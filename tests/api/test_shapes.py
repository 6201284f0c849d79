"""The parser of request bodies: all problems, in order, with paths and suggestions; nothing dropped in silence."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hetuflow.api.coded import Code
from hetuflow.api.kinds import Time, Uuid, parse_time
from hetuflow.api.problems import Problems, distance, nearest, resembles
from hetuflow.api.schemas.agent import AGENT
from hetuflow.api.schemas.config import CONFIG
from hetuflow.api.schemas.job import JOB
from hetuflow.api.schemas.schedule import SCHEDULE, check_schedule
from hetuflow.api.schemas.task import RUN, TASK, TASK_STATUS
from hetuflow.api.shapes import Entity, Given, Shape, read, read_mask
from hetuflow.domain.config import DEFAULTS
from hetuflow.domain.enums import ScheduleKind, TaskStatus

JOB_ID = "550e8400-e29b-41d4-a716-446655440000"


def parse(
    shape: Shape, document: Mapping[str, Any], stored: Mapping[str, Any] | None = None, mask: Any = None
) -> tuple[Given, list[tuple[str, str | None]]]:
    problems = Problems()
    names = read_mask(shape, mask, problems)
    found = read(shape, document, problems, stored=stored, mask=names)
    return found, [(problem.path, problem.suggestion) for problem in problems.in_order_of(list(document))]


def paths(shape: Shape, document: Mapping[str, Any], **more: Any) -> list[str]:
    return [path for path, _ in parse(shape, document, **more)[1]]


def test_all_problems_come_in_the_order_of_the_request() -> None:
    document = {"staus": 1, "config": {"timeout": "5m", "max_retries": 1001, "args": "x"}, "agent_id": "a b", "id": "x"}
    assert paths(JOB.create, document) == [
        "staus",
        "config.timeout",
        "config.max_retries",
        "config.args",
        "agent_id",
        "id",
        "name",
    ]


def test_null_is_not_given_and_a_required_member_is_missed() -> None:
    found, problems = parse(JOB.create, {"name": None, "description": None, "config": None})
    assert found.members == {}
    assert problems == [("name", None)]


@pytest.mark.parametrize(
    ("sent", "meant"), [("nmae", "name"), ("Name", "name"), ("discription", "description"), ("environ", "environment")]
)
def test_an_unknown_member_is_told_the_nearest_name(sent: str, meant: str) -> None:
    assert parse(JOB.update, {sent: "x"})[1] == [(sent, meant)]


@pytest.mark.parametrize("sent", ["resource_limits", "timeout", "python"])
def test_a_member_of_config_that_is_given_beside_it_is_told_its_place(sent: str) -> None:
    assert parse(JOB.create, {"name": "x", "config": {}, sent: {}})[1] == [(sent, f"config.{sent}")]


@pytest.mark.parametrize(
    ("sent", "meant"),
    [
        ("timout", "timeout"),
        ("time_out", "timeout"),
        ("maxRetries", "max_retries"),
        ("retries", "max_retries"),
        ("env", "environment"),
        ("label", "labels"),
        ("output", "capture_output"),
        ("resource_limit", "resource_limits"),
        ("retrycount", "retry_count"),
    ],
)
def test_an_open_member_of_config_that_resembles_a_known_one_is_refused(sent: str, meant: str) -> None:
    assert parse(JOB.create, {"name": "x", "config": {sent: 1}})[1] == [(f"config.{sent}", meant)]


@pytest.mark.parametrize("sent", ["param1", "owner", "x", "team_name", "type", "params2"])
def test_other_open_members_of_config_are_kept(sent: str) -> None:
    found, problems = parse(JOB.create, {"name": "x", "config": {sent: {"deep": [None, 1]}}})
    assert not problems
    assert found.members["config"] == {sent: {"deep": [None, 1]}}


@pytest.mark.parametrize("sent", sorted(CONFIG.reserved))
def test_reserved_members_are_refused_until_they_are_built(sent: str) -> None:
    assert paths(JOB.create, {"name": "x", "config": {sent: None}}) == [f"config.{sent}"]


def test_ignored_members_have_no_effect() -> None:
    found, problems = parse(JOB.create, {"name": "x", "config": {"retry_count": "anything", "timeout": 1}})
    assert not problems
    assert found.members["config"] == {"timeout": 1}


@pytest.mark.parametrize(
    "config",
    [
        {"resource_limits": {"max_memory_mb": 0}},
        {"resource_limits": {"max_cpu_percent": 0}},
        {"files": {"../x": ""}},
        {"secrets": {}},
        {"on_disconnekt": "stop"},
        {"lost_after": 60},
        {"resource_limits": {"max_memory": 1}},
        {"environment": {"1X": "a"}},
        {"environment": {"X": None}},
        {"environment": {"X": ["a"]}},
        {"labels": {"gpu": True}},
        {"args": ["a", 1]},
        {"args": ["a\0b"]},
        {"cmd": ""},
        {"timeout": -1},
        {"timeout": True},
        {"timeout": 1.5},
        {"timeout": 2**53},
        {"free": 2**53},
        {"free": ["\0"]},
        {"free": "\ud800"},
        {"free": float("inf")},
    ],
)
def test_bad_values_of_config_are_one_problem_each(config: dict[str, Any]) -> None:
    assert len(paths(JOB.create, {"name": "x", "config": config})) == 1


def test_every_default_of_the_document_is_the_domains() -> None:
    assert {member.name: member.default for member in CONFIG.members} == {
        name: list(value) if isinstance(value, tuple) else value for name, value in DEFAULTS.items()
    }


# --- aliases ----------------------------------------------------------------------------------------------------------


def test_two_names_with_equal_values_are_fine_and_with_others_are_not() -> None:
    base = {"job_id": JOB_ID}
    fine = {**base, "kind": "interval", "schedule_kind": 2, "interval_secs": 60, "interval_seconds": 60}
    found, problems = parse(SCHEDULE.create, fine)
    assert not problems
    assert found.members["interval_secs"] == 60
    assert paths(SCHEDULE.create, {**fine, "interval_seconds": 61}) == ["interval_seconds"]
    assert paths(SCHEDULE.create, {**fine, "schedule_kind": "Cron"}) == ["schedule_kind"]
    assert paths(SCHEDULE.create, {**fine, "status": 100, "enabled": False}) == ["enabled"]


@pytest.mark.parametrize("order", [1, -1])
def test_on_update_the_name_that_equals_what_is_stored_gives_way(order: int) -> None:
    def sent(**members: Any) -> dict[str, Any]:
        return dict(list(members.items())[::order])

    stored = {"status": 100, "schedule_kind": 1}
    assert parse(SCHEDULE.update, sent(status=99, enabled=True), stored)[0].members == {"status": 99}
    assert parse(SCHEDULE.update, sent(status=100, enabled=False), stored)[0].members == {"status": 99}
    assert len(paths(SCHEDULE.update, sent(status=1, enabled=False), stored=stored)) == 1


def test_once_is_interval_with_one_fire() -> None:
    document = {"job_id": JOB_ID, "kind": "Once", "start_time": "2030-01-01T00:00:00Z"}
    problems = Problems()
    found = read(SCHEDULE.create, document, problems)
    check_schedule(found, problems, {}, "UTC")
    assert not problems
    assert (found.members["schedule_kind"], found.members["max_count"]) == (2, 1)
    assert type(found.members["schedule_kind"]) is int


@pytest.mark.parametrize(
    ("members", "path"),
    [
        ({"kind": "cron"}, "cron_expression"),
        ({"kind": "interval"}, "interval_secs"),
        ({"kind": "once"}, "start_time"),
        ({"kind": "once", "max_count": 2, "start_time": "2030-01-01T00:00:00Z"}, "max_count"),
        ({"kind": "cron", "cron_expression": "61 * * * *"}, "cron_expression"),
        ({"kind": "cron", "cron_expression": "0 0 30 2 *"}, "cron_expression"),
        ({"kind": "cron", "cron_expression": "0 0 * * *", "timezone": "Mars/Olympus"}, "timezone"),
        (
            {
                "kind": "interval",
                "interval_secs": 1,
                "start_time": "2030-01-01T00:00:00Z",
                "end_time": "2029-01-01T00:00:00Z",
            },
            "end_time",
        ),
        ({"kind": "event"}, "event_type"),
        ({"kind": "daemon", "daemon": {"instances": 1001}}, "daemon.instances"),
        ({"kind": "daemon", "daemon": {"instnaces": 1}}, "daemon.instnaces"),
        ({"kind": "daemon", "daemon": {"backoff_factor": 0.5}}, "daemon.backoff_factor"),
        (
            {"kind": "daemon", "daemon": {"backoff_initial_seconds": 10, "backoff_max_seconds": 5}},
            "daemon.backoff_max_seconds",
        ),
        ({"kind": "flow", "run_flow": True, "pause_on_failures": 2}, "pause_on_failures"),
        ({"kind": "interval", "interval_secs": 60, "overlap_policy": "perhaps"}, "overlap_policy"),
        ({"kind": "interval", "interval_secs": 60, "jitter_seconds": -5}, "jitter_seconds"),
        ({"kind": "cron", "cron_expression": "0 0 * * *", "interval_mode": "fixed_delay"}, "interval_mode"),
        ({"kind": "once", "start_time": "2030-01-01T00:00:00Z", "interval_mode": "fixed_delay"}, "interval_mode"),
        (
            {"kind": "interval", "interval_secs": 60, "interval_mode": "fixed_delay", "misfire_policy": "fire_all"},
            "misfire_policy",
        ),
        ({"kind": "interval", "interval_secs": 60, "max_count": 2, "pause_on_failures": 2}, "pause_on_failures"),
        ({"kind": "interval", "interval_secs": 60, "max_age_seconds": 0}, "max_age_seconds"),
        ({"kind": "interval", "interval_secs": 60, "misfire_policy": "never"}, "misfire_policy"),
        ({"kind": "interval", "interval_secs": 60, "start_time": "2030-01-01T00:00:00"}, "start_time"),
    ],
)
def test_rules_of_schedules(members: dict[str, Any], path: str) -> None:
    problems = Problems()
    found = read(SCHEDULE.create, {"job_id": JOB_ID, **members}, problems)
    check_schedule(found, problems, {}, "UTC")
    assert [problem.path for problem in problems] == [path]


# --- updates ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("entity", [JOB, SCHEDULE, TASK, AGENT], ids=lambda entity: entity.title)
def test_every_member_of_an_answer_may_be_sent_back(entity: Entity) -> None:
    """As far as names go: read-only ones are ignored, fixed ones must equal what is stored."""
    returned = [member.name for member in entity.members if member.is_returned]
    shown = [alias.name for member in entity.members for alias in member.aliases if alias.shown is not None]
    for name in (*returned, *shown):
        update = entity.update
        assert name in update.names or name in update.ignored or name in update.fixed, name


def test_a_fixed_member_must_equal_what_is_stored() -> None:
    stored = {"id": JOB_ID, "job_id": JOB_ID, "schedule_id": None, "schedule_kind": 4}
    assert not paths(TASK.update, {"id": JOB_ID.upper(), "job_id": JOB_ID, "schedule_kind": "event"}, stored=stored)
    other = JOB_ID.replace("5", "6")
    assert paths(TASK.update, {"id": other, "schedule_id": other}, stored=stored) == ["id", "schedule_id"]


def test_update_mask_writes_exactly_the_named_members() -> None:
    document = {"name": "n", "description": None, "status": 99}
    for mask in (
        ["name", "description"],
        {"paths": ["name", "description"]},
        {"name": True, "description": True, "status": False},
    ):
        found, problems = parse(JOB.update, document, stored={}, mask=mask)
        assert not problems
        assert found.members == {"name": "n", "description": None}


def test_a_member_beside_the_mask_is_read_all_the_same() -> None:
    assert paths(JOB.update, {"name": "x", "agent_id": 5}, stored={}, mask=["name"]) == ["agent_id"]


def test_update_mask_refuses_to_clear_what_cannot_be_null() -> None:
    assert paths(JOB.update, {"name": None}, stored={}, mask=["name"]) == ["name"]
    assert parse(JOB.update, {}, stored={}, mask=["nmae"])[1] == [("update_mask.nmae", "name")]
    assert paths(JOB.update, {}, stored={}, mask="name") == ["update_mask"]


# --- kinds ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", list(TaskStatus))
def test_an_enum_takes_code_number_and_name(status: TaskStatus) -> None:
    name = status.name
    for sent in (
        int(status),
        str(int(status)),
        name,
        name.lower(),
        name.replace("_", "-"),
        name.title().replace("_", ""),
    ):
        assert TASK_STATUS.parse(sent, "status", Problems()) == status


def test_an_unknown_enum_value_is_told_the_names() -> None:
    problems = Problems()
    Code(ScheduleKind).parse("Intervall", "kind", problems)
    [problem] = problems
    assert problem.suggestion == "Interval"
    assert "Interval (2)" in problem.message
    for bad in (7, True, "", None, 1.5, [1], "0x1"):
        assert Code(ScheduleKind).code(bad) is None
    assert TASK_STATUS.parse("Doing", "status", Problems()) == TaskStatus.RUNNING


@pytest.mark.parametrize(
    ("text", "utc"),
    [
        ("2026-01-31T08:00:00Z", "2026-01-31T08:00:00+00:00"),
        ("2026-01-31t08:00:00.123456789z", "2026-01-31T08:00:00.123456+00:00"),
        ("2026-01-31 08:00:00.5+01:30", "2026-01-31T06:30:00.500000+00:00"),
        ("2016-12-31T23:59:60Z", "2017-01-01T00:00:00+00:00"),
    ],
)
def test_times_are_read_to_the_microsecond(text: str, utc: str) -> None:
    at = parse_time(text)
    assert at is not None and at.isoformat() == utc


@pytest.mark.parametrize(
    "text",
    [
        "2026-01-31T08:00:00",
        "2026-01-31",
        "2026-02-30T08:00:00Z",
        "2026-01-31T24:00:00Z",
        "2026-01-31T08:00:00+0100",
        "2026-01-31T08:00:00+24:00",
        "0001-01-01T00:00:00+01:00",
        "2026-1-31T08:00:00Z",
        "٢٠٢٦-01-31T08:00:00Z",
        "20260131T080000Z",
        "",
    ],
)
def test_times_without_offset_or_of_another_form_are_refused(text: str) -> None:
    problems = Problems()
    Time().parse(text, "at", problems)
    assert len(problems) == 1


def test_uuids_are_lower_case_and_neither_nil_nor_max_when_chosen() -> None:
    assert Uuid().parse(JOB_ID.upper(), "id", Problems()) == JOB_ID
    for bad in (
        "0" * 8 + "-0000-0000-0000-" + "0" * 12,
        "f" * 8 + "-ffff-ffff-ffff-" + "f" * 12,
        JOB_ID.replace("-", ""),
        5,
    ):
        problems = Problems()
        Uuid(chosen=True).parse(bad, "id", problems)
        assert len(problems) == 1


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
        lambda v: st.lists(v) | st.dictionaries(st.text(), v),
        max_leaves=12,
    )
)
def test_no_value_of_any_member_raises(value: Any) -> None:
    for shape in (JOB.create, SCHEDULE.create, TASK.create, AGENT.create, RUN):
        for name in shape.names:
            parse(shape, {name: value})
    parse(JOB.update, {}, stored={}, mask=value)


# --- names ------------------------------------------------------------------------------------------------------------


@given(st.text("abc_", max_size=6), st.text("abc_", max_size=6), st.text("abc_", max_size=6))
def test_distance_is_symmetric_and_zero_only_for_equals(a: str, b: str, c: str) -> None:
    assert distance(a, b) == distance(b, a)
    assert (distance(a, b) == 0) == (a == b)
    assert distance(a, b) <= max(len(a), len(b))


def test_of_equally_near_names_the_one_with_letters_left_out_wins() -> None:
    assert nearest("lke", ["lte", "like"]) == "like"
    assert nearest("x", []) is None


@given(st.sampled_from([member.name for member in CONFIG.members]), st.data())
def test_one_slip_in_a_known_name_resembles_it(name: str, data: st.DataObject) -> None:
    at = data.draw(st.integers(0, len(name) - 1))
    assert resembles(name[:at] + name[at + 1 :], name)
    assert resembles(name[:at] + "q" + name[at:], name)
    assert resembles(name.upper().replace("_", "-"), name)
