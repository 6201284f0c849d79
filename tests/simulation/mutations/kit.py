"""What a deliberate bug is made of."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from typing import Any
from unittest import mock

from attrs import frozen

from tests.simulation.calm import Script

Patch = Callable[[], AbstractContextManager[object]]


@frozen(slots=True)
class Mutation:
    """`breaks`: the bug in words. `seeds`: tried in turn until the judge of `expected` speaks. `script`: a short run of
    its own (`calm.py`) instead of a whole one."""

    name: str
    breaks: str
    expected: str
    patch: Patch
    seeds: Sequence[int] = tuple(range(1, 9))
    quick: bool = False
    script: Script | None = None


@contextmanager
def replaced(target: Any, name: str, make: Callable[[Any], Any]) -> Iterator[None]:
    """While it is open, `target.name` is what `make` makes of it."""
    with mock.patch.object(target, name, make(getattr(target, name))):
        yield


@contextmanager
def together(*patches: AbstractContextManager[object]) -> Iterator[None]:
    with ExitStack() as stack:
        for patch in patches:
            stack.enter_context(patch)
        yield


@contextmanager
def replaced_in_table(table: Any, key: Any, make: Callable[[Any], Any]) -> Iterator[None]:
    """While it is open, the entry is what `make` makes of it."""
    with in_table(table, key, make(table[key])):
        yield


@contextmanager
def in_table(table: Any, key: Any, value: Any) -> Iterator[None]:
    """While it is open, the decider's or fold's table has this entry."""
    with mock.patch.dict(table, {key: value}):
        yield
