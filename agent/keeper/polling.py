"""The kernel's list of descriptors that are looked for: epoll as it is, where there is one.

`selectors` does the same with 60 calls more of Python for each program that is started (three descriptors, in and out again).
"""

from __future__ import annotations

import math
import select
import selectors
from collections.abc import Sequence
from typing import Final, Protocol

READ: Final = 0x001
WRITE: Final = 0x004
"""As epoll's EPOLLIN and EPOLLOUT. What else it says of a descriptor is an error or an end."""


class Poller(Protocol):
    """Each method raises `OSError`."""

    def register(self, fd: int, events: int) -> None: ...
    def modify(self, fd: int, events: int) -> None: ...
    def unregister(self, fd: int) -> None: ...
    def close(self) -> None: ...

    def poll(self, seconds: float | None) -> Sequence[tuple[int, int]]:
        """(descriptor, events) of those that are ready; after `seconds`, None = any time, nothing."""
        ...


def new_poller() -> Poller:
    return EpollPoller() if hasattr(select, "epoll") else AnyPoller()


class EpollPoller:
    def __init__(self) -> None:
        self._epoll = select.epoll()
        self.register, self.modify = self._epoll.register, self._epoll.modify
        self.unregister, self.close = self._epoll.unregister, self._epoll.close

    def poll(self, seconds: float | None) -> Sequence[tuple[int, int]]:
        return self._epoll.poll(None if seconds is None else math.ceil(seconds * 1e3) * 1e-3)  # it would round down


class AnyPoller:
    """Of another system."""

    def __init__(self) -> None:
        self._selector = selectors.DefaultSelector()
        self.close = self._selector.close

    def register(self, fd: int, events: int) -> None:
        self._selector.register(fd, _of_selectors(events))

    def modify(self, fd: int, events: int) -> None:
        self._selector.modify(fd, _of_selectors(events))

    def unregister(self, fd: int) -> None:
        self._selector.unregister(fd)

    def poll(self, seconds: float | None) -> Sequence[tuple[int, int]]:
        return [
            (key.fd, (READ if events & selectors.EVENT_READ else 0) | (WRITE if events & selectors.EVENT_WRITE else 0))
            for key, events in self._selector.select(seconds)
        ]


def _of_selectors(events: int) -> int:
    return (selectors.EVENT_READ if events & READ else 0) | (selectors.EVENT_WRITE if events & WRITE else 0)
