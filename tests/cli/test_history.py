"""`history`, `replay`, `events export|import`, `projections verify`: against a running dev, its database, and a file."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.cli.conftest import Shell
from tests.support.dev import Dev


@pytest.fixture(scope="module")
def task(dev: Dev) -> str:
    shell = Shell(dev.url)
    shell("job", "create", "remembered", "--", "true")
    shell("job", "run", "remembered", "--wait")
    [row] = shell.json("task", "list", "-n", "1")
    return str(row["id"])


def test_the_history_of_a_task_says_who_why_and_what_changed(hetuflow: Shell, task: str) -> None:
    text = hetuflow("history", task, "--utc")
    assert text.startswith(f"task-{task}: 6 events")
    assert "by user:1, request " in text and "because of TaskDispatched" in text
    assert "status: RUNNING → SUCCEEDED" in text
    steps = hetuflow.json("history", f"task-{task}")
    assert [step["type"] for step in steps][:3] == ["TaskCreated", "TaskLocked", "TaskDispatched"]
    assert steps[-1]["changes"]["status"] == {"before": "RUNNING", "after": "SUCCEEDED"}
    assert len({step["correlation_id"] for step in steps}) == 1
    assert hetuflow("history", task[:18]).startswith(f"task-{task}: 6 events")  # as tables show it
    assert hetuflow("history", "job-remembered").startswith("job-")
    until = steps[1]["position"]
    assert len(hetuflow.json("history", task, "--until", str(until))) == 2


def test_the_state_is_replayed_event_by_event(hetuflow: Shell, task: str) -> None:
    text = hetuflow("replay", task)
    assert "1/6  TaskCreated" in text and '"status": "SUCCEEDED"' in text
    states = hetuflow.json("replay", task)
    assert [each["state"]["status"] for each in states][-1] == "SUCCEEDED"


def test_what_cannot_be_shown_is_said_in_one_line(hetuflow: Shell, task: str) -> None:
    done = hetuflow.run("history", "task-nothing")
    assert (done.returncode, "no task is named 'nothing'" in done.stderr) == (3, True)
    done = hetuflow.run("replay", task, "--until", "1")
    assert (done.returncode, "has no event up to position 1" in done.stderr) == (3, True)
    assert hetuflow.run("replay").returncode == 2
    assert hetuflow.run("replay", "--all").returncode == 2


def test_a_log_is_exported_checked_and_read_without_a_server(
    hetuflow: Shell, dev: Dev, task: str, tmp_path: Path
) -> None:
    url = dev.database_url
    for name in ("log.jsonl", "log.msgpack"):
        file = tmp_path / name
        done = hetuflow.json("events", "export", str(file), "--database-url", url)
        assert done["events"] == done["last_position"] > 6
        checked = hetuflow.json("replay", "--all", "--check", "--from-export", str(file))
        assert (checked["different"], checked["unrecorded"], checked["events"]) == (0, 0, done["events"])
        assert hetuflow("history", task, "--from-export", str(file)).startswith(f"task-{task}: 6 events")
        assert "decides the same" in hetuflow("replay", task, "--debug", "--from-export", str(file))
        assert hetuflow.json("replay", task, "--debug", "--from-export", str(file))["is_same"]
    done = hetuflow.run("events", "export", str(tmp_path / "log.txt"), "--database-url", url)
    assert (done.returncode, "--format" in done.stderr) == (2, True)
    done = hetuflow.run("events", "export", str(tmp_path / "no" / "log.jsonl"), "--database-url", url)
    assert (done.returncode, "cannot be written: No such file or directory" in done.stderr) == (1, True)
    refused = hetuflow.run("events", "import", str(tmp_path / "log.jsonl"), "--database-url", url)
    assert (refused.returncode, "only restored into an empty one" in refused.stderr) == (1, True)


def test_a_log_that_was_changed_is_reported(hetuflow: Shell, dev: Dev, task: str, tmp_path: Path) -> None:
    file = tmp_path / "log.jsonl"
    hetuflow("events", "export", str(file), "--database-url", dev.database_url)
    lines = [json.loads(line) for line in file.read_text().splitlines()]
    for line in lines:
        if line.get("type") == "TaskCreated":
            line["data"]["priority"] = 9
    file.write_text("".join(json.dumps(line) + "\n" for line in lines))
    done = hetuflow.run("replay", "--all", "--check", "--from-export", str(file))
    assert (done.returncode, "its digest is another" in done.stderr) == (1, True)


def test_the_tables_are_what_the_log_says(hetuflow: Shell, dev: Dev) -> None:
    rows = hetuflow.json("projections", "verify", "jobs", "tasks", "--database-url", dev.database_url)
    assert [(row["name"], row["is_same"]) for row in rows] == [("jobs", True), ("tasks", True)]
    done = hetuflow.run("projections", "verify", "task", "--database-url", dev.database_url)
    assert (done.returncode, "did you mean 'tasks'" in done.stderr) == (2, True)


def test_the_steps_of_a_replay_go_both_ways(hetuflow: Shell, task: str, monkeypatch: pytest.MonkeyPatch) -> None:
    keys = iter("pnnspq")
    monkeypatch.setattr("hetuflow.cli.replay.is_interactive", lambda: True)
    monkeypatch.setattr("click.getchar", lambda: next(keys))
    done = hetuflow.run("replay", task, "--step")
    assert done.returncode == 0
    assert "this is the first event" in done.stderr
    places = [
        line.split()[0] for line in done.stdout.splitlines() if line.startswith(tuple(f"{n}/6" for n in range(7)))
    ]
    assert places == ["1/6", "2/6", "3/6", "2/6"]
    assert '"status": "DISPATCHED"' in done.stdout
