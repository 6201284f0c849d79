"""T7: limits of the cluster, of namespaces, jobs and keys are never exceeded, nor the rate at which a job starts.

What ran at once is seen from the machines; a task's own config says what it counts for. Of different numbers for one limit
the smallest holds while such a task is there: here all tasks of a limit name the same one, as far as nobody edits it.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping
from datetime import datetime, timedelta
from typing import Any

from tests.simulation.checkers.evidence import Evidence, Fact
from tests.simulation.checkers.processes import most_at_once
from tests.simulation.checkers.verdict import Verdict
from tests.support.processes import Running

Limit = tuple[str, str]
"""Kind and name."""


def check_config_limits(evidence: Evidence, verdict: Verdict) -> None:
    """T7, of what tasks and namespaces ask for."""
    _check_concurrency(evidence, verdict)
    _check_rates(evidence, verdict)


def limits_of(task: Mapping[str, Any], namespaces_max: Mapping[str, int]) -> Iterator[tuple[Limit, int]]:
    """What a task as created or updated counts for, each with its number."""
    limits = task["config"].get("limits") or {}
    if limits.get("concurrency") is not None:
        yield ("job", task.get("job_id", "")), limits["concurrency"]
    for key in limits.get("keys") or ():
        if isinstance(key, str):
            yield ("key", key), 1
        else:
            yield ("key", key["name"]), key.get("concurrency") or 1
    namespace = task.get("namespace_id", "")
    if most := namespaces_max.get(namespace, 0):
        yield ("namespace", namespace), most


def tasks_by_limit(evidence: Evidence) -> Mapping[Limit, tuple[int, set[str]]]:
    """Each limit with its smallest number and the tasks that count for it."""
    found: dict[Limit, tuple[int, set[str]]] = {}
    for name, stream in evidence.streams("task"):
        for limit, most in limits_of(stream[0].data, evidence.namespaces_max):
            number, tasks = found.get(limit, (most, set()))
            found[limit] = min(number, most), tasks | {name.partition("-")[2]}
    return found


def _check_concurrency(evidence: Evidence, verdict: Verdict) -> None:
    ran: dict[str, list[Running]] = defaultdict(list)
    for process in evidence.counted:
        ran[process.task_id].append(process)
    for (kind, name), (limit, tasks) in tasks_by_limit(evidence).items():
        most, at = most_at_once([process for task in tasks for process in ran[task]])
        verdict.note(f"limits of a {kind} that were reached", most == limit)
        if most > limit:
            verdict.fail("T7", f"{most} processes of the {kind} {name} ran at once, at {at:.2f}, the limit is {limit}")


def _check_rates(evidence: Evidence, verdict: Verdict) -> None:
    """By the instants at which the servers decided, where their clocks agreed."""
    starts: dict[str, list[tuple[datetime, Fact]]] = defaultdict(list)
    rates: dict[str, Mapping[str, int]] = {}
    for _, stream in evidence.streams("task"):
        rate = (stream[0].data["config"].get("limits") or {}).get("rate")
        if rate is None:
            continue
        job_id = stream[0].data["job_id"]
        rates[job_id] = rate
        for fact in stream:
            at = fact.time("dispatched_at") if fact.type == "TaskDispatched" else None
            if at is not None:
                starts[job_id].append((at, fact))
    for job_id, rate in rates.items():
        count, window = rate["count"], timedelta(seconds=rate["per_seconds"])
        times = sorted(starts[job_id], key=lambda start: start[0])
        verdict.note("starts within a rate", len(times))
        for (first, _), (last, fact) in zip(times, times[count:], strict=False):
            if last - first < window and not evidence.clock_error(fact.at, rate["per_seconds"] + 60.0):
                what = f"job {job_id} was started {count + 1} times from {first} to {last}, {count} in {window} are allowed"
                verdict.fail("T7", what, streams=[fact.stream])
