"""What should be so outside, and what has been done about it: the memory behind `Effects.reconcile`.

Kept apart from the actors' states: it survives crashes, conflicts and passivation, so that what is no longer wanted is
withdrawn exactly. It does not survive the process; then everything that is wanted is performed again.
An effect that raises is not lost: nobody knows how far it came, so it stays in doubt and is repeated.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Protocol

from attrs import frozen

from hetuflow.domain.decider import Address, Intent

log = logging.getLogger(__name__)

NONE: frozenset[Intent] = frozenset()


class Effects(Protocol):
    """The outside world, as the kernel sees it."""

    def reconcile(self, address: Address, added: Sequence[Intent], withdrawn: Sequence[Intent]) -> None:
        """Perform what is newly wanted and undo what is no longer wanted, after the commit that says so.

        Synchronous, never waits, idempotent: it may be repeated, for all intents after a restart.
        """
        ...


@frozen(slots=True)
class Doubt:
    """A reconciliation that raised: what was wanted, and all that may have been performed."""

    version: int
    wanted: frozenset[Intent]
    touched: frozenset[Intent]


class Intentions:
    """The intents performed per actor; actors that want nothing are not in it."""

    def __init__(self, effects: Effects) -> None:
        self._effects = effects
        self._performed: dict[Address, tuple[int, frozenset[Intent]]] = {}
        self._doubts: dict[Address, Doubt] = {}

    def __len__(self) -> int:
        return len(self._performed)

    @property
    def doubts(self) -> int:
        """Actors whose last reconciliation failed."""
        return len(self._doubts)

    def version_of(self, address: Address) -> int | None:
        """The version whose intents are performed; None when nothing is."""
        known = self._performed.get(address)
        return known[0] if known is not None else None

    def want(self, address: Address, version: int, wanted: frozenset[Intent]) -> bool:
        """Make the outside world agree with the state at `version`; False when an effect failed and is in doubt."""
        known = self._performed.get(address)
        if known is None:
            if not wanted and not self._doubts:
                return True
            performed = NONE
        elif version < known[0]:
            return True  # a fold that is older than what is already performed
        else:
            performed = known[1]
        doubt = self._doubts.pop(address, None) if self._doubts else None
        added = wanted - performed
        withdrawn = (performed if doubt is None else performed | doubt.touched) - wanted
        if added or withdrawn:
            try:
                self._effects.reconcile(address, in_order(added), in_order(withdrawn))
            except Exception:
                log.exception("the effects of %s failed; they will be repeated", address.stream_id)
                touched = added | withdrawn if doubt is None else added | withdrawn | doubt.touched
                self._doubts[address] = Doubt(version, wanted, touched)
                self._remember(address, version, performed & wanted)
                return False
        self._remember(address, version, wanted)
        return True

    def repeat(self) -> None:
        """Try every reconciliation in doubt once more."""
        for address, doubt in list(self._doubts.items()):
            self.want(address, doubt.version, doubt.wanted)

    def _remember(self, address: Address, version: int, intents: frozenset[Intent]) -> None:
        if intents:
            self._performed[address] = (version, intents)
        else:
            self._performed.pop(address, None)


def in_order(intents: frozenset[Intent]) -> Sequence[Intent]:
    """A fixed order, independent of hashes: by kind, then by content where a kind occurs twice."""
    if len(intents) < 2:
        return tuple(intents)
    kinds = {type(intent).__name__ for intent in intents}
    if len(kinds) == len(intents):  # usual; the representation of a dispatch order is long
        return sorted(intents, key=lambda intent: type(intent).__name__)
    return sorted(intents, key=lambda intent: (type(intent).__name__, repr(intent)))
