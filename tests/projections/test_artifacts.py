"""The contract of artifacts and kept files: every byte once, in order, without gaps; read from anywhere."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import attrs
import pytest
import trio

from eventstore.postgres import PostgresStore, open_postgres_store
from hetuflow.protocol.messages import ArtifactPart
from projections.artifacts import ArtifactStore, InvalidArtifact, MemoryArtifacts, PostgresArtifacts, Stored
from projections.kept_files import PIECE_BYTES, FileStore, MemoryFiles, PostgresFiles
from tests.projections.builders import an_id
from tests.support.postgres import Server

AT = datetime(2026, 3, 1, 12, tzinfo=UTC)
ONE, TWO = an_id(1), an_id(2)


def parts(
    data: bytes, length: int = 10, path: str = "out/a.bin", instance: str = ONE, at: datetime = AT
) -> list[ArtifactPart]:
    """The whole file, as its agent sends it."""
    return [
        ArtifactPart(
            instance_id=instance,
            task_id=an_id(9),
            epoch=1,
            path=path,
            collected_at=at.isoformat().replace("+00:00", "Z"),
            bytes_total=len(data),
            sha256=hashlib.sha256(data).hexdigest(),
            offset=offset,
            data=data[offset : offset + length],
        )
        for offset in range(0, max(len(data), 1), length)
    ]


async def content(store: ArtifactStore, path: str = "out/a.bin", instance: str = ONE) -> bytes | None:
    found = await store.find(instance, path)
    return None if found is None else await store.read(instance, found, 0, 10**7)


@pytest.fixture(params=["memory", "embedded", "15"])
async def database(request: pytest.FixtureRequest) -> AsyncIterator[PostgresStore | None]:
    if request.param == "memory":
        yield None
        return
    server: Server = request.getfixturevalue("postgres_server" if request.param == "embedded" else "postgres15_server")
    url = await trio.to_thread.run_sync(server.fresh_database)
    async with open_postgres_store(url) as opened:
        yield opened


@pytest.fixture
def store(database: PostgresStore | None) -> ArtifactStore:
    return MemoryArtifacts() if database is None else PostgresArtifacts(database.database)


@pytest.fixture
def files(database: PostgresStore | None) -> FileStore:
    return MemoryFiles() if database is None else PostgresFiles(database.database)


# --- artifacts -------------------------------------------------------------------------------------------------------

TEXT = bytes(range(256)) * 3


async def test_a_file_is_kept_as_it_was_sent(store: ArtifactStore) -> None:
    for part in parts(TEXT):
        await store.store([part])
    (found,) = await store.of(ONE)
    assert (found.path, found.bytes_total, found.stored, found.is_complete) == ("out/a.bin", 768, 768, True)
    assert found.sha256 == hashlib.sha256(TEXT).hexdigest()
    assert await content(store) == TEXT
    assert await store.of(TWO) == []


async def test_what_is_sent_again_however_it_is_cut_is_kept_once(store: ArtifactStore) -> None:
    await store.store(parts(TEXT, 100)[:3])
    await store.store(parts(TEXT, 100)[:3])
    assert await store.store(parts(TEXT, 64)) == [
        Stored(instance_id=ONE, path="out/a.bin", end=end) for end in (300, 300, 300, 300, *range(320, 769, 64))
    ]
    assert await content(store) == TEXT


async def test_a_piece_beyond_a_gap_is_left_and_the_agent_told_where_to_go_on(store: ArtifactStore) -> None:
    first, second, third, *_ = parts(TEXT)
    assert await store.store([second]) == [Stored(instance_id=ONE, path="out/a.bin", end=0)]
    assert await store.of(ONE) == []
    assert [each.end for each in await store.store([first, third])] == [10, 10]
    (found,) = await store.of(ONE)
    assert (found.stored, found.is_complete) == (10, False)


async def test_a_file_without_bytes_is_a_file(store: ArtifactStore) -> None:
    for _ in range(2):
        assert await store.store(parts(b"")) == [Stored(instance_id=ONE, path="out/a.bin", end=0)]
    (found,) = await store.of(ONE)
    assert found.is_complete and await content(store) == b""


@pytest.mark.parametrize(
    ("offset", "bytes_max"), [(0, 5), (0, 768), (95, 10), (100, 1), (767, 100), (250, 300), (768, 10), (5000, 10)]
)
async def test_reading_begins_and_ends_anywhere(store: ArtifactStore, offset: int, bytes_max: int) -> None:
    await store.store(parts(TEXT, 100))
    (found,) = await store.of(ONE)
    assert await store.read(ONE, found, offset, bytes_max) == TEXT[offset : offset + bytes_max]


async def test_files_are_told_apart_by_instance_and_path_and_listed_by_path(store: ArtifactStore) -> None:
    await store.store([*parts(b"2", path="b"), *parts(b"1", path="a/ü"), *parts(b"3", path="a", instance=TWO)])
    assert [each.path for each in await store.of(ONE)] == ["a/ü", "b"]
    assert await content(store, "a", TWO) == b"3"
    assert await content(store, "a") is None


async def test_of_a_path_that_came_twice_the_later_one_counts(store: ArtifactStore) -> None:
    await store.store(parts(b"later", at=AT + timedelta(days=1)))
    await store.store(parts(b"earlier"))
    assert await content(store) == b"later"
    assert len(await store.of(ONE)) == 1


@pytest.mark.parametrize(
    "wrong",
    [
        {"instance_id": "no-uuid"},
        {"sha256": "abc"},
        {"sha256": "zz" * 32},
        {"collected_at": "2026-03-01T12:00:00"},
        {"collected_at": "yesterday"},
        {"path": ""},
        {"path": "/etc/passwd"},
        {"path": "a/../b"},
        {"path": "a\0b"},
        {"path": "x" * 1001},
        {"path": "\udc80"},
        {"offset": -1},
        {"offset": 764},
        {"bytes_total": 2**60},
        {"data": b""},
    ],
    ids=str,
)
async def test_what_cannot_be_kept_is_refused_as_a_whole(store: ArtifactStore, wrong: dict[str, Any]) -> None:
    good = parts(TEXT, path="good")
    with pytest.raises(InvalidArtifact):
        await store.store([*good, attrs.evolve(parts(TEXT)[0], **wrong)])
    assert await store.of(ONE) == []


async def test_nobody_finds_what_no_path_can_be(store: ArtifactStore) -> None:
    assert await store.find(ONE, "a\0b") is None


# --- kept files ------------------------------------------------------------------------------------------------------


async def test_the_same_bytes_are_kept_once_until_they_are_removed(files: FileStore) -> None:
    data = bytes(range(256)) * 3000
    kept, is_new = await files.keep(data)
    assert (kept.sha256, kept.bytes_total, is_new) == (hashlib.sha256(data).hexdigest(), len(data), True)
    assert await files.keep(data) == (kept, False)
    assert await files.find(kept.sha256) == kept
    assert await files.newest() == [kept]
    for offset, length in ((0, len(data)), (PIECE_BYTES - 3, 7), (len(data) - 1, 10), (len(data), 1), (1, 600_000)):
        assert await files.read(kept.sha256, offset, length) == data[offset : offset + length]
    assert await files.remove(kept.sha256) and not await files.remove(kept.sha256)
    assert await files.find(kept.sha256) is None


@pytest.mark.parametrize("name", ["", "no digest", "A" * 64, "ab" * 31])
async def test_what_is_no_digest_is_not_there(files: FileStore, name: str) -> None:
    assert await files.find(name) is None
    assert await files.remove(name) is False


async def test_a_file_without_bytes_can_be_kept(files: FileStore) -> None:
    kept, _ = await files.keep(b"")
    assert await files.read(kept.sha256, 0, 10) == b""


# --- PostgreSQL only -------------------------------------------------------------------------------------------------


@pytest.fixture
async def opened(fresh_database: str) -> AsyncIterator[PostgresStore]:
    async with open_postgres_store(fresh_database) as store:
        yield store


async def test_two_connections_may_bring_the_same_file_at_once(opened: PostgresStore) -> None:
    stores = [PostgresArtifacts(opened.database) for _ in range(4)]

    async def bring(store: PostgresArtifacts, length: int) -> None:
        for part in parts(TEXT, length):
            await store.store([part])

    async with trio.open_nursery() as nursery:
        for number, store in enumerate(stores):
            nursery.start_soon(bring, store, 40 + 13 * number)
    assert await content(stores[0]) == TEXT


async def test_two_uploads_of_the_same_bytes_at_once_are_one_file(opened: PostgresStore) -> None:
    kept: list[bool] = []

    async def upload() -> None:
        kept.append((await PostgresFiles(opened.database).keep(TEXT))[1])

    async with trio.open_nursery() as nursery:
        for _ in range(4):
            nursery.start_soon(upload)
    assert sorted(kept) == [False, False, False, True]


async def test_a_file_lies_in_the_partition_of_its_day(opened: PostgresStore) -> None:
    (now,) = (await opened.database.fetch("SELECT now()"))[0]
    store = PostgresArtifacts(opened.database)
    await store.store([*parts(TEXT, at=now), *parts(TEXT, path="old", at=now - timedelta(days=400))])
    sql = "SELECT DISTINCT tableoid::regclass::text FROM task_artifact ORDER BY 1"
    today = f"task_artifact_{now.astimezone(UTC):%Y%m%d}"
    assert [row[0] for row in await opened.database.fetch(sql)] == [today, "task_artifact_default"]


async def test_the_role_of_a_server_may_store_read_and_remove_files(opened: PostgresStore) -> None:
    async def as_server(connection: Any) -> Sequence[Any]:
        await connection.execute("SET ROLE hetuflow_server")
        call = "SELECT stored FROM store_task_artifact($1, $2, $3, $4, $5, $6, $7)"
        assert await connection.fetchval(call, [ONE], ["a"], [AT], [1], [b"x" * 32], [0], [b"x"]) == 1
        assert await connection.fetchval("SELECT extend_task_artifact(4)") == 2
        assert await connection.fetchval("SELECT has_table_privilege('task_artifact', 'DELETE')") is False
        await connection.execute("INSERT INTO kept_file (sha256, bytes_total) VALUES ($1, 0)", b"x" * 32)
        return list(await connection.fetch("DELETE FROM kept_file RETURNING bytes_total"))

    assert [tuple(row) for row in await opened.database.run(as_server)] == [(0,)]
