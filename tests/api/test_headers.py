"""What every answer carries: the request id; of reads and writes of the log, the position."""

from __future__ import annotations

from tests.api.client import Answer, Client


async def test_every_read_and_every_write_tells_its_position(client: Client) -> None:
    answers: dict[str, Answer] = {}

    async def ask(method: str, path: str, value: object = None) -> Answer:
        answer = answers[f"{method} {path}"] = await client.call(method, path, value)
        assert answer.status == 200, (method, path, answer.content)
        return answer

    job = (await ask("POST", "/jobs/item", {"name": "x"})).json["id"]
    schedule = (await ask("POST", "/schedules/item", {"job_id": job, "kind": "interval", "interval_secs": 3600})).json[
        "id"
    ]
    task = (await ask("POST", f"/jobs/item/{job}/run", {})).json["id"]
    agent = (await ask("POST", "/agents/create", {"id": "a"})).json["id"]
    shown = await ask("GET", f"/tasks/{task}")
    for path in (
        *(f"/jobs/item/{job}", f"/schedules/item/{schedule}", "/schedules/schedulable", f"/agents/{agent}", "/agents"),
        *(f"/tasks/{task}/history", f"/tasks/{task}/explain", f"/task-instances/item/{shown.json['instance_id']}"),
        *(f"/task-instances/item/{shown.json['instance_id']}/logs", "/servers/server-1", "/events"),
        *("/system/info", "/system/metrics", "/system/health", "/gateway/status"),
    ):
        await ask("GET", path)
        head = await client.call("HEAD", path)
        assert (head.status, head.content) == (200, b"")
        assert head.headers["content-type"] == answers[f"GET {path}"].headers["content-type"]
    for collection in ("jobs", "schedules", "tasks", "task-instances", "agents", "servers"):
        await ask("POST", f"/{collection}/query")
    before = int(answers["POST /servers/query"].headers["x-hetuflow-position"])
    await ask("PUT", f"/jobs/item/{job}", {"name": "x"})  # no change: the position the state was read at
    for method, path, value in (
        ("PUT", f"/jobs/item/{job}", {"name": "y"}),
        ("POST", f"/jobs/item/{job}/disable", None),
        ("POST", f"/schedules/item/{schedule}/disable", None),
        ("POST", f"/tasks/{task}/cancel", None),
        ("POST", f"/agents/{agent}/drain", None),
        ("POST", "/events", {"type": "x", "data": {}}),
        ("DELETE", f"/schedules/item/{schedule}", None),
        ("DELETE", f"/tasks/{task}", None),
        ("DELETE", f"/agents/{agent}", None),
        ("DELETE", f"/jobs/item/{job}", None),
    ):
        after = int((await ask(method, path, value)).headers["x-hetuflow-position"])
        assert after > before, (method, path)
        before = after
    for name, answer in answers.items():
        assert answer.headers["x-request-id"], name
        assert int(answer.headers["x-hetuflow-position"]) > 0, name


async def test_what_is_refused_carries_the_request_id_too(client: Client) -> None:
    mine = [("X-Request-Id", "mine-1")]
    for method, path in (("GET", "/nothing"), ("POST", "/jobs/item"), ("DELETE", "/agents"), ("GET", "/jobs/item/x")):
        answer = await client.call(method, path, None, mine)
        assert answer.status >= 400
        assert answer.headers["x-request-id"] == answer.json["request_id"] == "mine-1"
    for bad in ("", "a b", "x" * 65, "ü"):
        answer = await client.call("GET", "/agents", None, [("X-Request-Id", bad)])
        assert answer.headers["x-request-id"] != bad
        assert len(answer.headers["x-request-id"]) == 36
