"""What a kind of fault is: it breaks something, heals it, and says from when on work must go on."""

from __future__ import annotations

import random
import time
from abc import ABC, abstractmethod
from typing import ClassVar

import trio
from attrs import Factory, define, frozen

from tests.faults.cluster import Cluster, Setup
from tests.faults.verdict import Silence
from tests.faults.workload import LOADED, Pattern, Workload

UNREPORTED_SECONDS = 1.0
"""A run that ended this shortly before its agent was killed or cut off may not have been reported."""


ENDS_PROGRAMS = frozenset({"continue"})
"""Features that cannot be judged under a fault that ends what an agent runs."""


@frozen(kw_only=True)
class Healed:
    """How it went.

    Attributes:
      at: when the fault was over (seconds of the wall clock), or when a lease that has to run out did.
      agent: the agent whose next run shows that work goes on; None = any.
      lost_on: an agent some of whose runs were lost: what shows that work goes on is the next run of such a task.
      silences: when which agent could not report.
      unharmed: while this was, no run of that agent may have been ended.
      injected: how many single faults this was.
      notes: what the fault itself found to be wrong.
      measured: what else is worth a line.
    """

    at: float
    agent: str | None = None
    lost_on: str | None = None
    silences: tuple[Silence, ...] = ()
    unharmed: tuple[Silence, ...] = ()
    injected: int = 1
    notes: tuple[str, ...] = ()
    measured: str = ""


@define
class Scene:
    """A round as its fault sees it."""

    cluster: Cluster
    workload: Workload
    random: random.Random
    silences: list[Silence] = Factory(list)

    @property
    def url(self) -> str:
        return self.cluster.url


class Fault(ABC):
    """A kind. Subclasses set the class variables; the first line of their docstring is shown to people.

    `seconds`: how long the fault usually lasts, healing included: the window of nominal times is longer by some seconds.
    """

    name: ClassVar[str]
    setup: ClassVar[Setup] = Setup()
    seconds: ClassVar[float] = 3.0
    load: ClassVar[tuple[Pattern, ...]] = LOADED
    by_hand: ClassVar[bool] = True
    without: ClassVar[frozenset[str]] = frozenset()
    """The features that cannot be judged under it."""

    @abstractmethod
    async def strike(self, scene: Scene) -> Healed:
        """Break, wait, heal."""

    def unavailable(self) -> str | None:
        """Why this machine cannot have it; None = it can."""
        return None

    @classmethod
    def about(cls) -> str:
        return (cls.__doc__ or "").strip().splitlines()[0].rstrip(".")


async def pause(scene: Scene, low: float, high: float) -> None:
    """Some time in between, so that rounds of a kind do not all hit the same moment."""
    await trio.sleep(scene.random.uniform(low, high))


def now() -> float:
    return time.time()
