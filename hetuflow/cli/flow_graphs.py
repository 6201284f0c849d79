"""Graphs of flows as text: an indented list for people, Graphviz and Mermaid for other programs. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from hetuflow.domain.enums import TaskStatus
from hetuflow.domain.task_dependencies import Outcome, outcome

Row = Mapping[str, Any]

COLOURS = {
    "succeeded": "palegreen",
    "failed": "lightcoral",
    "cancelled": "plum",
    "skipped": "lightgray",
    "running": "lightblue",
    "dispatched": "lightblue",
}


def depths(graph: Row) -> dict[str, int]:
    """Of each job, how many others stand before it on the longest way from a root."""
    found = {node["job_id"]: 0 for node in graph["nodes"]}
    edges: dict[str, list[str]] = {job_id: [] for job_id in found}
    for edge in graph["edges"]:
        edges[edge["to"]].append(edge["from"])
    for node in graph["nodes"]:  # each after all that it follows
        found[node["job_id"]] = max((found[other] + 1 for other in edges[node["job_id"]]), default=0)
    return found


def states(graph: Row) -> dict[str, str]:
    """Of each job, the state of its task in words; `skipped` when it was not run because of how others ended."""
    by_job = {node["job_id"]: node for node in graph["nodes"]}
    conditions: dict[str, dict[str, str]] = {job_id: {} for job_id in by_job}
    for edge in graph["edges"]:
        conditions[edge["to"]][edge["from"]] = edge["on"]
    return {job_id: _state(node, conditions[job_id], by_job) for job_id, node in by_job.items()}


def _state(node: Row, on: Mapping[str, str], by_job: Mapping[str, Row]) -> str:
    if node["task_id"] is None:
        return ""
    if node["status"] is None:
        return "deleted"
    status = TaskStatus(node["status"])
    if status is TaskStatus.CANCELLED and on:
        ended = {
            job_id: by_job[job_id]["status"]
            for job_id in on
            if by_job[job_id]["status"] is not None and TaskStatus(by_job[job_id]["status"]).is_terminal
        }
        if outcome({"on": dict(on), "match": node["match"]}, ended, len(on) - len(ended)) is Outcome.UNMET:
            return "skipped"
    return status.name.lower()


def follows(graph: Row) -> dict[str, str]:
    """Of each job, what it follows, in words: `extract`, `any of: load (failed), clean`."""
    names = {node["job_id"]: node["name"] for node in graph["nodes"]}
    found: dict[str, str] = {}
    for node in graph["nodes"]:
        shown = [
            names[edge["from"]] + ("" if edge["on"] == "succeeded" else f" ({edge['on']})")
            for edge in graph["edges"]
            if edge["to"] == node["job_id"]
        ]
        found[node["job_id"]] = ("any of: " if node["match"] == "any" and len(shown) > 1 else "") + ", ".join(shown)
    return found


def as_dot(graph: Row, name: str) -> str:
    """For Graphviz: `hetuflow flows show RUN --dot | dot -Tsvg`."""
    places, found = _places(graph), states(graph)
    lines = [f"digraph {_quoted(name)} {{", "  rankdir=LR;", "  node [shape=box, style=filled, fillcolor=white];"]
    for node in graph["nodes"]:
        state = found[node["job_id"]]
        label = node["name"] + (f"\n{state.replace('_', ' ')}" if state else "")
        colour = f", fillcolor={COLOURS[state]}" if state in COLOURS else ""
        lines.append(f"  {places[node['job_id']]} [label={_quoted(label)}{colour}];")
    for edge in graph["edges"]:
        label = "" if edge["on"] == "succeeded" else f" [label={edge['on']}, style=dashed]"
        lines.append(f"  {places[edge['from']]} -> {places[edge['to']]}{label};")
    return "\n".join([*lines, "}"])


def as_mermaid(graph: Row) -> str:
    """For Markdown that draws Mermaid."""
    places, found = _places(graph), states(graph)
    lines = ["flowchart LR"]
    for node in graph["nodes"]:
        state = found[node["job_id"]]
        label = node["name"].replace('"', "#quot;") + (f"<br/>{state.replace('_', ' ')}" if state else "")
        lines.append(f'  {places[node["job_id"]]}["{label}"]')
    for edge in graph["edges"]:
        arrow = "-->" if edge["on"] == "succeeded" else f"-. {edge['on']} .->"
        lines.append(f"  {places[edge['from']]} {arrow} {places[edge['to']]}")
    for state, colour in COLOURS.items():
        if members := [places[job_id] for job_id, each in found.items() if each == state]:
            lines += [f"  classDef {state} fill:{colour}", f"  class {','.join(members)} {state}"]
    return "\n".join(lines)


def _places(graph: Row) -> dict[str, str]:
    return {node["job_id"]: f"n{index}" for index, node in enumerate(graph["nodes"], 1)}


def _quoted(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n") + '"'


def counts(graph: Row) -> Sequence[tuple[str, int]]:
    """How many tasks are in which state, in the order in which the states come up."""
    found: dict[str, int] = {}
    for state in states(graph).values():
        found[state] = found.get(state, 0) + 1
    return list(found.items())
