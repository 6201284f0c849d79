"""Task instances: one try each, and its output."""

from __future__ import annotations

from attrs import evolve

from hetuflow.api.coded import Code, CodeOut, WordOut
from hetuflow.api.kinds import INT32, Array, Boolean, Integer, NameId, Number, Text, Time, Uuid
from hetuflow.api.schemas.job import CREATED_UPDATED
from hetuflow.api.shapes import Entity, Member, Shape
from hetuflow.domain.enums import InstanceReason, InstanceStatus

TASK_METRICS = Shape(
    title="TaskMetrics",
    members=[
        Member(name="cpu_time", kind=Number(), write="C!", doc="seconds"),
        *(
            Member(name=name, kind=Integer(), write="C!", doc="bytes; 0 when not measured")
            for name in ("memory_peak", "disk_read", "disk_write", "network_in", "network_out")
        ),
    ],
)

CREATED_AS = (InstanceStatus.PENDING, InstanceStatus.DISPATCHED, InstanceStatus.RUNNING)

INSTANCE = Entity(
    title="SchedTaskInstance",
    ignored_on_create=frozenset({"config"}),
    members=[
        Member(name="id", kind=Uuid(chosen=True), write="C", doc="default: a new UUID v7"),
        Member(name="task_id", kind=Uuid(), write="C!"),
        Member(name="job_id", kind=Uuid(), write="C", doc="must be the task's"),
        Member(name="agent_id", kind=NameId(), write="CU", nullable=True, doc="set when dispatched"),
        Member(
            name="status",
            kind=Code(InstanceStatus),
            created=Code(InstanceStatus, among=CREATED_AS),
            write="CU",
            default=int(InstanceStatus.PENDING),
            out=CodeOut(InstanceStatus),
            doc="create: 1, 5 or 10. Update: forward only",
        ),
        Member(name="started_at", kind=Time(), write="CU", nullable=True, doc="real start; default: now, once it runs"),
        Member(name="completed_at", kind=Time(), write="U", nullable=True, doc="real end; default: now, once it ended"),
        Member(
            name="output",
            kind=Text(),
            write="U",
            nullable=True,
            doc="end of the captured output, both streams in order of arrival: last 64 KiB here, last 4 KiB in pages",
        ),
        Member(name="output_truncated", kind=Boolean(), doc="`output` is not the whole"),
        Member(name="error_message", kind=Text(4096), write="U", nullable=True, doc="why it did not succeed"),
        Member(name="exit_code", kind=INT32, write="U", nullable=True, doc="128 + n when ended by signal n"),
        Member(name="signal", kind=Integer(), nullable=True),
        Member(name="reason", kind=WordOut(InstanceReason), nullable=True),
        Member(name="metrics", kind=TASK_METRICS, write="U", nullable=True),
        Member(name="attempt", kind=Integer(1), doc="number within the task"),
        Member(name="epoch", kind=Integer(), doc="fencing number, grows with every dispatch"),
        Member(name="external", kind=Boolean(), doc="driven over this API, not by an agent"),
        *CREATED_UPDATED,
    ],
)

INSTANCE_UPDATE_BY_ID = evolve(
    INSTANCE.update,
    title="SchedTaskInstanceUpdateById",
    members=[
        Member(name="id", kind=Uuid(), write="U", doc="of the instance, unless the query has it"),
        *INSTANCE.update.members,
    ],
    fixed={name: kind for name, kind in INSTANCE.update.fixed.items() if name != "id"},
)

LOG_CHUNK = Shape(
    title="LogChunk",
    members=[
        Member(name="stream", kind=Text(), doc="`stdout` or `stderr`"),
        Member(name="offset", kind=Integer(), doc="byte within that stream"),
        Member(name="length", kind=Integer(), doc="bytes"),
        Member(name="at", kind=Time()),
        Member(name="text", kind=Text(), doc="UTF-8 with replacement characters, never split inside a character"),
        Member(name="base64", kind=Text(), nullable=True, doc="the exact bytes when they are not valid UTF-8"),
    ],
)

DIGESTS = Shape(
    title="Digests",
    members=[
        Member(name="stdout", kind=Text(), nullable=True),
        Member(name="stderr", kind=Text(), nullable=True),
    ],
)

LOG_PAGE = Shape(
    title="PageOfLogChunk",
    members=[
        Member(
            name="page",
            kind=Shape(
                title="LogPage",
                members=[
                    Member(name="total", kind=Integer(), doc="bytes so far"),
                    Member(name="has_more", kind=Boolean()),
                    Member(name="next", kind=Text(), nullable=True),
                ],
            ),
        ),
        Member(name="result", kind=Array(LOG_CHUNK)),
        Member(name="complete", kind=Boolean(), doc="the instance has ended and all it sent is here"),
        Member(name="dropped", kind=Integer(), doc="bytes cut by limits"),
        Member(name="sha256", kind=DIGESTS, nullable=True, doc="of each stream as the process wrote it, once complete"),
    ],
)
