"""A file on an agent's machine starts a job: real server, real agent, real files; how soon."""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.acceptance.contract_server import ContractServer, contract_server

FILES = 20
LATENCY_SECONDS_MAX = 2.0
"""Of a median of 0.1 s, on a machine that does other things."""
WATCHING_BYTES_MAX = 12 * 1024 * 1024
"""What watching adds to an agent's memory (measured: 3 MB)."""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ContractServer]:
    with contract_server(tmp_path_factory.mktemp("file-events")) as server:
        yield server


def tasks_of(server: ContractServer, schedule: str) -> list[Any]:
    query = {"filter": {"schedule_id": {"eq": schedule}}, "page": {"limit": 1000, "order_bys": ["created_at", "id"]}}
    return list(server.post("/tasks/page", query).json["result"])


def until_watched(server: ContractServer, agent: str, directory: Path, type_: str = "watch.started") -> None:
    def is_so(answer: Any) -> bool:
        return any(event["data"]["data"]["path"] == str(directory) for event in answer.json["result"])

    server.until(lambda: server.get(f"/events?stream=external-agent-{agent}&event_type={type_}&limit=1000"), is_so)


def test_a_file_starts_a_job_where_it_is(server: ContractServer, tmp_path: Path) -> None:
    inbox = tmp_path / "inbox"
    inbox.mkdir()
    (inbox / "before.csv").write_text("was here before")
    agent = server.start_agent("files", "--label", "inbox=here")
    other = server.start_agent("elsewhere", "--label", "inbox=no")
    rss = psutil.Process(agent.pid).memory_info().rss
    config = {"cmd": "bash", "args": ["-c", "cat $HETUFLOW_PARAM_PATH"], "labels": {"inbox": "here"}}
    job = server.made("/jobs/item", {"name": "import", "config": config})
    wanted = {"job_id": job, "kind": "event", "event_type": "file.created", "event_filter": {"path": f"{inbox}/*.csv"}}
    schedule = server.made("/schedules/item", wanted)
    until_watched(server, "files", inbox)
    written: dict[str, float] = {}
    for number in range(FILES):
        path = inbox / f"{number}.csv"
        path.write_text(f"content {number}")
        written[str(path)] = time.time()
        (inbox / f"{number}.txt").write_text("not this one")
        time.sleep(0.05)
    server.until(lambda: server.post("/tasks/page", {"filter": {"schedule_id": {"eq": schedule}, "status": {"eq": 100}}}),
                 lambda answer: answer.json["page"]["total"] >= FILES)  # fmt: skip
    tasks = tasks_of(server, schedule)
    assert sorted(task["parameters"]["path"] for task in tasks) == sorted(written)
    assert {task["parameters"]["agent_id"] for task in tasks} == {"files"}
    one = next(task for task in tasks if task["parameters"]["path"] == str(inbox / "7.csv"))
    assert "content 7" in server.get(f"/task-instances/item/{one['instance_id']}").json["output"]
    query = f"select parameters->>'path', extract(epoch from i.started_at)::float8 from sched_task t join sched_task_instance i on i.id = t.instance_id where schedule_id = '{schedule}'"
    seconds = [started - written[path] for path, started in server.sql(query)]
    print(f"file to process: median {statistics.median(seconds):.3f} s, worst {max(seconds):.3f} s")
    assert statistics.median(seconds) < LATENCY_SECONDS_MAX
    grown = psutil.Process(agent.pid).memory_info().rss - rss
    print(f"the agent grew by {grown / 1e6:.1f} MB, {FILES} tasks and their output included")
    assert grown < WATCHING_BYTES_MAX
    explained = server.get(f"/tasks/{one['id']}/explain").json["cause"]
    assert explained["chain"][0]["type"] == "ExternalEventReceived"
    assert explained["chain"][0]["data"]["source"] == "agent-files"
    server.stop_agent(other, "elsewhere")
    server.stop_agent(agent, "files")


def test_a_directory_that_is_missing_is_said_and_watched_when_it_comes(server: ContractServer, tmp_path: Path) -> None:
    missing = tmp_path / "later"
    agent = server.start_agent("patient")
    job = server.made("/jobs/item", {"name": "later", "agent_id": "patient", "config": {"cmd": "true"}})
    wanted = {"job_id": job, "kind": "event", "event_type": "file.*", "event_filter": {"path": f"{missing}/**"}}
    schedule = server.made("/schedules/item", wanted)
    until_watched(server, "patient", missing, "watch.failed")
    missing.mkdir()
    until_watched(server, "patient", missing)
    deep = missing / "deep"
    deep.mkdir()
    query = {"filter": {"schedule_id": {"eq": schedule}}}

    def another() -> Any:  # a directory that was just made is watched a moment later
        (deep / f"{time.time_ns()}").write_text("x")
        return server.post("/tasks/page", query)

    server.until(another, lambda answer: answer.json["page"]["total"] >= 1)
    for each in deep.iterdir():
        each.unlink()
    server.until(
        lambda: server.post("/tasks/page", query),
        lambda answer: any(task["event"]["type"] == "file.deleted" for task in answer.json["result"]),
    )
    server.stop_agent(agent, "patient")
