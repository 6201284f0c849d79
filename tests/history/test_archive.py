"""A log in a file is the log, or it is refused."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime

import msgpack
import pytest
from attrs import evolve
from hypothesis import given, settings
from hypothesis import strategies as st

from eventstore.event import RecordedEvent
from eventstore.postgres import open_postgres_store
from eventstore.postgres.restore import NotEmpty, restore
from hetuflow.history.archive import FORMATS, JSON_LINES, ArchiveError, Writer, format_of, read
from projections.follower import Follower
from projections.tables import LIVE, LIVE_TABLES
from projections.verify import verify
from tests.support.corpus import corpus

NOW = datetime(2026, 3, 1, tzinfo=UTC)


def written(events: list[RecordedEvent], form: str) -> bytes:
    pieces: list[bytes] = []
    writer = Writer(pieces.append, form, exported_at=NOW)
    for event in events:
        writer.add(event)
    writer.finish()
    return b"".join(pieces)


def same(event: RecordedEvent) -> RecordedEvent:
    """Its JSON in one form."""
    return evolve(
        event,
        data=json.dumps(json.loads(event.data), sort_keys=True),
        metadata=json.dumps(json.loads(event.metadata), sort_keys=True),
    )


def cut(content: bytes, size: int) -> Iterator[bytes]:
    return (content[at : at + size] for at in range(0, len(content), size))


@pytest.mark.parametrize("form", FORMATS)
@settings(max_examples=20)
@given(size=st.integers(1, 5000))
def test_what_is_written_is_read_however_it_is_cut(form: str, size: int) -> None:
    events = list(corpus())[:30]
    found = list(read(cut(written(events, form), size)))
    assert [same(event) for event in found] == [same(event) for event in events]


@pytest.mark.parametrize("form", FORMATS)
def test_an_empty_log_is_one_too(form: str) -> None:
    assert list(read([written([], form)])) == []


def test_what_is_not_whole_is_refused() -> None:
    events = list(corpus())[:10]
    content = written(events, JSON_LINES)
    lines = content.splitlines(keepends=True)
    third = json.loads(lines[3])
    changed = json.dumps({**third, "data": {**third["data"], "x": 1}}).encode() + b"\n"
    moved = json.dumps({**third, "version": 9}).encode() + b"\n"
    earlier = json.dumps({**third, "recorded_at": "2000-01-01T00:00:00+00:00"}).encode() + b"\n"
    for broken, what in (
        (b"", "does not begin"),
        (b'{"name": "a job"}\n', "does not begin"),
        (b"not a log", "does not begin"),
        (b'{"hetuflow_log": 2}\n', "version 2"),
        (b"".join(lines[:-1]), "cut short"),
        (content[:-20], "neither"),
        (content + lines[3], "follows after its end"),
        (b"".join([*lines[:3], *lines[4:]]), "a gap"),
        (b"".join([*lines[:3], changed, *lines[4:]]), "digest"),
        (b"".join([*lines[:3], moved, *lines[4:]]), "version 9"),
        (b"".join([*lines[:3], earlier, *lines[4:]]), "before the one before it"),
        (b"".join([*lines[:3], b"{}\n", *lines[4:]]), "is no event"),
        (b"".join([*lines[:3], b"[]\n", *lines[4:]]), "no event"),
    ):
        with pytest.raises(ArchiveError, match=what):
            list(read([broken]))
    with pytest.raises(ArchiveError, match="does not begin"):
        list(read([msgpack.packb([1])]))


def test_the_suffix_says_the_format() -> None:
    assert [format_of(name) for name in ("a.jsonl", "b.MSGPACK", "c.txt")] == ["jsonl", "msgpack", None]


@pytest.mark.postgres
async def test_a_log_is_restored_as_it_was_and_only_into_an_empty_database(fresh_database: str) -> None:
    events = list(corpus())
    async with open_postgres_store(fresh_database) as store:
        with pytest.raises(ArchiveError):
            await restore(store.database, read([written(events, JSON_LINES)[:-20]]))
        assert await store.head() == 0  # all or nothing
        assert await restore(store.database, read([written(events, JSON_LINES)])) == len(events)
        found = await store.read_all(limit=10_000)
        assert [same(event) for event in found] == [same(event) for event in events]
        follower = Follower(store.database, LIVE, LIVE_TABLES)
        await follower.load()
        follower.expect(len(events))
        assert await follower.step()
        assert all(each.is_same for each in await verify(store.database, list(LIVE_TABLES)))
        with pytest.raises(NotEmpty):
            await restore(store.database, iter(events))
