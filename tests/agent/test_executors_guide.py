"""The examples of docs/guide/executors.md are allowed by the server, understood by the agent, and run."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from agent.executors import installed, wasm
from agent.executors.api import Order, Program
from agent.executors.requirements import python_options
from hetuflow.domain.config import effective, problems
from hetuflow.domain.execution import execution_of
from hetuflow.domain.executors import PYTHON_MEMBERS, WASM_MEMBERS
from tests.agent.test_custom_executors import a_package

ROOT = Path(__file__).parents[2]
GUIDE = (ROOT / "docs/guide/executors.md").read_text()


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", GUIDE, re.DOTALL)


def configs() -> dict[str, dict[str, Any]]:
    found = [json.loads(block)["config"] for block in blocks("json")]
    return {execution_of(effective(config), {}).executor: config for config in found}


@pytest.mark.parametrize("name", ["python", "wasm", "ping"])
def test_its_jobs_are_allowed(name: str) -> None:
    assert problems(configs()[name]) == []


def test_its_packages_and_its_module_are_what_an_agent_takes() -> None:
    assert python_options(configs()["python"]["python"]).version == "3.12"
    told = execution_of(effective(configs()["wasm"]), {})
    wanted = wasm.wasm_options(told.executor_options)
    assert wanted.memory_mb == 64 and [each.path for each in told.files] == [wanted.module]


async def test_its_executor_runs_and_refuses(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    [code], [entry] = blocks("python"), blocks("toml")
    name, target = re.findall(r'^(\w+) = "(.+)"$', entry, re.MULTILINE)[0]
    a_package(tmp_path, "my_package", {name: target}, code)
    monkeypatch.syspath_prepend(str(tmp_path))
    options = configs()["ping"]["executor_options"]
    order = Order(task_id="t", job_id="j", instance_id="i", options=options)
    assert await installed.prepare(name, order) == Program(argv=("ping", "-c", "1", "db.example.org"))
    with pytest.raises(installed.StartError) as caught:
        await installed.prepare(name, Order(task_id="t", job_id="j", instance_id="i", options={"hots": "x"}))
    assert f"`{caught.value}`" in GUIDE


def test_its_tables_name_every_member_that_a_job_may_give() -> None:
    """And the defaults that are written there are those of the agent."""
    for member in (*PYTHON_MEMBERS, *WASM_MEMBERS):
        assert f"| `{member}` |" in GUIDE, member
    assert f"| `function` | `{wasm.FUNCTION}` |" in GUIDE and f"| `memory_mb` | {wasm.MEMORY_MB} |" in GUIDE
    example = re.search(r'`(\{"/srv/data".*?\})`', GUIDE)
    assert example is not None
    assert wasm.wasm_options({"module": "m", "allowed_paths": json.loads(example[1])}).allowed_paths["."] == "/work"
