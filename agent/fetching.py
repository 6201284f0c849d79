"""Files of the server, fetched over the agent's connection, piece by piece.

A fetch asks for a few pieces ahead; all fetches together for `UNDER_WAY_MAX`, and each for one at least. What was asked on a
connection that is gone is asked again on the next one. A file that is still on its way to the server is waited for, within
bounds; the digest of the whole is checked.
"""

from __future__ import annotations

import hashlib
from collections import deque
from collections.abc import Callable
from typing import Final

import trio
from attrs import define, field

from agent.wakeup import Wakeup
from hetuflow.protocol.messages import FetchPart, FilePart

PART_BYTES: Final = 128 * 1024
UNDER_WAY_MAX: Final = 8
AHEAD_MAX: Final = 4
COMING_SECONDS_MAX: Final = 600.0
"""How long a file that is on its way is waited for without a byte of it arriving."""
COMING_PAUSE_SECONDS: Final = (0.1, 0.25, 0.5, 1.0, 2.0)
"""Between two looks; the last one from then on."""

Write = Callable[[bytes], None]


class FetchError(Exception):
    """The file cannot be had; the message says why."""


@define(slots=True, eq=False)
class _Asked:
    wanted: FetchPart
    answered: trio.Event = field(factory=trio.Event)
    part: FilePart | None = None


class Fetching:
    """Outlives connections. `ready` is set when there is something to ask."""

    def __init__(self, ready: Wakeup) -> None:
        self._ready = ready
        self._token = 0
        self._asked: dict[int, _Asked] = {}
        self._to_ask: deque[FetchPart] = deque()

    # --- what the connection does ------------------------------------------------------------------------------------

    def take(self) -> list[FetchPart]:
        """What is to be asked now; each once per connection."""
        taken = [wanted for wanted in self._to_ask if wanted.token in self._asked]
        self._to_ask.clear()
        return taken

    def restart(self) -> None:
        """A new connection: what was not answered is asked again."""
        self._to_ask = deque(asked.wanted for asked in self._asked.values())
        if self._to_ask:
            self._ready.set()

    def answered(self, part: FilePart) -> None:
        asked = self._asked.pop(part.token, None)
        if asked is not None:
            asked.part = part
            asked.answered.set()

    # --- what preparations do ----------------------------------------------------------------------------------------

    async def fetch(self, instance_id: str, url: str, write: Write, *, bytes_max: int) -> int:
        """Hand the file to `write`, from its beginning to its end; its size in bytes.

        Raises `FetchError`, and what `write` raises.
        """
        fetch = _Fetch(self, instance_id, url, write, bytes_max)
        try:
            return await fetch.run()
        finally:
            fetch.forget_ahead()

    def ask(self, instance_id: str, url: str, offset: int) -> _Asked:
        self._token += 1
        wanted = FetchPart(token=self._token, instance_id=instance_id, url=url, offset=offset, length=PART_BYTES)
        asked = self._asked[self._token] = _Asked(wanted)
        self._to_ask.append(wanted)
        self._ready.set()
        return asked

    def forget(self, asked: _Asked) -> None:
        """Nobody waits for the answer any more."""
        self._asked.pop(asked.wanted.token, None)

    @property
    def may_ask_ahead(self) -> bool:
        return len(self._asked) < UNDER_WAY_MAX


class _Fetch:
    """One file. The first answer says how long it is, and its digest."""

    def __init__(self, fetching: Fetching, instance_id: str, url: str, write: Write, bytes_max: int) -> None:
        self._fetching, self._instance_id, self._url = fetching, instance_id, url
        self._write, self._bytes_max = write, bytes_max
        self._digest = hashlib.sha256()
        self._whole: tuple[int, str] | None = None
        self._at = 0
        self._ahead: deque[_Asked] = deque()
        self._waiting_since = trio.current_time()
        self._looks = 0

    async def run(self) -> int:
        while self._whole is None or self._at < self._whole[0]:
            part = await self._next()
            if part.problem:
                await self._wait_or_fail(part)
            else:
                self._take(part)
        total, sha256 = self._whole
        if self._digest.hexdigest() != sha256:
            raise FetchError(f"{self._url} arrived damaged: its digest is not the one the server told")
        return total

    def forget_ahead(self) -> None:
        for asked in self._ahead:
            self._fetching.forget(asked)
        self._ahead.clear()

    async def _next(self) -> FilePart:
        if not self._ahead:
            self._ask(self._at)
        while (
            self._whole is not None
            and not self._looks
            and len(self._ahead) < AHEAD_MAX
            and self._fetching.may_ask_ahead
            and (following := self._ahead[-1].wanted.offset + PART_BYTES) < self._whole[0]
        ):
            self._ask(following)
        asked = self._ahead[0]
        await asked.answered.wait()
        self._ahead.popleft()
        assert asked.part is not None
        return asked.part

    def _ask(self, offset: int) -> None:
        self._ahead.append(self._fetching.ask(self._instance_id, self._url, offset))

    def _take(self, part: FilePart) -> None:
        whole = (part.bytes_total, part.sha256)
        if self._whole is None:
            self._whole = whole
            if part.bytes_total > self._bytes_max:
                raise FetchError(f"{self._url} has {part.bytes_total} bytes, at most {self._bytes_max} are taken")
        if whole != self._whole or (not part.data and self._at < part.bytes_total):
            raise FetchError(f"{self._url} has changed while it was fetched")
        self._digest.update(part.data)
        self._write(part.data)
        self._at += len(part.data)
        self._waiting_since, self._looks = trio.current_time(), 0
        if self._ahead and self._ahead[0].wanted.offset != self._at:
            self.forget_ahead()  # less came than was asked for: the file is still arriving at the server

    async def _wait_or_fail(self, part: FilePart) -> None:
        self.forget_ahead()
        waited = trio.current_time() - self._waiting_since
        if not part.is_coming:
            raise FetchError(part.problem)
        if waited >= COMING_SECONDS_MAX:
            raise FetchError(f"{part.problem}, and nothing more came within {COMING_SECONDS_MAX:g} s")
        await trio.sleep(COMING_PAUSE_SECONDS[min(self._looks, len(COMING_PAUSE_SECONDS) - 1)])
        self._looks += 1
