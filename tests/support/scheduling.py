"""hypothesis draws the schedule of trio's tasks: its private source of chance is one of hypothesis' own.

An example that asks for `st.random_module()` gets a schedule of its own, which is repeated, shrunk and remembered with it.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TypeVar

import hypothesis
import trio
import trio._core._run as trio_run
import trio.testing

T = TypeVar("T")

hypothesis.register_random(trio_run._r)


def run_scheduled(main: Callable[..., Awaitable[T]], *args: object) -> T:
    """`trio.run` in virtual time, with the schedule of the present example."""
    trio_run._ALLOW_DETERMINISTIC_SCHEDULING = True  # type: ignore[attr-defined]
    return trio.run(main, *args, clock=trio.testing.MockClock(autojump_threshold=0))
