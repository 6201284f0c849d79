"""Faults and eyes inside the memory store."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import trio

from eventstore.errors import StoreTimeout, StoreUnavailable
from eventstore.event import Appended, Claim
from eventstore.memory import NoFaults


def types_of(claims: Sequence[Claim]) -> list[str]:
    return [event.type for claim in claims for event in claim.events]


class Recording(NoFaults):
    """The event types of each append that wrote something."""

    def __init__(self, into: list[list[str]]) -> None:
        self._into = into

    async def after_commit(self, claims: Sequence[Claim], appended: Appended) -> None:
        if types_of(claims):
            self._into.append(types_of(claims))


class Outage(NoFaults):
    """Nothing works until then (monotonic seconds)."""

    def __init__(self, until: float) -> None:
        self.until = until

    async def before_commit(self, claims: Sequence[Claim]) -> None:
        await self.before_read("append")

    async def before_read(self, what: str) -> None:
        if trio.current_time() < self.until:
            raise StoreUnavailable


class Refusing(NoFaults):
    """No append that holds an event of that type is committed until then (monotonic seconds)."""

    def __init__(self, type_: str, until: float) -> None:
        self._type, self._until = type_, until

    async def before_commit(self, claims: Sequence[Claim]) -> None:
        if self._type in types_of(claims) and trio.current_time() < self._until:
            raise StoreUnavailable


class NoHead(NoFaults):
    """So many times the end of the log cannot be read."""

    def __init__(self, count: int) -> None:
        self.left = count

    async def before_read(self, what: str) -> None:
        if what == "head" and self.left:
            self.left -= 1
            raise StoreUnavailable


class LostAnswers(NoFaults):
    """So many appends (with an event of that type) are committed and say that they do not know it."""

    def __init__(self, count: int, type_: str | None = None) -> None:
        self._left, self._type = count, type_

    async def after_commit(self, claims: Sequence[Claim], appended: Appended) -> None:
        types = types_of(claims)
        if self._left and types and self._type in (None, *types):
            self._left -= 1
            raise StoreTimeout


class Slow(NoFaults):
    """Appends that hold an event of that type take so long before their commit; `now` is called when one begins."""

    def __init__(self, type_: str, seconds: float, now: Callable[[], None] = lambda: None) -> None:
        self._type, self._seconds, self._now = type_, seconds, now

    async def before_commit(self, claims: Sequence[Claim]) -> None:
        if self._type in types_of(claims):
            self._now()
            await trio.sleep(self._seconds)


class Forgetful(LostAnswers):
    """The same, and from then on no stream can be read before `can_read` is set: what was committed is known late."""

    def __init__(self, count: int, type_: str) -> None:
        super().__init__(count, type_)
        self._count = count
        self.can_read = trio.Event()

    async def before_read(self, what: str) -> None:
        if self._left < self._count and what in ("read_stream", "read_streams"):
            await self.can_read.wait()
