"""A server of its own for the contract's acceptance rows, spoken to with the real curl; the agent is started later."""

from __future__ import annotations

import json
import shlex
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from attrs import field, frozen

from tests.support.dev import Dev, running_dev
from tests.support.postgres import run_sql

JSON = "Content-Type: application/json"


@frozen
class Answer:
    status: int
    text: str

    @property
    def json(self) -> Any:
        return json.loads(self.text)

    @property
    def reason(self) -> str:
        return str(self.json["details"]["reason"])


@frozen
class ContractServer:
    """`hetuflow dev` without agents. `H` is the base address of the API, as in the contract."""

    dev: Dev
    directory: Path
    agents: list[subprocess.Popen[bytes]] = field(factory=list)

    @property
    def http_port(self) -> int:
        return self.dev.http_port

    @property
    def websocket_port(self) -> int:
        return self.dev.websocket_port

    @property
    def root(self) -> str:
        return f"http://localhost:{self.http_port}"

    @property
    def H(self) -> str:
        return f"{self.root}/api/v1"

    @property
    def database_url(self) -> str:
        return f"postgresql://postgres@127.0.0.1:{self.dev.database_port}/hetuflow"

    # --- curl -------------------------------------------------------------------------------------------------------

    def run(self, command: str) -> Answer:
        """A command of the contract as it is written there: `H`, `JSON` and the ports are filled in."""
        words = shlex.split(command)
        filled: list[str] = []
        for word in words:
            if word == "JSON":
                filled += ["-H", JSON]
            elif word.startswith("H/"):
                filled.append(self.H + word[1:])
            else:
                filled.append(word.replace("localhost:8080", f"localhost:{self.http_port}"))
        assert filled[0] == "curl"
        return self.curl(*filled[1:])

    def curl(self, *arguments: str, data: bytes | None = None) -> Answer:
        command = ["curl", "-sS", "--max-time", "60", "-w", "\n%{http_code}", *arguments]
        done = subprocess.run(command, input=data, capture_output=True, check=True, timeout=90)
        text, _, status = done.stdout.decode().rpartition("\n")
        return Answer(int(status), text)

    def get(self, path: str) -> Answer:
        return self.curl(self.H + path)

    def post(self, path: str, value: Any = None, *headers: str) -> Answer:
        return self.send("POST", path, value, *headers)

    def send(self, method: str, path: str, value: Any = None, *headers: str) -> Answer:
        extra = [word for header in headers for word in ("-H", header)]
        if value is None:
            return self.curl("-X", method, self.H + path, *extra)
        body = value if isinstance(value, str) else json.dumps(value)
        return self.curl("-X", method, self.H + path, "-H", JSON, *extra, "--data-binary", "@-", data=body.encode())

    def made(self, path: str, value: Any) -> str:
        answer = self.post(path, value)
        assert answer.status == 200, answer.text
        return str(answer.json["id"])

    def sql(self, statement: str) -> list[Any]:
        return run_sql(self.database_url, statement)

    # --- agents -----------------------------------------------------------------------------------------------------

    def start_agent(self, name: str, *arguments: str) -> subprocess.Popen[bytes]:
        """A connected agent of that id."""
        with (self.directory / f"{name}.log").open("wb") as log:
            process = subprocess.Popen(
                [
                    *(sys.executable, "-m", "agent", "--server-url", f"ws://127.0.0.1:{self.websocket_port}"),
                    *("--id", name, "--state-dir", str(self.directory / name)),
                    *("--work-dir", str(self.directory / f"{name}-work"), *arguments),
                ],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        self.agents.append(process)
        self.until(
            lambda: self.get(f"/agents/{name}"), lambda answer: answer.status == 200 and answer.json["status"] == 100
        )
        return process

    def stop_agent(self, process: subprocess.Popen[bytes], name: str) -> None:
        process.terminate()
        process.wait(60)
        self.agents.remove(process)
        self.until(lambda: self.get(f"/agents/{name}"), lambda answer: answer.json["status"] == 90)

    # --- waiting ----------------------------------------------------------------------------------------------------

    def until(self, look: Callable[[], Answer], is_so: Callable[[Answer], bool], seconds: float = 60) -> Answer:
        """Look until it is so; the last answer."""
        deadline = time.monotonic() + seconds
        while True:
            answer = look()
            if is_so(answer):
                return answer
            if time.monotonic() > deadline:
                raise AssertionError(f"it did not come to that: {answer.status} {answer.text}")
            time.sleep(0.05)

    def task_in(self, task_id: str, statuses: Sequence[int]) -> Any:
        """The task once it has one of these statuses."""
        return self.until(lambda: self.get(f"/tasks/{task_id}"), lambda answer: answer.json["status"] in statuses).json


@contextmanager
def contract_server(directory: Path) -> Iterator[ContractServer]:
    with running_dev(directory / "data", agents=0) as dev:
        server = ContractServer(dev, directory)
        try:
            yield server
        finally:
            for each in server.agents:
                each.terminate()
            for each in server.agents:
                try:
                    each.wait(60)
                except subprocess.TimeoutExpired:
                    each.kill()
                    each.wait()
