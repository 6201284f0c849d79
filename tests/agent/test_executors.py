"""Orders that are no plain programs, as an agent with real processes carries them out."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import trio
import uv
import wasmtime

from agent.executors.features import available
from agent.facts import SystemFacts
from agent.host import base_environment
from agent.policy import Policy
from hetuflow.protocol.messages import Ended, FileGiven
from tests.agent.gateway import Gateway, an_order
from tests.agent.machine import Machine, machine
from tests.agent.test_custom_executors import a_package
from tests.agent.world import World, real_world
from tests.support.wheels import a_wheel

__all__ = ["machine"]

ROOT = Path(__file__).parents[2]
HOSTILE = str(ROOT / "tests/support/modules/hostile.wat")
CHECKSUM = str(ROOT / "examples/wasm/checksum.wat")
CHECKSUM_TEXT = Path(CHECKSUM).read_text()
CODE = """
import sys
from agent.executors.api import Program

def shout(order):
    return Program(
        argv=("bash", "-c", "cat; echo $WORD $TASK; pwd", "_"),
        environment={"WORD": order.parameters["word"].upper(), "TASK": order.task_id},
        stdin=order.options["text"].encode(),
    )
"""


@pytest.fixture
def shelf(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the agent's uv finds packages; nothing comes from a network."""
    directory = tmp_path / "shelf"
    a_wheel(directory, "greeting", code="def main():\n    print('hello')\n", program="greet")
    monkeypatch.setenv("PATH", f"{os.environ['PATH']}{os.pathsep}{os.path.dirname(uv.find_uv_bin())}")
    for name, value in {"UV_OFFLINE": "1", "UV_NO_INDEX": "1", "UV_FIND_LINKS": str(directory)}.items():
        monkeypatch.setenv(name, value)
    return directory


@pytest.fixture
async def world(tmp_path: Path, shelf: Path) -> AsyncIterator[World]:
    async with real_world(tmp_path) as world:
        yield world


@pytest.fixture
async def gateway(world: World) -> Gateway:
    return world.gateway


async def with_python(gateway: Gateway, *command: str, **options: Any) -> Ended:
    return await gateway.run(*command, executor="python", executor_options=options)


async def with_wasm(
    gateway: Gateway, *, timeout_seconds: float = 0, files: tuple[FileGiven, ...] = (), **options: Any
) -> Ended:
    return await gateway.run(
        "bash",
        executor="wasm",
        executor_options=options,
        parameters={"a": 1},
        timeout_seconds=timeout_seconds,
        files=files,
    )


def said(gateway: Gateway, ended: Ended) -> str:
    assert ended.reason is None, (ended.error_message, gateway.output(ended.instance_id, "stderr"))
    return gateway.output(ended.instance_id).decode().strip()


async def test_python_is_that_of_the_environment(gateway: Gateway, tmp_path: Path) -> None:
    code = "import greeting, os, sys; print(sys.prefix == os.environ['VIRTUAL_ENV'], sys.prefix)"
    ended = await with_python(gateway, "python", "-c", code, requirements=["greeting==1.0"])
    is_the_same, prefix = said(gateway, ended).split()
    assert is_the_same == "True" and prefix.startswith(f"{tmp_path}/environments/build/")
    assert said(gateway, await with_python(gateway, "greet", requirements=["greeting==1.0"])) == "hello"


async def test_building_is_no_part_of_the_time_of_the_run(gateway: Gateway, tmp_path: Path) -> None:
    ended = await with_python(gateway, "python", "-c", "print(1)", requirements=["greeting"])
    started = await gateway.until_started(ended.instance_id)
    assert ended.started_at == started.started_at
    built = [path.stat().st_mtime for path in (tmp_path / "environments/build").iterdir()]
    assert len(built) == 1 and ended.duration_seconds is not None


async def test_two_instances_at_once_build_once(world: World, gateway: Gateway, tmp_path: Path) -> None:
    orders = [an_order("greet", executor="python", executor_options={"requirements": ["greeting"]}) for _ in range(4)]
    await gateway.send(*orders)
    for order in orders:
        assert said(gateway, await gateway.until_ended(order.instance_id)) == "hello"
    assert len(os.listdir(tmp_path / "environments/build")) == 1


async def test_what_cannot_be_built_never_starts(gateway: Gateway) -> None:
    ended = await with_python(gateway, "python", requirements=["no-such-package"])
    assert ended.reason == "start_error" and ended.started_at is None
    assert "no-such-package" in (ended.error_message or "")


async def test_a_stop_ends_a_build(gateway: Gateway, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    programs = tmp_path / "programs"
    programs.mkdir()
    (programs / "uv").write_text(f"#!/bin/sh\ntouch {tmp_path}/building\nexec sleep 300\n")
    (programs / "uv").chmod(0o755)
    monkeypatch.setenv("PATH", f"{programs}{os.pathsep}{os.environ['PATH']}")
    async with real_world(tmp_path / "slow") as world:
        order = an_order("greet", executor="python", executor_options={"requirements": ["greeting"]})
        await world.gateway.send(order)
        with trio.fail_after(60):
            while not (tmp_path / "building").exists():  # noqa: ASYNC110
                await trio.sleep(0.01)
        await world.gateway.stop(order.instance_id)
        ended = await world.gateway.until_ended(order.instance_id)
    assert ended.reason == "cancelled" and ended.started_at is None
    assert os.listdir(tmp_path / "slow/environments/build") == []


async def test_the_environment_of_a_running_instance_stays(world: World, gateway: Gateway, tmp_path: Path) -> None:
    order = an_order("sleep", "300", executor="python", executor_options={"requirements": ["greeting"]})
    await gateway.send(order)
    await gateway.until_started(order.instance_id)
    (clean,) = world.ports.preparations.cleaners
    assert len(os.listdir(tmp_path / "environments/build")) == 1
    assert await clean({order.instance_id}) == 0
    assert len(os.listdir(tmp_path / "environments/build")) == 1
    await gateway.stop(order.instance_id)
    await gateway.until_ended(order.instance_id)


async def test_an_unknown_executor_never_starts(gateway: Gateway) -> None:
    """Above all, the plain program is not started in its place."""
    ended = await gateway.run("touch", "was-here", executor="wasn")
    assert ended.reason == "start_error"
    assert ended.error_message == (
        "executor 'wasn' is not installed on this agent; the nearest known one is 'wasm' (none is installed)"
    )


# --- a package's executor, and WebAssembly ----------------------------------------------------------------------------


async def test_an_executor_of_a_package(machine: Machine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    a_package(tmp_path / "packages", "shouting", {"shout": "shouting:shout"}, CODE)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "packages"))
    await machine.start_agent()
    assert "executor.shout" in machine.gateway.hellos[-1].features
    order = an_order("ignored", executor="shout", executor_options={"text": "given\n"}, parameters={"word": "loud"})
    await machine.gateway.send(order)
    ended = await machine.gateway.until_ended(order.instance_id)
    directory = str(tmp_path.joinpath("work", "agent-1", order.instance_id))
    assert said(machine.gateway, ended).splitlines() == ["given", f"LOUD {order.task_id}", directory]


async def test_a_module_is_given_the_parameters(machine: Machine) -> None:
    await machine.start_agent()
    assert "wasm" in machine.gateway.hellos[-1].features
    ended = await with_wasm(machine.gateway, module=CHECKSUM)
    assert json.loads(said(machine.gateway, ended))["bytes"] == len('{"a": 1}')


async def test_a_module_may_be_one_of_the_jobs_files(machine: Machine) -> None:
    await machine.start_agent()
    module = FileGiven(path="lib/checksum.wasm", content=bytes(wasmtime.wat2wasm(CHECKSUM_TEXT)))
    ended = await with_wasm(machine.gateway, module="lib/checksum.wasm", files=(module,))
    assert json.loads(said(machine.gateway, ended))["bytes"] == len('{"a": 1}')


async def test_requirements_may_be_one_of_the_jobs_files(
    machine: Machine, shelf: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HETUFLOW_EXECUTOR__ENVIRONMENTS_DIR", str(machine.root / "environments"))
    await machine.start_agent()
    given = FileGiven(path="requirements.txt", content=b"greeting==1.0  # ours\n")
    options = {"requirements_file": "requirements.txt"}
    ended = await machine.gateway.run("greet", executor="python", executor_options=options, files=(given,))
    assert said(machine.gateway, ended) == "hello"
    assert len(os.listdir(machine.root / "environments/agent-1/build")) == 1


async def test_a_module_that_loops_is_ended_by_the_time_limit(machine: Machine) -> None:
    await machine.start_agent()
    ended = await with_wasm(machine.gateway, module=HOSTILE, function="forever", timeout_seconds=1)
    assert ended.reason == "timeout"
    assert machine.gateway.output(ended.instance_id) == b"by WASI\n"
    assert said(machine.gateway, await machine.gateway.run("echo", "still here")) == "still here"


async def test_a_module_that_crashes_is_one_failed_instance(machine: Machine) -> None:
    await machine.start_agent()
    ended = await with_wasm(machine.gateway, module=HOSTILE, function="trap")
    assert (ended.reason, ended.exit_code) == ("exit_code", 134)
    assert b"unreachable" in machine.gateway.output(ended.instance_id, "stderr")


# --- what the agent's owner says ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("executor", "options", "message"),
    [
        ("wasm", {"module": CHECKSUM}, f"policy.allowed_directories): wasm.module '{CHECKSUM}' is not in /srv"),
        ("wasm", {"module": "m", "allowed_paths": {"/etc": "/etc"}}, "policy.allowed_directories): wasm.allowed_paths '/etc' is not in /srv"),
        ("wasm", {"module": "m", "allowed_paths": {"ro:../..": "/up"}}, "policy.allowed_directories): wasm.allowed_paths "),
        ("wasm", {"module": "m", "allowed_hosts": ["*.example.net"]}, "policy.allowed_hosts): wasm.allowed_hosts '*.example.net' is not one of *.example.org"),
        ("wasm", {"module": "m", "allowed_hosts": ["*"]}, "policy.allowed_hosts): wasm.allowed_hosts '*' is not one of *.example.org"),
        ("wasm", {"module": "m", "allowed_hosts": ["api.example.org"]}, "wasm.module: m cannot be read"),
        ("python", {"venv": "/opt/venv"}, "policy.allowed_directories): python.venv '/opt/venv' is not in /srv"),
        ("python", {"requirements_file": "/etc/passwd"}, "policy.allowed_directories): python.requirements_file '/etc/passwd' is not in /srv"),
        ("python", {"requirements_file": "r"}, "python.requirements_file (r) cannot be read"),
        ("other", {}, "policy.allowed_executors): executor 'other' is not one of python, wasm"),
    ],
)  # fmt: skip
async def test_the_agents_policy_is_about_what_an_executor_opens(
    executor: str, options: dict[str, Any], message: str, tmp_path: Path
) -> None:
    policy = Policy(
        allowed_directories=("/srv",), allowed_hosts=("*.example.org",), allowed_executors=("python", "wasm")
    )
    async with real_world(tmp_path, policy=policy, facts=SystemFacts()) as world:
        ended = await world.gateway.run("true", executor=executor, executor_options=options)
    assert ended.reason == "start_error" and message in (ended.error_message or "")


# --- what an agent says it has -----------------------------------------------------------------------------------------


def test_the_features_are_what_is_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    a_package(tmp_path, "shouting", {"shout": "shouting:shout", "no good name": "shouting:shout"}, CODE)
    monkeypatch.syspath_prepend(str(tmp_path))
    assert available(base_environment()) == ("python", "wasm", "executors", "executor.shout")
    monkeypatch.setenv("PATH", "/no/such")
    assert available({"PATH": "/no/such"})[0] == "wasm"


def test_the_command_lists_them(tmp_path: Path) -> None:
    a_package(tmp_path, "shouting", {"shout": "shouting:shout"}, CODE)
    environment = {**os.environ, "PYTHONPATH": f"{tmp_path}{os.pathsep}{ROOT}"}
    command = [sys.executable, "-m", "agent", "executors"]
    text = subprocess.run(command, capture_output=True, text=True, check=True, env=environment, cwd=ROOT).stdout
    assert "executor  shout   yes  shouting: shouting:shout\n" in text
    found = subprocess.run([*command, "--json"], capture_output=True, text=True, check=True, env=environment, cwd=ROOT)
    rows = {row["name"]: row for row in json.loads(found.stdout) if row["kind"] != "program"}
    assert rows["wasm"]["available"] and rows["shout"]["detail"] == "shouting: shouting:shout"
