"""Declared parameters on the command line and in files: `--declare`, `-p NAME=VALUE` by its type, `params:`."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import click

from hetuflow.cli.client import Client
from hetuflow.domain.enums import ParameterType
from hetuflow.domain.parameters import faults, unfit_for_schedule

TYPES = ", ".join(ParameterType)


def read_params(value: Any) -> dict[str, Any]:
    """`params` of a file as the API has it.

    Raises:
      ValueError: what is wrong, and what is allowed.
    """
    if not isinstance(value, dict):
        raise ValueError(f"must be an object of declared parameters, got {value!r}")
    for fault in faults(value):
        raise ValueError(f"{fault.path}: {fault.message}".lstrip(": "))
    return value


def declared(options: Sequence[str]) -> dict[str, Any]:
    """`--declare` options as members of a job, by path.

    `day:date` must be given; `n:integer=3` has a default; `note:string?` may stay away.
    """
    changes: dict[str, Any] = {}
    for text in options:
        name, sign, rest = text.partition(":")
        kind, has_default, default = rest.partition("=")
        is_optional = kind.endswith("?")
        kind = kind.removesuffix("?").strip().lower()
        if not sign or not name or kind not in set(ParameterType):
            raise click.BadParameter(
                f"{text!r} is not NAME:TYPE, NAME:TYPE=DEFAULT or NAME:TYPE?; types: {TYPES}", param_hint="--declare"
            )
        declaration: dict[str, Any] = {"type": kind}
        if has_default:
            declaration["default"] = as_type(kind, default, f"--declare {name}")
        elif not is_optional:
            declaration["required"] = True
        changes[f"config.params.{name}"] = declaration
    return changes


def by_type(body: dict[str, Any], config: Mapping[str, Any]) -> dict[str, Any]:
    """The body with its parameters, given as text, in the types that the job's config declares."""
    given = body.get("parameters")
    if given and (params := config.get("params")):
        for name, value in given.items():
            if isinstance(value, str) and name in params:
                given[name] = as_type(params[name]["type"], value, f"--param {name}")
    return body


def as_type(kind: str, text: str, hint: str) -> Any:
    """The text as a value of that type; the server says the rest.

    Raises:
      click.BadParameter: it is none.
    """
    try:
        if kind == ParameterType.INTEGER:
            return int(text)
        if kind == ParameterType.NUMBER:
            return float(text) if not text.lstrip("-").isdigit() else int(text)
        if kind == ParameterType.BOOLEAN:
            return {"true": True, "false": False}[text.lower()]
        if kind in (ParameterType.ARRAY, ParameterType.OBJECT):
            return json.loads(text)
    except (ValueError, KeyError):
        wanted = {"boolean": "true or false", "array": "a JSON array", "object": "a JSON object"}
        raise click.BadParameter(
            f"{text!r} is not {wanted.get(kind, f'a value of type {kind}')}", param_hint=hint
        ) from None
    return text


def schedules_that_do_not_fit(client: Client, job_id: str) -> list[str]:
    """A line for each schedule whose tasks will fail, since its parameters are not what its job now declares."""
    params = client.get(f"/jobs/item/{job_id}")["config"].get("params")
    if params is None:
        return []
    lines = []
    for row in client.rows("schedules", where={"job_id": {"$eq": job_id}}, limit=1000):
        for unfit in unfit_for_schedule(params, row["parameters"] or {}, row["schedule_kind"])[:1]:
            name = row["name"] or row["id"]
            lines.append(f"tasks of schedule {name} will fail: parameters.{unfit.path} {unfit.message}")
    return lines


def shown(params: Mapping[str, Any] | None) -> list[str]:
    """A line for each declared parameter."""
    lines = []
    for name, declaration in (params or {}).items():
        if "default" in declaration and declaration["default"] is not None:
            rule = f" = {json.dumps(declaration['default'], ensure_ascii=False)}"
        else:
            rule = ", required" if declaration.get("required") else ", optional"
        if declaration.get("choices"):
            rule += f", one of {', '.join(map(str, declaration['choices']))}"
        if declaration.get("pattern"):
            rule += f", matching {declaration['pattern']}"
        low, high = declaration.get("minimum"), declaration.get("maximum")
        if low is not None or high is not None:
            rule += f", {'' if low is None else low} … {'' if high is None else high}".rstrip()
        about = declaration.get("description")
        lines.append(f"{name}: {declaration['type']}{rule}" + (f" ({about})" if about else ""))
    return lines
