"""`hetuflow dev` while what it has started is killed: what runs goes on, and what was killed comes back."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from agent import process_tree
from tests.support.dev import running_dev

PATIENCE_SECONDS = 60
LINES = 12

pytestmark = pytest.mark.skipif(not process_tree.HAS_PROC, reason="finds the children of a process in /proc")


def until(look: Callable[[], Any]) -> Any:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not (found := look()):
        assert time.monotonic() < deadline, "still not so"
        time.sleep(0.05)
    return found


def child(pid: int, *words: str) -> int | None:
    """The child of the process whose command line has all of these."""
    for each in process_tree.read_proc(f"/proc/{pid}/task/{pid}/children").split():
        line = process_tree.read_proc(f"/proc/{int(each)}/cmdline").split(b"\0")
        if all(word.encode() in line for word in words):
            return int(each)
    return None


def test_a_run_outlives_its_agent_and_its_server(tmp_path: Path) -> None:
    script = f"for i in $(seq {LINES}); do echo line $i; sleep 0.5; done"
    config = {"cmd": "bash", "args": ["-c", script], "max_retries": 0}
    with running_dev(tmp_path / "dev") as dev, httpx.Client(base_url=f"{dev.url}/api/v1", trust_env=False) as http:
        job = http.post("/jobs/item", json={"name": "lines", "config": config}).json()["id"]
        task = http.post(f"/jobs/item/{job}/run").json()["id"]
        instance = http.get(f"/tasks/{task}").json()["instance_id"]
        logs = f"/task-instances/item/{instance}/logs"
        until(lambda: b"line 2" in http.get(logs).content)
        for words in (("agent", "agent-01"), ("server", "hetuflow.cli.main")):
            killed = child(dev.process.pid, *words)
            assert killed is not None
            os.kill(killed, signal.SIGKILL)
            until(lambda words=words, killed=killed: child(dev.process.pid, *words) not in (None, killed))
        until(lambda: _status(http, task) == 100)
        shown = http.get(f"/tasks/{task}").json()
        assert (shown["attempt"], shown["retry_count"]) == (1, 0)
        until(lambda: http.get(logs).json()["complete"])
        text = "".join(chunk["text"] for chunk in http.get(logs).json()["result"])
        assert text.splitlines() == [f"line {number + 1}" for number in range(LINES)]
        assert dev.stop() == 0


def _status(http: httpx.Client, task: str) -> int | None:
    """None while the server is away."""
    try:
        answer = http.get(f"/tasks/{task}")
    except httpx.TransportError:
        return None
    return int(answer.json()["status"]) if answer.status_code == 200 else None
