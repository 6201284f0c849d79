"""`--set MEMBER=VALUE` and `--clear MEMBER`: every member of every entity can be written, whether or not it has an option."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from copy import deepcopy
from typing import Any, TypeVar

import click

F = TypeVar("F", bound=Callable[..., Any])


def edit_options(command: F) -> F:
    command = click.option(
        "--clear", multiple=True, metavar="MEMBER", help="Empty a member (set it to null); may be repeated."
    )(command)
    return click.option(
        "--set",
        "set_",
        multiple=True,
        metavar="MEMBER=VALUE",
        help="Any member by its API name, dots reach inside: config.timeout=60. VALUE is JSON, else text.",
    )(command)


def assignments(values: Sequence[str]) -> list[tuple[list[str], Any]]:
    """`config.timeout=60` as (["config", "timeout"], 60)."""
    found = []
    for text in values:
        name, sign, value = text.partition("=")
        path = name.split(".")
        if not sign or not all(path):
            raise click.BadParameter(f"{text!r} is not MEMBER=VALUE", param_hint="--set")
        found.append((path, _value(value)))
    return found


def _value(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text


def assign(body: dict[str, Any], path: Sequence[str], value: Any, stored: Mapping[str, Any] | None = None) -> None:
    """Write a value at the path. A member that is replaced as a whole starts from what is stored."""
    if len(path) > 1 and path[0] not in body:
        body[path[0]] = deepcopy((stored or {}).get(path[0])) or {}
    target = body
    for name in path[:-1]:
        inner = target.get(name)
        if not isinstance(inner, dict):
            inner = target[name] = {}
        target = inner
    target[path[-1]] = value


def update_body(
    stored: Mapping[str, Any],
    changes: Mapping[str, Any],
    set_: Sequence[str] = (),
    clear: Sequence[str] = (),
) -> dict[str, Any]:
    """The body of an update: what options gave, then `--set`, then `--clear` by `update_mask`.

    Args:
      changes: member, or path with dots, to value; None is not given.
    Raises:
      click.UsageError: nothing is to be changed.
    """
    body: dict[str, Any] = {}
    for name, value in changes.items():
        if value is not None:
            assign(body, name.split("."), value, stored)
    for path, value in assignments(set_):
        assign(body, path, value, stored)
    cleared = []
    for name in clear:
        if "." in name:
            assign(body, name.split("."), None, stored)
        else:
            cleared.append(name)
    if not body and not cleared:
        raise click.UsageError("nothing to change; give an option, --set MEMBER=VALUE or --clear MEMBER")
    if cleared or any(value is None for value in body.values()):
        body["update_mask"] = sorted({*body, *cleared})
        body.update(dict.fromkeys(cleared))
    return body
