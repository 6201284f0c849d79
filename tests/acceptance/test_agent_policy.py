"""A machine with a policy of its own, as its owner and an operator see it: real server, PostgreSQL and agent process."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from attrs import frozen

from tests.support.dev import running_dev

pytestmark = [pytest.mark.postgres, pytest.mark.slow]

PATIENCE_SECONDS = 60
FINAL = (90, 99, 100)
POLICY = """
[agent]
heartbeat_interval = 1

[labels]
env = "production"
zone = "a"

[policy]
allowed_programs = ["sh", "sleep"]
allowed_commands = ["fetch_log", "fetch_metrics"]
max_execution_time_secs = 2
protected_labels = ["env"]

[executor]
environment_allow = ["FROM_THE_MACHINE"]
"""


@frozen
class Rig:
    http: httpx.Client

    def start(self, cmd: str, *args: str, **config: Any) -> str:
        body = {"name": "j", "config": {"cmd": cmd, "args": list(args), "max_retries": 0, **config}}
        return str(self.post(f"/jobs/item/{self.post('/jobs/item', body)['id']}/run", {})["id"])

    def run(self, cmd: str, *args: str, **config: Any) -> Any:
        """Run it as a job's only task, to its end; the instance."""
        task = self.start(cmd, *args, **config)
        found = self.until(lambda: self.get(f"/tasks/{task}"), lambda task: task["status"] in FINAL)
        return self.get(f"/task-instances/item/{found['instance_id']}")

    def until(self, ask: Callable[[], Any], holds: Callable[[Any], bool]) -> Any:
        deadline = time.monotonic() + PATIENCE_SECONDS
        while not holds(found := ask()):
            assert time.monotonic() < deadline, found
            time.sleep(0.05)
        return found

    def post(self, path: str, body: Any) -> Any:
        answer = self.http.post(path, json=body)
        assert answer.status_code == 200, answer.text
        return answer.json()

    def get(self, path: str) -> Any:
        answer = self.http.get(path)
        assert answer.status_code == 200, answer.text
        return answer.json()


@pytest.fixture(scope="module")
def rig(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rig]:
    root = tmp_path_factory.mktemp("policy")
    config = root / "agent.toml"
    config.write_text(POLICY)
    with running_dev(root / "dev", agents=0) as dev:
        command = [sys.executable, "-m", "agent", "--config", str(config), "--id", "guarded"]
        command += ["--server-url", f"ws://127.0.0.1:{dev.websocket_port}", "--state-dir", str(root / "state")]
        environment = {"PATH": "/usr/bin:/bin", "FROM_THE_MACHINE": "yes", "NOT_HANDED_ON": "no", "HOME": str(root)}
        with (root / "agent.log").open("wb") as log:
            agent = subprocess.Popen(
                [*command, "--work-dir", str(root / "work")],
                stdout=log,
                stderr=log,
                env=environment,
                cwd=Path(__file__).parents[2],
            )
            with httpx.Client(base_url=f"{dev.url}/api/v1", timeout=30) as http:
                rig = Rig(http)
                rig.until(lambda: http.get("/agents/guarded/state").json(), lambda state: bool(state.get("facts")))
                yield rig
            agent.send_signal(signal.SIGTERM)
            agent.wait(PATIENCE_SECONDS)


def test_what_the_owner_does_not_allow_fails_and_says_so(rig: Rig) -> None:
    refused = rig.run("rm", "-rf", "/nothing/there")
    assert (refused["reason"], refused["started_at"]) == ("start_error", None)
    assert "(policy.allowed_programs): program 'rm'" in refused["error_message"]
    loading = rig.run("sh", "-c", "true", environment={"LD_PRELOAD": "/x.so"})
    assert "(policy.denied_environment): the job sets LD_PRELOAD" in loading["error_message"]


def test_what_is_allowed_runs_within_the_owners_limits_and_in_a_clean_environment(rig: Rig) -> None:
    printed = rig.run(
        "sh",
        "-c",
        "echo [$FROM_THE_MACHINE] [$NOT_HANDED_ON] [$HETUFLOW_AGENT__NAME] [$GIVEN]",
        environment={"GIVEN": "1"},
    )
    assert printed["output"] == "[yes] [] [] [1]\n"
    ended = rig.run("sleep", "600", timeout=3600)
    assert ended["reason"] == "timeout"
    assert (
        "this limit is the agent's own (policy.max_execution_time_secs = 2; the job asks for 3600 s)"
        in ended["error_message"]
    )


def test_a_protected_label_holds_whatever_is_set_over_the_api(rig: Rig) -> None:
    rig.post("/agents/guarded/update", {"labels": {"env": "staging", "zone": "b"}})
    state = rig.until(lambda: rig.get("/agents/guarded/state"), lambda state: state["labels"].get("zone") == "b")
    assert state["labels"]["env"] == "production" and state["labels"]["sys.os"] == "linux"
    assert rig.get("/agents/guarded")["capabilities"]["labels"] == {"env": "staging", "zone": "b"}
    assert rig.run("sh", "-c", "true", labels={"env": "production", "zone": "b", "sys.os": "linux"})["status"] == 100
    waiting = rig.start("sh", "-c", "true", labels={"env": "staging"})
    [why] = rig.get(f"/tasks/{waiting}/explain")["waiting_for"]
    assert why["code"] == "no_agent_with_labels" and "guarded, which protects them" in why["message"]


def test_the_agents_log_comes_from_afar_and_forbidden_commands_do_nothing(rig: Rig) -> None:
    rig.post("/gateway/command", {"agent_id": "guarded", "command": "shutdown"})

    def refused(page: Any) -> bool:
        return any("is not obeyed" in line and "shutdown" in line for line in page["lines"])

    page = rig.until(lambda: rig.get("/agents/guarded/log?lines=1000"), refused)
    assert any("agent started" in line for line in page["lines"]) and any(
        "limits lowered" in line for line in page["lines"]
    )
    assert rig.get("/agents/guarded/state")["connected"]
    rig.until(lambda: rig.get("/agents/guarded/metrics"), lambda points: len(points["result"]) >= 1)
    metrics = rig.get("/agents/guarded")["metrics"]
    assert metrics["slots"] == 5 and metrics["journal_bytes"] > 0 and metrics["load"] >= 0
