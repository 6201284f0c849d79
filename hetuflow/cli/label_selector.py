"""Which agents an expression about labels means: `env=staging`, `zone=eu-*`, `env!=production`, `gpu`, `!gpu`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import click
from attrs import frozen

from hetuflow.domain.placement_labels import FOUND_BY_ITSELF, placement_labels
from hetuflow.glob import Glob

ALLOWED = "NAME=VALUE, NAME!=VALUE (values with * and ?), NAME, or !NAME; several separated by commas must all hold"


@frozen
class Condition:
    """Of one label. `value` None: it is only asked whether the label is there."""

    name: str
    value: Glob | None
    is_negated: bool

    def holds(self, labels: Mapping[str, str]) -> bool:
        given = labels.get(self.name)
        fits = given is not None and (self.value is None or self.value.matches(given))
        return fits is not self.is_negated


def conditions(expressions: Sequence[str]) -> list[Condition]:
    """Raises `click.BadParameter` for what is no expression."""
    found = []
    for text in (part.strip() for expression in expressions for part in expression.split(",")):
        name, sign, value = text.partition("=")
        is_negated = name.endswith("!") if sign else name.startswith("!")
        name = (name.removesuffix("!") if sign else name.removeprefix("!")).strip()
        if not name or "!" in name or "*" in name or "?" in name:
            raise click.BadParameter(f"{text!r} is none; use {ALLOWED}", param_hint="--label")
        found.append(Condition(name, Glob(value.strip()) if sign else None, is_negated))
    return found


def counted_labels(row: Mapping[str, Any]) -> Mapping[str, str]:
    """The labels of an agent, as the API shows it, that placement goes by."""
    return placement_labels(
        row["capabilities"]["labels"], row.get("reported_labels") or {}, row.get("protected_labels") or ()
    )


def without_found(labels: Mapping[str, str]) -> dict[str, str]:
    """The labels without those that agents find out themselves."""
    return {name: value for name, value in labels.items() if not name.startswith(FOUND_BY_ITSELF)}


def own_labels(row: Mapping[str, Any]) -> dict[str, str]:
    """Those that count, without those that agents find out themselves."""
    return without_found(counted_labels(row))


def selected(rows: Sequence[Mapping[str, Any]], expressions: Sequence[str]) -> list[Mapping[str, Any]]:
    """The agents for which all of them hold."""
    wanted = conditions(expressions)
    return [row for row in rows if all(each.holds(counted_labels(row)) for each in wanted)]
