"""A1-A9, S1, S2, and what the server says of itself."""

from __future__ import annotations

from uuid import UUID

import pytest

from hetuflow.api import rendering
from hetuflow.domain.commands import StartServer, StopServer
from hetuflow.domain.decider import Address
from tests.api.client import Client
from tests.api.memory_rooms import World


async def test_an_agent_can_be_made_before_it_connects(client: Client) -> None:
    agent_id = await client.made("/agents/create", {"name": "n", "description": "d", "config": {"type": "x"}})
    assert UUID(agent_id).version == 7
    agent = (await client.get(f"/agents/{agent_id}")).json
    assert (agent["name"], agent["status"], agent["address"], agent["config"]) == ("n", 90, "", {"type": "x"})
    assert agent["capabilities"] == {"max_concurrent_tasks": 0, "labels": {}, "metadata": {}}
    assert agent["statistics"] == {
        "success_tasks": 0,
        "failure_tasks": 0,
        "total_tasks": 0,
        "avg_response_ms": 0,
        "last_failure_ms": 0,
        "consecutive_failures": 0,
    }
    assert (agent["metrics"], agent["running_instances"], agent["draining"], agent["drain"]) == (None, 0, False, None)
    assert agent["last_heartbeat_at"] == agent["created_at"]
    assert not {"labels", "metadata", "host", "port", "max_concurrent_tasks", "created_by"} & agent.keys()
    assert (await client.delete(f"/agents/{agent_id}")).json is None
    assert (await client.get(f"/agents/{agent_id}")).status == 404


async def test_the_guides_label_update(client: Client) -> None:
    assert await client.made("/agents/create", {"id": "agent-01"}) == "agent-01"
    labels = {"env": "staging", "capacity": "high"}
    assert (await client.post("/agents/agent-01/update", {"labels": labels})).json is None
    agent = (await client.get("/agents/agent-01")).json
    assert (agent["name"], agent["capabilities"]["labels"]) == ("agent-01", labels)
    assert (await client.put("/agents/agent-01", {"update_mask": ["labels"]})).json is None
    assert (await client.get("/agents/agent-01")).json["capabilities"]["labels"] == {}
    assert (await client.post("/agents/agent-02/update", {"labels": labels})).status == 404


async def test_a_fetched_agent_can_be_sent_back(client: Client) -> None:
    sent = {
        "id": "a.1",
        "capabilities": {"labels": {"gpu": "true"}, "max_concurrent_tasks": 4},
        "host": "10.0.0.1",
        "port": 99,
    }
    await client.made("/agents/create", sent)
    agent = (await client.get("/agents/a.1")).json
    assert agent["address"] == "10.0.0.1:99"
    assert agent["capabilities"] == {"max_concurrent_tasks": 4, "labels": {"gpu": "true"}, "metadata": {}}
    assert (await client.put("/agents/a.1", agent)).status == 200
    assert (await client.get("/agents/a.1")).json["version"] == agent["version"]
    assert (await client.put("/agents/a.1", {**agent, "labels": {"gpu": "false"}})).status == 200
    assert (await client.get("/agents/a.1")).json["capabilities"]["labels"] == {"gpu": "false"}
    assert (await client.put("/agents/a.1", {"endpoint": "h:1", "address": "h:2"})).status == 422


async def test_draining_and_undraining(client: Client) -> None:
    await client.made("/agents/create", {"id": "a"})
    created = (await client.get("/agents/a")).json
    assert (await client.post("/agents/a/drain", {"reason": "new disk"})).json is None
    drained = (await client.get("/agents/a")).json
    assert (drained["draining"], drained["drain"]["reason"]) == (True, "new disk")
    assert drained["drain"]["since"] >= created["created_at"]
    answer = await client.post("/agents/a/drain")
    assert (answer.status, answer.json) == (200, None)
    assert (await client.get("/agents/a")).json == drained
    assert (await client.put("/agents/a", drained)).status == 200
    found = (await client.post("/agents/query", {"filter": {"draining": {"eq": True}}})).json["result"]
    assert [agent["id"] for agent in found] == ["a"]
    for _ in range(2):
        answer = await client.post("/agents/a/undrain", {})
        assert (answer.status, answer.json) == (200, None)
    agent = (await client.get("/agents/a")).json
    assert (agent["draining"], agent["drain"], agent["version"]) == (False, None, drained["version"] + 1)
    for action in ("drain", "undrain"):
        assert (await client.post(f"/agents/b/{action}")).status == 404
        assert (await client.post(f"/agents/a/{action}", {"reasons": "x"})).status == 422
        assert (await client.post(f"/agents/a%2Fb/{action}")).status == 400


@pytest.mark.parametrize(
    ("body", "path"),
    [
        ({}, "id"),
        ({"id": "a/b"}, "id"),
        ({"id": ".."}, "id"),
        ({"id": "a", "host": "h"}, "port"),
        ({"id": "a", "host": "h", "port": 70000}, "port"),
        ({"id": "a", "host": "h", "port": 0}, "port"),
        ({"id": "a", "labels": {"x": 1}}, "labels.x"),
        (
            {"id": "a", "max_concurrent_tasks": 1, "capabilities": {"max_concurrent_tasks": 2}},
            "capabilities.max_concurrent_tasks",
        ),
        ({"id": "a", "capabilities": {"label": {}}}, "capabilities.label"),
    ],
)
async def test_what_is_wrong_with_an_agent_is_named(client: Client, body: dict[str, object], path: str) -> None:
    answer = await client.post("/agents/create", body)
    assert (answer.status, [problem["path"] for problem in answer.json["details"]]) == (422, [path])


async def test_an_id_once_used_is_refused_and_ignored_members_are_ignored(client: Client) -> None:
    await client.made("/agents/create", {"id": "a", "status": "whatever", "last_heartbeat_at": 5})
    assert (await client.post("/agents/create", {"id": "a"})).reason == "already_exists"


async def test_all_agents_newest_first(client: Client) -> None:
    for name in ("a", "b", "c"):
        await client.made("/agents/create", {"id": name})
    assert [agent["id"] for agent in (await client.get("/agents")).json] == ["c", "b", "a"]
    page = (await client.post("/agents/query", {"page": {"page": 1, "page_size": 2}})).json
    assert ([agent["id"] for agent in page["result"]], page["page"]["total"]) == (["c", "b"], 3)


async def test_the_server_has_registered_itself(client: Client) -> None:
    [server] = (await client.post("/servers/query")).json["result"]
    assert server == (await client.get(f"/servers/{server['id']}")).json
    assert set(server) == {
        *("id", "name", "address", "bind_namespaces", "status", "description"),
        *("last_heartbeat_at", "created_at", "updated_at", "version"),
    }
    assert (server["status"], server["bind_namespaces"]) == (100, [])
    assert (await client.get("/servers/other")).status == 404


async def test_a_server_can_be_edited_and_removed_once_it_has_ended(world: World) -> None:
    client = world.client
    before = (await client.get("/servers/server-1")).json
    sent = {**before, "description": "in the cellar", "bind_namespaces": ["team", "default"], "status": 99}
    assert (await client.put("/servers/server-1", sent)).json is None
    after = (await client.get("/servers/server-1")).json
    assert (after["description"], after["bind_namespaces"], after["status"]) == (
        "in the cellar",
        ["team", "default"],
        100,
    )
    assert (await client.post("/servers/server-1/update", {"update_mask": ["description"]})).status == 200
    assert (await client.get("/servers/server-1")).json["description"] is None
    for body, path in (({"id": "other"}, "id"), ({"name": ""}, "name"), ({"nmae": "x"}, "nmae")):
        answer = await client.put("/servers/server-1", body)
        assert (answer.status, list(answer.problems)) == (422, [path])
    assert (await client.put("/servers/other", {"name": "x"})).status == 404
    assert (await client.delete("/servers/other")).status == 404
    assert (await client.delete("/servers/server-1")).reason == "server_active"
    other = StartServer(server_id="server-9", name="nine", address="10.0.0.9:1", version="1")
    await world.rooms.system.ask(Address("server", "server-9"), other)
    await world.rooms.system.ask(Address("server", "server-9"), StopServer())
    head = [("X-Hetuflow-Min-Position", str(await world.store.head()))]
    assert (await client.put("/servers/server-9", {"name": "ten"})).status == 200
    shown = (await client.get("/servers/server-9", headers=head)).json
    assert (shown["name"], shown["status"]) == ("ten", 99)
    assert (await client.delete("/servers/server-9")).json is None
    assert (await client.get("/servers/server-9")).status == 404


async def test_health_info_and_metrics(client: Client) -> None:
    health = (await client.get("/system/health")).json
    assert (health["status"], health["checks"]["agents"]["status"]) == ("healthy", "warning")
    info = (await client.get("/system/info")).json
    assert (info["name"], info["api_version"], info["server_id"]) == ("hetuflow", "v1", "server-1")
    job_id = await client.made("/jobs/item", {"name": "x"})
    await client.made(f"/jobs/item/{job_id}/run", {})
    await client.get("/nothing")
    metrics = (await client.get("/system/metrics")).json
    assert (metrics["ok"], metrics["tasks"]["pending"], metrics["tasks"]["waiting_retry"]) == (True, 1, 0)
    assert metrics["http"]["errors_total"] == 1
    for path in ("/gateway/status", "/gateway/stats"):
        assert (await client.get(path)).json["active_connections"] == 0


async def test_events_are_found_by_stream_type_and_position(client: Client) -> None:
    job_id = await client.made("/jobs/item", {"name": "x"})
    await client.post(f"/jobs/item/{job_id}/disable")
    await client.made("/jobs/item", {"name": "y"})

    async def types(query: str) -> list[str]:
        return [event["type"] for event in (await client.get(f"/events?{query}")).json["result"]]

    assert await types(f"stream=job-{job_id}") == ["JobCreated", "JobDisabled"]
    assert await types(f"stream=job-{job_id}&order=desc&limit=1") == ["JobDisabled"]
    assert await types("stream=job") == ["JobCreated", "JobDisabled", "JobCreated"]
    assert await types("type=JobDisabled&type=ServerStarted") == ["ServerStarted", "JobDisabled"]
    page = (await client.get("/events?stream=job&limit=2")).json["page"]
    assert page["has_more"] is True
    assert await types(f"stream=job&after={page['next']}") == ["JobCreated"]
    assert await types(f"stream=job&before={page['next']}") == ["JobCreated"]
    assert await types("from=2999-01-01T00:00:00%2B01:00") == []
    assert await types("to=2999-01-01T00:00:00+01:00&stream=job&limit=1") == ["JobCreated"]
    for query, status in (
        ("stream=jobs", 422),
        ("type=JobCreate", 422),
        ("limit=0", 400),
        ("after=x", 400),
        ("order=up", 400),
        ("x=1", 422),
    ):
        assert (await client.get(f"/events?{query}")).status == status, query
    assert (await client.get("/events?type=JobCreate")).problems == {"query.type": "JobCreated"}


def test_counts_of_a_heartbeat_are_whole_numbers() -> None:
    shown = rendering.metrics({"active_tasks": 2.0, "cpu_usage": 1.5})
    assert shown is not None
    assert (repr(shown["active_tasks"]), repr(shown["total_executed"]), shown["cpu_usage"]) == ("2", "0", 1.5)
