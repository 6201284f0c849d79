"""`--retry…`: which results of a job are retried, when, and where rather not."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, TypeVar

import click

from hetuflow.cli.options import Seconds, nearest_hint
from hetuflow.cli.times import duration_seconds
from hetuflow.domain import retry
from hetuflow.domain.enums import RetryReason, RetryStrategy

if TYPE_CHECKING:
    _ParamType = click.ParamType[Any]
else:
    _ParamType = click.ParamType  # generic for the type checker only, in the older releases

F = TypeVar("F", bound=Callable[..., Any])


class ExitCodes(_ParamType):
    """`1,75`, or `!2,64` for all but these; the value is the API's."""

    name = "CODES"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        text = str(value)
        try:
            codes = [int(code) for code in text.removeprefix("!").split(",")]
        except ValueError:
            self.fail(f"{text!r} is not a list of exit codes: 1,75, or !2,64 for all but these", param, ctx)
        return {"not": codes} if text.startswith("!") else codes


class Reasons(_ParamType):
    """`timeout,lost`; the value is a list."""

    name = "REASONS"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        known = [str(reason) for reason in RetryReason]
        reasons = [word.strip().lower().replace("-", "_") for word in str(value).split(",")]
        for reason in reasons:
            if reason not in known:
                self.fail(f"{reason!r} is not known; there are: {', '.join(known)}", param, ctx)
        return reasons


def retry_options(command: F) -> F:
    """What `job create` and `job update` both have."""
    for option in reversed(
        [
            click.option("--max-retries", type=click.IntRange(0, 1000), help="After the first run [default: 3]."),
            click.option("--retry-interval", type=Seconds(), help="Before a retry, or the first one [default: 60 s]."),
            click.option(
                "--retry",
                "retry_strategy",
                type=click.Choice([str(strategy) for strategy in RetryStrategy]),
                help="How the interval grows [default: fixed].",
            ),
            click.option(
                "--retry-factor", type=float, help="Of exponential: each interval is so many times the last [2]."
            ),
            click.option("--retry-max", type=Seconds(), help="Longest interval [default: none; 1d where it grows]."),
            click.option(
                "--retry-jitter", type=float, help="Share of the interval that is drawn, 0 to 1 [default: 0]."
            ),
            click.option("--retry-on", type=Reasons(), help="Retry only these: timeout,lost [default: all]."),
            click.option("--retry-exit-codes", type=ExitCodes(), help="Retry only these: 1,75; or all but: !2,64."),
            click.option(
                "--retry-elsewhere/--retry-anywhere",
                "retry_elsewhere",
                default=None,
                help="Rather not on an agent where an attempt ended.",
            ),
        ]
    ):
        command = option(command)
    return command


def retry_changes(given: Mapping[str, Any]) -> dict[str, Any]:
    """Members of a job, by path, from the options that were given; None is not given."""
    return {
        "config.max_retries": given["max_retries"],
        "config.retry_interval": given["retry_interval"],
        "config.retry.strategy": given["retry_strategy"],
        "config.retry.factor": given["retry_factor"],
        "config.retry.max_seconds": given["retry_max"],
        "config.retry.jitter": given["retry_jitter"],
        "config.retry.on": given["retry_on"],
        "config.retry.exit_codes": given["retry_exit_codes"],
        "config.retry.prefer_other_agent": given["retry_elsewhere"],
    }


def read_retry(value: Any) -> dict[str, Any]:
    """`retry` of a file as the API has it; durations as elsewhere (`max_seconds: 10m`).

    Raises:
      ValueError: what is wrong, and what is allowed.
    """
    if not isinstance(value, dict):
        raise ValueError(f"must be an object, got {value!r}")
    policy = dict(value)
    if isinstance(policy.get("max_seconds"), str):
        policy["max_seconds"] = duration_seconds(policy["max_seconds"])
    for path, message in retry.problems(policy, ""):
        hint = nearest_hint(path[1:], retry.MEMBERS) if path[1:] not in retry.MEMBERS else None
        raise ValueError(f"{path[1:]}: {message}{f'; {hint}' if hint else ''}")
    return policy


def shown(config: Mapping[str, Any]) -> str:
    """The rule in one line."""
    policy = config.get("retry") or {}
    strategy = policy.get("strategy") or RetryStrategy.FIXED
    how = {
        RetryStrategy.FIXED: f"{config['retry_interval']} s apart",
        RetryStrategy.LINEAR: f"{config['retry_interval']} s, then so much longer each time",
        RetryStrategy.EXPONENTIAL: f"{config['retry_interval']} s, then {policy.get('factor') or 2:g} times the last",
    }[RetryStrategy(strategy)]
    parts = [f"{config['max_retries']}, {how}"]
    if policy.get("max_seconds") is not None:
        parts.append(f"at most {policy['max_seconds']} s")
    if policy.get("jitter"):
        parts.append(f"{policy['jitter']:.0%} of it drawn")
    if policy.get("on") is not None:
        parts.append(f"after {', '.join(policy['on'])}")
    codes = policy.get("exit_codes")
    if isinstance(codes, dict):
        parts.append(f"not after exit code {', '.join(map(str, codes['not']))}")
    elif codes is not None:
        parts.append(f"only exit code {', '.join(map(str, codes))}")
    if policy.get("prefer_other_agent"):
        parts.append("rather on another agent")
    return "; ".join(parts)
