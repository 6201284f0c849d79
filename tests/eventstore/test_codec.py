"""Objects <-> stored JSON, and events of every schema that ever was."""

from __future__ import annotations

import enum
import json
import math
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from attrs import field, frozen
from hypothesis import given
from hypothesis import strategies as st

from eventstore.codec import EventCodec, EventType, decode_metadata
from eventstore.errors import EventStoreError, InvalidEvent, UnknownEventType
from eventstore.event import EVENT_BYTES_MAX, NewEvent, RecordedEvent
from eventstore.upcaster import Default, Drop, Move, Rename, Step, upcast
from eventstore.version import check_event
from tests.eventstore.builders import START

CORPUS = Path(__file__).with_name("corpus")


class Colour(enum.StrEnum):
    RED = "red"
    BLUE = "blue"


@frozen(slots=True, kw_only=True)
class Limit:
    seconds: float | None = None
    bytes: int = 0


@frozen(slots=True, kw_only=True)
class Painted:
    """The third shape of an event: `who` was `user`, `limit` stood at the top, `legacy` is gone."""

    id: UUID
    who: str
    at: datetime
    colour: Colour = Colour.RED
    limit: Limit = Limit()
    labels: Mapping[str, str] = field(factory=dict)
    tags: tuple[str, ...] = ()
    extra: Any = None


@frozen(slots=True)
class Empty:
    pass


PAINTED = EventType(
    Painted,
    3,
    (
        (Rename("user", "who"), Default("colour", "blue")),
        (Move("limit_seconds", "limit.seconds"), Default("limit.bytes", 10), Drop("legacy")),
    ),
)
CODEC = EventCodec({"WallPainted": PAINTED, "Nothing": Empty})


def recorded(event: NewEvent, position: int = 1) -> RecordedEvent:
    return RecordedEvent(
        position=position,
        recorded_at=START,
        version=1,
        schema=event.schema,
        event_id=event.event_id,
        stream_id="wall-1",
        type=event.type,
        data=event.data,
        metadata=event.metadata,
    )


def an_object(**changes: Any) -> Painted:
    return Painted(**{"id": UUID(int=1), "who": "me", "at": START, **changes})


text = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"))
json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.floats(allow_nan=False, allow_infinity=False) | text,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(text, inner, max_size=3),
    max_leaves=10,
)
objects = st.builds(
    Painted,
    id=st.uuids(),
    who=text,
    at=st.datetimes(timezones=st.just(UTC)),
    colour=st.sampled_from(Colour),
    limit=st.builds(
        Limit, seconds=st.none() | st.floats(allow_nan=False, allow_infinity=False), bytes=st.integers(0, 2**60)
    ),
    labels=st.dictionaries(text, text, max_size=3),
    tags=st.lists(text, max_size=3).map(tuple),
    extra=json_values,
)


@given(objects, st.dictionaries(text, json_values, max_size=3))
def test_what_was_encoded_is_decoded(event: Painted, metadata: dict[str, Any]) -> None:
    encoded = CODEC.encode(event, UUID(int=9), metadata)
    assert (encoded.type, encoded.schema, encoded.event_id) == ("WallPainted", 3, UUID(int=9))
    assert CODEC.decode(recorded(encoded)) == event
    assert decode_metadata(recorded(encoded)) == metadata
    check_event(encoded)  # what the codec lets through, the store accepts
    assert json.loads(encoded.data)  # and so does everybody else's JSON parser


def test_an_event_without_members_and_without_metadata() -> None:
    encoded = CODEC.encode(Empty(), UUID(int=1), {})
    assert (encoded.data, encoded.metadata) == ("{}", "{}")
    assert CODEC.decode(recorded(encoded)) == Empty()


@given(
    st.sampled_from([math.nan, math.inf, -math.inf]),
    st.sampled_from(
        [
            lambda bad: an_object(limit=Limit(seconds=bad)),
            lambda bad: an_object(extra=bad),
            lambda bad: an_object(extra={"a": [1, {"b": bad}]}),
            lambda bad: an_object(extra=(None, bad)),
        ]
    ),
)
def test_numbers_that_json_does_not_have_are_refused(bad: float, make: Any) -> None:
    """msgspec alone would write null."""
    with pytest.raises(InvalidEvent, match=r"number (nan|-?inf)"):
        CODEC.encode(make(bad), UUID(int=1), {})
    with pytest.raises(InvalidEvent):
        CODEC.encode(an_object(), UUID(int=1), {"x": [bad]})


@pytest.mark.parametrize("bad", ["a\0b", "\0", "\\\0", "\ud800", "x\udfff"])
def test_text_that_postgresql_does_not_have_is_refused(bad: str) -> None:
    for event in (an_object(who=bad), an_object(labels={bad: "x"}), an_object(tags=("a", bad)), an_object(extra=[bad])):
        with pytest.raises(InvalidEvent):
            CODEC.encode(event, UUID(int=1), {})
    with pytest.raises(InvalidEvent):
        CODEC.encode(an_object(), UUID(int=1), {"principal": bad})


def test_text_that_only_looks_like_nul_is_accepted() -> None:
    event = an_object(who="\\u0000", extra="\\\\u0000\\")
    assert CODEC.decode(recorded(CODEC.encode(event, UUID(int=1), {}))) == event


def test_the_size_is_counted_in_bytes() -> None:
    room = EVENT_BYTES_MAX - len(CODEC.encode(an_object(who=""), UUID(int=1), {}).data.encode()) - len("{}")
    CODEC.encode(an_object(who="x" * room), UUID(int=1), {})
    CODEC.encode(an_object(who="é" * (room // 2)), UUID(int=1), {})
    for too_large in ("x" * (room + 1), "é" * (room // 2 + 1)):
        with pytest.raises(InvalidEvent, match="bytes"):
            CODEC.encode(an_object(who=too_large), UUID(int=1), {})


def test_the_same_event_is_the_same_text() -> None:
    one = an_object(labels={"a": "1", "b": "2"}, extra=frozenset({"x", "y", "z"}))
    two = an_object(labels={"b": "2", "a": "1"}, extra=frozenset({"z", "y", "x"}))
    assert CODEC.encode(one, UUID(int=1), {}) == CODEC.encode(two, UUID(int=1), {})


def test_what_is_not_known_is_refused_loudly() -> None:
    known = CODEC.encode(an_object(), UUID(int=1), {})
    for change in (
        {"type": "WallRepainted"},
        {"schema": 4},
        {"schema": 0},
        {"data": '{"who": "me"}'},
        {"data": '{"who": 1}', "schema": 1},
        {"data": "[]", "schema": 1},
        {"data": "{"},
    ):
        event = NewEvent(**{"event_id": UUID(int=1), "type": known.type, "schema": 3, "data": known.data, **change})
        with pytest.raises(UnknownEventType):
            CODEC.decode(recorded(event))
    with pytest.raises(UnknownEventType):
        CODEC.encode(timedelta(1), UUID(int=1), {})
    with pytest.raises(InvalidEvent):
        CODEC.encode(an_object(extra=object()), UUID(int=1), {})


def test_a_registry_that_contradicts_itself_is_refused() -> None:
    with pytest.raises(EventStoreError, match="upcasters"):
        EventType(Painted, 3, ((Drop("x"),),))
    with pytest.raises(EventStoreError, match="attrs"):
        EventCodec({"X": dict})
    with pytest.raises(EventStoreError, match="registered as"):
        EventCodec({"A": Empty, "B": Empty})
    with pytest.raises(EventStoreError, match="empty member"):
        Drop("a..b")


@pytest.mark.parametrize("line", (CORPUS / "wall_painted.jsonl").read_text().splitlines())
def test_every_event_ever_stored_is_read_for_ever(line: str) -> None:
    """Lines are only ever added. `becomes` is what the newest program makes of it."""
    entry = json.loads(line)
    event = NewEvent(event_id=UUID(int=1), type=entry["type"], schema=entry["schema"], data=json.dumps(entry["data"]))
    decoded = CODEC.decode(recorded(event))
    assert json.loads(CODEC.encode(decoded, UUID(int=1), {}).data) == entry["becomes"]


def test_the_corpus_has_every_schema() -> None:
    entries = [json.loads(line) for line in (CORPUS / "wall_painted.jsonl").read_text().splitlines()]
    assert {entry["schema"] for entry in entries} == set(range(1, PAINTED.schema + 1))


paths = st.lists(st.sampled_from("abc"), min_size=1, max_size=3).map(".".join)
steps = st.one_of(
    st.builds(Move, paths, paths),
    st.builds(Rename, paths, st.sampled_from("abc")),
    st.builds(Default, paths, json_values),
    st.builds(Drop, paths),
)
documents: st.SearchStrategy[Any] = st.recursive(
    st.integers(), lambda inner: st.dictionaries(st.sampled_from("abc"), inner, max_size=3), max_leaves=8
).filter(lambda value: isinstance(value, dict))


@given(documents, st.lists(st.lists(steps, max_size=3), max_size=3))
def test_an_upcaster_never_fails_and_chains(data: dict[str, Any], chain: Sequence[Sequence[Any]]) -> None:
    at_once = upcast(json.loads(json.dumps(data)), chain, 1)
    one_by_one = json.loads(json.dumps(data))
    for upcaster in chain:
        one_by_one = upcast(one_by_one, [upcaster], 1)
    assert at_once == one_by_one
    assert upcast(json.loads(json.dumps(data)), chain, len(chain) + 1) == data


def test_each_step_does_what_it_says() -> None:
    data = {"a": 1, "b": {"c": 2}, "n": None}
    steps: list[Step] = [
        Rename("a", "z"),
        Rename("b.c", "d"),
        Move("b.d", "e.f"),
        Default("n", 5),  # present, although null
        Default("e.g", [1]),
        Drop("b"),
        Drop("nowhere.at.all"),
        Move("nowhere", "x"),
        Default("z.y", 1),  # z is no object: left as it is
    ]
    assert upcast(data, [steps], 1) == {"z": 1, "n": None, "e": {"f": 2, "g": [1]}}
    assert upcast({"a": 1}, [steps], 2) == {"a": 1}


def test_defaults_are_not_shared_between_events() -> None:
    step = [Default("a", [])]
    one, two = upcast({}, [step], 1), upcast({}, [step], 1)
    one["a"].append(1)
    assert two == {"a": []}
