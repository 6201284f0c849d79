"""Declared parameters on the command line and in files: `--declare`, `-p NAME=VALUE` by its type, `params:`."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import click

from hetuflow.cli.options import pairs
from hetuflow.domain.enums import ParameterType
from hetuflow.domain.parameters import faults

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


def typed(options: Sequence[str], params: Mapping[str, Any] | None) -> dict[str, Any]:
    """`-p` options as values of their declared types; of a job that declares none, as text."""
    given: dict[str, Any] = dict(pairs(options, "--param"))
    for name, text in given.items():
        kind = (params or {}).get(name, {}).get("type", ParameterType.STRING)
        given[name] = as_type(kind, text, f"--param {name}")
    return given


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
        low, high = declaration.get("minimum"), declaration.get("maximum")
        if low is not None or high is not None:
            rule += f", {'' if low is None else low} … {'' if high is None else high}".rstrip()
        about = declaration.get("description")
        lines.append(f"{name}: {declaration['type']}{rule}" + (f" ({about})" if about else ""))
    return lines
