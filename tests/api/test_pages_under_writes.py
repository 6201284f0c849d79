"""Paging by cursor while others write: each row that was there from the first page to the last comes exactly once."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
import trio

from tests.api.postgres_rooms import postgres_world

ORDERS = (None, ["name"], ["!name", "id"], ["description", "!created_at"], ["updated_at", "name"])


@pytest.mark.postgres
@pytest.mark.parametrize("order", ORDERS, ids=str)
async def test_pages_by_cursor_neither_repeat_nor_skip(
    fresh_database: str, tmp_path: Path, order: list[str] | None
) -> None:
    rng = random.Random(7)
    async with postgres_world(fresh_database, tmp_path / "state") as world:
        client = world.client

        def job() -> dict[str, str | None]:
            return {"name": rng.choice("abcdefg"), "description": rng.choice(["x", "y", None])}

        there = [await client.made("/jobs/item", job()) for _ in range(40)]
        seen: list[str] = []
        is_over = trio.Event()

        async def others() -> None:
            while not is_over.is_set():
                await client.made("/jobs/item", job())

        async with trio.open_nursery() as nursery:
            nursery.start_soon(others)
            page = {"limit": 7} if order is None else {"limit": 7, "order_bys": order}
            after = None
            for number in range(200):
                answer = (await client.post("/jobs/page", {"page": {**page, "after": after}})).json
                seen += [each["id"] for each in answer["result"]]
                after = answer["page"]["next"]
                assert answer["page"]["has_more"] is (after is not None)
                assert (answer["page"]["total"] is None) is (number > 0)
                if after is None or set(there) <= set(seen):
                    break
            is_over.set()
        assert len(seen) == len(set(seen))
        assert set(there) <= set(seen)
