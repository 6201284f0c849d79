"""`--concurrency`, `--key`, `--rate`: how many tasks of a job run at once, and how often it starts."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, TypeVar

import click

from hetuflow.cli.options import nearest_hint
from hetuflow.cli.times import duration_seconds
from hetuflow.domain import limits

if TYPE_CHECKING:
    _ParamType = click.ParamType[Any]
else:
    _ParamType = click.ParamType  # generic for the type checker only, in the older releases

F = TypeVar("F", bound=Callable[..., Any])

_RATE = re.compile(r"\s*(\d{1,9})\s*/\s*(\S+)\s*")


class RateText(_ParamType):
    """`10/60s`, `1/m`; the value is the API's."""

    name = "COUNT/DURATION"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        try:
            return rate(str(value))
        except ValueError as exc:
            self.fail(str(exc), param, ctx)


class KeyText(_ParamType):
    """`db-main`, `licences=5`; the value is the API's."""

    name = "NAME[=N]"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        name, sign, number = str(value).partition("=")
        if not sign:
            return name
        if not (number.isascii() and number.isdigit()):
            self.fail(f"{value!r} is not NAME or NAME=N, N how many at once", param, ctx)
        return {"name": name, "concurrency": int(number)}


def rate(text: str) -> dict[str, int]:
    """`10/60s` as the API has it.

    Raises:
      ValueError: it is none.
    """
    found = _RATE.fullmatch(text)
    if found is None:
        raise ValueError(f"{text!r} is not COUNT/DURATION, such as 10/60s or 1/m")
    count, per = found.groups()
    return {"count": int(count), "per_seconds": duration_seconds(per if per[:1].isdigit() else f"1{per}")}


def limit_options(command: F) -> F:
    """What `job create` and `job update` both have."""
    for option in reversed(
        [
            click.option("--concurrency", type=click.IntRange(1), help="Its tasks at once [default: no limit]."),
            click.option(
                "--key",
                "limit_keys",
                type=KeyText(),
                multiple=True,
                help="Not while N others run that name this key [default: 1]; may be repeated.",
            ),
            click.option("--rate", type=RateText(), help="Its starts: 10/60s, 1/m [default: no limit]."),
        ]
    ):
        command = option(command)
    return command


def limit_changes(given: Mapping[str, Any]) -> dict[str, Any]:
    """Members of a job, by path, from the options that were given; None is not given."""
    return {
        "config.limits.concurrency": given["concurrency"],
        "config.limits.keys": list(given["limit_keys"]) or None,
        "config.limits.rate": given["rate"],
    }


def read_limits(value: Any) -> dict[str, Any]:
    """`limits` of a file as the API has it; a rate also as `10/60s`.

    Raises:
      ValueError: what is wrong, and what is allowed.
    """
    if not isinstance(value, dict):
        raise ValueError(f"must be an object, got {value!r}")
    found = dict(value)
    if isinstance(found.get("rate"), str):
        found["rate"] = rate(found["rate"])
    for path, message in limits.problems(found, ""):
        hint = nearest_hint(path[1:], limits.MEMBERS) if path[1:] not in limits.MEMBERS else None
        raise ValueError(f"{path[1:]}: {message}{f'; {hint}' if hint else ''}")
    return found


def shown(config: Mapping[str, Any]) -> str | None:
    """All limits of a job in one line; None: there is none."""
    parts = []
    own = config.get("limits") or {}
    if own.get("concurrency") is not None:
        parts.append(f"{own['concurrency']} at once")
    for name, most in limits.keys_of(own.get("keys") or ()):
        parts.append(f"{most} at once of all with key {name}")
    if own.get("rate") is not None:
        parts.append(f"{own['rate']['count']} starts in {own['rate']['per_seconds']} s")
    parts += [f"{name} {value}" for name, value in (config.get("resource_limits") or {}).items()]
    return "; ".join(parts) or None
