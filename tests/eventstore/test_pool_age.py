"""A pooled connection has an age limit."""

from __future__ import annotations

import pytest

from eventstore.postgres import PostgresSettings, open_postgres_store

pytestmark = pytest.mark.postgres

PID = "select pg_backend_pid()"


# uvloop's clock moves in whole milliseconds, once a turn: only an age that vanishes in the sum is always reached.
@pytest.mark.parametrize(("seconds", "count"), [(1e-300, 3), (3600.0, 1)], ids=["old", "young"])
async def test_an_old_connection_is_not_used_again(fresh_database: str, seconds: float, count: int) -> None:
    settings = PostgresSettings(connection_seconds_max=seconds)
    async with open_postgres_store(fresh_database, settings=settings) as store:
        pids = {(await store.database.fetch(PID))[0][0] for _ in range(3)}
        assert len(pids) == count


async def test_one_that_grew_old_while_idle_is_ended(fresh_database: str) -> None:
    async with open_postgres_store(fresh_database) as store:
        [[first]] = await store.database.fetch(PID)
        for pooled in store.database.pool._idle:  # type: ignore[attr-defined]
            pooled.deadline = 0.0
        [[second]] = await store.database.fetch(PID)
        assert second != first
