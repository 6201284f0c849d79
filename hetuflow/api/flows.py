"""F1-F6: runs of flows."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hetuflow.actors import Context
from hetuflow.api import rendering
from hetuflow.api.call import Call, Reply
from hetuflow.api.collections import FLOWS, TASKS
from hetuflow.api.flow_runs import cancel_tasks, flow_of, retry_flow, start_flow
from hetuflow.api.idempotency import once
from hetuflow.api.reads import NewId, Nothing, OneOf, PageOf, by, page_of, row_of, rows_of, where
from hetuflow.api.rooms import Row
from hetuflow.api.routing import AS_OF, NO_BODY, Endpoint, PathId
from hetuflow.api.schemas.flow import FLOW, FLOW_WITH_GRAPH, GRAPH, RUN_FLOW
from hetuflow.api.schemas.task import CANCEL
from hetuflow.domain.commands import CancelFlow
from hetuflow.domain.flow_graph import FLOW_JOBS_MAX


async def page(call: Call) -> Reply:
    return await page_of(call, FLOWS, by(rendering.flow))


async def show(call: Call) -> Reply:
    """The run first, its tasks after it: a run that has ended is not shown with a task that had not."""
    row, position = await row_of(call, FLOWS, "flow")
    tasks, _ = await rows_of(call, TASKS, where(TASKS, limit=FLOW_JOBS_MAX, flow_run_id=call.id))
    graph = _with_tasks(row["graph"], {str(task["id"]): task for task in tasks})
    return Reply({**rendering.flow(row), "graph": graph}, position)


def _with_tasks(graph: Mapping[str, Any], tasks: Mapping[str, Row]) -> dict[str, Any]:
    def state(task_id: str | None) -> dict[str, Any]:
        task = tasks.get(task_id or "")
        return {name: None if task is None else task[name] for name in ("status", "attempt", "completed_at")}

    return {"nodes": [{**node, **state(node["task_id"])} for node in graph["nodes"]], "edges": graph["edges"]}


async def run(call: Call) -> Reply:
    members = call.given(RUN_FLOW).members
    chosen, more = members.pop("id", None), members.pop("roots", [])
    roots = list(dict.fromkeys([call.id, *more]))
    paths = [None if root == call.id else f"roots[{more.index(root)}]" for root in roots]

    async def perform(flow_run_id: str, context: Context) -> int:
        return await start_flow(call, context, flow_run_id, roots, paths, members)

    return await once(call, "flow", chosen, perform)


async def graph(call: Call) -> Reply:
    found = await flow_of(call, [call.id], [None])
    return Reply(_with_tasks(found.as_json({}), {}))


async def cancel(call: Call) -> Reply:
    reason = call.given(CANCEL).members.get("reason")
    answer = await call.ask("flow", call.id, CancelFlow(reason=reason))
    return call.written(max(answer.position, await cancel_tasks(call, answer.state.task_ids, reason)))


async def retry(call: Call) -> Reply:
    call.given(NO_BODY)
    return call.written(await retry_flow(call, call.id))


_FLOW = "/api/v1/flows/{id}"

ENDPOINTS = (
    Endpoint(
        number="F1",
        method="POST",
        path="/api/v1/flows/page",
        aliases=(("POST", "/api/v1/flows/query"),),
        handler=page,
        body=FLOWS,
        reply=PageOf(FLOW),
        summary="Find flow runs",
        tag="flows",
        example={"filter": {"status": {"$in": ["Running", "Failed"]}}},
        parameters=(AS_OF,),
        also=(410,),
    ),
    Endpoint(
        number="F2",
        method="GET",
        path=_FLOW,
        path_id=PathId.UUID,
        handler=show,
        reply=OneOf(FLOW_WITH_GRAPH),
        summary="Show a flow run with its graph and the status of each task",
        tag="flows",
        parameters=(AS_OF,),
        also=(410,),
    ),
    Endpoint(
        number="F3",
        method="POST",
        path=f"{_FLOW}/cancel",
        path_id=PathId.UUID,
        handler=cancel,
        body=CANCEL,
        reply=Nothing(),
        summary="Cancel what is open of a flow run",
        tag="flows",
        also=(409,),
    ),
    Endpoint(
        number="F4",
        method="POST",
        path=f"{_FLOW}/retry",
        path_id=PathId.UUID,
        handler=retry,
        body=NO_BODY,
        reply=Nothing(),
        summary="Run again what failed or was cancelled, and what was skipped because of it",
        tag="flows",
        also=(409,),
    ),
    Endpoint(
        number="F5",
        method="POST",
        path="/api/v1/jobs/item/{id}/run-flow",
        path_id=PathId.UUID,
        handler=run,
        body=RUN_FLOW,
        reply=NewId(),
        summary="Run a job and every job that follows it; the id is that of the flow run",
        tag="flows",
        also=(409,),
        is_keyed=True,
        example={"parameters": {"day": "2026-01-31"}},
    ),
    Endpoint(
        number="F6",
        method="GET",
        path="/api/v1/jobs/item/{id}/flow",
        path_id=PathId.UUID,
        handler=graph,
        reply=GRAPH,
        summary="The graph of what run-flow would run now",
        tag="flows",
    ),
)
