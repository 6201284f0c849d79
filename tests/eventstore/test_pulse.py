"""Signs of life and the identity of the store: the same promises on every store, and on PostgreSQL in every trouble."""

from __future__ import annotations

from datetime import timedelta
from urllib.parse import urlsplit, urlunsplit

import pytest
import trio

from eventstore.errors import DatabaseUnreachable, StoreTimeout, StoreUnavailable
from eventstore.event import Claim
from eventstore.postgres import PostgresSettings, open_postgres_store
from eventstore.store import EventStore
from tests.eventstore.builders import a_claim, an_event
from tests.eventstore.proxy import open_proxy
from tests.support.postgres import Server, query


async def test_a_beat_counts_and_tells_of_everybody(store: EventStore) -> None:
    first = await store.beat("a", "server-a", count=True)
    assert (first.counters, first.version) == ({}, 0)
    await store.beat("b", "server-b", count=True)
    await store.append([a_claim("server-a", 0, 3)])
    second = await store.beat("a", "server-a", count=True)
    assert (second.counters, second.version) == ({"a": 1, "b": 1}, 3)
    assert (await store.beat("b", "server-b", count=False)).counters == {"a": 2, "b": 1}
    assert second.at >= first.at and second.at.utcoffset() == timedelta(0)


async def test_a_look_without_counting_leaves_nothing(store: EventStore) -> None:
    await store.beat("a", "server-a", count=False)
    assert (await store.beat("b", "server-b", count=False)).counters == {}


async def test_who_has_ended_is_forgotten_but_nobody_forgets_oneself(store: EventStore) -> None:
    for name in ("a", "b", "c"):
        await store.beat(name, f"server-{name}", count=True)
    await store.beat("a", "server-a", count=True, ended=["b", "a", "nobody"])
    assert (await store.beat("c", "server-c", count=False)).counters == {"a": 2, "c": 1}


async def test_a_beat_is_no_history(store: EventStore) -> None:
    await store.beat("a", "server-a", count=True)
    assert await store.head() == 0
    assert store.identity and store.trouble is None


@pytest.mark.postgres
async def test_the_identity_stays_and_a_store_that_is_opened_elsewhere_is_a_generation_further(
    fresh_database: str,
) -> None:
    async with open_postgres_store(fresh_database) as store:
        store_id, _, generation = store.identity.partition("/")
        assert len(store_id) == 36 and generation == "0"
    async with open_postgres_store(fresh_database) as store:
        assert store.identity == f"{store_id}/0"
    # What a dump that is restored into another cluster looks like: everything the same, but the place.
    await query(fresh_database, "update store_identity set place = 'another cluster/1/5'")
    async with open_postgres_store(fresh_database) as store:
        assert store.identity == f"{store_id}/1"
    async with open_postgres_store(fresh_database) as store:
        assert store.identity == f"{store_id}/1"


@pytest.mark.postgres
async def test_a_connection_that_answers_nothing_is_replaced_and_the_same_batch_is_sent_again(
    fresh_database: str,
) -> None:
    """Half open: everything is taken and nothing comes back. Written once, and known as written."""
    settings = PostgresSettings(append_statement_seconds_max=0.3)
    async with open_proxy(fresh_database) as proxy, open_postgres_store(proxy.url, settings=settings) as store:
        await store.append([a_claim("a", 0)])
        proxy.go_silent()
        with trio.fail_after(20):
            appended = await store.append([Claim("a", 1, [an_event("TheOne")])])
        assert (appended.position, await store.head()) == (2, 2)
        assert (await store.beat("a", "a", count=True)).version == 2
        assert store.trouble is None


@pytest.mark.postgres
async def test_trouble_is_told_while_it_lasts(fresh_database: str) -> None:
    settings = PostgresSettings(append_seconds_max=0.5, connect_seconds_max=0.5)
    async with open_proxy(fresh_database) as proxy, open_postgres_store(proxy.url, settings=settings) as store:
        await store.append([a_claim("a", 0)])
        proxy.refuse(True)
        proxy.cut()
        with pytest.raises((StoreUnavailable, StoreTimeout)):
            await store.append([a_claim("a", 1)])
        assert store.trouble is not None
        with pytest.raises(StoreUnavailable):
            await store.beat("a", "a", count=False)
        proxy.refuse(False)
        await store.append([a_claim("b")])
        assert store.trouble is None


@pytest.mark.postgres
async def test_a_database_that_is_read_only_says_so_and_is_written_to_when_it_is_not(
    postgres_server: Server, fresh_database: str
) -> None:
    settings = PostgresSettings(append_seconds_max=20)
    async with open_postgres_store(fresh_database, settings=settings) as store, trio.open_nursery() as nursery:
        await store.append([a_claim("a", 0)])
        await make_read_only(postgres_server, fresh_database, "on")
        with trio.fail_after(30):
            nursery.start_soon(store.append, [a_claim("a", 1)])
            while store.trouble is None or "read only" not in store.trouble:  # noqa: ASYNC110 - another process's doing
                await trio.sleep(0.01)
            await make_read_only(postgres_server, fresh_database, "off")
            while await store.head() < 2:  # noqa: ASYNC110
                await trio.sleep(0.01)
            while store.trouble is not None:  # noqa: ASYNC110 - the answer is on its way
                await trio.sleep(0.01)


async def make_read_only(server: Server, url: str, value: str) -> None:
    """For new connections; the present ones are ended, as by a failover."""
    name = urlsplit(url).path.lstrip("/")
    await query(server.url, f"alter database {name} set default_transaction_read_only = {value}")
    await query(
        server.url,
        "select pg_terminate_backend(pid) from pg_stat_activity where datname = $1 and pid <> pg_backend_pid()",
        name,
    )


@pytest.mark.postgres
async def test_a_database_without_a_free_connection_says_so(postgres_server: Server, fresh_database: str) -> None:
    settings = PostgresSettings(append_seconds_max=1.0)
    name = urlsplit(fresh_database).path.lstrip("/")
    async with open_postgres_store(fresh_database, settings=settings) as store:
        await store.append([a_claim("a", 0)])
        role = "narrow"
        await query(postgres_server.url, f"drop role if exists {role}")
        await query(postgres_server.url, f"create role {role} login connection limit 0")
        narrow = urlunsplit(urlsplit(fresh_database)._replace(netloc=netloc_of(fresh_database, role)))
        with pytest.raises(DatabaseUnreachable, match="takes no more connections"):
            async with open_postgres_store(narrow, settings=settings):
                pass
        await query(postgres_server.url, f"drop role {role}")
        assert name and (await store.append([a_claim("a", 1)])).position == 2


def netloc_of(url: str, user: str) -> str:
    return f"{user}@{urlsplit(url).netloc.rpartition('@')[2]}"
