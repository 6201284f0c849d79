"""Graphs of jobs: circles are found with a true path, a flow holds what its roots lead to, each after what it follows."""

from __future__ import annotations

import pytest
from attrs import evolve
from hypothesis import given as drawn
from hypothesis import strategies as st

from hetuflow.domain.commands import CreateJob, JobSnapshot, UpdateJob
from hetuflow.domain.events import JobCreated, JobUpdated
from hetuflow.domain.flow_graph import cycle_in, graph_of, in_order, shown_cycle, upstream_ids
from hetuflow.domain.job import JOB
from tests.support.given import given
from tests.support.tasks import a_job

NAMES = "abcdefgh"


def a_node(name: str, follows: dict[str, str], match: str = "all") -> JobSnapshot:
    upstream = {"jobs": [{"job_id": each, "on": on} for each, on in follows.items()], "match": match}
    return evolve(a_job(), job_id=name, name=name, upstream=upstream if follows else None)


@st.composite
def graphs(draw: st.DrawFn) -> dict[str, list[str]]:
    """Any graph, circles and all: name -> what it follows."""
    names = NAMES[: draw(st.integers(1, len(NAMES)))]
    return {name: draw(st.lists(st.sampled_from(names), unique=True, max_size=4)) for name in names}


def leads_to(graph: dict[str, list[str]], start: str) -> set[str]:
    """What one waits for, through however many others, said naively."""
    found: set[str] = set()
    while len(found) < len(after := {to for each in (found | {start}) for to in graph[each]} | found):
        found = after
    return found


@drawn(graphs())
def test_a_circle_is_found_exactly_when_there_is_one_and_its_path_is_true(graph: dict[str, list[str]]) -> None:
    circle = cycle_in(graph, lambda each: graph[each])
    assert (circle is None) == all(name not in leads_to(graph, name) for name in graph)
    if circle is not None:
        assert len(set(circle)) == len(circle)
        for each, following in zip(circle, [*circle[1:], circle[0]], strict=True):
            assert following in graph[each]


@drawn(graphs(), st.data())
def test_a_flow_holds_what_its_roots_lead_to_each_after_what_it_follows(
    graph: dict[str, list[str]], data: st.DataObject
) -> None:
    roots = data.draw(st.lists(st.sampled_from(sorted(graph)), unique=True, min_size=1))
    jobs = {name: a_node(name, dict.fromkeys(follows, "finished")) for name, follows in graph.items()}
    members = {name for name in graph if name in roots or leads_to(graph, name) & set(roots)}
    within = {name: [each for each in graph[name] if each in members] for name in members}
    if cycle_in(within, lambda each: within[each]) is not None:
        with pytest.raises(ValueError, match=" -> "):
            graph_of(roots, jobs)
        return
    flow = graph_of(roots, jobs)
    order = [job.job_id for job in flow.jobs]
    assert sorted(order) == sorted(members)
    assert {(edge.from_, edge.to) for edge in flow.edges} == {(each, name) for name in members for each in within[name]}
    assert all(order.index(edge.from_) < order.index(edge.to) for edge in flow.edges)
    assert set(flow.roots) == {name for name in members if not within[name]}
    assert graph_of(list(roots), dict(reversed(jobs.items()))) == flow  # however the jobs were found


@drawn(graphs())
def test_the_order_is_that_given_where_nothing_else_is_said(graph: dict[str, list[str]]) -> None:
    assert in_order(graph, dict.fromkeys(graph, ())) == list(graph)


def test_what_lies_outside_is_not_waited_for() -> None:
    jobs = {
        "a": a_node("a", {"x": "succeeded"}),
        "b": a_node("b", {"a": "failed", "x": "succeeded"}),
        "x": a_node("x", {}),
    }
    flow = graph_of(["a"], jobs)
    assert flow.conditions() == {"a": {}, "b": {"a": "failed"}}
    assert flow.as_json({"a": "1", "b": "2"}) == {
        "nodes": [
            {"job_id": "a", "name": "a", "task_id": "1", "match": "all"},
            {"job_id": "b", "name": "b", "task_id": "2", "match": "all"},
        ],
        "edges": [{"from": "a", "to": "b", "on": "failed"}],
    }


def test_a_circle_is_shown_as_it_would_run() -> None:
    """`a` follows `b`, which follows `c`, which follows `a`: a runs before c, c before b, b before a."""
    assert shown_cycle([("1", "a"), ("2", "b"), ("3", "c")]) == "c (3) -> b (2) -> a (1) -> c (3)"


def test_a_job_keeps_what_it_follows() -> None:
    upstream = {"jobs": [{"job_id": "other", "on": "failed"}], "match": "any"}
    made = given(JOB).when(CreateJob(job_id="j", name="j", config={}, upstream=upstream)).then(JobCreated)
    assert upstream_ids(made.state.upstream) == ("other",)
    made.when(UpdateJob(changes={"upstream": upstream})).then_nothing()
    cleared = made.when(UpdateJob(changes={"upstream": None})).then(JobUpdated)
    assert (cleared.state.upstream, cleared.event(JobUpdated).changed) == (None, ("upstream",))
    itself = {"jobs": [{"job_id": "j", "on": "failed"}], "match": "all"}
    made.when(UpdateJob(changes={"upstream": itself})).then_rejected("invalid", path="upstream")
    given(JOB).when(CreateJob(job_id="j", name="j", config={}, upstream=itself)).then_rejected("invalid")
