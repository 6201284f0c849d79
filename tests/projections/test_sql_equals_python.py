"""The two interpreters of a definition give the same rows, whatever the log and however it is cut into ranges."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Any

import attrs
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hetuflow.domain.events import EVENT_TYPES, Event, TaskEvent
from projections.definition import (
    BIRTH,
    Add,
    Born,
    Column,
    Composite,
    Constant,
    Counter,
    Equals,
    Field,
    Kind,
    Mapped,
    Mean,
    Metadata,
    NotNull,
    Present,
    RecordedAt,
    SecondsAsMillis,
    Streak,
    StreamId,
    Table,
    TimeAsMillis,
    Touched,
    TouchedVersion,
    Version,
    When,
)
from projections.fold import Tables
from projections.tables import ALL_TABLES
from tests.projections.builders import START, Log, an_event, an_id
from tests.projections.sql import Scratch, scratch
from tests.support.postgres import Server


class Made:
    """Event classes of a made-up table that says everything a definition can say."""


class Opened(Made): ...


class Changed(Made): ...


class Counted(Made): ...


class Closed(Made): ...


class Dropped(Made): ...


EVERYTHING = Table(
    name="everything",
    key="id",
    key_kind=Kind.UUID,
    key_source=Field("id"),
    creates={Opened: None, Changed: Equals("opens", True)},
    removes={Closed: NotNull("really")},
    ends={Dropped: Present("a")},
    scope="owner_id",
    scope_kind=Kind.TEXT,
    scope_source=Field("owner"),
    silent=(Counted,),
    items=(
        Column("owner_id", Kind.TEXT, {Opened: Field("owner"), Changed: Field("owner")}),
        Column("partial", Kind.INT, {Opened: Field("a", 7), Changed: When(Present("a"), Field("a"))}, initial=-1),
        Column("nested", Kind.TEXT, {Changed: Field("deep.member", "it's absent")}, initial="never"),
        Column("mapped", Kind.INT, {Changed: Mapped("word", {"one": 1, "o'two": 2}, default=0)}),
        Column("person", Kind.TEXT, {Opened: Metadata("principal"), Changed: Metadata("principal")}),
        Column("changed_at", Kind.TIME, {Changed: RecordedAt()}, initial=BIRTH),
        Column("changed_version", Kind.INT, {Changed: Version(), Opened: Constant(0)}),
        Column("stream", Kind.TEXT, {Changed: StreamId()}),
        Column("free", Kind.JSON, {Changed: Field("free"), Opened: Field("free", {"none": True})}),
        Column("flag", Kind.BOOL, {Changed: When(Equals("word", "one"), Constant(True))}, initial=False),
        Composite(
            "sums",
            (
                Counter("count", {Counted: Add(1), Changed: Add(10, Present("a"))}),
                Counter(
                    "millis", {Counted: Add(SecondsAsMillis("seconds"), NotNull("seconds")), Opened: Add(Field("b", 3))}
                ),
                Mean("mean", "millis", ("count",)),
                Streak("streak", grows={Counted: NotNull("seconds")}, resets={Changed: None}),
                Column("last_ms", Kind.BIGINT, {Counted: When(NotNull("when"), TimeAsMillis("when"))}, initial=0),
                Column("label", Kind.TEXT, {Changed: Field("word")}),
            ),
        ),
        Counter("balance", {Opened: Add(1), Counted: Add(-1)}, Kind.INT),
        Born("created_at"),
        Touched("updated_at"),
        TouchedVersion("version"),
    ),
    indexes=("created_at, id",),
    partition_by="created_at",
)

TABLES = {**ALL_TABLES, "everything": EVERYTHING}

texts = st.sampled_from(["", "one", "o'two", "élan", "10%", 'a "quoted" \\ thing'])
times = st.integers(0, 10**9).map(lambda us: START + timedelta(microseconds=us))
small = st.integers(0, 100)
documents = st.one_of(
    st.none(), st.dictionaries(st.sampled_from(["a", "b"]), st.one_of(st.none(), small, texts), max_size=2)
)
seconds = st.one_of(st.sampled_from([0.0, 0.0005, 0.1, 2.9999, 1e-07]), st.floats(0, 1e6, allow_nan=False))

MEMBERS: dict[str, st.SearchStrategy[Any]] = {
    "job_id": st.integers(1, 2).map(an_id),
    "schedule_id": st.integers(11, 12).map(an_id),
    "agent_id": st.sampled_from(["a1", "a2"]),
    "backfill_id": st.integers(51, 52).map(an_id),
    "flow_run_id": st.integers(61, 62).map(an_id),
    "server_id": st.sampled_from(["s1", "s2"]),
    "status": st.sampled_from([1, 90, 98, 99, 100]),
    "started_at": st.one_of(st.none(), times),
    "exit_code": st.one_of(st.none(), small),
    "signal": st.one_of(st.none(), small),
    "duration_seconds": seconds,
    "bind_namespaces": st.lists(texts, max_size=2).map(tuple),
    "changed": st.just(("name",)),
}


def strategy_of(field: Any) -> st.SearchStrategy[Any] | None:
    """A strategy for a member, by its name or its declared type."""
    type_ = str(field.type)
    if field.name in MEMBERS:
        return MEMBERS[field.name]
    plain = {"str": texts, "int": small, "datetime": times, "JSON": documents, "float": seconds, "bool": st.booleans()}
    base = plain.get(type_.removesuffix(" | None"))
    if base is None:
        return None
    if base is documents and not type_.endswith("None"):
        return st.builds(lambda document: document or {}, documents)
    return st.one_of(st.none(), base) if type_.endswith("None") else base


FOCUS = [[cls for cls in EVENT_TYPES if cls.__name__ in set(table.event_types)] for table in ALL_TABLES.values()]
"""Few types per log, so that events meet: those of one table each time."""


@st.composite
def catalogue_event(draw: st.DrawFn, classes: list[type[Event]]) -> Event:
    cls = draw(st.sampled_from(classes))
    fields = {f.name: f for f in attrs.fields(cls)}  # type: ignore[arg-type]
    members: dict[str, Any] = {}
    if issubclass(cls, TaskEvent):  # an instance belongs to one task
        task = draw(st.integers(0, 1))
        members["task_id"] = an_id(20 + task)
        if "instance_id" in fields:
            members["instance_id"] = an_id(30 + 2 * task + draw(st.integers(0, 1)))
    for name, field in fields.items():
        strategy = strategy_of(field)
        if name not in members and strategy is not None:
            members[name] = draw(strategy)
    if "agent_id" in fields and str(fields["agent_id"].type).endswith("None") and draw(st.booleans()):
        members["agent_id"] = None
    return an_event(cls, **members)


@st.composite
def made_event(draw: st.DrawFn) -> tuple[str, str, dict[str, Any], dict[str, Any]]:
    number = draw(st.sampled_from([0, 0, 0, 1, 2]))
    type_ = draw(st.sampled_from([Opened, Changed, Counted, Closed, Dropped])).__name__
    data: dict[str, Any] = {"id": an_id(40 + number), "owner": f"owner-{number // 2}"}
    optional = {
        "opens": st.booleans(),
        "really": st.one_of(st.none(), st.just(1)),
        "a": st.one_of(st.none(), small),
        "b": st.one_of(st.none(), small),
        "deep": st.one_of(texts, st.fixed_dictionaries({}, optional={"member": texts})),
        "word": texts,
        "free": documents,
        "seconds": st.one_of(st.none(), seconds),
        "when": st.one_of(st.none(), times.map(datetime.isoformat)),
    }
    data.update(draw(st.fixed_dictionaries({}, optional=optional)))
    metadata = draw(st.fixed_dictionaries({}, optional={"principal": st.one_of(st.none(), texts)}))
    return f"made-{number // 2}", type_, data, metadata


@st.composite
def logs(draw: st.DrawFn) -> Log:
    log = Log()
    recorded_at = START
    focus = draw(st.one_of(st.sampled_from(FOCUS).map(catalogue_event), st.just(made_event())))
    for event in draw(st.lists(focus, min_size=1, max_size=40) | st.lists(focus, min_size=25, max_size=40)):
        recorded_at += timedelta(microseconds=draw(st.sampled_from([0, 1, 1000])))
        if isinstance(event, Event):
            optional = [f.name for f in attrs.fields(type(event)) if f.default is not attrs.NOTHING]  # type: ignore[arg-type]
            without = draw(st.lists(st.sampled_from(optional), unique=True, max_size=2)) if optional else []
            log.add(event, recorded_at=recorded_at, without=without)
        else:
            stream, type_, data, metadata = event
            log.add_raw(stream, type_, json.dumps(data), json.dumps(metadata), recorded_at)
    return log


@pytest.fixture(scope="module")
def folding(any_postgres: Server) -> Iterator[Scratch]:
    url = any_postgres.fresh_database()
    with scratch(url, TABLES.values()) as opened:
        yield opened
    any_postgres.drop(url)


def concerned(log: Log) -> list[tuple[str, Table]]:
    """The tables that the log says anything about."""
    types = {event.type for event in log.events}
    return [(name, table) for name, table in TABLES.items() if types.intersection(table.event_types)]


@settings(max_examples=100, suppress_health_check=[HealthCheck.too_slow])
@given(log=logs(), data=st.data())
def test_sql_and_python_fold_the_same_rows_from_every_split_of_the_log(
    folding: Scratch, log: Log, data: st.DataObject
) -> None:
    head = len(log.events)
    cuts = data.draw(st.lists(st.integers(0, head), max_size=4), label="cuts")
    bounds = sorted({0, head, *cuts})
    expected = Tables(TABLES)
    expected.apply(log.events)
    folding.load(log.events)
    for name, table in concerned(log):
        rows = expected.folds[name].rows()
        assert folding.fold(table, head) == rows, name
        assert folding.apply(table, bounds) == rows, name
        if not any(event.type in table.removing_types for event in log.events):
            assert folding.fold(table, head, removals=False) == rows, name


@settings(max_examples=30, suppress_health_check=[HealthCheck.too_slow])
@given(log=logs(), data=st.data())
def test_a_fold_up_to_a_position_is_what_was_live_then(folding: Scratch, log: Log, data: st.DataObject) -> None:
    until = data.draw(st.integers(0, len(log.events)), label="until")
    expected = Tables(TABLES)
    expected.apply(log.events[:until])
    folding.load(log.events)
    for name, table in concerned(log):
        assert folding.fold(table, until) == expected.folds[name].rows(), name
