"""J1-J8."""

from __future__ import annotations

from typing import Any
from uuid import UUID

import pytest
import trio

from hetuflow.actors import ActorSystem
from hetuflow.domain import execution
from hetuflow.domain.decider import Address
from tests.api.client import Client

ID = "550e8400-e29b-41d4-a716-446655440000"
FULL_CONFIG = {
    "timeout": 300,
    "max_retries": 2,
    "retry_interval": 30,
    "cmd": "bash",
    "args": ["-c", "echo $MESSAGE"],
    "capture_output": True,
    "max_output_size": 1024000,
    "environment": {"A": "b", "N": 1, "B": True},
    "labels": None,
    "resource_limits": {
        "max_execution_time_secs": 5,
        "max_memory_mb": 64,
        "max_cpu_percent": 0.8,
        "max_processes": 12,
    },
    "on_disconnect": "continue",
    "lost_after_seconds": 600,
    "idempotent": True,
    "files": {"conf/app.ini": "[app]"},
    "artifacts": ["out/*", {"path": "log", "optional": True}],
    "start_deadline_seconds": 90,
    "retry": {
        "strategy": "exponential",
        "factor": 1.5,
        "max_seconds": 600,
        "jitter": 0.5,
        "on": ["exit_code", "lost"],
        "exit_codes": {"not": [2]},
        "prefer_other_agent": True,
    },
    "params": {"day": {"type": "date"}, "n": {"type": "integer", "default": 3}},
    "limits": {
        "concurrency": 4,
        "keys": ["db-main", {"name": "licence", "concurrency": 3}],
        "rate": {"count": 10, "per_seconds": 60},
    },
}


async def test_a_job_is_shown_as_it_was_sent(client: Client) -> None:
    config = {**execution.DEFAULTS, **FULL_CONFIG, "owner": "me"}
    sent = {"name": "hello", "agent_id": "", "environment": {"MESSAGE": "你好"}, "config": config}
    job_id = await client.made("/jobs/item", sent)
    assert UUID(job_id).version == 7
    job = (await client.get(f"/jobs/item/{job_id}")).json
    assert job == {
        "id": job_id,
        "namespace_id": "default",
        "name": "hello",
        "description": None,
        "environment": {"MESSAGE": "你好"},
        "config": config,
        "status": 100,
        "agent_id": None,
        "status_note": None,
        "upstream": None,
        "created_by": 1,
        "updated_by": None,
        "created_at": job["created_at"],
        "updated_at": job["created_at"],
        "version": 1,
    }
    assert job["created_at"].endswith("Z")


async def test_missing_members_of_config_get_their_defaults(client: Client) -> None:
    job_id = await client.made("/jobs/item", {"name": "x", "config": {"args": None}})
    config = (await client.get(f"/jobs/item/{job_id}")).json["config"]
    assert config == {
        "timeout": 3600,
        "max_retries": 3,
        "retry_interval": 60,
        "cmd": "bash",
        "args": [],
        "capture_output": True,
        "max_output_size": 10485760,
        "environment": None,
        "labels": None,
        "resource_limits": None,
        "start_deadline_seconds": 0,
        "retry": None,
        "params": None,
        "limits": None,
        **execution.DEFAULTS,
    }


async def test_an_id_may_be_chosen_once(client: Client) -> None:
    assert await client.made("/jobs/item", {"id": ID.upper(), "name": "x"}) == ID
    again = await client.post("/jobs/item", {"id": ID, "name": "x"})
    assert (again.status, again.reason) == (409, "already_exists")
    await client.delete(f"/jobs/item/{ID}")
    after = await client.post("/jobs/item", {"id": ID, "name": "x"})
    assert (after.status, after.reason) == (409, "already_exists")


async def test_an_update_changes_what_it_names_and_nothing_else(client: Client) -> None:
    job_id = await client.made("/jobs/item", {"name": "x", "environment": {"A": "b"}, "config": FULL_CONFIG})
    path = f"/jobs/item/{job_id}"
    before = (await client.get(path)).json
    answer = await client.put(path, {"description": "d", **dict.fromkeys(("name", "environment", "config", "status"))})
    assert (answer.status, answer.json) == (200, None)
    after = (await client.get(path)).json
    assert {name for name in after if after[name] != before[name]} == {
        "description",
        "updated_at",
        "updated_by",
        "version",
    }
    assert after["version"] == 2
    for nothing in (after, {}, {"description": "d"}):
        head = (await client.get("/system/info")).json["position"]
        assert (await client.put(path, nothing)).status == 200
        assert (await client.get("/system/info")).json["position"] == head


async def test_an_update_replaces_config_as_a_whole(client: Client) -> None:
    job_id = await client.made("/jobs/item", {"name": "x", "config": {**FULL_CONFIG, "owner": "me"}})
    await client.put(f"/jobs/item/{job_id}", {"config": {"cmd": "python"}})
    config = (await client.get(f"/jobs/item/{job_id}")).json["config"]
    assert (config["cmd"], config["timeout"], config["args"], "owner" in config) == ("python", 3600, [], False)


async def test_command_is_config_cmd_alone(client: Client) -> None:
    job_id = await client.made("/jobs/item", {"name": "x", "config": {"timeout": 5}})
    await client.put(f"/jobs/item/{job_id}", {"command": "node"})
    config = (await client.get(f"/jobs/item/{job_id}")).json["config"]
    assert (config["cmd"], config["timeout"]) == ("node", 5)
    both = await client.put(f"/jobs/item/{job_id}", {"command": "node", "config": {}})
    assert (both.status, list(both.problems)) == (422, ["command"])
    assert (await client.post("/jobs/item", {"name": "x", "command": "node"})).status == 422


async def test_command_is_merged_into_the_config_as_it_is_then(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another update that is committed after this one was read is not lost."""
    job_id = await client.made("/jobs/item", {"name": "x", "config": {"timeout": 5}})
    ask = ActorSystem.ask
    waiting = [{"config": {"timeout": 7, "args": ["a"]}}]

    async def overtaken(self: ActorSystem, address: Address, command: object, *more: Any) -> Any:
        if waiting:
            assert (await client.put(f"/jobs/item/{job_id}", waiting.pop())).status == 200
        return await ask(self, address, command, *more)

    monkeypatch.setattr(ActorSystem, "ask", overtaken)
    assert (await client.put(f"/jobs/item/{job_id}", {"command": "node"})).status == 200
    config = (await client.get(f"/jobs/item/{job_id}")).json["config"]
    assert (config["cmd"], config["timeout"], config["args"]) == ("node", 7, ["a"])


async def test_update_mask_clears(client: Client) -> None:
    job_id = await client.made("/jobs/item", {"name": "x", "description": "d", "agent_id": "a"})
    path = f"/jobs/item/{job_id}"
    assert (await client.put(path, {"name": "y", "update_mask": ["description"]})).status == 200
    job = (await client.get(path)).json
    assert (job["name"], job["description"], job["agent_id"]) == ("x", None, "a")
    assert (await client.put(path, {"agent_id": ""})).status == 200
    assert (await client.get(path)).json["agent_id"] is None
    assert (await client.put(path, {"update_mask": {"name": True}})).status == 422


async def test_another_id_is_refused_on_update(client: Client) -> None:
    job_id = await client.made("/jobs/item", {"name": "x"})
    answer = await client.put(f"/jobs/item/{job_id}", {"id": ID, "name": "y"})
    assert (answer.status, list(answer.problems)) == (422, ["id"])


async def test_enable_and_disable_may_be_repeated(client: Client) -> None:
    job_id = await client.made("/jobs/item", {"name": "x"})
    for action, status in (("disable", 99), ("disable", 99), ("enable", 100), ("enable", 100)):
        assert (await client.post(f"/jobs/item/{job_id}/{action}")).json is None
        assert (await client.get(f"/jobs/item/{job_id}")).json["status"] == status
    await client.put(f"/jobs/item/{job_id}", {"status": "expired"})
    assert (await client.get(f"/jobs/item/{job_id}")).json["status"] == 98


async def test_a_note_says_why_a_job_was_switched(client: Client) -> None:
    path = f"/jobs/item/{await client.made('/jobs/item', {'name': 'x'})}"
    assert (await client.get(path)).json["status_note"] is None
    assert (await client.post(f"{path}/disable", {"note": "maintenance"})).json is None
    assert (await client.get(path)).json["status_note"] == "maintenance"
    for body in (None, {}, {"note": None}):
        assert (await client.post(f"{path}/disable", body)).json is None
    assert (await client.get(path)).json["status_note"] == "maintenance"
    assert (await client.post(f"{path}/enable")).json is None
    assert (await client.get(path)).json["status_note"] is None
    refused = await client.post(f"{path}/enable", {"reason": "x"})
    assert (refused.status, list(refused.problems)) == (422, ["reason"])


async def test_cron_expr_is_a_schedule_made_with_the_job(client: Client) -> None:
    job_id = await client.made("/jobs/item", {"name": "x", "cron_expr": "0 12 * * *"})
    page = {"filter": {"job_id": {"$eq": job_id}}}
    [schedule] = (await client.post("/schedules/page", page)).json["result"]
    assert (schedule["name"], schedule["kind"], schedule["cron_expression"]) == ("cron", "cron", "0 12 * * *")
    assert "cron_expr" not in (await client.get(f"/jobs/item/{job_id}")).json
    assert (await client.put(f"/jobs/item/{job_id}", {"cron_expr": "0 13 * * *"})).status == 200
    [changed] = (await client.post("/schedules/page", page)).json["result"]
    assert (changed["id"], changed["cron_expression"]) == (schedule["id"], "0 13 * * *")
    await client.delete(f"/schedules/item/{schedule['id']}")
    assert (await client.put(f"/jobs/item/{job_id}", {"cron_expr": "0 14 * * *"})).status == 200
    [added] = (await client.post("/schedules/page", page)).json["result"]
    assert added["cron_expression"] == "0 14 * * *"
    for call in (
        client.put(f"/jobs/item/{job_id}", {"cron_expr": "x"}),
        client.post("/jobs/item", {"name": "x", "cron_expr": "99 * * * *"}),
    ):
        answer = await call
        assert (answer.status, list(answer.problems)) == (422, ["cron_expr"])


async def test_delete_waits_for_open_tasks_or_cancels_them(client: Client) -> None:
    job_id = await client.made("/jobs/item", {"name": "x"})
    schedule_id = await client.made("/schedules/item", {"job_id": job_id, "kind": "interval", "interval_seconds": 60})
    task_id = await client.made(f"/jobs/item/{job_id}/run", {})
    refused = await client.delete(f"/jobs/item/{job_id}")
    assert (refused.status, refused.reason, refused.json["details"]["count"]) == (409, "has_open_tasks", 1)
    assert (await client.delete(f"/jobs/item/{job_id}?cascade=yes")).status == 400
    assert (await client.delete(f"/jobs/item/{job_id}?cascade=cancel")).json is None
    assert (await client.get(f"/jobs/item/{job_id}")).status == 404
    assert (await client.get(f"/schedules/item/{schedule_id}")).status == 404
    assert (await client.get(f"/tasks/{task_id}")).json["status"] == 99
    assert (await client.delete(f"/jobs/item/{job_id}")).status == 404
    assert (await client.post(f"/jobs/item/{job_id}/run")).status == 404


async def test_a_job_without_open_tasks_is_deleted_at_once(client: Client) -> None:
    job_id = await client.made("/jobs/item", {"name": "x"})
    task_id = await client.made(f"/jobs/item/{job_id}/run", {})
    await client.post(f"/tasks/{task_id}/cancel")
    assert (await client.delete(f"/jobs/item/{job_id}")).json is None


async def test_run_makes_a_task_with_what_was_sent(client: Client) -> None:
    job_id = await client.made(
        "/jobs/item", {"name": "x", "environment": {"A": "1", "B": "1"}, "config": {"environment": {"B": "2"}}}
    )
    await client.post(f"/jobs/item/{job_id}/disable")
    sent = {
        "id": ID,
        "name": "by hand",
        "parameters": {"p": [1, None]},
        "environment": {"C": "3"},
        "priority": -5,
        "config": {"timeout": 7, "environment": {"D": "4"}},
    }
    assert await client.made(f"/jobs/item/{job_id}/run", sent) == ID
    task = (await client.get(f"/tasks/{ID}")).json
    assert task["environment"] == {"A": "1", "B": "2", "C": "3", "D": "4"}
    assert (task["name"], task["parameters"], task["priority"]) == ("by hand", {"p": [1, None]}, -5)
    assert (task["config"]["timeout"], task["config"]["max_retries"], task["config"]["retry_count"]) == (7, 3, 0)
    assert (task["trigger"], task["status"], task["schedule_kind"], task["lock_version"]) == (
        "run",
        1,
        4,
        task["version"],
    )
    again = await client.post(f"/jobs/item/{job_id}/run", sent)
    assert (again.status, again.reason) == (409, "already_exists")
    for body in (None, {}):
        assert (await client.post(f"/jobs/item/{job_id}/run", body)).status == 200


async def test_a_run_survives_changes_of_its_job(client: Client) -> None:
    """The decision is guarded by the job's version: one that loses the race reads the job again, up to five times."""
    job_id = await client.made("/jobs/item", {"name": "0"})
    statuses: list[int] = []

    async def run() -> None:
        statuses.append((await client.post(f"/jobs/item/{job_id}/run", {})).status)

    async def change(number: int) -> None:
        statuses.append((await client.put(f"/jobs/item/{job_id}", {"name": f"{number}"})).status)

    async with trio.open_nursery() as nursery:
        for number in range(1, 5):
            nursery.start_soon(run)
            nursery.start_soon(change, number)
    assert statuses == [200] * 8
    page = (await client.post("/tasks/page", {"page": {"limit": 100}})).json
    assert page["page"]["total"] == 4


@pytest.mark.parametrize("body", [{"status": 1}, {"job_id": ID}, {"priority": 2**31}, {"scheduled_at": "tomorrow"}])
async def test_run_takes_only_its_members(client: Client, body: dict[str, object]) -> None:
    job_id = await client.made("/jobs/item", {"name": "x"})
    answer = await client.post(f"/jobs/item/{job_id}/run", body)
    assert (answer.status, list(answer.problems)) == (422, list(body))


async def test_jobs_are_found_newest_first(client: Client) -> None:
    made = [await client.made("/jobs/item", {"name": f"job {n}"}) for n in range(5)]
    page = (await client.post("/jobs/query", {"page": {"limit": 2}})).json
    assert [job["id"] for job in page["result"]] == made[:-3:-1]
    assert (page["page"]["total"], page["page"]["has_more"]) == (5, True)
    rest = (await client.post("/jobs/page", {"page": {"limit": 5, "after": page["page"]["next"]}})).json
    assert [job["id"] for job in rest["result"]] == made[2::-1]
    assert rest["page"] == {"total": None, "has_more": False, "next": None}
    foreign = await client.post("/jobs/page", {"page": {"after": "not-a-cursor"}})
    assert (foreign.status, list(foreign.problems)) == (400, ["page.after"])
