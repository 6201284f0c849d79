"""Policies and executors that name directories on a file server: one that is gone costs those jobs, and nobody else anything."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import trio

from agent import process_tree, reaching
from agent.facts import SystemFacts
from agent.policy import Policy
from agent.reaching import ASKING_MAX, Asking
from hetuflow.ports.processes import StartError
from tests.agent.gateway import an_order
from tests.agent.world import real_world
from tests.support.dead_server import open_dead_server

pytestmark = pytest.mark.skipif(not process_tree.HAS_PROC, reason="needs /proc")


@pytest.fixture
def dead(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    monkeypatch.setattr(reaching, "ANSWER_SECONDS_MAX", 0.2)
    with open_dead_server(tmp_path / "dead") as dead:
        yield dead


@pytest.mark.parametrize("members", [
    {"policy": Policy(allowed_directories=("/srv",)), "working_dir": "{dead}/jobs"},
    {"policy": Policy(allowed_directories=("/srv",)), "working_dir": "{link}/jobs"},
    {"policy": Policy(allowed_programs=("true",)), "working_dir": "{dead}"},
    {"policy": Policy(allowed_programs=("true",)), "cmd": "{dead}/program"},
    {"policy": Policy(allowed_programs=("true",), denied_environment=()), "environment": {"PATH": "{dead}"}},
    {"executor": "python", "executor_options": {"venv": "{dead}/venv"}},
    {"executor": "python", "executor_options": {"requirements_file": "{dead}/r"}},
    {"executor": "wasm", "executor_options": {"module": "{dead}/m"}},
    {"executor": "wasm", "executor_options": {"module": "m", "allowed_paths": {"{dead}": "/d"}}},
])  # fmt: skip
async def test_a_job_that_needs_a_server_that_is_gone_fails_and_the_agent_goes_on(
    members: dict[str, Any], dead: str, tmp_path: Path
) -> None:
    (tmp_path / "link").symlink_to(dead)
    given = filled(members, dead=dead, link=str(tmp_path / "link"))
    policy = given.pop("policy", Policy())
    async with real_world(tmp_path, facts=SystemFacts(), policy=policy) as world:
        for _ in range(2):
            order = an_order(given.get("cmd", "true"), **{k: v for k, v in given.items() if k != "cmd"})
            await world.gateway.send(order)
            assert (await world.gateway.run("true")).reason is None
            ended = await world.gateway.until_ended(order.instance_id)
            assert ended.reason == "start_error" and f"mounted at {dead}" in (ended.error_message or ""), ended
        assert trio.to_thread.current_default_thread_limiter().borrowed_tokens == 0


def filled(value: Any, **names: str) -> Any:
    if isinstance(value, str):
        return value.format(**names)
    if isinstance(value, dict):
        return {filled(name, **names): filled(each, **names) for name, each in value.items()}
    return value


async def test_entries_of_the_policy_that_are_gone_stand_in_nobodys_way(dead: str, tmp_path: Path) -> None:
    (tmp_path / "here").mkdir()
    directories = (f"{dead}/data", f"{dead}/*/data", f"{tmp_path}/here")
    policy = Policy(allowed_directories=directories, allowed_programs=(f"{dead}/program", f"{dead}/bin/*", "pwd"))
    async with real_world(tmp_path, facts=SystemFacts(), policy=policy) as world:
        ended = await world.gateway.run("pwd", working_dir=f"{tmp_path}/here")
        assert ended.reason is None and world.gateway.output(ended.instance_id).decode() == f"{tmp_path}/here\n"
        unknown = await world.gateway.run("true", working_dir=f"{tmp_path}/here")
        assert unknown.reason == "start_error" and "does not answer" in (unknown.error_message or "")


async def test_an_agent_stops_while_it_waits_for_an_answer(
    dead: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reaching, "ANSWER_SECONDS_MAX", 3600.0)
    policy = Policy(allowed_directories=("/srv",))
    async with real_world(tmp_path, facts=SystemFacts(), policy=policy) as world:
        order = an_order("true", working_dir=dead)
        await world.gateway.send(order)
        with trio.fail_after(60):
            while reaching._LOOKS.borrowed_tokens == 0:  # noqa: ASYNC110 (a thread says nothing)
                await trio.sleep(0.01)
        world.agent.request_stop()
        assert (await world.gateway.until_ended(order.instance_id)).reason == "lost"


async def test_a_look_that_takes_too_long_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reaching, "LOOK_SECONDS_MAX", 0.01)
    answer = threading.Event()
    with pytest.raises(StartError, match="does their file system answer"):
        await SystemFacts().look(answer.wait)
    answer.set()


def test_no_more_than_a_few_threads_wait_for_one_server(dead: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reaching, "ANSWER_SECONDS_MAX", 0.01)
    asking = Asking()
    assert not any(asking(dead, f"{dead}/x") for _ in range(2 * ASKING_MAX))
    assert len([each for each in threading.enumerate() if each.name == f"asks {dead}"]) == ASKING_MAX
    monkeypatch.setattr(reaching, "ANSWER_SECONDS_MAX", 60.0)
    assert asking("/", "/bin/sh")


@pytest.mark.parametrize(("policy", "members", "looks"), [
    (Policy(), {"working_dir": "/srv"}, False),
    (Policy(allowed_directories=()), {}, False),
    (Policy(allowed_directories=()), {"working_dir": "/srv"}, True),
    (Policy(allowed_programs=()), {}, True),
    (Policy(allowed_programs=()), {"executor": "wasm"}, False),
])  # fmt: skip
def test_which_orders_cost_a_look(policy: Policy, members: dict[str, Any], looks: bool) -> None:
    assert policy.looks_at_files(an_order("true", **members)) is looks
