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
from hetuflow.cli.upstream import labelled, labels_of, read_upstream
from hetuflow.domain.config import completed, effective
from hetuflow.domain.daemon_rules import DEFAULTS as DAEMON_DEFAULTS
from hetuflow.domain.flow_graph import On

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
        "config": completed(effective(config)),  # as the API shows it
        "status": draw(st.sampled_from([99, 100])),
        "agent_id": draw(st.none() | st.just("agent-01")),
        "upstream": None,
    }


@st.composite
def stored_flows(draw: st.DrawFn) -> list[dict[str, object]]:
    """Two jobs, the second of which may follow the first, and one that is not among the files; in either order."""
    first, second = draw(stored_jobs()), {**draw(stored_jobs()), "id": FOLLOWER}
    jobs = [{"job_id": each, "on": draw(st.sampled_from([str(on) for on in On]))} for each in (first["id"], OUTSIDER)]
    followed = draw(st.sets(st.sampled_from([0, 1])))
    if followed:
        second["upstream"] = {
            "jobs": [jobs[n] for n in sorted(followed)],
            "match": draw(st.sampled_from(["all", "any"])),
        }
    return draw(st.permutations([first, second]))


FOLLOWER, OUTSIDER = "01a223a1-0f00-70c1-adb6-f4856e214787", "01a223a1-0f00-70c1-adb6-f4856e214788"


@given(stored_flows(), WORD)
def test_what_is_exported_and_read_again_is_no_change(rows: list[dict[str, object]], outside: str) -> None:
    label_of = labels_of([*rows, {"id": OUTSIDER, "namespace_id": "elsewhere", "name": outside}])
    written = as_yaml({"jobs": as_written(rows, [], label_of)})
    reader = Reader("UTC")
    reader.read(list(_parse("jobs.yaml", written.encode(), ".yaml")))
    assert not reader.problems, (reader.problems, written)
    plan = make_plan(reader.jobs, rows, [], owner="default", label_of=label_of)
    assert plan.is_same and not plan.problems, (list(plan.changes()), written)


UPSTREAM = [
    ("a", {"jobs": [{"job": "default/a", "on": "succeeded"}], "match": "all"}),
    ("a:Failed", {"jobs": [{"job": "default/a", "on": "failed"}], "match": "all"}),
    ("o/a:b:finished", {"jobs": [{"job": "o/a:b", "on": "finished"}], "match": "all"}),
]


@pytest.mark.parametrize(("text", "expected"), UPSTREAM)
def test_what_a_job_follows_as_people_write_it(text: str, expected: object) -> None:
    assert labelled(read_upstream([text]), "default") == expected


@pytest.mark.parametrize(
    ("value", "says"),
    [
        ("a", "list of jobs"),
        (["a:done"], "succeeded, failed, finished"),
        ([":failed"], "names no job"),
        (["a", "a:failed"], "named twice"),
        ({"jobs": ["a"], "match": "one"}, "all, any"),
        ({"job": ["a"]}, "jobs, match"),
        ([{"job": "a", "when": "failed"}], "object with job and on"),
    ],
)
def test_what_it_cannot_mean_is_told_what_can_be_written(value: object, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        read_upstream(value)


def test_jobs_that_are_followed_come_first_and_circles_are_told() -> None:
    reader = Reader("UTC")
    job = {"command": "x"}
    files = [{**job, "name": "c", "upstream": ["b"]}, {**job, "name": "b", "upstream": ["default/a"]}]
    reader.read([Document("f", each) for each in [*files, {**job, "name": "a"}]])
    assert [one.job.label for one in make_plan(reader.jobs, [], [], owner="o").jobs] == [
        "default/a",
        "default/b",
        "default/c",
    ]
    circle = Reader("UTC")
    circle.read([Document("f", each) for each in [*files, {**job, "name": "a", "upstream": ["c"]}]])
    [problem] = make_plan(circle.jobs, [], [], owner="o").problems
    assert problem == (
        "f: upstream: a circle of jobs that follow each other never ends:"
        " default/a -> default/b -> default/c -> default/a"
    )


def test_a_plan_carried_out_leaves_nothing_to_do() -> None:
    reader = Reader("UTC")
    reader.read([Document("f", {"name": "a", "command": "x", "description": "d"})])
    row = {"id": "1", "namespace_id": "default", "name": "a", "description": None, "environment": None}
    row |= {"config": effective({"cmd": "y"}), "status": 100, "agent_id": None, "upstream": None}
    plan = make_plan(reader.jobs, [row], [], owner="o")
    body = plan.jobs[0].job.body
    assert body["config"]["managed_by"] == {"apply": "o", "schedules": []}
    assert make_plan(reader.jobs, [{**row, **body}], [], owner="o").is_same
    assert make_plan(reader.jobs, [{**row, **body}], [], owner="other").problems


def schedules(*written: dict[str, object]) -> Reader:
    reader = Reader("UTC")
    reader.read(
        [Document("f", {"name": "a", "schedules": [{"name": f"s{n}", **one} for n, one in enumerate(written)]})]
    )
    return reader


def test_the_short_names_of_schedules() -> None:
    reader = schedules(
        {"every": "5m", "interval_mode": "fixed-delay"}, {"at": "2027-01-31T08:00:00Z", "max_age_seconds": "2h"}
    )
    assert not reader.problems
    delay, once = (each.members for each in reader.jobs[0].schedules)
    assert (delay["interval_mode"], delay["overlap_policy"]) == ("fixed_delay", "skip")
    assert (once["schedule_kind"], once["max_count"], once["start_time"]) == (2, 1, "2027-01-31T08:00:00Z")
    assert once["max_age_seconds"] == 7200


def test_daemons_are_written_short_complete_and_exported_without_their_defaults() -> None:
    reader = schedules(
        {"daemon": 3}, {"daemon": {"restart_limit": 5, "restart_window_seconds": "10m"}}, {"kind": "daemon"}
    )
    assert not reader.problems
    three, limited, plain = (each.members for each in reader.jobs[0].schedules)
    assert three["daemon"] == {**DAEMON_DEFAULTS, "instances": 3} and three["schedule_kind"] == 3
    assert limited["daemon"] == {**DAEMON_DEFAULTS, "restart_limit": 5, "restart_window_seconds": 600}
    assert plain["daemon"] == DAEMON_DEFAULTS
    job = {"id": "1", "namespace_id": "default", "name": "a", "description": None, "environment": None}
    job |= {"config": effective({}), "status": 100, "agent_id": None, "upstream": None}
    [written] = as_written(
        [job], [{**each.members, "id": "2", "job_id": "1"} for each in reader.jobs[0].schedules[:1]], str
    )
    assert written["schedules"][0]["daemon"] == {"instances": 3}


@pytest.mark.parametrize(
    ("written", "problem"),
    [
        (
            {"every": "5m", "interval_mode": "fixed_delay", "overlap_policy": "allow"},
            "s[0].overlap_policy: must be skip",
        ),
        ({"cron": "@daily", "interval_mode": "fixed_delay"}, "s[0].interval_mode: fixed_delay is for"),
        ({"daemon": {"instnaces": 2}}, "s[0].daemon: instnaces is unknown; did you mean 'instances'?"),
        ({"daemon": {"instances": 5000}}, "s[0].daemon: instances must be an integer from 0 to 1000, got 5000"),
        ({"daemon": "three"}, "s[0].daemon: must be an object or a number of instances"),
        (
            {"every": "5m", "start": "2027-01-31T08:00:00Z", "end": "2027-01-31T07:00:00Z"},
            "s[0].end: must not be before",
        ),
        (
            {"event_type": "task.faild"},
            "s[0].event_type: is none of hetuflow's own events; did you mean 'task.failed'?",
        ),
        ({"kind": "event"}, "s[0].event_type: is required for kind event"),
        (
            {"event_type": "x", "event_filter": {"size": {"$gtt": 1}}},
            "s[0].event_filter.size.$gtt: is no operator (a member inside an object is named by a dotted path); did you mean",
        ),
        (
            {"every": "5m", "max_count": 2, "pause_on_failures": 3},
            "s[0].pause_on_failures: must be below max_count (2)",
        ),
    ],
)
def test_what_contradicts_is_told_before_a_server_is_asked(written: dict[str, object], problem: str) -> None:
    [told] = schedules(written).problems
    assert problem.replace("s[0]", "schedules[0]") in told


NOW = datetime(2027, 3, 1, 8, 0, tzinfo=timezone(timedelta(hours=1)))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2h", "2027-03-01T05:00:00Z"),
        ("+2h", "2027-03-01T09:00:00Z"),
        ("tomorrow 08:00", "2027-03-02T08:00:00Z"),
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


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("+90s", "2027-03-01T07:01:30Z"),
        ("02:15", "2027-03-02T02:15:00Z"),
        ("22:00", "2027-03-01T22:00:00Z"),
        ("tomorrow 02:15", "2027-03-02T02:15:00Z"),
        ("yesterday 22:00", "2027-02-28T22:00:00Z"),
        ("2027-01-31 08:00", "2027-01-31T08:00:00Z"),
    ],
)
def test_what_is_planned_lies_ahead(text: str, expected: str) -> None:
    assert times.rfc3339(times.moment(text, NOW, UTC, ahead=True)) == expected


def test_a_plan_for_some_time_ago_is_asked_back() -> None:
    with pytest.raises(ValueError, match=r"in the past; write \+20s"):
        times.moment("20s", NOW, UTC, ahead=True)
    with pytest.raises(ValueError, match="further away"):
        times.moment("+9999999w", NOW, UTC, ahead=True)


@pytest.mark.parametrize("text", ["soon", "25:00", "2027-13-01", "-1h", "5 parsecs"])
def test_what_is_no_moment_is_told_what_is(text: str) -> None:
    with pytest.raises(ValueError, match="02:15"):
        times.moment(text, NOW, UTC)
