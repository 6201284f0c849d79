"""What an agent is told of one instance: the difference between how it is and what the agent has heard of it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, Protocol

from attrs import frozen

from agent.keeper.log import Key
from agent.keeper.messages import Finished, Grew, Held, KeeperMessage, Launched, Sample


class Kept(Protocol):
    """Output that is there: `agent.spool.Spool`, or what an earlier keeper has left of one."""

    @property
    def is_small(self) -> bool: ...
    @property
    def end(self) -> int: ...
    def read(self, at: int, length: int) -> bytes: ...


@frozen(slots=True)
class NoMore:
    """Output that does not grow: of an instance that ended under an earlier keeper, or of one that has not written yet."""

    small: bytes
    end: int

    @property
    def is_small(self) -> bool:
        return len(self.small) == self.end

    def read(self, at: int, length: int) -> bytes:
        return self.small[at : at + length]


NO_OUTPUT: Final = NoMore(b"", 0)


class Told:
    """What the agent has heard of one instance over this connection, and what is next."""

    __slots__ = ("bytes", "finished", "launched", "sample")

    def __init__(self) -> None:
        self.launched = self.finished = False
        self.bytes = 0
        self.sample: Mapping[str, float] | None = None

    def next_message(
        self, key: Key, launched: Launched | None, spool: Kept, ended: Finished | None
    ) -> KeeperMessage | None:
        """Of how the instance is now, what the agent has not heard."""
        instance_id, epoch = key
        if launched is not None and not self.launched:
            self.launched = True
            return launched
        begin, end = self.bytes, spool.end
        if begin < end:
            data = spool.read(begin, end - begin) if spool.is_small else b""
            self.bytes = end
            return Grew(instance_id=instance_id, epoch=epoch, spool_bytes=end, data=data)
        if ended is not None:
            if self.finished:
                return None
            self.finished = True
            return ended
        if self.sample is not None:
            values, self.sample = self.sample, None
            return Sample(instance_id=instance_id, epoch=epoch, values=values)
        return None

    def held(self, launched: Launched, spool: Kept, ended: Finished | None) -> Held:
        """All of it, at once."""
        self.launched, self.finished, self.bytes = True, ended is not None, spool.end
        small = spool.read(0, self.bytes) if spool.is_small else b""
        return Held(launched=launched, small=small, spool_bytes=self.bytes, finished=ended)
