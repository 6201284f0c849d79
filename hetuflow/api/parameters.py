"""Parameters against what the job declares; and J9, the preview of what a run would be given."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from hetuflow.api.call import Call, Reply
from hetuflow.api.kinds import Array, Text
from hetuflow.api.objects import FreeObject, Variables
from hetuflow.api.problems import Problems
from hetuflow.api.reads import require_exists
from hetuflow.api.routing import Endpoint, PathId
from hetuflow.api.schemas.task import RUN
from hetuflow.api.shapes import Member, Shape
from hetuflow.domain.commands import JobSnapshot
from hetuflow.domain.config import effective
from hetuflow.domain.decider import Address
from hetuflow.domain.environment import merged, variables
from hetuflow.domain.parameters import Unfit, unfit_for_flow, unfit_for_schedule
from hetuflow.domain.rendering import About, checked_templates, prepare, refusal

RENDERED = Shape(
    title="RenderedRun",
    members=[
        Member(name="parameters", kind=FreeObject(), doc="effective: defaults filled in"),
        Member(name="cmd", kind=Text()),
        Member(
            name="args",
            kind=Array(Text()),
            doc="with their values; in the script of a shell, with variables in their place",
        ),
        Member(
            name="environment",
            kind=Variables(),
            doc="what the job, the config, the run and the parameters give; `HETUFLOW_ARG_<n>` are those of the script."
            " Without what names the instance (`HETUFLOW_TASK_ID`, …)",
        ),
    ],
)


def check_schedule_parameters(
    job: Any, parameters: Mapping[str, Any] | None, schedule_kind: int, problems: Problems, path: str = "parameters"
) -> None:
    """A schedule's parameters must fit what its job declares now."""
    declared = (job.config or {}).get("params")
    for unfit in unfit_for_schedule(declared, parameters or {}, schedule_kind):
        problems.add(f"{path}.{unfit.path}", unfit.message, unfit.suggestion)


def refuse_unfit_for_flow(jobs: Sequence[JobSnapshot], parameters: Mapping[str, Any]) -> None:
    """The parameters of a flow's run must fit what its jobs declare; before any task of it is made."""
    found = unfit_for_flow([(job.name, job.config.get("params")) for job in jobs], parameters)
    if found:
        raise refusal([Unfit(f"parameters.{each.path}", each.message, each.suggestion) for each in found])


async def render(call: Call) -> Reply:
    """As a run by hand would be, and refused as it would be; nothing is made."""
    given = call.given(RUN).members
    reading = await call.rooms.system.read(Address("job", call.id))
    job = reading.state
    require_exists(job.exists, "job", call.id)
    now = call.rooms.clock.now()
    overrides = given.get("config") or {}
    config = checked_templates(effective(job.config, overrides))
    about = About(
        task_id=given.get("id") or str(call.rooms.ids.uuid7()),
        job_id=call.id,
        name=given.get("name") or job.name,
        namespace_id=job.namespace_id,
        trigger="run",
        priority=given.get("priority", 0),
        schedule_id=None,
        scheduled_at=given.get("scheduled_at") or now,
        nominal_at=None,
    )
    prepared = prepare(config, given.get("parameters") or {}, about, ())
    if prepared.unfit:
        raise refusal(prepared.unfit)
    environment = merged(
        job.environment, job.config.get("environment"), given.get("environment"), overrides.get("environment")
    )
    rendered = prepared.rendered or {"args": config["args"], "variables": {}}
    answer = {
        "parameters": prepared.parameters,
        "cmd": config["cmd"],
        "args": rendered["args"],
        "environment": variables(environment, prepared.parameters, rendered["variables"]),
    }
    return Reply(answer, await call.log_head())


ENDPOINTS = (
    Endpoint(
        number="J9",
        method="POST",
        path="/api/v1/jobs/item/{id}/render",
        path_id=PathId.UUID,
        handler=render,
        body=RUN,
        reply=RENDERED,
        summary="What a run would be given: parameters, arguments, environment. Nothing is made",
        tag="jobs",
        example={"parameters": {"who": "world"}},
    ),
)
