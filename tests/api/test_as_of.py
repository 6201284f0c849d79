"""`?as_of=`: what was true at a position is told the same ever after."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import trio
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.api.memory_rooms import World, memory_world
from tests.gateway.scripted import ScriptedAgent
from tests.support.postgres import Server

PAGES = ("/jobs/page", "/schedules/page", "/tasks/page", "/task-instances/page", "/agents/query", "/servers/query")
ENTITIES = {
    "/jobs/page": "/jobs/item/",
    "/schedules/page": "/schedules/item/",
    "/tasks/page": "/tasks/",
    "/task-instances/page": "/task-instances/item/",
    "/agents/query": "/agents/",
    "/servers/query": "/servers/",
}
NOT_EVENTS = ("metrics", "last_heartbeat_at", "output", "output_truncated")
"""Members that the log does not tell, of agents and instances."""


def plain(path: str, row: dict[str, Any]) -> dict[str, Any]:
    if path.startswith(("/agents", "/task-instances")):
        return {name: value for name, value in row.items() if name not in NOT_EVENTS}
    return row


class Recorder:
    """Does things, and remembers what every page showed at which position."""

    def __init__(self, world: World, nursery: trio.Nursery) -> None:
        self.world, self.client, self.nursery = world, world.client, nursery
        self.seen: dict[int, dict[str, list[Any]]] = {}
        self.ids: dict[str, set[str]] = {path: set() for path in PAGES}
        self.agents = 0

    async def act(self, operation: str, pick: int) -> None:
        def one(path: str) -> str:
            known = sorted(self.ids[path])
            return known[pick % len(known)] if known else "01900000-0000-7000-8000-000000000000"

        job, schedule, task = one("/jobs/page"), one("/schedules/page"), one("/tasks/page")
        agent, instance = one("/agents/query"), one("/task-instances/page")
        post, delete = self.client.post, self.client.delete
        acts: dict[str, Callable[[], Any]] = {
            "job": lambda: post("/jobs/item", {"name": f"job {pick}", "config": {"max_retries": 0}}),
            "rename": lambda: post(f"/jobs/item/{job}/disable") if pick % 2 else post(f"/jobs/item/{job}/enable"),
            "schedule": lambda: post(
                "/schedules/item", {"job_id": job, "kind": "interval", "interval_secs": 3600, "name": f"s{pick}"}
            ),
            "switch": lambda: post(f"/schedules/item/{schedule}/{'disable' if pick % 2 else 'enable'}"),
            "unschedule": lambda: delete(f"/schedules/item/{schedule}"),
            "run": lambda: post(f"/jobs/item/{job}/run", {"priority": pick}),
            "cancel": lambda: post(f"/tasks/{task}/cancel"),
            "retry": lambda: post(f"/tasks/{task}/retry"),
            "forget": lambda: delete(f"/tasks/{task}?cascade=cancel"),
            "outside": lambda: post(f"/task-instances/item/{instance}/update", {"status": [10, 30, 90, 100][pick]}),
            "record": lambda: post("/task-instances/item", {"task_id": task, "status": 10}),
            "forget instance": lambda: delete(f"/task-instances/item/{instance}"),
            "end": lambda: delete(f"/jobs/item/{job}?cascade=cancel"),
            "agent": lambda: post("/agents/create", {"id": f"agent-{pick}", "labels": {"n": str(pick)}}),
            "drain": lambda: post(f"/agents/{agent}/drain"),
            "remove": lambda: delete(f"/agents/{agent}?cascade=cancel"),
            "connect": self._connect,
        }
        await acts[operation]()
        await self.record()

    async def _connect(self) -> None:
        self.agents += 1
        agent = ScriptedAgent(self.world.rooms.agents.serve_connection, self.nursery, f"worker-{self.agents}")
        await agent.connect()
        self.nursery.start_soon(agent.run)

    async def record(self) -> None:
        """Every page at one position: again when something happened meanwhile."""
        while True:
            position = await self.world.store.head()
            pages = {}
            for path in PAGES:
                headers = [("X-Hetuflow-Min-Position", str(position))]
                answer = await self.client.post(path, {"page": {"limit": 1000}}, headers=headers)
                pages[path] = [plain(path, row) for row in answer.json["result"]]
            if await self.world.store.head() == position:
                break
        self.seen[position] = pages
        for path, rows in pages.items():
            self.ids[path] |= {row["id"] for row in rows}

    async def check(self) -> None:
        """Everything that was seen is told again, as pages and one by one; what was not there is 404."""
        for position, pages in self.seen.items():
            for path, rows in pages.items():
                answer = await self.client.post(f"{path}?as_of={position}", {"page": {"limit": 1000}})
                assert answer.headers["x-hetuflow-position"] == str(position)
                assert [plain(path, row) for row in answer.json["result"]] == rows, (path, position)
                there = {row["id"]: row for row in rows}
                for entity in self.ids[path]:
                    told = await self.client.get(f"{ENTITIES[path]}{entity}?as_of={position}")
                    if entity in there:
                        assert plain(path, told.json) == there[entity], (path, position)
                    else:
                        assert told.status == 404


async def live_it(world: World, steps: Sequence[tuple[str, int]]) -> None:
    async with trio.open_nursery() as nursery:
        recorder = Recorder(world, nursery)
        await recorder.record()
        for operation, pick in steps:
            await recorder.act(operation, pick)
        await recorder.check()
        nursery.cancel_scope.cancel()


OPERATIONS = [
    *("job", "rename", "schedule", "switch", "unschedule", "run", "run", "cancel", "retry", "forget", "end"),
    *("agent", "drain", "remove", "connect", "outside", "outside", "record", "forget instance"),
]
lives = st.lists(st.tuples(st.sampled_from(OPERATIONS), st.integers(0, 3)), min_size=4, max_size=14).map(
    lambda steps: [("job", 0), ("run", 1), *steps]
)


def play(world: AbstractAsyncContextManager[World], steps: Sequence[tuple[str, int]]) -> None:
    async def main() -> None:
        async with world as opened:
            with trio.fail_after(60):
                await live_it(opened, steps)

    trio.run(main)


@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(steps=lives)
def test_what_was_seen_live_is_told_again_in_memory(steps: list[tuple[str, int]]) -> None:
    play(memory_world(), steps)


@pytest.mark.postgres
@settings(
    max_examples=4,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
@given(steps=lives)
def test_what_was_seen_live_is_told_again_by_postgresql(
    postgres_server: Server, tmp_path: Path, steps: list[tuple[str, int]]
) -> None:
    from tests.api.postgres_rooms import postgres_world

    url = postgres_server.fresh_database()
    try:
        play(postgres_world(url, tmp_path / "state"), steps)
    finally:
        postgres_server.drop(url)


# --- moments ----------------------------------------------------------------------------------------------------------


async def test_a_time_means_the_last_event_before_it(world: World) -> None:
    client = world.client
    job = await client.made("/jobs/item", {"name": "before"})
    first = (await client.get(f"/events?stream=job-{job}")).json["result"][0]
    await client.put(f"/jobs/item/{job}", {"name": "after"})
    second = (await client.get(f"/events?stream=job-{job}")).json["result"][1]
    for moment, name in (
        (first["recorded_at"], "before"),
        (second["recorded_at"], "after"),
        (str(first["position"]), "before"),
    ):
        answer = await client.get(f"/jobs/item/{job}?as_of={moment}")
        assert answer.json["name"] == name
    at = datetime.fromisoformat(first["recorded_at"])
    just_before = (at - timedelta(microseconds=1)).isoformat().replace("+", "%2B")
    assert (await client.get(f"/jobs/item/{job}?as_of={just_before}")).status == 404
    with_blank = at.astimezone(UTC).isoformat()  # the + arrives as a blank
    assert (await client.get(f"/jobs/item/{job}?as_of={with_blank}")).json["name"] == "before"


async def test_what_has_not_come_yet_is_400(world: World) -> None:
    job = await world.client.made("/jobs/item", {"name": "x"})
    head = await world.store.head()
    tomorrow = (datetime.now(UTC) + timedelta(days=1)).strftime("%Y-%m-%dT%H:%M:%SZ")
    for wrong in (str(head + 100), tomorrow, "yesterday", "-1", "2026-01-31"):
        for answer in (
            await world.client.get(f"/jobs/item/{job}?as_of={wrong}"),
            await world.client.post(f"/jobs/page?as_of={wrong}"),
        ):
            assert (answer.status, list(answer.problems)) == (400, ["query.as_of"]), wrong


async def test_the_beginning_of_the_log_is_empty(world: World) -> None:
    await world.client.made("/jobs/item", {"name": "x"})
    assert (await world.client.post("/jobs/page?as_of=0")).json["result"] == []
    assert (await world.client.get("/agents?as_of=0")).json == []
    assert (await world.client.get("/schedules/schedulable?as_of=0")).json == []


async def test_deleted_ones_are_seen_before_their_deletion(world: World) -> None:
    client = world.client
    job = await client.made("/jobs/item", {"name": "x"})
    schedule = await client.made("/schedules/item", {"job_id": job, "kind": "interval", "interval_secs": 60})
    task = await client.made(f"/jobs/item/{job}/run", {})
    instance = (await client.get(f"/tasks/{task}")).json["instance_id"]
    then = await world.store.head()
    await client.delete(f"/tasks/{task}?cascade=cancel")
    await client.delete(f"/jobs/item/{job}?cascade=cancel")
    for path in (
        f"/jobs/item/{job}",
        f"/schedules/item/{schedule}",
        f"/tasks/{task}",
        f"/task-instances/item/{instance}",
    ):
        assert (await client.get(f"{path}?as_of={then}")).status == 200
        assert (await client.get(path)).status == 404 or "schedule" in path  # a schedule follows its job a moment later
    [row] = (await client.get(f"/schedules/schedulable?as_of={then}")).json
    assert row["id"] == schedule


@pytest.mark.postgres
async def test_pages_of_the_past_have_filters_orders_and_cursors(fresh_database: str, tmp_path: Path) -> None:
    from tests.api.postgres_rooms import postgres_world

    async with postgres_world(fresh_database, tmp_path / "state") as world:
        client = world.client
        for number in range(7):
            await client.made("/jobs/item", {"name": f"job {number}"})
        then = await world.store.head()
        await client.made("/jobs/item", {"name": "job 7"})
        query = {"filter": {"name": {"$startsWith": "job"}}, "page": {"limit": 3, "order_bys": ["name"]}}
        names, after = [], None
        while True:
            query["page"]["after"] = after  # type: ignore[index]
            page = (await client.post(f"/jobs/page?as_of={then}", query)).json
            names += [row["name"] for row in page["result"]]
            after = page["page"]["next"]
            if after is None:
                break
        assert names == [f"job {number}" for number in range(7)]
        assert (await client.post(f"/jobs/page?as_of={then}", {"page": {"after": "x"}})).status == 400
        temporary = "select count(*) from pg_class where relname like 'sched_job@%' and relkind = 'r'"
        assert (await world.rooms.rows.database.fetch(temporary))[0][0] == 1  # type: ignore[attr-defined]


async def test_a_fold_that_takes_too_long_is_504(fresh_database: str, tmp_path: Path) -> None:
    from projections.past import PastTables
    from tests.api.postgres_rooms import postgres_world

    async with postgres_world(fresh_database, tmp_path / "state") as world:
        past = world.rooms.rows.past  # type: ignore[attr-defined]
        assert isinstance(past, PastTables)
        past._fold_seconds = 0.001
        for number in range(300):
            await world.client.made("/jobs/item", {"name": f"{number}"})
        head = await world.store.head()
        assert (await world.client.post(f"/tasks/page?as_of={head}")).status == 504
        past._fold_seconds = 30.0
        assert (await world.client.post(f"/tasks/page?as_of={head}")).status == 200
