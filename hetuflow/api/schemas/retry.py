"""`config.retry`: which results are retried, when, and where rather not."""

from __future__ import annotations

from hetuflow.api.coded import Word, WordOut
from hetuflow.api.kinds import Array, Boolean, Integer, Number, ScalarOrObject
from hetuflow.api.shapes import Member, Shape
from hetuflow.domain.enums import RetryReason, RetryStrategy
from hetuflow.domain.retry import CAP_SECONDS, CAP_SECONDS_MAX, EXIT_CODE_MAX, FACTOR, FACTOR_MAX

_CODES = Array(Integer(0, EXIT_CODE_MAX), high=EXIT_CODE_MAX + 1, low=1)

RETRY = Shape(
    title="RetryPolicy",
    is_sparse=True,
    members=[
        Member(
            name="strategy",
            kind=Word(RetryStrategy),
            nullable=True,
            default=str(RetryStrategy.FIXED),
            out=WordOut(RetryStrategy),
            doc="the delay before retry n: `retry_interval`, n times it, or it times `factor` to the power n - 1",
        ),
        Member(
            name="factor", kind=Number(low=1, high=FACTOR_MAX), nullable=True, default=FACTOR, doc="of `exponential`"
        ),
        Member(
            name="max_seconds",
            kind=Integer(0, CAP_SECONDS_MAX),
            nullable=True,
            doc=f"longest delay; default: none for `fixed`, {CAP_SECONDS} (or the interval, if longer) for the others",
        ),
        Member(
            name="jitter",
            kind=Number(low=0, high=1),
            nullable=True,
            default=0,
            doc="share of the delay that is drawn: 1 = anywhere from none of it to all of it. The same task and attempt"
            " always draw the same",
        ),
        Member(
            name="on",
            kind=Array(Word(RetryReason), low=1, high=len(RetryReason)),
            nullable=True,
            out=Array(WordOut(RetryReason)),
            doc="reasons that are retried; default: all",
        ),
        Member(
            name="exit_codes",
            kind=ScalarOrObject(
                _CODES, Shape(title="OtherExitCodes", members=[Member(name="not", kind=_CODES, write="C!")])
            ),
            nullable=True,
            doc="of the reason `exit_code`: only these, or all but `not` these; default: all",
        ),
        Member(
            name="prefer_other_agent",
            kind=Boolean(),
            nullable=True,
            default=False,
            doc="true: an agent where an attempt ended gets the retry only when no other that fits has a free slot",
        ),
    ],
)
