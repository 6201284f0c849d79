"""Which results are retried, when, and where rather not: `config.retry` over `max_retries` and `retry_interval`. Pure.

The delay before retry n (1, 2, …) is, of the interval d: `fixed` d, `linear` n·d, `exponential` d·factorⁿ⁻¹, never above
the cap. Of that, a share `jitter` is drawn: 1 is "full jitter", 0.5 "equal jitter" (source of both: Marc Brooker,
"Exponential Backoff And Jitter", AWS Architecture Blog, 2015). What is drawn is derived from task and attempt, so that
whoever decides, again or elsewhere, names the same instant.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hetuflow.domain.enums import RetryReason, RetryStrategy
from hetuflow.domain.identity import retry_fraction_of
from hetuflow.domain.task_state import Instance

JSON = Mapping[str, Any]

STRATEGIES = tuple(str(each) for each in RetryStrategy)
RETRYABLE = tuple(str(each) for each in RetryReason)

FACTOR = 2.0
FACTOR_MAX = 100.0
CAP_SECONDS = 86_400
"""Of delays that grow, when `max_seconds` is not given: a day, or the interval itself where that is longer."""
CAP_SECONDS_MAX = 366 * 86_400
EXIT_CODE_MAX = 255
MEMBERS = ("strategy", "factor", "max_seconds", "jitter", "on", "exit_codes", "prefer_other_agent")

_NONE: JSON = {}


def policy_of(config: JSON) -> JSON:
    """`config.retry`, empty when the config has none or is older than it."""
    policy: JSON | None = config.get("retry")
    return policy or _NONE


def delay_seconds(config: JSON, task_id: str, attempt: int, retry: int) -> float:
    """Seconds from the end of an attempt to the retry of it.

    Args:
      attempt: the one that ended; with the task it seeds the jitter.
      retry: the how manieth retry this is, ≥ 1.
    """
    policy = policy_of(config)
    most = longest_delay_seconds(config, retry)
    jitter = policy.get("jitter") or 0
    return most * (1 - jitter * retry_fraction_of(task_id, attempt)) if jitter else most


def longest_delay_seconds(config: JSON, retry: int) -> float:
    """The delay before that retry without jitter: it never shrinks from one retry to the next."""
    policy = policy_of(config)
    interval: int = config["retry_interval"]
    strategy = policy.get("strategy") or RetryStrategy.FIXED
    delay: float = interval
    if strategy == RetryStrategy.LINEAR:
        delay = interval * retry
    elif strategy == RetryStrategy.EXPONENTIAL and interval:
        try:
            delay = interval * (policy.get("factor") or FACTOR) ** (retry - 1)
        except OverflowError:
            delay = CAP_SECONDS_MAX
    cap = policy.get("max_seconds")
    if cap is None:
        if strategy == RetryStrategy.FIXED:
            return delay
        cap = max(CAP_SECONDS, interval)
    return min(delay, cap)


def why_not(config: JSON, retry_count: int, reason: str, exit_code: int | None) -> str | None:
    """Why a result is not retried, None when it is.

    Args:
      retry_count: retries used.
    """
    policy = policy_of(config)
    among = policy.get("on")
    if among is not None and reason not in among:
        return f"{reason} is not in retry.on ({', '.join(among)})"
    codes = policy.get("exit_codes")
    if codes is not None and reason == RetryReason.EXIT_CODE:
        if isinstance(codes, Mapping):
            if exit_code in codes["not"]:
                return f"exit code {exit_code} is excluded by retry.exit_codes"
        elif exit_code not in codes:
            return f"exit code {exit_code} is not in retry.exit_codes ({', '.join(map(str, codes))})"
    most: int = config["max_retries"]
    if retry_count >= most:
        return "max_retries is 0" if not most else "its retries are used up" + (f" ({most})" if most > 1 else "")
    return None


def avoided_agents(config: JSON, past: tuple[Instance, ...], retry_count: int) -> tuple[str, ...]:
    """The agents on which the attempts before this retry ended, when another one is preferred; sorted."""
    if not retry_count or not policy_of(config).get("prefer_other_agent"):
        return ()
    return tuple(sorted({ended.agent_id for ended in past[-retry_count:] if ended.agent_id is not None}))


# --- bounds --------------------------------------------------------------------------------------------------------


def problems(policy: JSON, path: str) -> list[tuple[str, str]]:
    """(path, message) of every member that is out of its bounds. None is "not given"."""
    found = [(f"{path}.{name}", "is not known") for name in policy if name not in MEMBERS]
    given = {name: value for name, value in policy.items() if value is not None}
    for name, (holds, message) in _BOUNDS.items():
        if name in given and not holds(given[name]):
            found.append((f"{path}.{name}", f"{message}, got {given[name]!r}"))
    if not found and "exit_codes" in given and RetryReason.EXIT_CODE not in given.get("on", RETRYABLE):
        found.append((f"{path}.exit_codes", "has no effect: exit_code is not in retry.on"))
    return found


def _is_number(value: Any, low: float, high: float) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and low <= value <= high


def _is_int(value: Any, low: int, high: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and low <= value <= high


def _is_reasons(value: Any) -> bool:
    return isinstance(value, list | tuple) and bool(value) and all(reason in RETRYABLE for reason in value)


def _is_codes(value: Any) -> bool:
    if isinstance(value, Mapping):
        return value.keys() == {"not"} and _is_codes_list(value["not"])
    return _is_codes_list(value)


def _is_codes_list(value: Any) -> bool:
    return isinstance(value, list | tuple) and bool(value) and all(_is_int(code, 0, EXIT_CODE_MAX) for code in value)


_BOUNDS: Mapping[str, tuple[Any, str]] = {
    "strategy": (lambda v: v in STRATEGIES, f"must be one of {', '.join(STRATEGIES)}"),
    "factor": (lambda v: _is_number(v, 1, FACTOR_MAX), f"must be a number from 1 to {FACTOR_MAX:g}"),
    "max_seconds": (lambda v: _is_int(v, 0, CAP_SECONDS_MAX), f"must be an integer 0-{CAP_SECONDS_MAX}"),
    "jitter": (lambda v: _is_number(v, 0, 1), "must be a number from 0 to 1"),
    "on": (_is_reasons, f"must be a list of {', '.join(RETRYABLE)}"),
    "exit_codes": (_is_codes, f'must be a list of exit codes 0-{EXIT_CODE_MAX}, or {{"not": such a list}}'),
    "prefer_other_agent": (lambda v: isinstance(v, bool), "must be true or false"),
}
