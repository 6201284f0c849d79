"""The policy of a real agent, with real programs: what a server hears when it asks for what is not allowed."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from agent.facts import SystemFacts
from agent.host import base_environment
from agent.policy import Policy
from tests.agent.gateway import Gateway
from tests.agent.world import real_world

ROOT = Path(__file__).parents[2]


async def test_a_program_that_is_not_allowed_fails_for_good_and_says_which_setting(tmp_path: Path) -> None:
    async with real_world(tmp_path, facts=SystemFacts(), policy=Policy(allowed_programs=("echo",))) as world:
        refused = await world.gateway.run("bash", "-c", "true")
        assert refused.reason == "start_error" and refused.started_at is None
        assert (refused.error_message or "").startswith(
            "refused by this agent's policy (policy.allowed_programs): program 'bash'"
        )
        ended = await world.gateway.run("echo", "allowed")
        assert ended.reason is None and world.gateway.output(ended.instance_id) == b"allowed\n"


async def test_a_job_cannot_put_its_own_program_in_the_place_of_one_that_is_allowed(tmp_path: Path) -> None:
    fake = tmp_path / "echo"
    fake.write_text("#!/bin/sh\ntouch " + str(tmp_path / "was-here"))
    fake.chmod(0o755)
    policy = Policy(allowed_programs=("echo",), denied_environment=())
    async with real_world(tmp_path, facts=SystemFacts(), policy=policy) as world:
        refused = await world.gateway.run("echo", environment={"PATH": str(tmp_path)})
        assert refused.reason == "start_error"
    assert not (tmp_path / "was-here").exists()


async def test_a_lowered_time_limit_ends_the_run_and_says_whose_it_is(tmp_path: Path) -> None:
    async with real_world(tmp_path, policy=Policy(max_execution_time_secs=1.0)) as world:
        ended = await world.gateway.run("sleep", "600", timeout_seconds=3600)
    assert ended.reason == "timeout"
    assert ended.error_message == (
        "ended after its time limit of 1 s (timeout); this limit is the agent's own"
        " (policy.max_execution_time_secs = 1; the job asks for 3600 s)"
    )


async def test_output_is_cut_at_the_agents_own_limit(tmp_path: Path) -> None:
    async with real_world(tmp_path, policy=Policy(max_output_size_bytes=100)) as world:
        ended = await world.gateway.run("bash", "-c", "head -c 5000 /dev/zero | tr '\\0' x")
    assert ended.output is not None
    assert (ended.output["stdout"]["bytes"], ended.output["stdout"]["kept"]) == (5000, 100)


async def test_the_hello_names_the_labels_that_are_held(tmp_path: Path) -> None:
    gateway = Gateway()
    policy = Policy(protected_labels=("env", "zone*"))
    async with real_world(tmp_path, gateway, policy=policy, labels={"env": "production"}):
        assert gateway.hellos[0].protected_labels == ("env", "zone*")
        assert gateway.hellos[0].labels == {"env": "production"}


# --- the environment -----------------------------------------------------------------------------------------------


def test_programs_get_of_the_agents_environment_what_is_named_and_never_its_settings(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in ("APP_ROOT", "APP_TOKEN", "OTHER", "HETUFLOW_AGENT__NAME", "DATABASE_URL", "SERVER_URL"):
        monkeypatch.setenv(name, "x")
    assert not {"APP_ROOT", "OTHER", "DATABASE_URL"} & base_environment().keys()
    assert {"APP_ROOT", "APP_TOKEN"} <= base_environment(("APP_*",)).keys()
    everything = base_environment(("*",)).keys()
    assert "OTHER" in everything and not {"HETUFLOW_AGENT__NAME", "DATABASE_URL", "SERVER_URL"} & everything


# --- the command line ------------------------------------------------------------------------------------------------


def agent(tmp_path: Path, *arguments: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
    config = tmp_path / "agent.toml"
    config.write_text(
        '[policy]\nallowed_programs = ["echo"]\nmax_execution_time_secs = "1h"\nallowed_users = ["batch"]\n'
    )
    command = [sys.executable, "-m", "agent", "--config", str(config), *arguments]
    return subprocess.run(command, cwd=ROOT, input=stdin, capture_output=True, text=True, check=False, timeout=60)


@pytest.mark.parametrize(("job", "status", "said"), [
    ({"cmd": "echo"}, 0, "allowed"),
    ({"name": "nightly", "config": {"cmd": "echo", "timeout": 7200}}, 0, "the job asks for 7200 s"),
    ({"cmd": "bash"}, 1, "refused by this agent's policy (policy.allowed_programs)"),
    ({"cmd": "echo", "run_as": "nobody"}, 1, "(policy.allowed_users)"),
    ({"cmd": "no-such-program"}, 1, "was not found on the PATH"),
    ({"config": {"cmd": "echo"}, "environment": {"LD_PRELOAD": "x"}}, 1, "(policy.denied_environment)"),
    ({"cmd": "echo", "python": {"requirements": []}}, 1, "(policy.allowed_executors)"),
    ({"cmd": 1}, 2, "cmd must be a text, got 1"),
    ([], 2, "must hold one job"),
])  # fmt: skip
def test_policy_check_says_whether_a_job_would_be_let_in(tmp_path: Path, job: object, status: int, said: str) -> None:
    answer = agent(tmp_path, "policy", "check", "--job", "-", stdin=json.dumps(job))
    assert answer.returncode == status and said in answer.stdout + answer.stderr, answer


def test_policy_show_says_where_each_value_comes_from(tmp_path: Path) -> None:
    rows = {row["name"]: row for row in json.loads(agent(tmp_path, "policy", "show", "--json").stdout)}
    assert (rows["policy.allowed_programs"]["value"], rows["policy.allowed_directories"]["value"]) == ("echo", "any")
    assert rows["policy.allowed_programs"]["source"].endswith("agent.toml")
    assert rows["policy.max_execution_time_secs"]["value"] == "3600 s"


def test_a_label_of_the_agents_own_cannot_be_given(tmp_path: Path) -> None:
    answer = agent(tmp_path, "--label", "sys.os=plan9")
    assert answer.returncode == 2 and "sys. are set by the agent itself" in answer.stderr
