"""How many descriptors the keeper may have: three for each program that runs, where a service or a shell gets 1024 in all.

Its programs find the limit that was: some of them use every number below it (select, loops that close all).
"""

from __future__ import annotations

import contextlib
import os
import resource
from collections.abc import Iterator
from typing import Final

Bounds = tuple[int, int]
"""Soft and hard limit."""
Streams = tuple[int, int, int]

DESCRIPTORS_MAX: Final = 512 * 1024
"""Enough for 100 000 slots; what systemd gives as a hard limit."""


def raise_limit() -> Bounds:
    """As far as this process may; what it was before."""
    soft, hard = before = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = DESCRIPTORS_MAX if hard == resource.RLIM_INFINITY else min(hard, DESCRIPTORS_MAX)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        with contextlib.suppress(OSError, ValueError):  # macOS takes less than its own hard limit
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
    return before


def set_limit(bounds: Bounds) -> None:
    resource.setrlimit(resource.RLIMIT_NOFILE, bounds)


class HandedDown:
    """What a program gets of descriptors: the limit that was, within the block, which opens nothing itself (what is open
    stays, whatever its number); and three low numbers, because posix_spawn hands down none that is beyond the limit.

    The block is no generator: it is entered between two starts, where everything is slow (see `spawning`).
    """

    def __init__(self, null: int, bounds: Bounds) -> None:
        """`bounds`: inside. The limit of now is that outside."""
        self._inside, self._outside = bounds, resource.getrlimit(resource.RLIMIT_NOFILE)
        self._differs = self._inside != self._outside
        self._null = null
        self._reserved = (os.dup(null), os.dup(null), os.dup(null))

    def __enter__(self) -> None:
        if self._differs:
            set_limit(self._inside)

    def __exit__(self, *_: object) -> None:
        if self._differs:
            set_limit(self._outside)

    def takes(self, streams: Streams) -> bool:
        """Whether these can be handed down as they are."""
        return self._inside[0] == resource.RLIM_INFINITY or max(streams) < self._inside[0]

    @contextlib.contextmanager
    def numbered(self, streams: Streams) -> Iterator[Streams]:
        """The same streams, under numbers that can be handed down."""
        for stream, number in zip(streams, self._reserved, strict=True):
            os.dup2(stream, number, inheritable=False)
        try:
            yield self._reserved
        finally:
            for number in self._reserved:
                os.dup2(self._null, number, inheritable=False)

    def close(self) -> None:
        for number in self._reserved:
            os.close(number)
