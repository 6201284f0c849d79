"""The programs that jobs name most, as they are on this machine: each runs, fails and is ended like any other."""

from __future__ import annotations

import os
import shutil
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import uv

from tests.agent.gateway import Gateway
from tests.agent.world import real_world

PRINTS = {
    "bash": ("-c", 'echo "$((6 * 7))"'),
    "python": ("-c", "print(6 * 7)"),
    "node": ("-e", "console.log(6 * 7)"),
    "npx": ("--offline", "forty-two"),
    "java": ("Program.java",),
    "uv": ("run", "--offline", "--no-project", "--quiet", "script.py"),
    "sh": ("-c", "echo 42"),
    "printf": ("42\\n",),
}
FAILS = {
    "bash": ("-c", "exit 3"),
    "python": ("-c", "raise SystemExit(3)"),
    "node": ("-e", "process.exit(3)"),
    "java": ("Failing.java",),
    "uv": ("run", "--offline", "--no-project", "--quiet", "fails.py"),
}


@pytest.fixture
async def gateway(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Gateway]:
    """Of an agent that has uv on its PATH too: it is one of this suite's requirements."""
    monkeypatch.setenv("PATH", f"{os.environ['PATH']}{os.pathsep}{os.path.dirname(uv.find_uv_bin())}")
    async with real_world(tmp_path) as world:
        yield world.gateway


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """Programs in the languages of these interpreters, and a package for npx."""
    directory = tmp_path / "source"
    package = directory / "node_modules" / ".bin"
    package.mkdir(parents=True)
    (directory / "package.json").write_text("{}")
    (package / "forty-two").write_text("#!/usr/bin/env node\nconsole.log(42)\n")
    (package / "forty-two").chmod(0o755)
    (directory / "Program.java").write_text(
        "class Program { public static void main(String[] a) { System.out.println(6 * 7); } }"
    )
    (directory / "Failing.java").write_text("class Failing { public static void main(String[] a) { System.exit(3); } }")
    (directory / "script.py").write_text("print(6 * 7)\n")
    (directory / "fails.py").write_text("raise SystemExit(3)\n")
    return directory


def here(program: str) -> None:
    if program == "uv":
        return
    if shutil.which(program) is None and not (program == "python" and shutil.which("python3")):
        pytest.skip(f"this machine has no {program}")


@pytest.mark.parametrize("program", PRINTS)
async def test_it_runs(program: str, gateway: Gateway, source: Path) -> None:
    here(program)
    ended = await gateway.run("env", "-C", str(source), program, *PRINTS[program])
    said = gateway.output(ended.instance_id, "stderr").decode()
    assert (ended.reason, gateway.output(ended.instance_id)) == (None, b"42\n"), said


@pytest.mark.parametrize("program", PRINTS)
async def test_it_is_found_by_its_name(program: str, gateway: Gateway) -> None:
    """Without `env` between: what the agent itself looks up."""
    here(program)
    argument = {"bash": "--version", "sh": "-c", "printf": "x", "java": "-version"}.get(program, "--version")
    ended = await gateway.run(program, argument, *([":"] if argument == "-c" else []))
    assert ended.reason is None, ended.error_message


@pytest.mark.parametrize("program", FAILS)
async def test_its_failure_is_the_instances(program: str, gateway: Gateway, source: Path) -> None:
    here(program)
    ended = await gateway.run("env", "-C", str(source), program, *FAILS[program])
    assert (ended.reason, ended.exit_code) == ("exit_code", 3)


async def test_a_program_that_is_not_there_never_starts(
    gateway: Gateway, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", "/usr/bin:/bin")
    ended = await gateway.run("cargoo", environment={"PATH": "/usr/bin:/bin"})
    assert ended.reason == "start_error" and ended.started_at is None
    assert ended.error_message is not None
    assert ended.error_message.startswith("program 'cargoo' was not found on the PATH (/usr/bin:/bin)")
