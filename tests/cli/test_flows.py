"""Flows from the command line, with a real server, agents and programs: run, failure, retry, cancel."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hetuflow.cli.flow_graphs import as_dot, as_mermaid, depths, follows, states
from tests.cli.conftest import Shell, until


def a_job(hetuflow: Shell, name: str, script: str, *upstream: str) -> None:
    options = [option for each in upstream for option in ("--upstream", each)]
    hetuflow("job", "create", name, "--max-retries", "0", *options, "--", "bash", "-c", script)


def shown(hetuflow: Shell, run: str) -> dict[str, str]:
    """The state of each task, by the name of its job."""
    graph = hetuflow.json("flows", "show", run)["graph"]
    found = states(graph)
    return {node["name"]: found[node["job_id"]] for node in graph["nodes"]}


def test_a_flow_fails_is_retried_from_there_and_succeeds(hetuflow: Shell, tmp_path: Path) -> None:
    flag = tmp_path / "mended"
    a_job(hetuflow, "etl-extract", "echo run >> " + str(tmp_path / "extract"))
    a_job(hetuflow, "etl-load", f"test -e {flag} && test $HETUFLOW_PARAM_DAY = monday", "etl-extract")
    a_job(hetuflow, "etl-report", f"echo report >> {tmp_path / 'report'}", "etl-load")
    a_job(hetuflow, "etl-alarm", f"echo alarm >> {tmp_path / 'alarm'}", "etl-load:failed")
    a_job(hetuflow, "etl-tidy", "true", "etl-report:finished")
    dry = hetuflow("flows", "run", "etl-extract", "--dry-run")
    assert "  etl-load" in dry and "etl-load (failed)" in dry and "STATE" not in dry
    failed = hetuflow.run("flows", "run", "etl-extract", "-p", "day=monday", "--wait")
    assert failed.returncode == 1 and "hetuflow flows retry" in failed.stderr
    run = hetuflow.json("flows", "list", "--job", "etl-extract")[0]
    assert run["outcome"] == {"succeeded": 3, "failed": 1, "cancelled": 0, "skipped": 1}
    assert shown(hetuflow, run["id"]) == {
        "etl-extract": "succeeded",
        "etl-load": "failed",
        "etl-alarm": "succeeded",
        "etl-report": "skipped",
        "etl-tidy": "succeeded",
    }
    assert "1 skipped" in hetuflow("flows", "show", "etl-extract")
    assert not (tmp_path / "report").exists()
    flag.touch()
    hetuflow("flows", "retry", run["id"], "--wait")
    assert set(shown(hetuflow, run["id"]).values()) == {"succeeded"}
    assert (tmp_path / "extract").read_text() == "run\n" == (tmp_path / "report").read_text().replace("report", "run")
    assert (tmp_path / "alarm").read_text() == "alarm\n"
    assert hetuflow.run("flows", "retry", run["id"]).returncode != 0
    past = hetuflow.json("flows", "show", run["id"], "--as-of", run["updated_at"])
    assert past["status"] == 90 and {node["name"]: node["status"] for node in past["graph"]["nodes"]}["etl-load"] == 90


def test_a_flow_is_cancelled(hetuflow: Shell) -> None:
    a_job(hetuflow, "long-first", "sleep 300")
    a_job(hetuflow, "long-second", "true", "long-first:finished")
    created = hetuflow.json("flows", "run", "long-first")
    until(lambda: shown(hetuflow, created["id"])["long-first"] == "running")
    hetuflow("flows", "cancel", created["id"], "--reason", "enough", "--yes")
    ended = until(lambda: (row := hetuflow.json("flows", "show", created["id"]))["completed_at"] and row)
    assert (ended["status"], ended["outcome"]["cancelled"]) == (99, 2)
    assert hetuflow.run("flows", "cancel", created["id"], "--yes").returncode != 0
    assert [row["id"] for row in hetuflow.json("flows", "list", "--status", "cancelled")] == [created["id"]]
    history = hetuflow("history", f"flow-{created['id']}")
    assert "enough" in history


def test_a_schedule_runs_the_flow(hetuflow: Shell, tmp_path: Path) -> None:
    a_job(hetuflow, "timed-a", "true")
    a_job(hetuflow, "timed-b", f"echo $HETUFLOW_SCHEDULED_AT >> {tmp_path / 'b'}", "timed-a")
    hetuflow("schedule", "add", "timed-a", "--name", "timed", "--every", "1s", "--flow", "--overlap", "skip")
    until(lambda: (tmp_path / "b").exists())
    hetuflow("schedule", "disable", "timed")
    run = hetuflow.json("flows", "list", "--job", "timed-a", "--sort", "created_at")[0]
    assert (tmp_path / "b").read_text().splitlines()[0].removesuffix("Z") == run["nominal_at"].removesuffix("Z")
    exported = hetuflow("export", "jobs", "timed-a")
    assert "run_flow: true" in exported
    hetuflow("schedule", "add", "timed-a", "--name", "asked", "--flow")
    assert "when asked" in hetuflow("schedule", "list", "--job", "timed-a")
    hetuflow("schedule", "run", "asked", "--wait")
    wrong = hetuflow.run("schedule", "update", "timed", "--pause-on-failures", "3")
    assert wrong.returncode != 0 and "flow" in wrong.stderr


def test_a_graph_for_other_programs(hetuflow: Shell) -> None:
    a_job(hetuflow, "dot-a", "true")
    a_job(hetuflow, "dot-b", "true", "dot-a:finished")
    hetuflow("flows", "run", "dot-a", "--wait")
    dot = hetuflow("flows", "show", "dot-a", "--dot")
    assert "n1 -> n2 [label=finished" in dot and "palegreen" in dot
    assert "n1 -. finished .-> n2" in hetuflow("flows", "show", "dot-a", "--mermaid")
    assert hetuflow.run("flows", "show", "dot-a", "--dot", "--mermaid").returncode == 2
    nothing = hetuflow.run("flows", "show", "no-such-flow")
    assert nothing.returncode == 3


# --- pure -------------------------------------------------------------------------------------------------------------


@st.composite
def graphs(draw: st.DrawFn) -> dict[str, object]:
    names = draw(st.lists(st.text(min_size=1, max_size=8), min_size=1, max_size=6))
    nodes, edges = [], []
    for index, name in enumerate(names):
        status = draw(st.sampled_from([None, 1, 10, 90, 99, 100]))
        node = {
            "job_id": str(index),
            "name": name,
            "task_id": f"t{index}",
            "match": draw(st.sampled_from(["all", "any"])),
        }
        nodes.append({**node, "status": status})
        for other in draw(st.sets(st.integers(0, index - 1), max_size=3)) if index else ():
            on = draw(st.sampled_from(["succeeded", "failed", "finished"]))
            edges.append({"from": str(other), "to": str(index), "on": on})
    return {"nodes": nodes, "edges": edges}


@given(graphs())
def test_every_graph_is_drawn(graph: dict[str, list[dict[str, str]]]) -> None:
    depth = depths(graph)
    assert all(depth[edge["from"]] < depth[edge["to"]] for edge in graph["edges"])
    assert states(graph).keys() == follows(graph).keys() == depth.keys()
    dot, mermaid = as_dot(graph, 'a "name"'), as_mermaid(graph)
    assert dot.count(" -> ") >= len(graph["edges"]) and 'digraph "a \\"name\\""' in dot
    assert mermaid.startswith("flowchart LR\n")


@pytest.mark.parametrize(("first", "on", "expected"), [(90, "succeeded", "skipped"), (100, "succeeded", "cancelled")])
def test_what_was_skipped_is_told_from_what_was_cancelled(first: int, on: str, expected: str) -> None:
    node = {"name": "x", "match": "all"}
    nodes = [
        {**node, "job_id": "1", "task_id": "a", "status": first},
        {**node, "job_id": "2", "task_id": "b", "status": 99},
    ]
    assert states({"nodes": nodes, "edges": [{"from": "1", "to": "2", "on": on}]})["2"] == expected
