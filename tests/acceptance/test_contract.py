"""The REST contract's acceptance list, §7.1, §7.2 and §7.3, row by row, with curl against real processes.

Rows (or parts of rows) that belong to later items fail as expected, strictly: the row turns red when the item is built,
and its mark is taken away.
The "else" column of §7.1 comes first: it is the answer without the fixture `guide`.
"""

from __future__ import annotations

import itertools
import json
import re
import socket
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from tests.acceptance.contract_server import JSON, ContractServer, contract_server
from tests.support.postgres import run_sql

JOB = "550e8400-e29b-41d4-a716-446655440000"
TASK = "550e8400-e29b-41d4-a716-446655440001"
UNUSED = "550e8400-e29b-41d4-a716-4466554400ff"
BY_JOB = '{"filter":{"job_id":{"eq":"550e8400-e29b-41d4-a716-446655440000"}},"page":{"page":1,"page_size":10}}'
EMPTY = {"page": {"total": 0, "has_more": False, "next": None}, "result": []}
ROW_4 = (
    'curl -X POST H/schedules/item JSON -d \'{"job_id":"550e8400-e29b-41d4-a716-446655440000","name":"every-minute",'
    '"kind":"interval","cron_expression":null,"interval_seconds":60,"enabled":true,"start_time":null,"end_time":null}\''
)
ROW_11 = 'curl -X POST H/agents/agent-01/update JSON -d \'{"labels":{"env":"staging","capacity":"high"}}\''
FULL_CONFIG = {
    "timeout": 60,
    "max_retries": 0,
    "retry_interval": 1,
    "cmd": "bash",
    "args": ["-c", "true"],
    "capture_output": True,
    "max_output_size": 1024,
    "environment": None,
    "labels": None,
    "resource_limits": None,
    "start_deadline_seconds": 0,
}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ContractServer]:
    with contract_server(tmp_path_factory.mktemp("contract")) as running:
        yield running


@pytest.fixture(scope="module")
def guide(server: ContractServer) -> ContractServer:
    """The guide's sample job, its task brought to Failed by a connected agent `agent-01`."""
    process = server.start_agent("agent-01")
    job = {"id": JOB, "name": "guide", "config": {"args": ["-c", "exit 1"], "max_retries": 0}}
    assert server.made("/jobs/item", job) == JOB
    assert server.made(f"/jobs/item/{JOB}/run", {"id": TASK}) == TASK
    assert server.task_in(TASK, [90])["status"] == 90
    assert process.poll() is None
    return server


# --- 7.1, the answers without the fixture -----------------------------------------------------------------------------


def test_7_1_row_4_else(server: ContractServer) -> None:
    answer = server.run(ROW_4)
    assert (answer.status, answer.json["details"]["path"]) == (404, "job_id")


@pytest.mark.parametrize(("row", "collection"), [(5, "tasks"), (6, "task-instances")])
def test_7_1_rows_5_and_6_else(server: ContractServer, row: int, collection: str) -> None:
    answer = server.run(f"curl -X POST H/{collection}/page JSON -d '{BY_JOB}'")
    assert (answer.status, answer.json) == (200, EMPTY)


@pytest.mark.parametrize(
    "command",
    [
        "curl H/agents/agent-01",
        ROW_11,
        f"curl -X POST H/tasks/{TASK}/retry",
        f"curl -X POST H/tasks/{TASK}/cancel",
    ],
    ids=["10", "11", "14", "15"],
)
def test_7_1_rows_10_11_14_15_else(server: ContractServer, command: str) -> None:
    answer = server.run(command)
    assert (answer.status, answer.json["code"]) == (404, "NOT_FOUND")


# --- 7.1 --------------------------------------------------------------------------------------------------------------


def test_7_1_row_1_health(guide: ContractServer) -> None:
    answer = guide.run("curl H/system/health")
    assert (answer.status, answer.json["status"]) == (200, "healthy")
    assert {check["status"] for check in answer.json["checks"].values()} == {"ok"}


def test_7_1_row_2_documentation(guide: ContractServer) -> None:
    answer = guide.curl("-i", f"{guide.root}/docs")
    assert answer.status == 200
    assert "content-type: text/html" in answer.text and "<title>hetuflow API</title>" in answer.text


def test_7_1_row_3_hello_world(guide: ContractServer) -> None:
    body = (
        '{"namespace_id":"default","name":"hello-world-job","description":"Hello World 示例任务",'
        '"environment":{"MESSAGE":"Hello from hetuflow!"},"config":{"timeout":300,"max_retries":2,"retry_interval":30,'
        '"cmd":"bash","args":["-c","echo $MESSAGE"],"capture_output":true,"max_output_size":1024000}}'
    )
    answer = guide.run(f"curl -X POST H/jobs/item JSON -d '{body}'")
    assert answer.status == 200
    job_id = answer.json["id"]
    assert UUID(job_id).version == 7
    job, sent = guide.get(f"/jobs/item/{job_id}").json, json.loads(body)
    assert job["status"] == 100
    assert {name: job[name] for name in sent if name != "config"} == {k: v for k, v in sent.items() if k != "config"}
    assert sent["config"].items() <= job["config"].items()
    task = guide.task_in(guide.made(f"/jobs/item/{job_id}/run", {}), [90, 99, 100])
    assert task["status"] == 100
    path = f"/task-instances/item/{task['instance_id']}"
    shown = guide.until(lambda: guide.get(path), lambda found: bool(found.json["output"])).json
    assert shown["output"] == "Hello from hetuflow!\n"
    assert (shown["exit_code"], shown["output_truncated"]) == (0, False)
    logs = guide.until(lambda: guide.get(f"{path}/logs"), lambda found: bool(found.json["complete"])).json
    assert "".join(chunk["text"] for chunk in logs["result"]) == "Hello from hetuflow!\n"
    assert logs["page"] == {"total": 21, "has_more": False, "next": None}


def test_7_1_row_4_every_minute(guide: ContractServer) -> None:
    answer = guide.run(ROW_4)
    assert answer.status == 200
    schedule = guide.get(f"/schedules/item/{answer.json['id']}").json
    assert (schedule["schedule_kind"], schedule["interval_secs"], schedule["status"]) == (2, 60, 100)
    created, first = (datetime.fromisoformat(schedule[name]) for name in ("created_at", "next_run_at"))
    assert abs(first - created - timedelta(seconds=60)) < timedelta(seconds=2)
    assert guide.send("DELETE", f"/schedules/item/{schedule['id']}").status == 200


def test_7_1_row_4_one_task_per_interval(guide: ContractServer) -> None:
    """The same with one second instead of sixty: one task per nominal time, none doubled."""
    job = guide.made("/jobs/item", {"name": "often", "config": FULL_CONFIG})
    schedule = guide.made("/schedules/item", {"job_id": job, "kind": "interval", "interval_seconds": 1, "max_count": 3})
    path = f"/schedules/item/{schedule}"
    guide.until(lambda: guide.get(path), lambda found: found.json["status"] == 98)
    tasks = guide.post("/tasks/page", {"filter": {"schedule_id": {"eq": schedule}}}).json["result"]
    times = sorted(datetime.fromisoformat(task["scheduled_at"]) for task in tasks)
    assert [b - a for a, b in itertools.pairwise(times)] == [timedelta(seconds=1)] * 2
    assert {task["trigger"] for task in tasks} == {"schedule"}


@pytest.mark.parametrize(("row", "collection"), [(5, "tasks"), (6, "task-instances")])
def test_7_1_rows_5_and_6_pages_of_the_job(guide: ContractServer, row: int, collection: str) -> None:
    answer = guide.run(f"curl -X POST H/{collection}/page JSON -d '{BY_JOB}'")
    found = answer.json["result"]
    assert answer.status == 200
    assert {each["job_id"] for each in found} == {JOB} and len(found) <= 10
    assert [each["created_at"] for each in found] == sorted((each["created_at"] for each in found), reverse=True)


def test_7_1_row_7_metrics(guide: ContractServer) -> None:
    answer = guide.run("curl H/system/metrics")
    assert (answer.status, answer.json["ok"]) == (200, True)
    assert answer.json["agents"]["online"] == 1


def test_7_1_row_8_gateway(guide: ContractServer) -> None:
    answer = guide.run("curl H/gateway/stats")
    assert answer.status == 200
    assert [each["agent_id"] for each in answer.json["connections"]] == ["agent-01"]
    assert (answer.json["total_agents"], answer.json["online_agents"], answer.json["offline_agents"]) == (1, 1, 0)


def test_7_1_row_9_agents(guide: ContractServer) -> None:
    answer = guide.run('curl -X POST H/agents/query JSON -d \'{"page":{"page":1,"page_size":20}}\'')
    assert (answer.status, [agent["id"] for agent in answer.json["result"]]) == (200, ["agent-01"])


def test_7_1_row_10_agent(guide: ContractServer) -> None:
    answer = guide.run("curl H/agents/agent-01")
    assert (answer.status, answer.json["id"], answer.json["status"]) == (200, "agent-01", 100)
    assert re.fullmatch(r"127\.0\.0\.1:\d+", answer.json["address"])
    assert answer.json["capabilities"]["max_concurrent_tasks"] >= 1
    statistics = answer.json["statistics"]
    assert statistics["total_tasks"] >= statistics["failure_tasks"] >= 1


def test_7_1_row_11_labels(guide: ContractServer) -> None:
    answer = guide.run(ROW_11)
    assert (answer.status, answer.json) == (200, None)
    assert guide.get("/agents/agent-01").json["capabilities"]["labels"] == {"env": "staging", "capacity": "high"}


def test_7_1_row_12_running(guide: ContractServer) -> None:
    job = guide.made("/jobs/item", {"name": "long", "config": {**FULL_CONFIG, "args": ["-c", "sleep 60"]}})
    task = guide.made(f"/jobs/item/{job}/run", {})
    guide.task_in(task, [10])
    command = 'curl -X POST H/tasks/page JSON -d \'{"filter":{"status":{"eq":10}},"page":{"page":1,"page_size":20}}\''
    answer = guide.run(command)
    assert answer.status == 200
    assert {each["status"] for each in answer.json["result"]} == {10}
    assert task in [each["id"] for each in answer.json["result"]]
    assert guide.post(f"/tasks/{task}/cancel").status == 200
    assert guide.task_in(task, [90, 99, 100])["status"] == 99


def test_7_1_row_13_failed(guide: ContractServer) -> None:
    body = '{"filter":{"status":{"eq":90}},"page":{"page":1,"page_size":10}}'
    answer = guide.run(f"curl -X POST H/task-instances/page JSON -d '{body}'")
    assert answer.status == 200
    assert TASK in [each["task_id"] for each in answer.json["result"]]
    for each in answer.json["result"]:
        assert (each["status"], each["reason"], each["exit_code"]) == (90, "exit_code", 1)
        assert each["error_message"]


def test_7_1_rows_14_and_15_retry_and_cancel(guide: ContractServer) -> None:
    """The agent is drained before row 14, so that 15 meets an open task."""
    assert guide.post("/agents/agent-01/drain", {"reason": "row 14"}).json is None
    retry = guide.run(f"curl -X POST H/tasks/{TASK}/retry")
    assert (retry.status, retry.json) == (200, None)
    assert guide.get(f"/tasks/{TASK}").json["status"] == 1
    instances = guide.post("/task-instances/page", {"filter": {"task_id": {"eq": TASK}}}).json["result"]
    assert sorted(each["attempt"] for each in instances) == [1, 2]
    cancel = guide.run(f"curl -X POST H/tasks/{TASK}/cancel")
    assert (cancel.status, cancel.json) == (200, None)
    assert guide.get(f"/tasks/{TASK}").json["status"] == 99
    again = guide.run(f"curl -X POST H/tasks/{TASK}/cancel")
    assert (again.status, again.reason) == (409, "already_terminal")
    assert guide.post("/agents/agent-01/undrain").json is None


def test_7_1_row_16_the_agents_port_connects(guide: ContractServer) -> None:
    with socket.create_connection(("localhost", guide.websocket_port), timeout=10) as connection:
        assert connection.getpeername()


@pytest.mark.parametrize("table", ["sched_job", "sched_agent"])
def test_7_1_row_17_psql(guide: ContractServer, table: str) -> None:
    rows = run_sql(guide.database_url, f"SELECT * FROM {table} LIMIT 10")
    assert rows
    path = {"sched_job": f"/jobs/item/{JOB}", "sched_agent": "/agents/agent-01"}[table]
    computed = {"metrics"}
    assert set(rows[0].keys()) >= set(guide.get(path).json) - computed


# --- 7.2 --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("cmd", "args", "environment"),
    [
        ("python", ["script.py", "--input", "data.csv"], {"PYTHONPATH": "/opt/app/scripts"}),
        ("node", ["app.js"], {"NODE_ENV": "production"}),
        ("java", ["-jar", "app.jar"], {"JAVA_OPTS": "-Xmx512m"}),
    ],
)
def test_7_2_programs(guide: ContractServer, cmd: str, args: list[str], environment: dict[str, str]) -> None:
    config = {"cmd": cmd, "args": args, "environment": environment}
    job = guide.get(f"/jobs/item/{guide.made('/jobs/item', {'name': cmd, 'config': config})}").json
    assert config.items() <= job["config"].items()
    assert (job["config"]["timeout"], job["config"]["max_retries"], job["config"]["capture_output"]) == (3600, 3, True)


def test_7_2_program_runs_with_its_arguments_and_variables(guide: ContractServer) -> None:
    script = "import os, sys; print(sys.argv[1:], os.environ['PYTHONPATH'])"
    config = {"cmd": "python3", "args": ["-c", script, "--input", "data.csv"], "environment": {"PYTHONPATH": "/opt/x"}}
    job = guide.made("/jobs/item", {"name": "python", "config": config})
    task = guide.task_in(guide.made(f"/jobs/item/{job}/run", {}), [90, 99, 100])
    path = f"/task-instances/item/{task['instance_id']}"
    shown = guide.until(lambda: guide.get(path), lambda found: bool(found.json["output"])).json
    assert shown["output"] == "['--input', 'data.csv'] /opt/x\n"


def test_7_2_a_comment_is_not_json(guide: ContractServer) -> None:
    answer = guide.post("/jobs/item", '{"name": "x"} # a comment')
    assert (answer.status, answer.json["code"]) == (400, "BAD_REQUEST")


def test_7_2_resource_limits(guide: ContractServer) -> None:
    limits = {"max_execution_time_secs": 1800, "max_output_size_bytes": 10485760}
    config = {"timeout": 3600, "resource_limits": limits}
    job = guide.get(f"/jobs/item/{guide.made('/jobs/item', {'name': 'x', 'config': config})}").json
    assert job["config"]["resource_limits"] == limits


def test_7_2_the_shorter_of_two_time_limits_holds(guide: ContractServer) -> None:
    """As the snippet's 1800 s against 3600 s, with one second in place of 1800."""
    limits = {"max_execution_time_secs": 1, "max_output_size_bytes": 10485760}
    config = {**FULL_CONFIG, "timeout": 3600, "args": ["-c", "sleep 600"], "resource_limits": limits}
    task = guide.made(f"/jobs/item/{guide.made('/jobs/item', {'name': 'x', 'config': config})}/run", {})
    assert guide.task_in(task, [90, 99, 100])["status"] == 90
    [instance] = guide.post("/task-instances/page", {"filter": {"task_id": {"eq": task}}}).json["result"]
    assert (instance["status"], instance["reason"]) == (20, "timeout")


def test_7_2_resource_limits_of_memory_and_cpu(guide: ContractServer) -> None:
    limits = {
        "max_memory_mb": 1024,
        "max_cpu_percent": 0.8,
        "max_execution_time_secs": 1800,
        "max_output_size_bytes": 10485760,
    }
    config = {"timeout": 3600, "resource_limits": limits}
    answer = guide.post("/jobs/item", {"name": "x", "config": config})
    assert answer.status == 200
    assert guide.get(f"/jobs/item/{answer.json['id']}").json["config"]["resource_limits"] == limits


def test_7_2_labels(guide: ContractServer) -> None:
    labels = {"env": "production", "region": "east", "gpu": "true"}
    job = guide.made("/jobs/item", {"name": "x", "config": {**FULL_CONFIG, "labels": labels}})
    task = guide.made(f"/jobs/item/{job}/run", {})
    assert guide.get(f"/tasks/{task}").json["status"] == 1
    agent = guide.start_agent("agent-labels")
    guide.post("/agents/agent-labels/update", {"labels": {**labels, "gpu": "false"}})
    other = guide.made("/jobs/item", {"name": "y", "config": FULL_CONFIG})
    guide.task_in(guide.made(f"/jobs/item/{other}/run", {}), [100])
    assert guide.get(f"/tasks/{task}").json["status"] == 1
    guide.post("/agents/agent-labels/update", {"labels": labels})
    assert guide.task_in(task, [100])["status"] == 100
    [instance] = guide.post("/task-instances/page", {"filter": {"task_id": {"eq": task}}}).json["result"]
    assert instance["agent_id"] == "agent-labels"
    guide.stop_agent(agent, "agent-labels")


def test_7_2_labels_explained(guide: ContractServer) -> None:
    labels = {"env": "production", "region": "east", "gpu": "true"}
    job = guide.made("/jobs/item", {"name": "x", "config": {**FULL_CONFIG, "labels": labels}})
    task = guide.made(f"/jobs/item/{job}/run", {})
    explained = guide.get(f"/tasks/{task}/explain")
    assert explained.status == 200
    assert [each["code"] for each in explained.json["waiting_for"]] == ["no_agent_with_labels"]
    assert guide.post(f"/tasks/{task}/cancel").status == 200


@pytest.mark.parametrize(
    "statement",
    [
        "CREATE INDEX idx_sched_task_status ON sched_task(status)",
        "CREATE INDEX idx_sched_task_scheduled_at ON sched_task(scheduled_at)",
        "CREATE INDEX idx_sched_task_instance_status ON sched_task_instance(status)",
        "CREATE INDEX idx_sched_agent_status ON sched_agent(status)",
        "CREATE TABLE sched_task_instance_2024_01 PARTITION OF sched_task_instance "
        "FOR VALUES FROM ('2024-01-01') TO ('2024-02-01')",
    ],
)
def test_7_2_sql(guide: ContractServer, statement: str) -> None:
    """That they survive a rebuild is tested beside the rebuild."""
    run_sql(guide.database_url, statement)
    job = guide.made("/jobs/item", {"name": "x"})
    task = guide.made(f"/jobs/item/{job}/run", {"scheduled_at": "2099-01-01T00:00:00Z"})
    assert guide.get(f"/tasks/{task}").json["status"] == 1
    guide.post(f"/tasks/{task}/cancel")


def test_7_2_labels_in_agent_toml(guide: ContractServer, tmp_path: Path) -> None:
    file = tmp_path / "agent.toml"
    file.write_text('[labels]\nenv = "production"\nregion = "east"\n')
    agent = guide.start_agent("agent-toml", "--config", str(file))
    shown = guide.get("/agents/agent-toml").json
    assert shown["reported_labels"] == shown["capabilities"]["labels"]
    own = {name: value for name, value in shown["reported_labels"].items() if not name.startswith("sys.")}
    assert own == {"env": "production", "region": "east"}
    assert {"sys.os", "sys.arch", "sys.hostname", "sys.cores"} <= shown["reported_labels"].keys()
    guide.stop_agent(agent, "agent-toml")


def test_7_2_cron_in_shanghai(guide: ContractServer) -> None:
    snippet = {"kind": "cron", "cron_expression": "0 0 12 * * ?", "timezone": "Asia/Shanghai"}
    schedule = guide.get(f"/schedules/item/{guide.made('/schedules/item', {'job_id': JOB, **snippet})}").json
    assert schedule["next_run_at"].endswith("T04:00:00Z")


def test_7_2_interval_with_a_start(guide: ContractServer) -> None:
    snippet = {"kind": "interval", "interval_seconds": 300, "start_time": "2024-01-01T00:00:00Z"}
    schedule_id = guide.made("/schedules/item", {"job_id": JOB, **snippet})
    schedule = guide.get(f"/schedules/item/{schedule_id}").json
    first = datetime.fromisoformat(schedule["next_run_at"])
    assert (first - datetime.fromisoformat(snippet["start_time"])).total_seconds() % 300 == 0
    assert first > datetime.fromisoformat(schedule["created_at"])
    assert guide.post("/tasks/page", {"filter": {"schedule_id": {"eq": schedule_id}}}).json["result"] == []
    guide.send("DELETE", f"/schedules/item/{schedule_id}")


def test_7_2_event(guide: ContractServer) -> None:
    snippet = {"kind": "event", "event_type": "file.created", "event_filter": {"path": "/data/input/*.csv"}}
    schedule = guide.made("/schedules/item", {"job_id": JOB, **snippet})
    for path in ("/data/input/x/a.csv", "/tmp/a.csv", "/data/input/a.csv"):
        assert guide.post("/events", {"type": "file.created", "data": {"path": path}}).status == 200
    query = {"filter": {"schedule_id": {"eq": schedule}}}
    guide.until(lambda: guide.post("/tasks/page", query), lambda answer: answer.json["page"]["total"] > 0)
    [task] = guide.post("/tasks/page", query).json["result"]
    assert task["parameters"]["path"] == "/data/input/a.csv"


# --- 7.3 --------------------------------------------------------------------------------------------------------------


def test_7_3_row_1_create_and_show(guide: ContractServer) -> None:
    job_id = guide.made("/jobs/item", {"name": "hello", "agent_id": "", "config": FULL_CONFIG})
    assert UUID(job_id).version == 7
    job = guide.get(f"/jobs/item/{job_id}").json
    assert (job["namespace_id"], job["status"], job["config"]["labels"]) == ("default", 100, None)
    assert datetime.fromisoformat(job["updated_at"])


def test_7_3_row_2_unused_and_malformed_ids(guide: ContractServer) -> None:
    for segment, status, code in ((UNUSED, 404, "NOT_FOUND"), ("not-a-uuid", 400, "BAD_REQUEST")):
        answer = guide.get(f"/jobs/item/{segment}")
        assert (answer.status, answer.json["code"]) == (status, code)
        assert answer.json["message"] and answer.json["err_msg"]


def test_7_3_row_3_updates_change_what_they_name(guide: ContractServer) -> None:
    path = f"/jobs/item/{guide.made('/jobs/item', {'name': 'u', 'config': FULL_CONFIG})}"
    before = guide.get(path).json
    assert guide.send("PUT", path, {"description": "d"}).json is None
    changed = guide.get(path).json
    moving = {"description", "updated_at", "updated_by", "version"}
    assert {name for name in before if before[name] != changed[name]} == moving
    nulls = {**dict.fromkeys(before), "description": "d"}
    for body in (nulls, changed):
        answer = guide.send("PUT", path, body)
        assert (answer.status, answer.json) == (200, None)
        assert guide.get(path).json == changed


def test_7_3_row_4_body_less_posts(guide: ContractServer) -> None:
    path = f"/jobs/item/{guide.made('/jobs/item', {'name': 'b'})}"
    for send in (
        lambda url: guide.curl("-X", "POST", url, "-H", JSON, "-H", "Content-Length: 0"),
        lambda url: guide.curl("-X", "POST", url, "-H", JSON, "-d", "null"),
        lambda url: guide.curl("-X", "POST", url, "-H", JSON, "-d", "{}"),
    ):
        for action, status in (("disable", 99), ("enable", 100)):
            answer = send(f"{guide.H}{path}/{action}")
            assert (answer.status, answer.json) == (200, None)
            assert guide.get(path).json["status"] == status


def test_7_3_row_5_suggestions(guide: ContractServer) -> None:
    path = f"/jobs/item/{guide.made('/jobs/item', {'name': 's'})}"
    for answer, meant in (
        (guide.send("PUT", path, {"nmae": "x"}), "name"),
        (guide.post("/jobs/item", {"name": "x", "config": {"timout": 5}}), "timeout"),
    ):
        assert (answer.status, answer.json["details"][0]["suggestion"]) == (422, meant)
    assert guide.post("/jobs/item", {"name": "x", "config": {"param1": "v"}}).status == 200


def test_7_3_row_6_the_second_page(guide: ContractServer) -> None:
    for n in range(15):
        guide.made("/jobs/item", {"name": f"page {n:02}", "namespace_id": "row-6"})
    query = {"page": {"page": 2, "limit": 10, "order_bys": ["name"]}, "filter": {"namespace_id": {"$eq": "row-6"}}}
    page = guide.post("/jobs/page", query).json
    assert [job["name"] for job in page["result"]] == [f"page {n}" for n in range(10, 15)]
    assert page["page"]["total"] == 15


@pytest.mark.parametrize(
    "condition",
    [
        {"$like": "ell"},
        {"like": "%ell%"},
        {"$contains": "ell"},
        {"$startsWith": "hell"},
        {"$in": ["hello"]},
        {"$notIn": ["x"]},
    ],
    ids=lambda condition: next(iter(condition)),
)
def test_7_3_row_7_operators(guide: ContractServer, condition: dict[str, Any]) -> None:
    namespace = f"row 7 {json.dumps(condition)}"
    guide.made("/jobs/item", {"name": "hello", "namespace_id": namespace})
    filter_ = {"name": condition, "namespace_id": {"$eq": namespace}}
    found = guide.post("/jobs/page", {"filter": filter_}).json["result"]
    assert [job["name"] for job in found] == ["hello"]


@pytest.mark.parametrize(
    ("query", "status"),
    [
        ({"page": {"limit": 5001}}, 400),
        ({"page": {"limit": 0}}, 400),
        ({"page": {"page": 0}}, 400),
        ({"filter": {"nam": {"$eq": "x"}}}, 422),
        ({"filter": {"name": {"$lke": "x"}}}, 422),
    ],
)
def test_7_3_row_8_mistakes_in_queries(guide: ContractServer, query: dict[str, Any], status: int) -> None:
    assert guide.post("/jobs/page", query).status == status


def test_7_3_row_9_schedules_with_own_ids(guide: ContractServer) -> None:
    first = {
        "id": UNUSED.replace("ff", "f1"),
        "job_id": JOB,
        "schedule_kind": 1,
        "cron_expression": "0 0 12 * * ?",
        "status": 100,
    }
    second = {"id": UNUSED.replace("ff", "f2"), "job_id": JOB, "schedule_kind": 2, "interval_secs": 60, "max_count": 3}
    for sent in (first, second):
        assert guide.made("/schedules/item", sent) == sent["id"]
        shown = guide.get(f"/schedules/item/{sent['id']}").json
        assert sent.items() <= shown.items()
        assert isinstance(shown["created_by"], int)
        guide.send("DELETE", f"/schedules/item/{sent['id']}")


def test_7_3_row_10_schedulable(guide: ContractServer) -> None:
    schedule = guide.made("/schedules/item", {"job_id": JOB, "kind": "interval", "interval_secs": 3600})
    for action, is_listed in (("disable", False), ("enable", True)):
        assert guide.post(f"/schedules/item/{schedule}/{action}").status == 200
        listed = [each["id"] for each in guide.get("/schedules/schedulable").json]
        assert (schedule in listed) is is_listed
    guide.send("DELETE", f"/schedules/item/{schedule}")


def test_7_3_row_11_execute_for_a_disabled_job(guide: ContractServer) -> None:
    job = guide.made("/jobs/item", {"name": "off", "status": 99, "config": {**FULL_CONFIG, "labels": {"no": "where"}}})
    schedule = guide.made("/schedules/item", {"job_id": job, "kind": "interval", "interval_secs": 3600})
    task = guide.get(f"/tasks/{guide.made(f'/schedules/item/{schedule}/execute', {})}").json
    assert (task["schedule_id"], task["job_id"]) == (schedule, job)
    assert task["status"] in (1, 2, 5, 10, 15)
    assert guide.send("DELETE", f"/jobs/item/{job}?cascade=cancel").status == 200


def test_7_3_rows_12_and_13_a_task_by_hand(guide: ContractServer) -> None:
    """Without an agent: none has the label."""
    config = {**FULL_CONFIG, "labels": {"no": "where"}}
    job = guide.made("/jobs/item", {"name": "by hand", "config": config})
    task_id = guide.made("/tasks/create", {"name": "t", "job_id": job})
    task = guide.get(f"/tasks/{task_id}").json
    assert (task["status"], task["retry_count"], task["parameters"]) == (1, 0, {})
    assert config.items() <= task["config"].items()

    def instances() -> list[Any]:
        found = guide.post("/task-instances/page", {"filter": {"task_id": {"$eq": task_id}}}).json["result"]
        return sorted(found, key=lambda each: each["attempt"])

    assert [(each["status"], each["agent_id"]) for each in instances()] == [(1, None)]
    assert guide.post(f"/tasks/{task_id}/cancel").json is None
    assert guide.get(f"/tasks/{task_id}").json["status"] == 99
    assert [each["status"] for each in instances()] == [99]
    again = guide.post(f"/tasks/{task_id}/cancel")
    assert (again.status, again.reason) == (409, "already_terminal")
    assert guide.post(f"/tasks/{task_id}/retry").json is None
    assert guide.get(f"/tasks/{task_id}").json["status"] == 1
    assert [each["status"] for each in instances()] == [99, 1]
    guide.post(f"/tasks/{task_id}/cancel")


def test_7_3_row_14_instances_driven_from_outside(guide: ContractServer) -> None:
    job = guide.made("/jobs/item", {"name": "outside", "config": {**FULL_CONFIG, "labels": {"no": "where"}}})
    task = guide.made("/tasks/create", {"job_id": job})
    answer = guide.post("/task-instances/item", {"job_id": job, "task_id": task, "status": 1})
    assert answer.status == 200
    instance = answer.json
    assert UUID(instance).version == 7
    assert guide.post("/task-instances/item/update", {"id": instance, "status": 10}).json is None
    assert guide.get(f"/task-instances/item/{instance}").json["status"] == 10
    assert guide.post("/task-instances/item/update", {"status": 10}).status == 400
    assert guide.post(f"/task-instances/item/update?id={instance}", {"status": "succeeded"}).json is None
    assert guide.get(f"/task-instances/item/{instance}").json["status"] == 100
    assert guide.post(f"/tasks/{task}/cancel").status == 200


def test_7_3_row_15_agents_by_hand(guide: ContractServer) -> None:
    agent = guide.made("/agents/create", {"name": "n", "description": "d", "config": {"type": "x"}})
    answer = guide.send("DELETE", f"/agents/{agent}")
    assert (answer.status, answer.json) == (200, None)


def test_7_3_row_16_commands(guide: ContractServer) -> None:
    nobody = guide.post("/gateway/command", {"agent_id": "nobody", "command": "cancel_task"})
    assert (nobody.status, nobody.json["code"]) == (404, "NOT_FOUND")
    short = guide.post("/gateway/command", {"agent_id": "agent-01", "command": "fetch_metrics"})
    assert short.status == 200 and UUID(short.json["id"])
    head = {"id": UNUSED.replace("ff", "e1"), "timestamp": 1_700_000_000_000, "kind": 4}
    whole = {"type": "single", "agent_id": "agent-01", "command": {"head": head, "payload": {}}}
    assert guide.post("/gateway/command", whole).json == {"id": head["id"]}
    everybody = {"type": "broadcast", "command": {"head": {**head, "id": UNUSED.replace("ff", "e2")}}}
    assert guide.post("/gateway/command", everybody).json == {"id": UNUSED.replace("ff", "e2")}


def test_7_3_row_17_delete_with_open_tasks(guide: ContractServer) -> None:
    job = guide.made("/jobs/item", {"name": "d", "config": {**FULL_CONFIG, "labels": {"no": "where"}}})
    guide.made(f"/jobs/item/{job}/run", {})
    refused = guide.send("DELETE", f"/jobs/item/{job}")
    assert (refused.status, refused.reason) == (409, "has_open_tasks")
    assert guide.send("DELETE", f"/jobs/item/{job}?cascade=cancel").json is None
    assert guide.get(f"/jobs/item/{job}").status == 404


def test_7_3_row_17_time_travel(guide: ContractServer) -> None:
    path = f"/jobs/item/{guide.made('/jobs/item', {'name': 'then'})}"
    shown = guide.get(path).json
    position = guide.get("/system/info").json["position"]
    assert guide.send("DELETE", path).status == 200
    assert guide.get(path).status == 404
    then = guide.get(f"{path}?as_of={position}")
    assert (then.status, then.json) == (200, shown)


def test_7_3_row_18_own_writes_are_visible(guide: ContractServer) -> None:
    """Every request of curl is a connection of its own."""
    for n in range(200):
        name = f"visible {n}"
        job = guide.made("/jobs/item", {"name": name})
        found = guide.post("/jobs/page", {"filter": {"name": {"$eq": name}}}).json["result"]
        assert [each["id"] for each in found] == [job]


def test_7_3_row_19_idempotency(guide: ContractServer) -> None:
    job = guide.made("/jobs/item", {"name": "once", "config": FULL_CONFIG})
    answers = [guide.post(f"/jobs/item/{job}/run", None, "Idempotency-Key: row-19") for _ in range(2)]
    assert answers[0].status == answers[1].status == 200
    assert answers[0].json == answers[1].json
    page = guide.post("/tasks/page", {"filter": {"job_id": {"eq": job}}}).json
    assert page["page"]["total"] == 1


def test_7_3_row_20_errors_are_json(guide: ContractServer) -> None:
    large = b" " * (3 * 1024 * 1024)
    for answer, status in (
        (guide.get("/nowhere"), 404),
        (guide.send("PATCH", f"/jobs/item/{JOB}"), 405),
        (guide.curl("-X", "POST", f"{guide.H}/jobs/item", "-H", JSON, "--data-binary", "@-", data=large), 413),
        (guide.curl("-X", "POST", f"{guide.H}/jobs/item", "-H", "Content-Type: text/plain", "-d", "x"), 415),
    ):
        assert (answer.status, answer.json["err_code"]) == (status, status)
        assert set(answer.json) == {"err_code", "err_msg", "message", "code", "detail", "details", "request_id"}
