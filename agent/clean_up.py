"""Old work directories go: by age, and before their time when the disk runs full. What is in use never goes.

Of what may go the oldest goes first, one after the other, until enough is free. While too little is free although all of
that is gone, nothing new is taken in (`refusal`): a full disk stops the work that runs too.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Awaitable, Callable
from typing import Final

import structlog
import trio
from attrs import frozen

from agent.instance_tree import TreeError
from agent.wakeup import Wakeup
from hetuflow.ports.disk import Disk, DiskError

log = structlog.get_logger()

LOOK_SECONDS: Final = 15.0
"""Between two looks at the free space; a dispatch looks too."""
GOOD_SECONDS: Final = 1.0
"""For so long a dispatch believes that enough is free: thousands would else ask the system twice each."""
PERCENT: Final = "%"
_UNITS: Final = {"": 1, "K": 1000, "M": 1000**2, "G": 1000**3, "T": 1000**4}
_BINARY: Final = {"Ki": 1024, "Mi": 1024**2, "Gi": 1024**3, "Ti": 1024**4}

Remove = Callable[[str], Awaitable[None]]
"""Remove a file or a directory; raises `TreeError` or `DiskError`."""


@frozen(slots=True)
class FreeSpace:
    """What must stay free: so many bytes, or a share of the disk."""

    text: str
    size: int = 0
    share: float = 0.0

    @classmethod
    def parse(cls, text: str) -> FreeSpace:
        """Raises `ValueError`."""
        compact = text.replace(" ", "")
        if compact.endswith(PERCENT):
            share = float(compact[:-1]) / 100
            if not 0 <= share < 1:
                raise ValueError(text)
            return cls(text, share=share)
        number = compact.removesuffix("B")
        units = sorted((*_UNITS.items(), *_BINARY.items()), key=lambda each: -len(each[0]))
        unit, factor = next((unit, factor) for unit, factor in units if number.endswith(unit))
        size = float(number.removesuffix(unit)) * factor
        if not 0 <= size < 2**62:
            raise ValueError(text)
        return cls(text, size=int(size))

    @property
    def is_any(self) -> bool:
        return self.size > 0 or self.share > 0

    def of(self, total: int) -> int:
        """Bytes, of a disk of this size."""
        return max(self.size, int(self.share * total))


NOTHING: Final = FreeSpace("0")


class CleanUp:
    """`run` once. `in_use`: names in the work directory, and paths, that must stay."""

    def __init__(
        self,
        disk: Disk,
        work_dir: str,
        remove: Remove,
        in_use: Callable[[], frozenset[str]],
        *,
        older_than_seconds: float,
        free_min: FreeSpace = NOTHING,
        is_enabled: bool = True,
    ) -> None:
        self._disk, self._work_dir, self._remove, self._in_use = disk, work_dir, remove, in_use
        self._older_than_seconds, self._free_min, self._is_enabled = older_than_seconds, free_min, is_enabled
        self.also: Callable[[], Awaitable[None]] = _nothing
        """Done whenever what is old is removed."""
        self._discarded: deque[str] = deque()
        self._clear_older_than: float | None = None
        self._good_until = float("-inf")
        self._wanted = Wakeup()

    # --- what others want --------------------------------------------------------------------------------------------

    def discard(self, path: str) -> None:
        """Nobody needs this any more: remove it soon."""
        self._discarded.append(path)
        self._wanted.set()

    def clear(self, older_than_seconds: float) -> None:
        """Remove now what is older than this."""
        self._clear_older_than = older_than_seconds
        self._wanted.set()

    def refusal(self) -> str | None:
        """Why nothing new should be taken in, if so: the disk is too full."""
        now = trio.current_time()
        if now < self._good_until:
            return None
        if (problem := self.problem()) is None:
            self._good_until = now + GOOD_SECONDS
            return None
        self._wanted.set()
        return problem

    def problem(self) -> str | None:
        """The same, for people: it makes nobody look for what may go."""
        return None if (missing := self._missing()) is None else f"disk: {missing}"

    # --- what is done ------------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Until cancelled."""
        due = trio.current_time()
        while True:
            while self._discarded:
                await self._removed(self._discarded.popleft())
            now = trio.current_time()
            if self._clear_older_than is not None:
                older_than, self._clear_older_than = self._clear_older_than, None
                await self._by_age(older_than)
            elif self._is_enabled and now >= due:
                await self._by_age(self._older_than_seconds)
                await self.also()
                due = now + self._older_than_seconds
            if self._is_enabled and self._missing() is not None:
                await self._by_pressure()
            next_look = trio.current_time() + LOOK_SECONDS if self._free_min.is_any else float("inf")
            await self._wanted.wait(until=min(next_look, due if self._is_enabled else float("inf")))

    async def _by_age(self, older_than_seconds: float) -> None:
        removed = 0
        for path, age_seconds in self._candidates():
            if age_seconds >= older_than_seconds and self._may_go(path):
                removed += await self._removed(path)
        if removed:
            log.info("old work directories removed", count=removed)

    async def _by_pressure(self) -> None:
        """The oldest first, until enough is free."""
        removed = 0
        for path, _ in self._candidates():
            if self._missing() is None:
                break
            if self._may_go(path):
                removed += await self._removed(path)
        if removed:
            log.warning("work directories removed before their time: the disk runs full", count=removed)
        if (missing := self._missing()) is not None:
            log.error("the disk is too full: nothing new is taken in", problem=missing)

    def _candidates(self) -> list[tuple[str, float]]:
        """(path, seconds since its last change), the oldest first."""
        try:
            names = self._disk.list(self._work_dir)
        except DiskError as exc:
            log.warning("the work directory cannot be read", error=str(exc))
            return []
        found = []
        for name in names:
            path = f"{self._work_dir}/{name}"
            try:
                found.append((path, self._disk.age_seconds(path)))
            except (DiskError, OSError):  # it has gone meanwhile
                continue
        return sorted(found, key=lambda each: (-each[1], each[0]))

    def _may_go(self, path: str) -> bool:
        """Asked again for each: removing takes time, and an order may have come meanwhile."""
        used = self._in_use()
        return path not in used and path.rpartition("/")[2] not in used

    async def _removed(self, path: str) -> bool:
        try:
            await self._remove(path)
        except (TreeError, DiskError, OSError) as exc:
            log.warning("an old work directory cannot be removed", path=path, error=str(exc))
            return False
        return True

    def _missing(self) -> str | None:
        """What is wrong with the free space; None when enough is free, or nobody has asked for any."""
        if not self._free_min.is_any:
            return None
        try:
            free = self._disk.free_bytes(self._work_dir)
            wanted = self._free_min.of(self._disk.total_bytes(self._work_dir))
        except (DiskError, OSError):  # whoever writes there finds out
            return None
        if free >= wanted:
            return None
        return f"{free // 1000**2} MB are free at {self._work_dir}, executor.disk_free_min is {self._free_min.text}"


async def _nothing() -> None: ...


def plain_remove(disk: Disk) -> Remove:
    """By the disk port alone."""

    async def remove(path: str) -> None:
        disk.remove(path)

    return remove
