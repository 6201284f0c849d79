"""What a judge finds: violations by invariant, and the situations that the run reached."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from attrs import define, field, frozen

from hetuflow.actors import Reading
from hetuflow.domain.decider import Address
from projections.fold import Tables
from tests.simulation.checkers import folds
from tests.simulation.checkers.evidence import Log

VIOLATIONS_MAX = 20
"""Of one invariant: one that is broken everywhere leaves room for the others."""


@frozen(slots=True)
class Violation:
    """One broken promise. `streams` are those whose events tell more."""

    promise: str
    what: str
    streams: tuple[str, ...] = ()

    def __str__(self) -> str:
        return f"{self.promise}: {self.what}"


@define(slots=True)
class Verdict:
    violations: list[Violation] = field(factory=list)
    seen: dict[str, int] = field(factory=dict)
    """Situations that the run reached: a check that never met its case proves nothing."""

    def fail(self, promise: str, what: str, detail: object = "", *, streams: Iterable[str] = ()) -> None:
        if sum(each.promise == promise for each in self.violations) < VIOLATIONS_MAX:
            self.violations.append(Violation(promise, f"{what} {detail}".rstrip(), tuple(streams)))

    def note(self, what: str, count: int = 1) -> None:
        """The run reached this. A count of 0 makes it known, so that a table can show that it was never reached."""
        self.seen[what] = self.seen.get(what, 0) + count

    @property
    def promises(self) -> set[str]:
        return {violation.promise for violation in self.violations}

    def check_states(self, log: Log, readings: dict[Address, Reading[Any]]) -> None:
        """L3: the state of every actor is the fold of its stream."""
        folds.check_states(log, readings, self)

    def check_rows(self, readings: dict[Address, Reading[Any]], tables: Tables) -> None:
        """L3: the tables show what the actors say of themselves."""
        folds.check_rows(readings, tables, self)
