"""`hetuflow-agent`, and `python -m agent`."""

from __future__ import annotations

import contextlib
import ctypes
import gc
import sys
from collections.abc import Iterator
from types import ModuleType

from agent.distributions import version_of


def main() -> None:
    """Run the agent in a process of its own.

    structlog imports rich where it is installed, for tracebacks in colour: 5 MB that an agent has no use for. It is told
    that there is none, which nothing else in this process minds.
    """
    sys.modules.setdefault("rich", None)  # type: ignore[arg-type]
    gc.disable()  # all that is imported stays: nobody looks for garbage in it, now or later
    with versions_only(), without_asyncio():
        from agent.command import command

    gc.collect()  # attrs makes each slotted class twice: 24 ms, and with what is given back 0.6 MB
    give_back()
    gc.freeze()
    gc.enable()
    command()


@contextlib.contextmanager
def versions_only() -> Iterator[None]:
    """While it is open, `importlib.metadata` knows versions and nothing else: trio_websocket asks for one at its import,
    and the whole of it, with the standard library's email and zipfile, is 1 MB that an agent would keep."""
    name = "importlib.metadata"
    if name in sys.modules:
        yield
        return
    stand_in = ModuleType(name)
    stand_in.version = lambda package: version_of(package) or "0"  # type: ignore[attr-defined]
    sys.modules[name] = stand_in
    try:
        yield
    finally:
        del sys.modules[name]


@contextlib.contextmanager
def without_asyncio() -> Iterator[None]:
    """While it is open, `asyncio` is an empty module: structlog imports it for methods that nobody calls here, and it is 2 MB
    with what it imports itself."""
    name = "asyncio"
    if name in sys.modules:
        yield
        return
    sys.modules[name] = ModuleType(name)
    try:
        yield
    finally:
        del sys.modules[name]


def give_back() -> None:
    """Memory that is free to the operating system, where the C library can."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)


if __name__ == "__main__":
    main()
