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


@contextlib.contextmanager
def limited(bounds: Bounds) -> Iterator[None]:
    """For what is spawned in this block, which opens nothing itself. What is open stays, whatever its number."""
    own = resource.getrlimit(resource.RLIMIT_NOFILE)
    if own == bounds:
        yield
        return
    set_limit(bounds)
    try:
        yield
    finally:
        set_limit(own)


class LowNumbers:
    """Three descriptors from the beginning: posix_spawn hands down none whose number is beyond the limit."""

    def __init__(self, null: int) -> None:
        self._null = null
        self._reserved = (os.dup(null), os.dup(null), os.dup(null))

    @contextlib.contextmanager
    def numbered(self, streams: Streams, bounds: Bounds) -> Iterator[Streams]:
        """The same streams, under numbers that can be handed down within these bounds."""
        if bounds[0] == resource.RLIM_INFINITY or max(streams) < bounds[0]:
            yield streams
            return
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
