"""Executors from one end to the other: jobs over the API, a real server, its agent, what runs and what waits."""

from __future__ import annotations

import json
import os
import time
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import uv
import wasmtime
from attrs import frozen

from tests.agent.test_custom_executors import a_package
from tests.support.dev import running_dev
from tests.support.wheels import a_wheel

pytestmark = [pytest.mark.postgres, pytest.mark.slow]

ROOT = Path(__file__).parents[2]
PATIENCE_SECONDS = 60
FINAL = (90, 99, 100)
CODE = """
from agent.executors.api import Program
def shout(order):
    return Program(argv=("echo", order.parameters["word"].upper() + order.options["mark"]))
"""


@frozen
class Rig:
    http: httpx.Client

    def start(self, parameters: dict[str, Any], **config: Any) -> str:
        body = {"name": "j", "config": {"max_retries": 0, **config}}
        job = self.answer(self.http.post("/jobs/item", json=body))["id"]
        started = self.http.post(f"/jobs/item/{job}/run", json={"parameters": parameters})
        return str(self.answer(started)["id"])

    def run(self, parameters: dict[str, Any], **config: Any) -> Any:
        """To its end; the instance."""
        task = self.start(parameters, **config)
        deadline = time.monotonic() + PATIENCE_SECONDS
        while (found := self.answer(self.http.get(f"/tasks/{task}")))["status"] not in FINAL:
            assert time.monotonic() < deadline, self.http.get(f"/tasks/{task}/explain").text
            time.sleep(0.05)
        return self.answer(self.http.get(f"/task-instances/item/{found['instance_id']}"))

    def answer(self, answer: httpx.Response) -> Any:
        assert answer.status_code == 200, answer.text
        return answer.json()


@pytest.fixture(scope="module")
def rig(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rig]:
    root = tmp_path_factory.mktemp("executors")
    a_wheel(root / "shelf", "greeting", code="def main():\n    print('hello')\n", program="greet")
    a_package(root / "packages", "shouting", {"shout": "shouting:shout"}, CODE)
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("PATH", f"{os.environ['PATH']}{os.pathsep}{os.path.dirname(uv.find_uv_bin())}")
        environment.setenv("PYTHONPATH", str(root / "packages"))
        environment.setenv("HETUFLOW_EXECUTOR__ENVIRONMENTS_DIR", str(root / "environments"))
        for name, value in {"UV_OFFLINE": "1", "UV_NO_INDEX": "1", "UV_FIND_LINKS": str(root / "shelf")}.items():
            environment.setenv(name, value)
        with running_dev(root / "dev") as dev, httpx.Client(base_url=f"{dev.url}/api/v1", timeout=30) as http:
            yield Rig(http)


def test_a_module_that_was_uploaded(rig: Rig) -> None:
    module = bytes(wasmtime.wat2wasm((ROOT / "examples/wasm/checksum.wat").read_text()))
    url = rig.answer(rig.http.post("/files", content=module))["url"]
    instance = rig.run({"name": "world"}, wasm={"module": "m.wasm"}, files={"m.wasm": {"url": url}})
    given = b'{"name": "world"}'
    assert instance["status"] == 100, instance
    assert json.loads(instance["output"]) == {"bytes": len(given), "crc32": f"{zlib.crc32(given):08x}"}


def test_packages_of_python(rig: Rig) -> None:
    instance = rig.run({}, cmd="greet", python={"requirements": ["greeting==1.0"]})
    assert (instance["status"], instance["output"]) == (100, "hello\n"), instance
    failed = rig.run({}, cmd="greet", python={"requirements": ["no-such-package"]})
    assert failed["reason"] == "start_error" and "no-such-package" in failed["error_message"]


def test_a_packages_executor(rig: Rig) -> None:
    instance = rig.run({"word": "loud"}, executor="shout", executor_options={"mark": "!"})
    assert (instance["status"], instance["output"]) == (100, "LOUD!\n"), instance


def test_one_that_no_agent_has_waits_and_says_for_what(rig: Rig) -> None:
    task = rig.start({}, executor="whisper")
    assert "executor.whisper" in rig.http.get(f"/tasks/{task}/explain").text
    assert rig.answer(rig.http.get(f"/tasks/{task}"))["status"] == 1


def test_what_no_agent_would_take_is_refused_by_the_server(rig: Rig) -> None:
    body = {"name": "j", "config": {"python": {"version": "3.12.4"}, "wasm": {"module": "m"}}}
    answer = rig.http.post("/jobs/item", json=body)
    assert answer.status_code == 422 and "config.python.version" in answer.text
