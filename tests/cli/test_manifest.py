"""The members of the files are those of the API, and every job that can be written is read back as it was."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hetuflow.api.schemas.config import CONFIG
from hetuflow.api.schemas.job import JOB
from hetuflow.api.schemas.schedule import SCHEDULE
from hetuflow.cli import times
from hetuflow.cli.documents import Document, _parse
from hetuflow.cli.export import as_written, as_yaml
from hetuflow.cli.manifest import READ_CONFIG, READ_JOB, READ_SCHEDULE, Reader
from hetuflow.cli.plan import make_plan
from hetuflow.domain.config import effective

SHORTHANDS = {"cron_expr", "command"}


def test_every_member_that_the_api_takes_can_be_written() -> None:
    assert {m.name for m in JOB.members if m.on_create} - {m for m, _ in READ_JOB.values()} <= SHORTHANDS
    scheduled = {m for m, _ in READ_SCHEDULE.values()} | {"schedule_kind", "job_id"}
    assert {m.name for m in SCHEDULE.members if m.on_create} <= scheduled
    assert {m.name for m in CONFIG.members} == set(READ_CONFIG)


TEXT = st.text(st.characters(exclude_categories=["Cs", "Cc"], exclude_characters="\0"), min_size=1, max_size=20)
AWKWARD = st.sampled_from(
    [
        "no",
        "on",
        "12:30",
        "1e3",
        "08",
        "null",
        "~",
        "2027-01-31",
        "0x1f",
        "a: b",
        "# c",
        "two\nlines",
        "1_000",
        " ",
        "<<",
    ]
)
WORD = TEXT | AWKWARD
SCALAR = WORD | st.integers(-(2**53) + 1, 2**53 - 1) | st.booleans() | st.none()
FREE = st.recursive(
    SCALAR, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(WORD, inner, max_size=3), max_leaves=6
)


@st.composite
def stored_jobs(draw: st.DrawFn) -> dict[str, object]:
    config = {
        "cmd": draw(WORD),
        "args": draw(st.lists(WORD | st.just(""), max_size=4)),
        "timeout": draw(st.integers(0, 10**6)),
        "labels": draw(st.none() | st.dictionaries(WORD, WORD, max_size=2)),
        "x_own": draw(FREE),
    }
    return {
        "id": "01a223a1-0f00-70c1-adb6-f4856e214786",
        "name": draw(WORD),
        "namespace_id": draw(WORD),
        "description": draw(st.none() | WORD),
        "environment": draw(
            st.none() | st.dictionaries(st.from_regex(r"\A[A-Za-z_]\w{0,5}\Z"), WORD | st.booleans(), max_size=3)
        ),
        "config": effective(config),
        "status": draw(st.sampled_from([99, 100])),
        "agent_id": draw(st.none() | st.just("agent-01")),
    }


@given(stored_jobs())
def test_what_is_exported_and_read_again_is_no_change(row: dict[str, object]) -> None:
    written = as_yaml({"jobs": as_written([row], [])})
    reader = Reader("UTC")
    reader.read(list(_parse("jobs.yaml", written.encode(), ".yaml")))
    assert not reader.problems, (reader.problems, written)
    plan = make_plan(reader.jobs, [row], [], owner="default")
    assert plan.is_same and not plan.problems, (list(plan.changes()), written)


def test_a_plan_carried_out_leaves_nothing_to_do() -> None:
    reader = Reader("UTC")
    reader.read([Document("f", {"name": "a", "command": "x", "description": "d"})])
    row = {"id": "1", "namespace_id": "default", "name": "a", "description": None, "environment": None}
    row |= {"config": effective({"cmd": "y"}), "status": 100, "agent_id": None}
    plan = make_plan(reader.jobs, [row], [], owner="o")
    body = plan.jobs[0].job.body
    assert body["config"]["managed_by"] == {"apply": "o", "schedules": []}
    assert make_plan(reader.jobs, [{**row, **body}], [], owner="o").is_same
    assert make_plan(reader.jobs, [{**row, **body}], [], owner="other").problems


NOW = datetime(2027, 3, 1, 8, 0, tzinfo=timezone(timedelta(hours=1)))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2h", "2027-03-01T05:00:00Z"),
        ("1d12h", "2027-02-27T19:00:00Z"),
        ("now", "2027-03-01T07:00:00Z"),
        ("02:15", "2027-03-01T02:15:00Z"),
        ("22:00", "2027-02-28T22:00:00Z"),
        ("yesterday 22:00", "2027-02-28T22:00:00Z"),
        ("2027-01-31 08:00", "2027-01-31T08:00:00Z"),
        ("2027-01-31T08:00:00+02:00", "2027-01-31T06:00:00Z"),
    ],
)
def test_moments_as_people_write_them(text: str, expected: str) -> None:
    assert times.rfc3339(times.moment(text, NOW, UTC)) == expected


@pytest.mark.parametrize("text", ["soon", "25:00", "2027-13-01", "-1h", "5 parsecs"])
def test_what_is_no_moment_is_told_what_is(text: str) -> None:
    with pytest.raises(ValueError, match="02:15"):
        times.moment(text, NOW, UTC)
