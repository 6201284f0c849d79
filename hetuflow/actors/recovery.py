"""What could not be finished in its turn, finished later: level-triggered, slow, until nothing is left.

Two lists: actors whose last append has an unknown outcome or that another server changed (to be folded again, so that
their intents are performed), and effects that raised (to be repeated; `intentions` keeps them).
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Collection, Sequence

import trio

from hetuflow.actors.intentions import Intentions
from hetuflow.actors.limits import Limits
from hetuflow.domain.decider import Address

log = logging.getLogger(__name__)

Refold = Callable[[Sequence[Address]], Awaitable[Sequence[Address]]]
"""Fold these actors and perform their intents; returns those that could not be folded now."""


class Recovery:
    def __init__(self, intentions: Intentions, limits: Limits) -> None:
        self._intentions, self._limits = intentions, limits
        self._unsettled: dict[Address, None] = {}
        self._under_way: frozenset[Address] = frozenset()
        self._doubted: set[Address] = set()
        self._doubts_over = trio.Event()
        self._wake = trio.Event()

    def __len__(self) -> int:
        """Actors that are still to be folded again, and effects to be repeated."""
        return len(self._unsettled) + self._intentions.doubts

    def look_again(self, address: Address) -> None:
        """Fold this actor again soon; one that is being folded, when that is done, or after a pause if it fails."""
        self._unsettled[address] = None
        if address not in self._under_way:
            self._wake.set()

    def doubt(self, address: Address) -> None:
        """An append of this actor has an unknown outcome: what it may have committed has no effects here yet."""
        self._doubted.add(address)
        self.look_again(address)

    @property
    def has_doubts(self) -> bool:
        """Whether an append has an unknown outcome that nobody has looked up yet."""
        return bool(self._doubted)

    async def until_known(self) -> None:
        """Until there are no such appends."""
        while self._doubted:
            await self._doubts_over.wait()

    async def until_settled(self) -> None:
        """Until all that is now known to be behind the log was looked up there."""
        self._doubted.update(self._unsettled, self._under_way)
        await self.until_known()

    def wake(self) -> None:
        """An effect is in doubt."""
        self._wake.set()

    async def run(self, refold: Refold) -> None:
        """Until cancelled. `refold` may raise errors of the store: they are waited out."""
        while True:
            await self._wake.wait()
            pause_seconds = self._limits.retry_seconds
            repeat_deadline = trio.current_time() + pause_seconds
            await self._fold_again(refold)
            while len(self):
                with trio.move_on_at(repeat_deadline):
                    await self._wake.wait()  # something new to fold does not wait for what failed
                if trio.current_time() >= repeat_deadline:
                    self._intentions.repeat()
                    pause_seconds = min(2 * pause_seconds, self._limits.retry_seconds_max)
                    repeat_deadline = trio.current_time() + pause_seconds
                await self._fold_again(refold)

    async def _fold_again(self, refold: Refold) -> None:
        self._wake = trio.Event()
        addresses, self._unsettled = list(self._unsettled), {}
        if not addresses:
            return
        self._under_way = frozenset(addresses)
        try:
            failed = set(await refold(addresses))
        except Exception as exc:
            log.warning("%d actors cannot be folded now: %s", len(addresses), exc)
            failed = set(addresses)
        else:
            self._looked_up(addresses, failed)
        if any(address in self._unsettled for address in self._under_way - failed):
            self._wake.set()  # it has changed while it was folded; one that failed says the same of itself, and waits
        self._under_way = frozenset()
        for address in addresses:
            if address in failed:
                self._unsettled.setdefault(address)

    def _looked_up(self, addresses: Sequence[Address], failed: Collection[Address]) -> None:
        """Also those that cannot be folded: their effects come late or never, and nobody should wait for them."""
        self._doubted.difference_update(address for address in addresses if address not in self._unsettled)
        self._doubted.difference_update(failed)
        if not self._doubted:
            self._doubts_over.set()
            self._doubts_over = trio.Event()
