"""Runs of flows: what is made, how it ends, cancel, and retry from what failed."""

from __future__ import annotations

from typing import Any

import pytest
import trio

from tests.api.client import Client

NOBODY = "550e8400-e29b-41d4-a716-446655440001"
RUNNING, FAILED, CANCELLED, SUCCEEDED = 10, 90, 99, 100


async def a_job(client: Client, name: str, follows: dict[str, str] | None = None, match: str = "all") -> str:
    upstream = {"jobs": [{"job_id": each, "on": on} for each, on in (follows or {}).items()], "match": match}
    config = {"max_retries": 0, "cmd": "true"}
    return await client.made("/jobs/item", {"name": name, "config": config, "upstream": upstream if follows else None})


@pytest.fixture
async def jobs(client: Client) -> dict[str, str]:
    """extract -> load -> report, which also follows clean; extract -failed-> alarm; load, alarm -finished-> tidy."""
    made: dict[str, str] = {}
    made["extract"] = await a_job(client, "extract")
    made["clean"] = await a_job(client, "clean", {made["extract"]: "succeeded"})
    made["load"] = await a_job(client, "load", {made["extract"]: "succeeded"})
    made["report"] = await a_job(client, "report", {made["load"]: "succeeded", made["clean"]: "succeeded"})
    made["alarm"] = await a_job(client, "alarm", {made["extract"]: "failed"})
    made["tidy"] = await a_job(client, "tidy", {made["load"]: "finished", made["alarm"]: "finished"})
    return made


class Run:
    """A run, by the names of its jobs; tasks end because the test says so, outside the agents."""

    def __init__(self, client: Client, flow_id: str) -> None:
        self.client, self.id = client, flow_id

    async def show(self) -> dict[str, Any]:
        answer = await self.client.get(f"/flows/{self.id}")
        assert answer.status == 200, answer.json
        return answer.json

    async def tasks(self) -> dict[str, str]:
        return {node["name"]: node["task_id"] for node in (await self.show())["graph"]["nodes"]}

    async def statuses(self) -> dict[str, int]:
        return {node["name"]: node["status"] for node in (await self.show())["graph"]["nodes"]}

    async def awaited(self, name: str) -> list[str]:
        explained = (await self.client.get(f"/tasks/{(await self.tasks())[name]}/explain")).json
        waiting: list[str] = explained["waiting_for"][0]["details"]["task_ids"]
        return waiting

    async def end(self, name: str, status: str) -> None:
        task = (await self.client.get(f"/tasks/{(await self.tasks())[name]}")).json
        answer = await self.client.put(f"/task-instances/item/{task['instance_id']}", {"status": status})
        assert answer.status == 200, answer.json

    async def until(self, **wanted: int) -> dict[str, int]:
        with trio.fail_after(20):
            while True:
                found = await self.statuses()
                if all(found[name] == status for name, status in wanted.items()):
                    return found
                await trio.sleep(0.02)

    async def until_it_is(self, status: int) -> dict[str, Any]:
        with trio.fail_after(20):
            while (found := await self.show())["status"] != status:  # noqa: ASYNC110 - what is shown is the question
                await trio.sleep(0.02)
            return found


async def a_run(client: Client, job_id: str, **body: Any) -> Run:
    return Run(client, await client.made(f"/jobs/item/{job_id}/run-flow", body))


async def test_a_run_makes_a_task_of_each_job_that_the_root_leads_to(client: Client, jobs: dict[str, str]) -> None:
    run = await a_run(client, jobs["extract"], parameters={"day": "monday"}, priority=3)
    shown = await run.show()
    names = [node["name"] for node in shown["graph"]["nodes"]]
    assert names == ["extract", "alarm", "clean", "load", "report", "tidy"]
    assert (shown["status"], shown["task_count"], shown["outcome"], shown["trigger"]) == (RUNNING, 6, None, "flow")
    edges = {(edge["from"], edge["to"]): edge["on"] for edge in shown["graph"]["edges"]}
    assert len(edges) == 7 and edges[jobs["extract"], jobs["alarm"]] == "failed"
    page = await client.post("/tasks/query", {"filter": {"flow_run_id": {"$eq": run.id}}})
    assert page.json["page"]["total"] == 6
    for task in page.json["result"]:
        assert (task["flow_run_id"], task["trigger"], task["priority"]) == (run.id, "flow", 3)
        assert task["parameters"] == {"day": "monday"}
    tasks = await run.tasks()
    report = (await client.get(f"/tasks/{tasks['report']}")).json
    assert report["dependencies"]["on"] == {tasks["load"]: "succeeded", tasks["clean"]: "succeeded"}
    only = await a_run(client, jobs["load"])
    assert set(await only.tasks()) == {"load", "report", "tidy"}
    both = await a_run(client, jobs["load"], roots=[jobs["clean"]])
    assert set(await both.tasks()) == {"clean", "load", "report", "tidy"}
    listed = (await client.post("/flows/page", {"filter": {"job_id": {"$eq": jobs["extract"]}}})).json["result"]
    assert [row["id"] for row in listed] == [run.id] and "graph" not in listed[0]


async def test_the_graph_can_be_seen_before_it_is_run(client: Client, jobs: dict[str, str]) -> None:
    graph = (await client.get(f"/jobs/item/{jobs['load']}/flow")).json
    assert [node["name"] for node in graph["nodes"]] == ["load", "report", "tidy"]
    assert {node["task_id"] for node in graph["nodes"]} == {None}
    assert (await client.get(f"/jobs/item/{NOBODY}/flow")).status == 404


async def test_what_ends_well_succeeds_and_what_was_not_needed_is_skipped(client: Client, jobs: dict[str, str]) -> None:
    run = await a_run(client, jobs["extract"])
    await run.end("extract", "Succeeded")
    await run.until(alarm=CANCELLED)
    explained = (await client.get(f"/tasks/{(await run.tasks())['alarm']}/explain")).json
    assert explained["ended"]["code"] == "dependency_unmet"
    for name in ("clean", "load", "report", "tidy"):
        await run.end(name, "Succeeded")
    ended = await run.until_it_is(SUCCEEDED)
    assert ended["outcome"] == {"succeeded": 5, "failed": 0, "cancelled": 0, "skipped": 1}
    assert ended["completed_at"] is not None
    again = await client.post(f"/flows/{run.id}/cancel")
    assert (again.status, again.reason) == (409, "already_terminal")
    retried = await client.post(f"/flows/{run.id}/retry")
    assert (retried.status, retried.reason) == (409, "not_retryable")


async def test_a_retry_runs_again_what_failed_and_what_was_skipped_because_of_it(
    client: Client, jobs: dict[str, str]
) -> None:
    run = await a_run(client, jobs["extract"])
    await run.end("extract", "Succeeded")
    await run.until(alarm=CANCELLED)
    await run.end("clean", "Succeeded")
    await run.end("load", "Failed")
    await run.until(report=CANCELLED)
    await run.end("tidy", "Succeeded")
    ended = await run.until_it_is(FAILED)
    assert ended["outcome"] == {"succeeded": 3, "failed": 1, "cancelled": 0, "skipped": 2}
    assert (await client.post(f"/flows/{run.id}/retry")).status == 200
    shown = await run.show()
    assert (shown["status"], shown["outcome"], shown["completed_at"]) == (RUNNING, None, None)
    assert await run.statuses() == {
        "extract": SUCCEEDED,
        "alarm": CANCELLED,
        "clean": SUCCEEDED,
        "load": 1,
        "report": 1,
        "tidy": SUCCEEDED,
    }
    tasks = await run.tasks()
    with trio.fail_after(20):  # clean, which is kept, is told of at once
        while await run.awaited("report") != [tasks["load"]]:  # noqa: ASYNC110
            await trio.sleep(0.02)
    await run.end("load", "Succeeded")
    await run.end("report", "Succeeded")
    ended = await run.until_it_is(SUCCEEDED)
    assert ended["outcome"] == {"succeeded": 5, "failed": 0, "cancelled": 0, "skipped": 1}


async def test_a_retry_of_one_task_opens_its_run_again(client: Client, jobs: dict[str, str]) -> None:
    run = await a_run(client, jobs["load"])
    await run.end("load", "Failed")
    await run.until(report=CANCELLED)
    await run.end("tidy", "Failed")
    await run.until_it_is(FAILED)
    assert (await client.post(f"/tasks/{(await run.tasks())['load']}/retry")).status == 200
    assert await run.statuses() == {"load": 1, "report": 1, "tidy": FAILED}
    assert (await run.show())["status"] == RUNNING
    await run.end("load", "Succeeded")
    await run.end("report", "Succeeded")
    assert (await run.until_it_is(FAILED))["outcome"]["failed"] == 1


async def test_a_cancel_ends_what_is_open_and_can_be_retried(client: Client, jobs: dict[str, str]) -> None:
    run = await a_run(client, jobs["extract"])
    await run.end("extract", "Succeeded")
    await run.until(alarm=CANCELLED)
    assert (await client.post(f"/flows/{run.id}/cancel", {"reason": "wrong day"})).status == 200
    ended = await run.until_it_is(CANCELLED)
    assert ended["outcome"] == {"succeeded": 1, "failed": 0, "cancelled": 4, "skipped": 1}
    explained = (await client.get(f"/tasks/{(await run.tasks())['load']}/explain")).json
    assert explained["ended"]["code"] == "cancelled_by_flow"
    assert "wrong day" in explained["summary"]
    assert (await client.post(f"/flows/{run.id}/retry")).status == 200
    statuses = await run.statuses()
    assert {name for name, status in statuses.items() if status == 1} == {"clean", "load", "report", "tidy"}


async def test_a_run_asked_for_twice_with_one_key_is_one_run(client: Client, jobs: dict[str, str]) -> None:
    path, key = f"/jobs/item/{jobs['load']}/run-flow", [("Idempotency-Key", "k1")]
    first = await client.post(path, {}, headers=key)
    second = await client.post(path, {}, headers=key)
    assert first.json == second.json
    assert (await client.post("/flows/page", {})).json["page"]["total"] == 1
    chosen = await client.post(path, {"id": NOBODY})
    assert chosen.json == {"id": NOBODY}
    assert (await client.post(path, {"id": NOBODY})).status == 409


async def test_unknown_runs_and_roots_are_404(client: Client, jobs: dict[str, str]) -> None:
    for method, path in (
        ("get", f"/flows/{NOBODY}"),
        ("post", f"/flows/{NOBODY}/cancel"),
        ("post", f"/flows/{NOBODY}/retry"),
    ):
        answer = await getattr(client, method)(path)
        assert (answer.status, answer.json["detail"]["kind"]) == (404, "flow")
    answer = await client.post(f"/jobs/item/{jobs['load']}/run-flow", {"roots": [NOBODY]})
    assert (answer.status, answer.json["detail"]["path"]) == (404, "roots[0]")


async def test_a_run_is_what_it_was_when_it_started(client: Client, jobs: dict[str, str]) -> None:
    run = await a_run(client, jobs["load"])
    before = await run.show()
    await client.put(f"/jobs/item/{jobs['report']}", {"upstream": {"jobs": []}, "name": "other"})
    assert (await run.show())["graph"] == before["graph"]
    await run.end("load", "Succeeded")
    await run.until(load=SUCCEEDED)
    past = (await client.get(f"/flows/{run.id}?as_of={before['created_at']}")).json
    assert past == before


# --- by schedules -----------------------------------------------------------------------------------------------------


async def test_a_schedule_of_kind_flow_runs_the_flow_when_asked(client: Client, jobs: dict[str, str]) -> None:
    body = {"job_id": jobs["load"], "kind": "flow", "parameters": {"a": 1, "b": 1}, "priority": 4}
    schedule = await client.made("/schedules/item", body)
    shown = (await client.get(f"/schedules/item/{schedule}")).json
    assert (shown["kind"], shown["status"], shown["next_run_at"]) == ("flow", 100, None)
    key = [("Idempotency-Key", "k")]
    path = f"/schedules/item/{schedule}/execute"
    task_id = (await client.post(path, {"parameters": {"b": 2}}, headers=key)).json["id"]
    assert (await client.post(path, {"parameters": {"b": 2}}, headers=key)).json["id"] == task_id
    task = (await client.get(f"/tasks/{task_id}")).json
    assert (task["trigger"], task["schedule_id"], task["schedule_kind"], task["priority"]) == (
        "execute",
        schedule,
        5,
        4,
    )
    run = Run(client, task["flow_run_id"])
    assert (await run.tasks())["load"] == task_id
    found = await run.show()
    assert (found["schedule_id"], found["trigger"], found["parameters"]) == (schedule, "execute", {"a": 1, "b": 2})
    assert set(await run.tasks()) == {"load", "report", "tidy"}
    wrong = await client.post(path, {"config": {"timeout": 1}})
    assert (wrong.status, set(wrong.problems)) == (422, {"config"})
    assert (await client.delete(f"/schedules/item/{schedule}?cascade=cancel")).status == 200
    await run.until_it_is(CANCELLED)


async def test_a_schedule_may_run_the_flow_at_its_times(client: Client, jobs: dict[str, str]) -> None:
    body = {"job_id": jobs["load"], "kind": "interval", "interval_secs": 1, "run_flow": True, "max_count": 1}
    once = {"start_time": "2020-01-01T00:00:00Z"}
    schedule = await client.made("/schedules/item", {**body, **once})
    with trio.fail_after(20):
        while not (found := (await client.post("/flows/page", {})).json["result"]):  # noqa: ASYNC110
            await trio.sleep(0.05)
    assert (found[0]["schedule_id"], found[0]["trigger"], found[0]["task_count"]) == (schedule, "schedule", 3)
    assert found[0]["nominal_at"] == "2020-01-01T00:00:00Z"
    refused = await client.put(f"/schedules/item/{schedule}", {"pause_on_failures": 2})
    assert refused.status == 422
