"""T4: a retry follows what is to be retried, nothing else, and when `config.retry` says; elsewhere, where that is wanted.

The delays are calculated here anew, from the rule (docs/reference/retries.md).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

from tests.simulation.checkers.evidence import Evidence, Fact
from tests.simulation.checkers.verdict import Verdict

COMMIT_SECONDS_MAX = 6.0
"""Between the instant of a decision and its commit, with the slowest store of the faults."""

DAY = 86_400
ENDS = {"TaskSucceeded", "TaskFailed", "TaskCancelled"}


def check_retries(evidence: Evidence, verdict: Verdict) -> None:
    """T4, of every task."""
    for name, stream in evidence.streams("task"):
        _RetryJudge(name, evidence, verdict).judge(stream)


class _RetryJudge:
    """`retries`: since the task was made, or retried by hand after its end."""

    def __init__(self, name: str, evidence: Evidence, verdict: Verdict) -> None:
        self._name, self._evidence, self._verdict = name, evidence, verdict
        self._config: Mapping[str, Any] = {}
        self._retries = 0
        self._failed: Fact | None = None
        self._not_before: datetime | None = None

    def _fail(self, what: str, fact: Fact) -> None:
        place = f"{self._name} at position {fact.position} ({fact.type})"
        self._verdict.fail("T4", f"{place}: {what}", streams=[self._name])

    def judge(self, stream: Sequence[Fact]) -> None:
        has_ended = False
        for fact in stream:
            self._config = fact.data.get("config") or self._config
            if fact.type == "InstanceFailed":
                self._failed = fact
            elif fact.type == "TaskRetryScheduled":
                self._retried(fact)
            elif fact.type == "TaskFailed":
                self._given_up(fact)
            elif fact.type == "TaskReopened":
                self._retries, self._not_before = 0 if has_ended else self._retries, None
            elif fact.type == "TaskDispatched":
                self._dispatched(fact)
            has_ended = fact.type in ENDS or (has_ended and fact.type != "TaskReopened")

    def _retried(self, fact: Fact) -> None:
        self._retries += 1
        self._not_before = fact.time("retry_at")
        if self._failed is None:
            self._fail("nothing has failed", fact)
            return
        if why := self._why_not(self._failed, self._retries):
            self._fail(f"retried, although {why}", fact)
        elif self._policy:
            self._verdict.note("retries by a policy")
        self._is_in_time(self._failed, fact)

    def _given_up(self, fact: Fact) -> None:
        if self._failed is None or self._why_not(self._failed, self._retries + 1) is None:
            self._fail("it has retries left, and its end is one that is retried", fact)
        elif self._retries < self._config["max_retries"]:
            self._verdict.note("not retried by a policy")

    @property
    def _policy(self) -> Mapping[str, Any]:
        return self._config.get("retry") or {}

    def _why_not(self, failed: Fact, retry: int) -> str | None:
        reason, code, policy = failed.data["reason"], failed.data.get("exit_code"), self._policy
        if retry > self._config["max_retries"]:
            return f"its {self._config['max_retries']} retries are used up"
        if policy.get("on") is not None and reason not in policy["on"]:
            return f"{reason} is not among {policy['on']}"
        codes = policy.get("exit_codes")
        if codes is None or reason != "exit_code":
            return None
        is_wanted = code not in codes["not"] if isinstance(codes, dict) else code in codes
        return None if is_wanted else f"exit code {code} is excluded by {codes}"

    def _longest(self, retry: int) -> float:
        policy, interval = self._policy, float(self._config["retry_interval"])
        strategy = policy.get("strategy") or "fixed"
        delay = {
            "fixed": interval,
            "linear": interval * retry,
            "exponential": interval * (policy.get("factor") or 2) ** (retry - 1),
        }[strategy]
        cap = policy.get("max_seconds")
        if cap is None and strategy != "fixed":
            cap = max(DAY, interval)
        return delay if cap is None else min(delay, cap)

    def _is_in_time(self, failed: Fact, fact: Fact) -> None:
        """Counted from the end of the attempt, or from the decision where an agent's clock was ahead."""
        retry_at, completed_at = fact.time("retry_at"), failed.time("completed_at")
        assert retry_at is not None and completed_at is not None
        most = self._longest(self._retries)
        least = most * (1 - (self._policy.get("jitter") or 0))
        error = self._evidence.clock_error(fact.at) + timedelta(milliseconds=2)
        earliest = min(completed_at, fact.recorded_at - error - timedelta(seconds=COMMIT_SECONDS_MAX))
        latest = min(completed_at, fact.recorded_at + error)
        tick = timedelta(milliseconds=1)
        if not earliest + timedelta(seconds=least) - tick <= retry_at <= latest + timedelta(seconds=most) + tick:
            what = f"retry {self._retries} is due at {retry_at}, {least:g} to {most:g} s after {completed_at}"
            self._fail(what, fact)
        if completed_at <= fact.recorded_at - error - timedelta(seconds=COMMIT_SECONDS_MAX):
            return
        self._verdict.note("retries timed")

    def _dispatched(self, fact: Fact) -> None:
        at = fact.time("dispatched_at")
        if at is not None and self._not_before is not None and at < self._not_before:
            self._fail(f"dispatched at {at}, its retry was due at {self._not_before}", fact)
        self._not_before = None
