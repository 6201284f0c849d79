"""Time, ids, randomness and files come through the ports: nothing else may reach for them."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PORTS = {
    "hetuflow/ports/real.py": "the real ports",
    "hetuflow/ports/real_files.py": "the real port of files that change",
    "agent/processes.py": "the real port of processes",
    "agent/system_tree.py": "the real port of the files below instances' directories",
    "agent/reaching.py": "threads that look at real file systems",
    "agent/restart.py": "a command for people, about another process: not simulated",
    "agent/keeper/spawning.py": "the real port of processes, of the keeper",
    "agent/keeper/watchdog.py": "a program of its own, of the standard library alone",
    "hetuflow/cli": "the command line is a client: it is not simulated",
    "hetuflow/embedded": "starts PostgreSQL; not simulated",
    "eventstore/postgres": "the real store; the simulation has the memory store",
}
FORBIDDEN_CALLS = {
    "datetime.now",
    "datetime.utcnow",
    "datetime.today",
    "date.today",
    "datetime.datetime.now",
    "time.time",
    "time.time_ns",
    "time.monotonic",
    "time.perf_counter",
    "uuid4",
    "uuid1",
    "uuid.uuid4",
    "uuid.uuid1",
    "os.urandom",
    "open",
    "trio.to_thread.run_sync",
}
FORBIDDEN_MODULES = {"random", "secrets"}


def _name(node: ast.expr) -> str:
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Attribute):
        return f"{_name(node.value)}.{node.attr}"
    return ""


def offences(source: str) -> list[tuple[int, str]]:
    found: list[tuple[int, str]] = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Call) and _name(node.func) in FORBIDDEN_CALLS:
            found.append((node.lineno, _name(node.func)))
        elif isinstance(node, ast.Import):
            found += [(node.lineno, alias.name) for alias in node.names if alias.name in FORBIDDEN_MODULES]
        elif isinstance(node, ast.ImportFrom) and node.module in FORBIDDEN_MODULES:
            found.append((node.lineno, str(node.module)))
    return found


def modules() -> list[str]:
    paths = [
        p for package in ("hetuflow", "agent", "projections", "eventstore") for p in (ROOT / package).rglob("*.py")
    ]
    names = sorted(str(p.relative_to(ROOT)) for p in paths)
    return [name for name in names if not any(name.startswith(exempt) for exempt in PORTS)]


@pytest.mark.parametrize("module", modules())
def test_module_reaches_the_world_only_through_the_ports(module: str) -> None:
    allowed = ALLOWED.get(module, set())
    found = [(line, what) for line, what in offences((ROOT / module).read_text()) if what not in allowed]
    assert not found, f"{module}: {found}; take it through hetuflow.ports"


ALLOWED: dict[str, set[str]] = {}
"""Module -> calls it may make, each with its reason in the module itself."""


def test_the_check_sees_what_it_forbids() -> None:
    bad = "import random\nfrom datetime import datetime\nx = datetime.now()\nopen('f')\nimport uuid\nuuid.uuid4()\n"
    assert sorted(what for _, what in offences(bad)) == ["datetime.now", "open", "random", "uuid.uuid4"]
