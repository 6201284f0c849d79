"""Task instances: one try each, and its output."""

from __future__ import annotations

from hetuflow.api.coded import CodeOut, WordOut
from hetuflow.api.kinds import Array, Boolean, Integer, NameId, Number, Text, Time, Uuid
from hetuflow.api.schemas.job import CREATED_UPDATED
from hetuflow.api.shapes import Entity, Member, Shape
from hetuflow.domain.enums import InstanceReason, InstanceStatus

TASK_METRICS = Shape(
    title="TaskMetrics",
    members=[
        Member(name="cpu_time", kind=Number(), doc="seconds"),
        *(
            Member(name=name, kind=Integer(), doc="bytes; 0 when not measured")
            for name in ("memory_peak", "disk_read", "disk_write", "network_in", "network_out")
        ),
    ],
)

INSTANCE = Entity(
    title="SchedTaskInstance",
    members=[
        Member(name="id", kind=Uuid()),
        Member(name="task_id", kind=Uuid()),
        Member(name="job_id", kind=Uuid()),
        Member(name="agent_id", kind=NameId(), nullable=True, doc="set when dispatched"),
        Member(name="status", kind=CodeOut(InstanceStatus)),
        Member(name="started_at", kind=Time(), nullable=True),
        Member(name="completed_at", kind=Time(), nullable=True),
        Member(
            name="output",
            kind=Text(),
            nullable=True,
            doc="end of the captured output, both streams in order of arrival: last 64 KiB here, last 4 KiB in pages",
        ),
        Member(name="output_truncated", kind=Boolean(), doc="`output` is not the whole"),
        Member(name="error_message", kind=Text(), nullable=True, doc="why it did not succeed"),
        Member(name="exit_code", kind=Integer(None), nullable=True, doc="128 + n when ended by signal n"),
        Member(name="signal", kind=Integer(), nullable=True),
        Member(name="reason", kind=WordOut(InstanceReason), nullable=True),
        Member(name="metrics", kind=TASK_METRICS, nullable=True),
        Member(name="attempt", kind=Integer(1), doc="number within the task"),
        Member(name="epoch", kind=Integer(), doc="fencing number, grows with every dispatch"),
        Member(name="external", kind=Boolean(), doc="driven over this API, not by an agent"),
        *CREATED_UPDATED,
    ],
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
