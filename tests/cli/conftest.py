from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from attrs import frozen
from click.testing import CliRunner

from hetuflow.cli.main import main
from tests.support.dev import Dev, running_dev


@pytest.fixture(scope="module")
def dev(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Dev]:
    with running_dev(tmp_path_factory.mktemp("cli") / "data") as running:
        yield running


@frozen
class Shell:
    """Runs `hetuflow …` against one server."""

    url: str

    def run(self, *arguments: str, input: str | None = None) -> subprocess.CompletedProcess[str]:
        """In this process: what a process of its own adds, its start, would be most of the time of these tests."""
        runner = CliRunner(env={"HETUFLOW_SERVER": self.url})
        done = runner.invoke(main, arguments, input=input, prog_name="hetuflow", catch_exceptions=False)
        return subprocess.CompletedProcess(arguments, done.exit_code, done.stdout, done.stderr)

    def run_process(self, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "hetuflow.cli.main", *arguments],
            capture_output=True,
            text=True,
            timeout=60,
            env=os.environ | {"HETUFLOW_SERVER": self.url} | environment,
        )

    def __call__(self, *arguments: str) -> str:
        done = self.run(*arguments)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def json(self, *arguments: str) -> Any:
        end = arguments.index("--") if "--" in arguments else len(arguments)
        return json.loads(self(*arguments[:end], "--json", *arguments[end:]))


def until(condition: Callable[[], Any], seconds: float = 60) -> Any:
    """Ask again until the answer is true; the last answer."""
    deadline = time.monotonic() + seconds
    while not (found := condition()) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert found
    return found


@pytest.fixture
def hetuflow(dev: Dev) -> Shell:
    return Shell(dev.url)
