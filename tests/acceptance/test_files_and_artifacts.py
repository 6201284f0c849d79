"""Files in, artifacts out: real server, agents and PostgreSQL, over the API as a person would use it."""

from __future__ import annotations

import base64
import hashlib
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from attrs import frozen

from tests.support.dev import Dev, running_dev

pytestmark = [pytest.mark.postgres, pytest.mark.slow]

PATIENCE_SECONDS = 60
FINAL = (90, 99, 100)


@frozen
class Rig:
    dev: Dev
    http: httpx.Client

    def run(self, script: str, **config: Any) -> Any:
        """Run it as a job's only task, to its end; the instance."""
        body = {"name": "j", "config": {"cmd": "bash", "args": ["-c", script], "max_retries": 0, **config}}
        job = self.post("/jobs/item", body)["id"]
        task = self.post(f"/jobs/item/{job}/run", {})["id"]
        deadline = time.monotonic() + PATIENCE_SECONDS
        while (found := self.get(f"/tasks/{task}"))["status"] not in FINAL:
            assert time.monotonic() < deadline, self.get(f"/tasks/{task}/explain")
            time.sleep(0.05)
        return self.get(f"/task-instances/item/{found['instance_id']}")

    def artifacts(self, instance: Any) -> Any:
        """The list, when all of it is here."""
        deadline = time.monotonic() + PATIENCE_SECONDS
        while not (listed := self.get(f"/task-instances/item/{instance['id']}/artifacts"))["complete"]:
            assert time.monotonic() < deadline, listed
            time.sleep(0.05)
        return listed

    def content(self, instance: Any, path: str) -> bytes:
        answer = self.http.get(f"/task-instances/item/{instance['id']}/artifacts/{path}")
        assert answer.status_code == 200, answer.text
        return answer.content

    def post(self, path: str, body: Any) -> Any:
        answer = self.http.post(path, json=body)
        assert answer.status_code == 200, answer.text
        return answer.json()

    def get(self, path: str) -> Any:
        answer = self.http.get(path)
        assert answer.status_code == 200, answer.text
        return answer.json()


@pytest.fixture(scope="module")
def rig(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rig]:
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("HETUFLOW_POLICY__ALLOWED_USERS", "nobody")
        with (
            running_dev(tmp_path_factory.mktemp("dev")) as dev,
            httpx.Client(base_url=f"{dev.url}/api/v1", timeout=30) as http,
        ):
            yield Rig(dev, http)


def test_a_program_finds_its_files_and_leaves_its_artifacts(rig: Rig) -> None:
    data = os.urandom(700_000)
    kept = rig.http.post("/files", content=data).json()
    instance = rig.run(
        "set -e; stat -c %a:%n conf/a.ini run.sh bin; ./run.sh; cat conf/a.ini; cp big.bin out/copy.bin",
        files={
            "conf/a.ini": "x = 1\n",
            "run.sh": {"content": "#!/bin/sh\nmkdir -p out && echo ran > out/log.txt\n", "mode": "0750"},
            "bin": {"base64": base64.b64encode(b"\0\xff").decode()},
            "big.bin": {"url": kept["url"]},
        },
        artifacts=["out/*", {"path": "nothing/**", "optional": True}],
    )
    assert (instance["status"], instance["error_message"]) == (100, None)
    assert instance["output"] == "600:conf/a.ini\n750:run.sh\n600:bin\nx = 1\n"
    listed = rig.artifacts(instance)
    assert [(each["path"], each["bytes"], each["problem"]) for each in listed["result"]] == [
        ("nothing/**", None, "no file fits"),
        ("out/copy.bin", len(data), None),
        ("out/log.txt", 4, None),
    ]
    assert rig.content(instance, "out/copy.bin") == data
    assert rig.content(instance, "out/log.txt") == b"ran\n"
    assert listed["result"][1]["sha256"] == hashlib.sha256(data).hexdigest() == kept["sha256"]


def test_an_artifact_is_the_file_of_another_instance_at_once(rig: Rig) -> None:
    """The second one is told of it before the first one's agent can have sent it all: it waits."""
    first = rig.run("head -c 30000000 /dev/urandom > big; sha256sum < big", artifacts=["big"])
    second = rig.run(
        "sha256sum < copy", files={"copy": {"url": f"/api/v1/task-instances/item/{first['id']}/artifacts/big"}}
    )
    assert second["status"] == 100 and second["output"] == first["output"]


def test_a_required_artifact_that_is_missing_fails_the_instance(rig: Rig) -> None:
    instance = rig.run("true", artifacts=["report.csv"])
    assert (instance["status"], instance["reason"]) == (90, "artifact")
    assert instance["error_message"] == "artifacts: report.csv: no file fits" and instance["exit_code"] == 0
    too_large = rig.run("head -c 100 /dev/zero > a", artifacts=[{"path": "a", "max_bytes": 99}])
    assert too_large["error_message"] == "artifacts: a: has 100 bytes, at most 99 are kept"


def test_what_a_failed_program_left_is_kept_all_the_same(rig: Rig) -> None:
    instance = rig.run("echo trace > core.txt; exit 3", artifacts=["*.txt", "missing"])
    assert (instance["status"], instance["reason"], instance["exit_code"]) == (90, "exit_code", 3)
    rig.artifacts(instance)
    assert rig.content(instance, "core.txt") == b"trace\n"


def test_nothing_outside_the_directory_is_taken(rig: Rig, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("secret")
    instance = rig.run(
        f"ln -s {tmp_path}/secret a; ln -s {tmp_path} d; mkfifo p; echo b > b", artifacts=["*", "d/secret"]
    )
    assert instance["error_message"] == "artifacts: d/secret: no file fits"
    said = {each["path"]: each["problem"] for each in rig.artifacts(instance)["result"]}
    assert said["a"] == said["d"] == "is a link, and links are not followed"
    assert said["p"] == "is a pipe" and said["b"] is None


def test_a_file_that_is_not_there_is_why_it_did_not_start(rig: Rig) -> None:
    instance = rig.run("true", files={"a": {"url": "/api/v1/files/" + "0" * 64}})
    assert (instance["status"], instance["reason"]) == (90, "start_error")
    assert instance["error_message"] == "files.a: there is no file " + "0" * 64


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
def test_another_user_has_its_directory_to_itself(rig: Rig) -> None:
    instance = rig.run(
        "id -un; pwd > out.txt; ls -ld --time-style=+ . given | cut -c1-10; test -w . && cat $PWD/given",
        run_as="nobody",
        files={"given": "for nobody\n"},
        artifacts=["out.txt"],
    )
    assert instance["status"] == 100, (instance["error_message"], instance["output"])
    assert instance["output"] == "nobody\ndrwx------\n-rw-------\nfor nobody\n"
    rig.artifacts(instance)
    assert instance["id"].encode() in rig.content(instance, "out.txt")
