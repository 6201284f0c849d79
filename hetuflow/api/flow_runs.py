"""Starting runs of flows, and running tasks of them again."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from hetuflow.actors import Context
from hetuflow.api.call import Call, while_guards_are_lost
from hetuflow.api.collections import JOBS
from hetuflow.api.dependencies import still_open
from hetuflow.api.errors import conflict, invalid, not_found
from hetuflow.api.filters import LIMIT_MAX, Comparison, PageRequest
from hetuflow.api.parameters import refuse_unfit_for_flow
from hetuflow.api.problems import Problem
from hetuflow.domain.commands import CancelTask, FlowTaskEnd, RetryFlow, RetryTask
from hetuflow.domain.decider import Address
from hetuflow.domain.flow import to_run_again
from hetuflow.domain.flow_graph import FLOW_JOBS_MAX, FlowGraph
from hetuflow.domain.flow_plan import FlowWishes, RootTask, started
from hetuflow.scheduler.flow_graphs import FlowTooLarge, find_flow
from hetuflow.scheduler.flows import ends_of

ALTERNATIVES_PER_QUERY = 100


async def flow_of(call: Call, roots: Sequence[str], paths: Sequence[str | None]) -> FlowGraph:
    """The flow of these jobs as it is now.

    Raises:
      ApiError: 404, a root does not exist; 422, it is too large.
    """
    readings = await call.rooms.system.read_many([Address("job", each) for each in roots])
    for root, path in zip(roots, paths, strict=True):
        reading = readings.get(Address("job", root))
        if reading is None or not reading.state.exists:
            raise not_found("job", root, path)

    async def followers_of(job_ids: Sequence[str]) -> Sequence[str]:
        return await _followers(call, job_ids)

    try:
        graph = await find_flow(call.rooms.system, followers_of, roots)
    except FlowTooLarge:
        raise invalid([Problem("id", f"its flow has more than {FLOW_JOBS_MAX} jobs")]) from None
    if graph is None:
        raise not_found("job", roots[0], paths[0])
    return graph


async def _followers(call: Call, job_ids: Sequence[str]) -> Sequence[str]:
    """The jobs that name one of these as upstream, as of now."""
    await call.visible(await call.rooms.store.head(), projection=JOBS.name)
    found: list[str] = []
    for at in range(0, len(job_ids), ALTERNATIVES_PER_QUERY):
        alternatives = [
            [Comparison(JOBS.names["upstream"], "contains", {"jobs": [{"job_id": each}]})]
            for each in job_ids[at : at + ALTERNATIVES_PER_QUERY]
        ]
        request = PageRequest(alternatives=alternatives, orders=(), limit=LIMIT_MAX)
        found += [str(row["id"]) for row in (await call.rooms.rows.page(JOBS.name, request)).rows]
    return found


async def start_flow(
    call: Call,
    context: Context,
    flow_run_id: str,
    roots: Sequence[str],
    paths: Sequence[str | None],
    members: Mapping[str, Any],
    root: RootTask | None = None,
) -> int:
    """Start a run of the flow as it is now, again when one of its jobs changes meanwhile; the position of the last event.

    Raises:
      ApiError: 404, 422; 409 `version_conflict`.
      Rejected: `already_exists`.
    """

    async def ask() -> int:
        graph = await flow_of(call, roots, paths)
        refuse_unfit_for_flow(graph.jobs, members.get("parameters") or {})
        command = started(flow_run_id, graph, FlowWishes(**members), root)
        return (await call.ask("flow", flow_run_id, command, context)).position

    return await while_guards_are_lost(ask)


# --- what is asked of a run -------------------------------------------------------------------------------------------


async def cancel_tasks(call: Call, task_ids: Sequence[str], reason: str | None) -> int:
    """Cancel what is open, the last of the graph first, so that none starts because another was cancelled.

    The run wants it already: what is not done here, whatever the reason, the deciding server does.
    """
    position = 0
    readings = await call.rooms.system.read_many([Address("task", each) for each in task_ids])
    for task_id in reversed(task_ids):
        reading = readings.get(Address("task", task_id))
        if reading is not None and not reading.state.is_terminal:
            command = CancelTask(cause="flow", reason=reason)
            asked = await call.ask_unless(("already_terminal", "not_found"), "task", task_id, command)
            position = max(position, asked)
    return position


async def retry_flow(call: Call, flow_run_id: str, only: Collection[str] | None = None) -> int:
    """Run again what failed or was cancelled, and what was skipped because of it; with `only`, these tasks alone and what
    was skipped because of them.

    Raises:
      ApiError: 404; 409 `not_retryable`, a task in `only` has not failed and was not cancelled.
      Rejected: `not_retryable`, there is no such task, or the run is being cancelled.
    """
    state = (await call.rooms.system.read(Address("flow", flow_run_id))).state
    if not state.exists:
        raise not_found("flow", flow_run_id)
    ends = await task_ends(call, state.task_ids)
    tasks = to_run_again(state.spec.graph, ends, only)
    if only is not None and not set(only) <= tasks.keys():
        raise conflict("not_retryable", "a task that succeeded or is open is not retried")
    forced = tuple(only or ())
    position = (await call.ask("flow", flow_run_id, RetryFlow(tasks=tasks, forced=forced))).position
    for task_id, attempt in tasks.items():
        command = RetryTask(attempt=attempt, is_whole=True)
        if task_id in forced:
            command = RetryTask(attempt=attempt, waits_for=await _still_open(call, task_id))
        position = max(position, await call.ask_unless(("not_found",), "task", task_id, command))
    return position


async def _still_open(call: Call, task_id: str) -> tuple[str, ...]:
    spec = (await call.rooms.system.read(Address("task", task_id))).state.spec
    return await still_open(call, None if spec is None else spec.dependencies)


async def task_ends(call: Call, task_ids: Sequence[str]) -> Mapping[str, FlowTaskEnd]:
    """How those of the tasks have ended that have."""
    return ends_of(await call.rooms.system.read_many([Address("task", each) for each in task_ids]))
