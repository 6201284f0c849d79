"""Declared parameters over the API: jobs, runs, batches, schedules, and the preview of a run."""

from __future__ import annotations

from typing import Any

from tests.api.client import Client

PARAMS = {"day": {"type": "date", "required": True}, "n": {"type": "integer", "default": 3}}
CONFIG = {"cmd": "bash", "args": ["-c", "report {{ params.day }} {{ params.n }}"], "params": PARAMS}
DAY = {"day": "2026-01-31"}


async def made(client: Client, **members: Any) -> str:
    return await client.made("/jobs/item", {"name": "report", "config": CONFIG, **members})


def paths(answer: Any) -> list[tuple[str, str | None]]:
    assert answer.status == 422, answer.json
    return [(each["path"], each["suggestion"]) for each in answer.json["details"]]


async def test_what_is_wrong_with_declarations_and_templates_is_named(client: Client) -> None:
    params = {"day": {"type": "dat"}, "n": {"type": "integer", "default": "x"}}
    answer = await client.post("/jobs/item", {"name": "x", "config": {"params": params}})
    assert paths(answer) == [("config.params.day.type", "date"), ("config.params.n.default", None)]
    wrong = {**CONFIG, "args": ["{{ params.dya }}", "{{ 'a' * 9 }}"]}
    answer = await client.post("/jobs/item", {"name": "x", "config": wrong})
    assert paths(answer) == [("config.args[0]", "day"), ("config.args[1]", None)]
    job_id = await made(client)
    assert paths(await client.put(f"/jobs/item/{job_id}", {"config": wrong}))[0] == ("config.args[0]", "day")
    assert paths(await client.put(f"/jobs/item/{job_id}", {"command": "python3"})) == [("config.args[1]", None)]


async def test_a_run_is_refused_or_made_with_effective_parameters(client: Client) -> None:
    job_id = await made(client)
    run = f"/jobs/item/{job_id}/run"
    assert paths(await client.post(run, {"parameters": {"dya": 1}})) == [
        ("parameters.dya", "day"),
        ("parameters.day", None),
    ]
    task = (await client.get(f"/tasks/{await client.made(run, {'parameters': DAY})}")).json
    assert task["parameters"] == {"day": "2026-01-31", "n": 3}
    assert task["rendered"] == {
        "args": ["-c", 'report "${HETUFLOW_ARG_1?}" "${HETUFLOW_ARG_2?}"'],
        "variables": {"HETUFLOW_ARG_1": "2026-01-31", "HETUFLOW_ARG_2": "3"},
    }
    assert task["config"]["args"] == CONFIG["args"]
    answer = await client.put(f"/tasks/{task['id']}", {"parameters": {"day": "soon"}})
    assert paths(answer) == [("parameters.day", None)]
    assert (await client.put(f"/tasks/{task['id']}", {"parameters": {**DAY, "n": 4}})).status == 200
    assert (await client.get(f"/tasks/{task['id']}")).json["rendered"]["variables"]["HETUFLOW_ARG_2"] == "4"


async def test_tasks_and_batches_are_held_to_the_same(client: Client) -> None:
    job_id = await made(client)
    assert paths(await client.post("/tasks/create", {"job_id": job_id})) == [("parameters.day", None)]
    tasks = [{"job_id": job_id}, {"job_id": job_id, "parameters": DAY}, {"job_id": job_id, "parameters": {"day": 1}}]
    assert paths(await client.post("/tasks/batch", {"tasks": tasks})) == [
        ("tasks[0].parameters.day", None),
        ("tasks[2].parameters.day", None),
    ]


async def test_a_schedule_must_fit_its_job_when_it_is_made_and_when_it_is_edited(client: Client) -> None:
    job_id = await made(client)
    body = {"job_id": job_id, "kind": "interval", "interval_seconds": 60}
    assert paths(await client.post("/schedules/item", body)) == [("parameters.day", None)]
    assert paths(await client.post("/schedules/item", {**body, "parameters": {**DAY, "m": 1}}))[0][0] == "parameters.m"
    schedule_id = await client.made("/schedules/item", {**body, "parameters": DAY})
    path = f"/schedules/item/{schedule_id}"
    assert paths(await client.put(path, {"parameters": {"day": "x"}})) == [("parameters.day", None)]
    assert (await client.put(path, {"priority": 5})).status == 200
    task_id = await client.made(f"{path}/execute", {"parameters": {"n": 7}})
    assert (await client.get(f"/tasks/{task_id}")).json["parameters"] == {**DAY, "n": 7}
    assert paths(await client.post(f"{path}/execute", {"parameters": {"n": "7"}})) == [("parameters.n", None)]


async def test_the_cron_shorthand_gives_no_parameters(client: Client) -> None:
    answer = await client.post("/jobs/item", {"name": "x", "config": CONFIG, "cron_expr": "0 4 * * *"})
    assert paths(answer) == [("cron_expr", None)]


async def test_the_preview_of_a_run_makes_nothing(client: Client) -> None:
    job_id = await made(client, environment={"A": "b"})
    path = f"/jobs/item/{job_id}/render"
    answer = await client.post(path, {"parameters": DAY, "config": {"args": ["{{ params.n }}"]}})
    assert answer.json == {
        "parameters": {**DAY, "n": 3},
        "cmd": "bash",
        "args": ["3"],
        "environment": {"A": "b", "HETUFLOW_PARAM_DAY": "2026-01-31", "HETUFLOW_PARAM_N": "3"},
    }
    assert paths(await client.post(path, {})) == [("parameters.day", None)]
    assert (
        paths(await client.post(path, {"parameters": DAY, "config": {"args": ["{{ x }}"]}}))[0][0] == "config.args[0]"
    )
    assert (await client.post("/tasks/query", {"filter": {"job_id": {"$eq": job_id}}})).json["result"] == []


async def test_a_job_without_declarations_takes_anything_and_passes_braces_on(client: Client) -> None:
    job_id = await client.made("/jobs/item", {"name": "x", "config": {"cmd": "echo", "args": ["{{ x"]}})
    task_id = await client.made(f"/jobs/item/{job_id}/run", {"parameters": {"any": {"thing": None}}})
    task = (await client.get(f"/tasks/{task_id}")).json
    assert (task["parameters"], task["rendered"]) == ({"any": {"thing": None}}, None)


async def test_a_flow_is_held_to_what_all_its_jobs_declare(client: Client) -> None:
    first = await made(client)
    second_config = {"cmd": "echo", "args": ["{{ params.m }}"], "params": {"m": {"type": "integer", "required": True}}}
    upstream = {"jobs": [{"job_id": first, "on": "succeeded"}]}
    second = await client.made("/jobs/item", {"name": "second", "config": second_config, "upstream": upstream})
    path = f"/jobs/item/{first}/run-flow"
    assert paths(await client.post(path, {"parameters": DAY})) == [("parameters.m", None)]
    assert paths(await client.post(path, {"parameters": {**DAY, "m": 1, "dya": 2}})) == [("parameters.dya", "day")]
    assert (await client.post(path, {"parameters": {**DAY, "m": 1}})).status == 200
    wanted = {"filter": {"job_id": {"$eq": second}}}
    tasks = (await client.post("/tasks/query", wanted)).json["result"]
    assert [task["rendered"]["args"] for task in tasks] == [["1"]]
    assert {task["status"] for task in tasks} == {1}
