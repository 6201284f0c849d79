"""What is read of installed packages is what Python's own library says of them."""

from __future__ import annotations

import subprocess
import sys
from importlib import metadata
from pathlib import Path

import pytest

from agent.distributions import entry_points, version_of


def test_versions_and_entry_points_are_those_of_importlib() -> None:
    for name in ("hetuflow", "trio", "msgspec", "trio-websocket", "pytest", "Structlog"):
        assert version_of(name) == metadata.version(name), name
    assert version_of("no-such-package") is None
    for group in ("console_scripts", "pytest11", "hetuflow.executors", "no.such.group"):
        expected = {(each.name, each.value) for each in metadata.entry_points(group=group)}
        assert {(name, value) for name, _, value in entry_points(group)} == expected, group


def test_the_first_of_a_path_wins_and_odd_lines_are_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for directory, version in (("one", "2.0"), ("two", "1.0")):
        info = tmp_path / directory / f"my_executor-{version}.dist-info"
        info.mkdir(parents=True)
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: My.Executor\nVersion: {version}\n\nVersion: 9\n")
        (info / "entry_points.txt").write_text(
            f"[other]\nx = y:z\n\n[hetuflow.executors]\n# no = more:than\nquick = my.executor:{directory}\nnothing\n"
        )
    monkeypatch.setattr(sys, "path", [str(tmp_path / "one"), str(tmp_path / "none"), str(tmp_path / "two")])
    assert version_of("my-executor") == "2.0"
    assert entry_points("hetuflow.executors") == [("quick", "My.Executor", "my.executor:one")]


def test_an_agent_does_not_import_what_is_read_here() -> None:
    code = (
        "import sys; sys.modules['rich'] = None; from agent.__main__ import versions_only, without_asyncio\n"
        "with versions_only(), without_asyncio(): import agent.command, agent.daemon, trio_websocket\n"
        "print([name for name in ('importlib.metadata', 'email', 'zipfile', 'asyncio') if name in sys.modules])\n"
        "from importlib.metadata import version; print(version('trio') == trio_websocket._impl.version('trio'))"
    )
    root = Path(__file__).parents[2]
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=root)
    assert done.stdout == "[]\nTrue\n"
