"""Runs of flows, and their graphs."""

from __future__ import annotations

from attrs import evolve

from hetuflow.api.coded import CodeOut, WordOut
from hetuflow.api.kinds import Array, Integer, Text, Time, Uuid
from hetuflow.api.objects import FreeObject
from hetuflow.api.schemas.job import BY_WHOM, CREATED_UPDATED
from hetuflow.api.schemas.task import RUN
from hetuflow.api.shapes import Entity, Member, Shape
from hetuflow.domain.enums import FlowStatus, TaskStatus
from hetuflow.domain.flow_graph import Match, On

OUTCOME = Shape(
    title="FlowOutcome",
    members=[
        Member(name="succeeded", kind=Integer()),
        Member(name="failed", kind=Integer()),
        Member(name="cancelled", kind=Integer(), doc="by a user, or not started in time"),
        Member(name="skipped", kind=Integer(), doc="what they were to follow ended otherwise"),
    ],
)

NODE = Shape(
    title="FlowNode",
    members=[
        Member(name="job_id", kind=Uuid()),
        Member(name="name", kind=Text(), doc="the job's, when the run was started"),
        Member(name="match", kind=WordOut(Match), doc="`all` or `any` of the edges to it"),
        Member(name="task_id", kind=Uuid(), nullable=True, doc="null in a graph that is not of a run"),
        Member(name="status", kind=CodeOut(TaskStatus), nullable=True, doc="null when its task was deleted"),
        Member(name="attempt", kind=Integer(1), nullable=True),
        Member(name="completed_at", kind=Time(), nullable=True),
    ],
)

EDGE = Shape(
    title="FlowEdge",
    members=[
        Member(name="from", kind=Uuid(), doc="job id"),
        Member(name="to", kind=Uuid(), doc="job id of the one that follows"),
        Member(name="on", kind=WordOut(On), doc="how the task of `from` must have ended"),
    ],
)

GRAPH = Shape(
    title="FlowGraph",
    members=[
        Member(name="nodes", kind=Array(NODE), doc="each after all that it follows"),
        Member(name="edges", kind=Array(EDGE)),
    ],
)

FLOW = Entity(
    title="SchedFlowRun",
    members=[
        Member(name="id", kind=Uuid()),
        Member(name="job_id", kind=Uuid(), doc="its root, the first of them"),
        Member(name="name", kind=Text()),
        Member(name="namespace_id", kind=Text()),
        Member(name="status", kind=CodeOut(FlowStatus), doc="of all its tasks together"),
        Member(name="trigger", kind=Text(), doc="`flow`, `execute` or `schedule`"),
        Member(name="schedule_id", kind=Uuid(), nullable=True),
        Member(name="nominal_at", kind=Time(), nullable=True),
        Member(name="parameters", kind=FreeObject()),
        Member(name="task_count", kind=Integer(1)),
        Member(name="outcome", kind=OUTCOME, nullable=True, doc="how many tasks ended how; null while it is open"),
        Member(name="completed_at", kind=Time(), nullable=True),
        Member(name="cancel_requested_at", kind=Time(), nullable=True, doc="a cancel is under way"),
        Member(name="retried_at", kind=Time(), nullable=True, doc="the last retry"),
        *BY_WHOM,
        *CREATED_UPDATED,
    ],
)

FLOW_WITH_GRAPH = Entity(title="SchedFlowRunWithGraph", members=[*FLOW.members, Member(name="graph", kind=GRAPH)])

RUN_FLOW = Shape(
    title="RunFlow",
    members=[
        *(
            evolve(member, doc=doc)
            for name, doc in (
                ("id", "of the flow run; default: a new UUID v7"),
                ("name", "of the flow run; default: the job's"),
                ("description", "of its tasks"),
                ("parameters", "of all its tasks"),
                ("environment", "laid over that of each job"),
                ("priority", "of all its tasks"),
                ("scheduled_at", "no task is started before; default: now"),
            )
            for member in RUN.members
            if member.name == name
        ),
        Member(
            name="roots",
            kind=Array(Uuid(), high=100),
            write="C",
            doc="further jobs that the flow begins with, beside the one in the path",
        ),
    ],
)
