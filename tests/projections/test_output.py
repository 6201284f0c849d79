"""The contract of output: each byte is kept once, however it is sent; reading gives what was asked for and no more."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import attrs
import pytest
import trio
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from eventstore.errors import StoreUnavailable
from eventstore.postgres import PostgresStore, open_postgres_store
from hetuflow.protocol.messages import Output
from projections.output import (
    CHUNKS_MAX,
    STREAMS,
    Chunk,
    InvalidOutput,
    MemoryOutput,
    OutputStore,
    PostgresOutput,
    Tail,
)
from tests.projections.builders import an_id
from tests.projections.query_database import LoopDatabase
from tests.support.postgres import Server

START = datetime(2026, 3, 1, 12, tzinfo=UTC)
ONE, TWO, NONE = an_id(1), an_id(2), an_id(3)


def piece(data: bytes | str, offset: int = 0, seq: int = 0, instance: str = ONE, stream: str = "stdout") -> Output:
    return Output(
        instance_id=instance,
        task_id=an_id(9),
        epoch=1,
        stream=stream,
        offset=offset,
        seq=seq,
        at=(START + timedelta(seconds=seq)).isoformat().replace("+00:00", "Z"),
        data=data.encode() if isinstance(data, str) else data,
    )


def a_run(*lines: tuple[str, str], instance: str = ONE) -> list[Output]:
    """Pieces in order of arrival, from (stream, text)."""
    ends = dict.fromkeys(STREAMS, 0)
    pieces = []
    for seq, (stream, text) in enumerate(lines):
        pieces.append(piece(text, ends[stream], seq, instance, stream))
        ends[stream] += len(text.encode())
    return pieces


async def stream_of(store: OutputStore, stream: str = "stdout", instance: str = ONE) -> bytes:
    found = await store.chunks(instance, stream=stream, offset=0, after_seq=None, bytes_max=10**6)
    return b"".join(chunk.data for chunk in found)


async def arrival(store: OutputStore, after: int | None = None, bytes_max: int = 10**6) -> Sequence[Chunk]:
    return await store.chunks(ONE, stream=None, offset=0, after_seq=after, bytes_max=bytes_max)


@pytest.fixture(params=["memory", "embedded", "15"])
async def store(request: pytest.FixtureRequest) -> AsyncIterator[OutputStore]:
    if request.param == "memory":
        yield MemoryOutput()
        return
    server: Server = request.getfixturevalue("postgres_server" if request.param == "embedded" else "postgres15_server")
    url = await trio.to_thread.run_sync(server.fresh_database)
    async with open_postgres_store(url) as opened:
        yield PostgresOutput(opened.database)


# --- keeping ---------------------------------------------------------------------------------------------------------


async def test_pieces_of_several_instances_are_kept_at_once(store: OutputStore) -> None:
    one, two = a_run(("stdout", "a"), ("stderr", "b")), a_run(("stdout", "c"), instance=TWO)
    await store.store([one[0], *two, one[1]])
    assert await stream_of(store) == b"a"
    assert await stream_of(store, "stderr") == b"b"
    assert await stream_of(store, instance=TWO) == b"c"
    assert await stream_of(store, "stderr", instance=TWO) == b""


async def test_a_chunk_is_what_was_sent(store: OutputStore) -> None:
    await store.store([piece(b"\x00\xff", offset=0, seq=7)])
    (chunk,) = await arrival(store)
    assert chunk == Chunk(stream="stdout", offset=0, seq=7, at=START + timedelta(seconds=7), data=b"\x00\xff")


async def test_what_is_sent_again_is_kept_once(store: OutputStore) -> None:
    pieces = a_run(("stdout", "one\n"), ("stderr", "two\n"), ("stdout", "three\n"))
    for again in ([*pieces], pieces[:1], [*pieces, *pieces], pieces[1:]):
        await store.store(again)
    assert [chunk.data for chunk in await arrival(store)] == [b"one\n", b"two\n", b"three\n"]
    assert await store.totals(ONE) == {"stdout": 10, "stderr": 4}


@pytest.mark.parametrize(
    ("first", "second", "chunks"),
    [
        ((0, 4), (2, 6), [(0, 4), (4, 6)]),
        ((2, 6), (0, 4), [(0, 2), (2, 6)]),
        ((2, 4), (0, 6), [(0, 2), (2, 4), (4, 6)]),
        ((0, 6), (2, 4), [(0, 6)]),
        ((0, 2), (4, 6), [(0, 2), (4, 6)]),
        ((0, 2), (2, 4), [(0, 2), (2, 4)]),
        ((0, 6), (0, 3), [(0, 6)]),
        ((0, 3), (0, 6), [(0, 3), (3, 6)]),
    ],
)
@pytest.mark.parametrize("together", [False, True])
async def test_of_an_overlap_only_the_new_bytes_are_kept(
    store: OutputStore, first: tuple[int, int], second: tuple[int, int], chunks: list[tuple[int, int]], together: bool
) -> None:
    text = "abcdef"
    pieces = [piece(text[lo:hi], lo, seq) for seq, (lo, hi) in enumerate([first, second])]
    for batch in [pieces] if together else [[each] for each in pieces]:
        await store.store(batch)
    found = await store.chunks(ONE, stream="stdout", offset=0, after_seq=None, bytes_max=100)
    assert [(chunk.offset, chunk.end) for chunk in found] == chunks
    assert all(chunk.data.decode() == text[chunk.offset : chunk.end] for chunk in found)


async def test_a_piece_over_several_gaps_fills_them_all(store: OutputStore) -> None:
    await store.store([piece("b", 1, 0), piece("d", 3, 1), piece("e", 4, 2)])
    await store.store([piece("abcdefg", 0, 3)])
    assert await stream_of(store) == b"abcdefg"
    assert [chunk.data for chunk in await arrival(store)] == [b"b", b"d", b"e", b"a", b"c", b"fg"]


async def test_nothing_and_empty_pieces_are_nothing(store: OutputStore) -> None:
    await store.store([])
    await store.store([piece(""), piece("", 5)])
    assert await arrival(store) == []
    assert await store.totals(ONE) == {}
    assert await store.tail(ONE, 10) is None


@pytest.mark.parametrize(
    "wrong",
    [
        {"instance_id": "nobody"},
        {"stream": "stdin"},
        {"offset": -1},
        {"offset": 2**63},
        {"seq": 2**63},
        {"at": "yesterday"},
        {"at": "2026-03-01T12:00:00"},
    ],
)
async def test_what_cannot_be_kept_is_refused_as_a_whole(store: OutputStore, wrong: dict[str, Any]) -> None:
    with pytest.raises(InvalidOutput):
        await store.store([piece("fine"), attrs.evolve(piece("bad", 4, 1), **wrong)])
    assert await arrival(store) == []


# --- reading ---------------------------------------------------------------------------------------------------------


async def test_arrival_order_goes_on_after_a_seq(store: OutputStore) -> None:
    await store.store(a_run(("stdout", "aa"), ("stderr", "bb"), ("stdout", "cc"), ("stderr", "dd")))
    assert [chunk.data for chunk in await arrival(store, bytes_max=5)] == [b"aa", b"bb"]
    assert [chunk.data for chunk in await arrival(store, after=1, bytes_max=4)] == [b"cc", b"dd"]
    assert [chunk.data for chunk in await arrival(store, after=1, bytes_max=1)] == [b"cc"]  # one at least, and whole
    assert await arrival(store, after=3) == []


async def test_the_parts_of_one_piece_are_not_separated_by_a_limit(store: OutputStore) -> None:
    await store.store([piece("c", 2, 0)])
    await store.store([piece("abcdef", 0, 1)])
    assert [chunk.data for chunk in await arrival(store, after=0, bytes_max=1)] == [b"ab", b"def"]


@pytest.mark.parametrize(
    ("offset", "bytes_max", "expected"),
    [
        (0, 100, [(0, b"abc"), (3, b"def"), (6, b"ghi")]),
        (0, 7, [(0, b"abc"), (3, b"def")]),
        (0, 6, [(0, b"abc"), (3, b"def")]),
        (0, 2, [(0, b"ab")]),
        (4, 100, [(4, b"ef"), (6, b"ghi")]),
        (4, 1, [(4, b"e")]),
        (5, 3, [(5, b"f")]),
        (6, 3, [(6, b"ghi")]),
        (9, 100, []),
        (1000, 100, []),
        (-4, 100, [(5, b"f"), (6, b"ghi")]),
        (-100, 3, [(0, b"abc")]),
    ],
)
async def test_one_stream_from_an_offset(
    store: OutputStore, offset: int, bytes_max: int, expected: list[tuple[int, bytes]]
) -> None:
    await store.store(a_run(("stdout", "abc"), ("stderr", "x"), ("stdout", "def"), ("stdout", "ghi")))
    found = await store.chunks(ONE, stream="stdout", offset=offset, after_seq=None, bytes_max=bytes_max)
    assert [(chunk.offset, chunk.data) for chunk in found] == expected


async def test_a_gap_is_stepped_over(store: OutputStore) -> None:
    await store.store([piece("abc"), piece("xyz", 10, 1)])
    for offset in (3, 7, 10):
        found = await store.chunks(ONE, stream="stdout", offset=offset, after_seq=None, bytes_max=9)
        assert [(chunk.offset, chunk.data) for chunk in found] == [(10, b"xyz")]


@pytest.mark.parametrize(
    ("data", "bytes_max", "cut"),
    [
        ("aé", 2, b"a"),
        ("aéb", 3, "aé".encode()),
        ("示例", 4, "示".encode()),
        ("示例", 5, "示".encode()),
        ("示例", 2, "示".encode()[:2]),  # not even one character fits
        ("a\U0001f600", 4, b"a"),
        (b"\x80\x80\x80\x80\x80\x80", 3, b"\x80\x80\x80"),  # no characters at all
        (b"ab\xff\xff", 3, b"ab\xff"),
    ],
)
async def test_a_cut_is_not_inside_a_character_if_possible(
    store: OutputStore, data: bytes | str, bytes_max: int, cut: bytes
) -> None:
    await store.store([piece(data)])
    (chunk,) = await store.chunks(ONE, stream="stdout", offset=0, after_seq=None, bytes_max=bytes_max)
    assert chunk.data == cut


async def test_many_tiny_chunks_are_read_page_by_page(store: OutputStore) -> None:
    count = CHUNKS_MAX + 10
    await store.store([piece(bytes([65 + seq % 26]), seq, seq) for seq in range(count)])
    first = await arrival(store)
    assert len(first) == CHUNKS_MAX
    assert len(await arrival(store, after=first[-1].seq)) == 10
    by_offset = await store.chunks(ONE, stream="stdout", offset=0, after_seq=None, bytes_max=10**6)
    assert len(by_offset) == CHUNKS_MAX
    found = await store.chunks(ONE, stream="stdout", offset=by_offset[-1].end, after_seq=None, bytes_max=10**6)
    assert len(found) == 10
    assert await store.tail(ONE, count - 1) == Tail(
        data=bytes(65 + seq % 26 for seq in range(1, count)), is_whole=False
    )


@pytest.mark.parametrize(
    ("bytes_max", "data", "is_whole"),
    [(100, b"abcdef", True), (6, b"abcdef", True), (5, b"bcdef", False), (4, b"cdef", False), (1, b"f", False)],
)
async def test_the_tail_is_the_end_of_both_streams_as_they_arrived(
    store: OutputStore, bytes_max: int, data: bytes, is_whole: bool
) -> None:
    await store.store(a_run(("stdout", "ab"), ("stderr", "cd"), ("stdout", "ef")))
    assert await store.tail(ONE, bytes_max) == Tail(data=data, is_whole=is_whole)


async def test_tails_of_several_leave_out_what_printed_nothing(store: OutputStore) -> None:
    await store.store([*a_run(("stdout", "abc")), *a_run(("stderr", "xyz"), instance=TWO)])
    assert await store.tails([TWO, NONE, ONE], 2) == {
        ONE: Tail(data=b"bc", is_whole=False),
        TWO: Tail(data=b"yz", is_whole=False),
    }
    assert await store.tails([], 2) == {}


# --- both implementations agree --------------------------------------------------------------------------------------

TRUTH = {"stdout": ("aé示\U0001f600\n" * 4).encode(), "stderr": bytes(range(0x7A, 0x9E))}


@pytest.fixture(scope="module")
def loop_database(postgres_server: Server) -> Any:
    database = LoopDatabase(postgres_server.fresh_database())
    yield database
    database.close()


@st.composite
def pieces_of_the_truth(draw: st.DrawFn) -> Output:
    stream = draw(st.sampled_from(sorted(STREAMS)))
    lo = draw(st.integers(0, len(TRUTH[stream])))
    data = TRUTH[stream][lo : lo + draw(st.integers(0, 12))]
    return piece(data, lo, draw(st.integers(0, 6)), draw(st.sampled_from([ONE, TWO])), stream)


@settings(max_examples=200, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(batches=st.lists(st.lists(pieces_of_the_truth(), max_size=4), max_size=5), data=st.data())
def test_postgres_is_memory(loop_database: LoopDatabase, batches: list[list[Output]], data: st.DataObject) -> None:
    wait = loop_database.wait
    wait(loop_database.connection.execute("TRUNCATE task_output"))
    memory, postgres = MemoryOutput(), PostgresOutput(loop_database)  # type: ignore[arg-type]
    for batch in batches:
        wait(memory.store(batch))
        wait(postgres.store(batch))
    sent = {
        (each.instance_id, each.stream, each.offset + n) for b in batches for each in b for n in range(len(each.data))
    }
    for instance in (ONE, TWO):
        for stream in STREAMS:
            everything = wait(postgres.chunks(instance, stream=stream, offset=0, after_seq=None, bytes_max=10**6))
            kept = [offset for chunk in everything for offset in range(chunk.offset, chunk.end)]
            assert kept == sorted(offset for i, s, offset in sent if (i, s) == (instance, stream))
            assert all(chunk.data == TRUTH[stream][chunk.offset : chunk.end] for chunk in everything)
        bytes_max = data.draw(st.integers(1, 40))
        assert wait(memory.totals(instance)) == wait(postgres.totals(instance))
        assert wait(memory.tail(instance, bytes_max)) == wait(postgres.tail(instance, bytes_max))
        after = data.draw(st.none() | st.integers(-1, 6))
        how: dict[str, Any] = {"stream": None, "offset": 0, "after_seq": after, "bytes_max": bytes_max}
        assert wait(memory.chunks(instance, **how)) == wait(postgres.chunks(instance, **how))
        offset = data.draw(st.integers(-50, 50))
        how = {"stream": data.draw(st.sampled_from(sorted(STREAMS))), "offset": offset, "after_seq": None}
        found = wait(postgres.chunks(instance, **how, bytes_max=bytes_max))
        assert wait(memory.chunks(instance, **how, bytes_max=bytes_max)) == found
        assert sum(len(chunk.data) for chunk in found) <= bytes_max


# --- PostgreSQL only -------------------------------------------------------------------------------------------------


@pytest.fixture
async def opened(fresh_database: str) -> AsyncIterator[PostgresStore]:
    async with open_postgres_store(fresh_database) as store:
        yield store


async def test_two_connections_may_bring_the_same_output_at_once(opened: PostgresStore) -> None:
    text = bytes(range(256)) * 8
    stores = [PostgresOutput(opened.database) for _ in range(4)]

    async def bring(store: PostgresOutput, length: int) -> None:
        for lo in range(0, len(text), length):
            await store.store([piece(text[lo : lo + length], lo, lo)])

    async with trio.open_nursery() as nursery:
        for number, store in enumerate(stores):
            nursery.start_soon(bring, store, 64 + 13 * number)
    found = await stores[0].chunks(ONE, stream="stdout", offset=0, after_seq=None, bytes_max=10**6)
    assert b"".join(chunk.data for chunk in found) == text
    assert [chunk.offset for chunk in found[1:]] == [chunk.end for chunk in found[:-1]]


async def partitions_with_rows(opened: PostgresStore) -> Sequence[str]:
    sql = "SELECT DISTINCT tableoid::regclass::text FROM task_output ORDER BY 1"
    return [row[0] for row in await opened.database.fetch(sql)]


async def test_days_have_partitions_ahead_and_the_rest_goes_to_the_default_one(opened: PostgresStore) -> None:
    (today,) = (await opened.database.fetch("SELECT (now() AT TIME ZONE 'UTC')::date"))[0]
    output = PostgresOutput(opened.database)
    for number, days in enumerate([0, 1, 2, 400, -400]):
        at = datetime.combine(today, datetime.min.time(), UTC) + timedelta(days=days, hours=12)
        await output.store([attrs.evolve(piece("x", number, number), at=at.isoformat())])
    names = [f"task_output_{today + timedelta(days=days):%Y%m%d}" for days in (0, 1, 2)]
    assert await partitions_with_rows(opened) == [*names, "task_output_default"]
    assert await stream_of(output) == b"xxxxx"


async def test_a_day_that_began_in_the_default_partition_stays_there(opened: PostgresStore) -> None:
    (today,) = (await opened.database.fetch("SELECT (now() AT TIME ZONE 'UTC')::date"))[0]
    name = f"task_output_{today:%Y%m%d}"
    await opened.database.fetch(f"DROP TABLE {name}")
    at = datetime.combine(today, datetime.min.time(), UTC)
    await opened.database.fetch(
        "INSERT INTO task_output (instance_id, stream, byte_offset, seq, at, data) VALUES ($1, 1, 0, 0, $2, 'x')",
        ONE,
        at,
    )
    output = PostgresOutput(opened.database)
    await output.store([attrs.evolve(piece("y", 1, 1), at=at.isoformat())])
    assert await partitions_with_rows(opened) == ["task_output_default"]
    assert await stream_of(output) == b"xy"


async def test_a_failure_of_the_database_is_the_callers_to_repeat(opened: PostgresStore) -> None:
    class Down:
        async def fetch(self, sql: str, *args: Any, **_: Any) -> Sequence[Any]:
            raise StoreUnavailable

    with pytest.raises(StoreUnavailable):
        await PostgresOutput(Down()).store([piece("x")])  # type: ignore[arg-type]


async def test_the_role_of_a_server_may_store_and_read(fresh_database: str, opened: PostgresStore) -> None:
    await opened.database.run(_as_server)


async def _as_server(connection: Any) -> None:
    await connection.execute("SET ROLE hetuflow_server")
    now = datetime.fromisoformat("2026-03-01T12:00:00+00:00")
    call = "SELECT store_task_output($1, $2, $3, $4, $5, $6)"
    assert await connection.fetchval(call, [ONE], [1], [0], [0], [now], [b"x"]) == 1
    assert await connection.fetchval("SELECT data FROM task_output_tail($1, 10)", ONE) == b"x"
    assert await connection.fetchval("SELECT extend_task_output(4)") == 2
    assert await connection.fetchval("SELECT has_table_privilege('task_output', 'DELETE')") is False
