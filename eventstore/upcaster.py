"""Old event shape -> new, as data: interpreted here on read, compiled into SQL folds by projections.

A step works on a path of members from the root of the event's data ("config.timeout"). A member that is absent makes
a step do nothing, so that an upcaster is total: no stored event can make it fail. A changed *meaning* is not a step:
it is a new event type.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

from attrs import field, frozen

from eventstore.errors import EventStoreError


def _path(text: str) -> tuple[str, ...]:
    parts = tuple(text.split("."))
    if not all(parts):
        raise EventStoreError(f"path {text!r} of an upcaster has an empty member")
    return parts


@frozen(slots=True)
class Move:
    """The member at `source` stands at `target` since the next schema; what stood at `target` is replaced."""

    source: tuple[str, ...] = field(converter=_path)
    target: tuple[str, ...] = field(converter=_path)


@frozen(slots=True)
class Rename:
    """The member at `source` is called `name` since the next schema, in the same object."""

    source: tuple[str, ...] = field(converter=_path)
    name: str


@frozen(slots=True)
class Default:
    """The member at `target` exists since the next schema; an older event has `value` (a JSON value)."""

    target: tuple[str, ...] = field(converter=_path)
    value: Any


@frozen(slots=True)
class Drop:
    """The member at `target` is gone since the next schema."""

    target: tuple[str, ...] = field(converter=_path)


Step = Move | Rename | Default | Drop
Upcaster = Sequence[Step]
"""The steps from one schema to the next, in order."""

_ABSENT = object()


def upcast(data: dict[str, Any], upcasters: Sequence[Upcaster], schema: int) -> dict[str, Any]:
    """Lift `data` of `schema` to the newest one; `upcasters[n - 1]` leads from n to n + 1. Changes `data` in place."""
    for steps in upcasters[schema - 1 :]:
        for step in steps:
            _apply(data, step)
    return data


def _apply(data: dict[str, Any], step: Step) -> None:
    match step:
        case Move(source, target):
            _move(data, source, target)
        case Rename(source, name):
            _move(data, source, (*source[:-1], name))
        case Default(target, value):
            parent = _parent(data, target, create=True)
            if parent is not None:
                parent.setdefault(target[-1], copy.deepcopy(value))
        case Drop(target):
            parent = _parent(data, target, create=False)
            if parent is not None:
                parent.pop(target[-1], None)


def _move(data: dict[str, Any], source: tuple[str, ...], target: tuple[str, ...]) -> None:
    old = _parent(data, source, create=False)
    value = _ABSENT if old is None else old.get(source[-1], _ABSENT)
    if old is None or value is _ABSENT:
        return
    new = _parent(data, target, create=True)
    if new is not None:
        del old[source[-1]]
        new[target[-1]] = value


def _parent(data: dict[str, Any], path: tuple[str, ...], *, create: bool) -> dict[str, Any] | None:
    """The object that holds the last member of `path`; None when it is absent, or when another value is in the way."""
    here: Any = data
    for name in path[:-1]:
        if create:
            here = here.setdefault(name, {})
        else:
            here = here.get(name)
        if not isinstance(here, dict):
            return None
    return here  # type: ignore[no-any-return]
