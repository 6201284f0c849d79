"""Which file the name of a program means, and what is said when there is none."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from agent.programs import find_program
from hetuflow.ports.processes import StartError


@pytest.fixture
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The only directory of every PATH."""
    directory = tmp_path / "bin"
    directory.mkdir()
    monkeypatch.setenv("PATH", str(directory))
    return directory


def a_program(directory: Path, name: str, mode: int = 0o755) -> Path:
    program = directory / name
    program.write_text("#!/bin/sh\n")
    program.chmod(mode)
    return program


def found(name: str, path: Path) -> str:
    return find_program(name, {"PATH": str(path)}, "/")


def refused(name: str, path: Path) -> str:
    with pytest.raises(StartError) as caught:
        found(name, path)
    return str(caught.value)


def test_python_is_python3_where_only_that_exists(path: Path) -> None:
    python3 = a_program(path, "python3")
    assert found("python", path) == str(python3)
    python = a_program(path, "python")
    assert found("python", path) == str(python), "a program of this very name comes first"
    assert found("python3", path) == str(python3)


def test_a_python_that_is_there_and_cannot_be_run_is_not_passed_over(path: Path) -> None:
    a_program(path, "python3")
    python = a_program(path, "python", mode=0o644)
    assert refused("python", path) == f"program 'python': {python} is not executable (chmod +x?)"


def test_python3_is_not_python(path: Path) -> None:
    a_program(path, "python")
    assert "was not found" in refused("python3", path)


def test_the_orders_path_comes_before_the_agents(path: Path, tmp_path: Path) -> None:
    a_program(path, "node")
    own = tmp_path / "own"
    own.mkdir()
    assert found("node", own) == str(path / "node")
    nearer = a_program(own, "node")
    assert found("node", own) == str(nearer)


def test_what_is_missing_is_told_with_names_like_it(path: Path) -> None:
    a_program(path, "python3")
    a_program(path, "nodejs")
    a_program(path, "nodejs-data", mode=0o644)
    message = refused("nodesj", path)
    assert message == f"program 'nodesj' was not found on the PATH ({path}); names like it there: nodejs"


@pytest.mark.parametrize("name", ["cargo", "uv", "npx", "java"])
def test_a_usual_program_that_is_missing_is_told_with_those_that_are_there(name: str, path: Path) -> None:
    for there in ("bash", "python3", "node"):
        a_program(path, there)
    message = refused(name, path)
    assert message.startswith(f"program {name!r} was not found on the PATH ({path})")
    assert message.endswith("; this agent has bash, python, node")


def test_a_directory_of_the_path_that_does_not_exist_is_no_problem(path: Path) -> None:
    searched = os.pathsep.join(["/no/such", str(path)])
    with pytest.raises(StartError, match="was not found on the PATH"):
        find_program("nothing", {"PATH": searched}, "/")
