"""Jobs: what to run and how."""

from __future__ import annotations

from hetuflow.api.coded import Code, CodeOut
from hetuflow.api.kinds import Integer, Mapped, NameId, Text, Time, Uuid
from hetuflow.api.objects import Variables
from hetuflow.api.problems import Problems
from hetuflow.api.schemas.config import CONFIG
from hetuflow.api.schemas.switch import STATUS_NOTE
from hetuflow.api.schemas.upstream import UPSTREAM_KIND
from hetuflow.api.shapes import Entity, Given, Member
from hetuflow.domain.enums import JobStatus

NAMESPACE = Text(64, 1)
NAME = Text(255, 1)
DESCRIPTION = Text(4000)

CREATED_UPDATED = [
    Member(name="created_at", kind=Time()),
    Member(name="updated_at", kind=Time(), doc="equals `created_at` until the first change"),
    Member(name="version", kind=Integer(1), doc="version, in its stream, of the last event that changed this entity"),
]
BY_WHOM = [
    Member(name="created_by", kind=Integer(1), doc="user id; 1 until authentication exists"),
    Member(name="updated_by", kind=Integer(1), nullable=True),
]

CRON_EXPRESSION = Text(255, 1, format="cron")

JOB = Entity(
    title="SchedJob",
    members=[
        Member(name="id", kind=Uuid(chosen=True), write="C", doc="default: a new UUID v7"),
        Member(name="namespace_id", kind=NAMESPACE, write="CU", default="default"),
        Member(name="name", kind=NAME, write="C!U", doc="not unique"),
        Member(name="description", kind=DESCRIPTION, write="CU", nullable=True, default=None),
        Member(
            name="environment",
            kind=Variables(),
            write="CU",
            nullable=True,
            default=None,
            doc="variables for every task; an update replaces the whole object",
        ),
        Member(
            name="config",
            kind=CONFIG,
            write="CU",
            doc="an update replaces it as a whole, missing members get their defaults",
        ),
        Member(
            name="status",
            kind=Code(JobStatus),
            write="CU",
            default=int(JobStatus.ENABLED),
            out=CodeOut(JobStatus),
            doc="only Enabled jobs fire from schedules; running by hand works in every status",
        ),
        Member(
            name="agent_id",
            kind=Mapped(NameId(empty=True), lambda text: text or None),
            write="CU",
            nullable=True,
            default=None,
            doc='pin: run only on this agent. "" = no pin',
        ),
        Member(
            name="upstream",
            kind=UPSTREAM_KIND,
            write="CU",
            nullable=True,
            default=None,
            doc="the jobs that it follows in a flow run",
        ),
        Member(
            name="cron_expr",
            kind=CRON_EXPRESSION,
            write="CUW",
            doc="shorthand: a Cron schedule named `cron`, made or changed in the same request",
        ),
        Member(
            name="command",
            kind=Text(4096, 1),
            write="UW",
            doc="alias of `config.cmd` alone; not together with `config`",
        ),
        STATUS_NOTE,
        *BY_WHOM,
        *CREATED_UPDATED,
    ],
)


def check_job_update(given: Given, problems: Problems) -> None:
    if "command" in given.members and "config" in given.members:
        problems.add("command", "cannot be given together with config: it stands for config.cmd")
