"""`config.limits`: how many tasks run at once, and how often a job starts."""

from __future__ import annotations

from hetuflow.api.kinds import Array, Integer, NameId, ScalarOrObject
from hetuflow.api.shapes import Member, Shape
from hetuflow.domain.limits import CONCURRENCY_MAX, KEYS_MAX, RATE_COUNT_MAX, RATE_SECONDS_MAX

_KEY = Shape(
    title="LimitKey",
    is_sparse=True,
    members=[
        Member(name="name", kind=NameId(), write="C!", doc="known everywhere, whichever job or namespace names it"),
        Member(
            name="concurrency",
            kind=Integer(1, CONCURRENCY_MAX),
            nullable=True,
            default=1,
            doc="tasks that name the key, at once; the smallest number that one of them gives holds",
        ),
    ],
)

_RATE = Shape(
    title="LimitRate",
    members=[
        Member(name="count", kind=Integer(1, RATE_COUNT_MAX), write="C!", doc="starts, at most, …"),
        Member(
            name="per_seconds",
            kind=Integer(1, RATE_SECONDS_MAX),
            write="C!",
            doc="… in any so many seconds. A start is that the task is given to an agent",
        ),
    ],
)

TASK_LIMITS = Shape(
    title="TaskLimits",
    is_sparse=True,
    members=[
        Member(
            name="concurrency",
            kind=Integer(1, CONCURRENCY_MAX),
            nullable=True,
            doc="tasks of the job on agents at once, in the whole cluster",
        ),
        Member(
            name="keys",
            kind=Array(ScalarOrObject(NameId(), _KEY), high=KEYS_MAX),
            nullable=True,
            doc="limits shared by all jobs that name them; a bare name is a mutex",
        ),
        Member(name="rate", kind=_RATE, nullable=True, doc="of the job's tasks that have a rate"),
    ],
)
