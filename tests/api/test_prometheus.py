"""Y4: what Prometheus reads, read with Prometheus's own parser."""

from __future__ import annotations

from collections.abc import Mapping

import pytest
import trio
from prometheus_client.parser import text_string_to_metric_families

from eventstore.errors import StoreUnavailable
from hetuflow.measure import Histogram
from tests.api.client import Answer, Client
from tests.api.memory_rooms import World, memory_world

Samples = Mapping[tuple[str, tuple[tuple[str, str], ...]], float]


def samples(answer: Answer) -> Samples:
    assert answer.status == 200
    assert answer.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
    families = list(text_string_to_metric_families(answer.content.decode()))
    assert len({family.name for family in families}) == len(families)
    assert all(family.documentation for family in families)
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in families
        for sample in family.samples
    }


async def scrape(client: Client) -> Samples:
    return samples(await client.send("GET", "/metrics"))


async def test_the_figures_of_y2_are_there(client: Client) -> None:
    job = await client.made("/jobs/item", {"name": "x"})
    await client.made(f"/jobs/item/{job}/run", {})
    await client.made("/schedules/item", {"job_id": job, "kind": "interval", "interval_secs": 3600})
    await client.made("/agents/create", {"id": "a"})
    told = (await client.get("/system/metrics")).json
    found = await scrape(client)
    for status, count in told["tasks"].items():
        assert found["hetuflow_tasks", (("status", status),)] == count
    assert found["hetuflow_tasks", (("status", "pending"),)] == 1
    assert found["hetuflow_task_instances", (("status", "pending"),)] == 1
    assert found["hetuflow_events_position", ()] >= told["events"]["position"]
    assert found["hetuflow_events_appended_total", ()] >= 5
    assert found["hetuflow_agents_total", ()] == found["hetuflow_agents_offline", ()] == 1
    assert found["hetuflow_schedules_enabled", ()] == 1
    for name in told["projections"]:
        assert found["hetuflow_projection_lag_events", (("projection", name),)] >= 0
        assert found["hetuflow_projection_position", (("projection", name),)] > 0
    assert found["hetuflow_queue", (("kind", "tasks_waiting"),)] == 1
    assert found["hetuflow_database_up", ()] == 1
    assert found["hetuflow_append_seconds_count", ()] >= 4
    assert found["hetuflow_append_seconds_bucket", (("le", "+Inf"),)] == found["hetuflow_append_seconds_count", ()]
    assert found["hetuflow_schedule_lateness_seconds_count", ()] == 0
    assert found["process_cpu_seconds_total", ()] > 0


async def test_requests_are_counted_by_route_and_status() -> None:
    async with memory_world() as world:
        client = world.client
        job = await client.made("/jobs/item", {"name": "x"})
        for path in (f"/jobs/item/{job}", f"/jobs/item/{job}/", "/jobs/item/nothing", "/no/such/path", "/another"):
            await client.get(path)
        await client.send("BREW", "/metrics")
        found = await scrape(client)

        def count(method: str, route: str, status: int) -> float:
            labels = (("method", method), ("route", route), ("status", str(status)))
            return found.get(("hetuflow_http_requests_total", labels), 0)

        assert count("POST", "/api/v1/jobs/item", 200) == 1
        assert count("GET", "/api/v1/jobs/item/{id}", 200) == 2
        assert count("GET", "/api/v1/jobs/item/{id}", 400) == 1
        assert count("GET", "none", 404) == 2
        assert count("other", "none", 405) == 1
        assert found["hetuflow_http_request_seconds_count", (("route", "none"),)] == 3
        assert found["hetuflow_http_errors_total", ()] == 4


async def test_without_the_database_what_the_server_counts_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    async with memory_world() as world:
        await break_store(world, monkeypatch)
        found = await scrape(world.client)
        assert found["hetuflow_database_up", ()] == 0
        assert ("hetuflow_tasks", (("status", "pending"),)) not in found
        assert ("hetuflow_append_seconds_count", ()) in found


async def break_store(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    async def head() -> int:
        raise StoreUnavailable("gone")

    monkeypatch.setattr(world.rooms.store, "head", head)


async def test_a_database_that_does_not_answer_does_not_hold_the_scrape(
    autojump_clock: trio.testing.MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with memory_world() as world:

        async def tally(collection: str, column: str) -> None:
            await trio.sleep_forever()

        monkeypatch.setattr(world.rooms.rows, "tally", tally)
        assert (await scrape(world.client))["hetuflow_database_up", ()] == 0


def test_a_histogram_counts_up_to_each_bound() -> None:
    measured = Histogram((1.0, 2.0))
    for seconds in (0.5, 1.0, 1.5, 9.0):
        measured.observe(seconds)
    assert list(measured.cumulative()) == [(1.0, 2), (2.0, 3), (float("inf"), 4)]
    assert (measured.count, measured.sum) == (4, 12.0)
