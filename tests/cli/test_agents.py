"""What the command line tells of agents, and how it drains many at once."""

from __future__ import annotations

import json
from typing import Any

import click
import pytest

from hetuflow.cli import agent_state, exits
from hetuflow.cli.label_selector import conditions, selected
from hetuflow.cli.usage import LINE_WIDTH, course, line, size
from tests.cli.conftest import Shell, until

pytestmark = pytest.mark.usefixtures("dev")


def an_agent(
    agent_id: str, labels: dict[str, str], reported: dict[str, str] | None = None, *protected: str
) -> dict[str, Any]:
    return {
        "id": agent_id,
        "capabilities": {"labels": labels},
        "reported_labels": reported or {},
        "protected_labels": list(protected),
    }


AGENTS = [
    an_agent("one", {"env": "staging", "zone": "eu-1"}),
    an_agent("two", {"env": "staging", "zone": "us-1", "gpu": ""}),
    an_agent("three", {"env": "staging"}, {"env": "production", "sys.os": "linux"}, "env"),
]


@pytest.mark.parametrize(("expressions", "names"), [
    (["env=staging"], "one two"), (["env=production"], "three"), (["zone=eu-*"], "one"), (["zone=??-1"], "one two"),
    (["env!=staging"], "three"), (["gpu"], "two"), (["!gpu"], "one three"), (["env=staging,!gpu"], "one"),
    (["env=staging", "zone!=eu-*"], "two"), (["sys.os=linux"], "three"), (["gpu="], "two"), (["none"], ""),
])  # fmt: skip
def test_an_expression_selects_by_what_counts_for_placement(expressions: list[str], names: str) -> None:
    assert [row["id"] for row in selected(AGENTS, expressions)] == names.split()


@pytest.mark.parametrize("text", ["", "=x", "g*=x", "!", "a!", "env=a,,"])
def test_what_is_no_expression_is_refused_with_those_that_are(text: str) -> None:
    with pytest.raises(click.BadParameter, match="use NAME=VALUE"):
        conditions([text])


@pytest.mark.parametrize(("count", "text"), [
    (None, None), (0, "0 B"), (999, "999 B"), (1000, "1.0 KB"), (10 * 1024, "10 KB"), (1.5 * 2**30, "1.5 GB"),
    (5000 * 2**40, "5000 TB"),
])  # fmt: skip
def test_sizes_have_a_unit_that_fits(count: float | None, text: str | None) -> None:
    assert size(count) == text


def test_a_course_is_as_long_as_its_figures_and_no_longer_than_a_line() -> None:
    assert line([0, 1, 2, 4]) == "▁▃▅█"
    assert len(line(list(range(1000)))) == LINE_WIDTH and line([0, 0]) == "▁▁"
    assert course([{"cpu": 1.0}], "cpu", str) is None
    assert course([{"cpu": None}, {"cpu": 1.0}, {"cpu": 2.0}], "cpu", str) == "▅█ most 2.0"


def test_show_tells_the_session_and_what_the_agent_says_of_itself(hetuflow: Shell) -> None:
    until(lambda: hetuflow.json("agents", "show", "agent-01")["state"]["facts"])
    text = hetuflow("agents", "show", "agent-01")
    for name in ("session", "lease", "python", "protocol", "started", "found out", "load"):
        assert f"\n{name} " in text, text
    shown = hetuflow.json("agents", "show", "agent-01")
    assert shown["state"]["connected"] and shown["state"]["labels"]["sys.os"] == "linux"
    assert shown["state"]["heartbeats"] and shown["state"]["facts"]["protocol"] >= 2


def test_show_tells_why_an_agent_takes_nothing(hetuflow: Shell) -> None:
    row = hetuflow.json("agents", "show", "agent-01")
    now = {**row["state"], "facts": {"refusal": "disk: 80 MB are free at /w, executor.disk_free_min is 5%"}}
    shown = {name: read(row) for name, read in agent_state.fields(row, now, lambda _: "online")}
    assert shown["takes nothing"] == now["facts"]["refusal"]
    assert "takes nothing" not in hetuflow("agents", "show", "agent-01")


def test_the_log_of_an_agent_is_printed(hetuflow: Shell) -> None:
    lines = hetuflow("agents", "log", "agent-01").splitlines()
    assert any("agent started" in line for line in lines) and any("connected" in line for line in lines)
    assert hetuflow("agents", "log", "agent-01", "-n", "1").splitlines() == lines[-1:]
    assert hetuflow("agents", "log", "agent-01", "-n", "0") == ""
    told = [json.loads(line) for line in hetuflow("agents", "log", "agent-01", "--json").splitlines()]
    assert [each["line"] for each in told] == lines
    assert [each["number"] for each in told] == list(range(told[0]["number"], told[0]["number"] + len(lines)))


def test_agents_are_drained_by_label_and_the_exit_status_tells_what_became_of_it(hetuflow: Shell) -> None:
    for number, zone in enumerate(("eu-1", "eu-2", "us-1")):
        hetuflow(
            "agents",
            "create",
            f"spare-{number}",
            "--id",
            f"spare-{number}",
            "--label",
            "pool=spare",
            "--label",
            f"zone={zone}",
        )
    until(lambda: len(hetuflow.json("agents", "list", "--label", "pool=spare")) == 3)
    declined = hetuflow.run("agents", "drain", "--label", "pool=spare", input="n\n")
    assert declined.returncode == exits.REFUSED and "drain 3 agents (" in declined.stderr
    answer = hetuflow.json("agents", "drain", "--label", "pool=spare,zone=eu-*", "--reason", "moving")
    assert {each["id"] for each in answer["agents"]} == {"spare-0", "spare-1"} and answer["problems"] == []
    until(lambda: hetuflow.json("agents", "show", "spare-0")["draining"])
    assert hetuflow.json("agents", "show", "spare-2")["draining"] is False
    text = hetuflow("agents", "drain", "--label", "pool=spare", "--yes")
    assert [part.split()[1] for part in sorted(text.splitlines()[1:])] == ["draining", "draining", "offline"]
    hetuflow("agents", "undrain", "--label", "pool=spare", "-y")
    until(lambda: not any(row["draining"] for row in hetuflow.json("agents", "list", "--label", "pool=spare")))
    assert hetuflow.run("agents", "drain", "--label", "pool=none", "-y").returncode == exits.NOT_FOUND
    one = hetuflow.json("agents", "drain", "spare-2")
    assert one["verb"] == "drain" and [each["id"] for each in one["agents"]] == ["spare-2"] and one["problems"] == []
    assert hetuflow("agents", "drain", "spare-2") == "agent spare-2 drains; nothing runs on it\n"
    assert hetuflow.json("agents", "undrain", "spare-2")["agents"][0]["id"] == "spare-2"
    assert hetuflow.run("agents", "drain").returncode == exits.USAGE
    assert hetuflow.run("agents", "drain", "agent-01", "--label", "x").returncode == exits.USAGE
    for number in range(3):
        hetuflow("agents", "remove", f"spare-{number}", "--yes")


def test_top_has_nothing_to_show_where_nothing_was_measured(hetuflow: Shell) -> None:
    assert hetuflow("instance", "top") == "nothing runs that has been measured yet\n"
    assert hetuflow.json("instance", "top", "--agent", "agent-01") == []
