"""A machine whose keepers outlive its agents, in virtual time: the keeper's real core over simulated programs."""

from __future__ import annotations

import contextlib
import random
from collections.abc import AsyncIterator
from typing import Any

import trio

from agent.daemon import Agent, Ports
from agent.preparation import Preparations
from tests.agent.gateway import Gateway, MemoryDialer
from tests.agent.world import a_profile
from tests.support.disk import Life, MemoryDisk
from tests.support.keepers import MachineKeepers
from tests.support.ports import SeededIds, SeededRandom, TrioClock
from tests.support.processes import Machine


class KeptMachine:
    """Lives of the agent follow one another in `life`; the end of the block is a SIGKILL. Made by `kept_machine`."""

    def __init__(self, nursery: trio.Nursery) -> None:
        self.clock = TrioClock()
        self.machine = Machine("machine-1")
        self.disk = MemoryDisk(self.clock)
        self.keepers = MachineKeepers(self.machine, self.disk, self.clock, random.Random(1))
        self.keepers.nursery = nursery
        self.gateway = Gateway()
        self._lives = 0

    @contextlib.asynccontextmanager
    async def life(self, preparations: Preparations | None = None, **fields: Any) -> AsyncIterator[Agent]:
        """An agent that is connected."""
        self._lives += 1
        life = Life()
        async with trio.open_nursery() as nursery:
            ports = Ports(
                clock=self.clock,
                ids=SeededIds(str(self._lives), self.clock),
                random=SeededRandom(str(self._lives)),
                disk=self.disk.mount(life),
                dialer=MemoryDialer(nursery, self.gateway),
                keepers=self.keepers,
                preparations=preparations or Preparations(),
            )
            agent = Agent(a_profile("", **fields), ports)
            await nursery.start(agent.run)
            await self.gateway.until_connected()
            try:
                yield agent
            finally:
                life.is_dead = True
                nursery.cancel_scope.cancel()

    def held(self) -> list[str]:
        """Instances that the keeper has, running or ended."""
        assert self.keepers.current is not None
        return [instance_id for instance_id, _ in self.keepers.current.core._instances]


@contextlib.asynccontextmanager
async def kept_machine() -> AsyncIterator[KeptMachine]:
    async with trio.open_nursery() as nursery:
        found = KeptMachine(nursery)
        await nursery.start(found.machine.run)
        yield found
        nursery.cancel_scope.cancel()
