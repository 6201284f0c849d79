"""A real machine for real agents: a gateway on a socket, agents as processes beside it, and the keepers that they start."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import trio
from attrs import define

from agent import process_tree
from agent.host import boot_id
from agent.keeper.place import Identity, Place, read_identity
from hetuflow.ports.real import SystemDisk
from tests.agent.gateway import Gateway, serve_gateway

ROOT = Path(__file__).parents[2]
PATIENCE_SECONDS = 60


@define
class Machine:
    """Everything lives below `root`; what is left running there ends with the test."""

    nursery: trio.Nursery
    gateway: Gateway
    url: str
    root: Path

    async def start_agent(self, *options: str) -> trio.Process:
        """A process, connected."""
        command = [sys.executable, "-m", "agent", *self.options(*options)]
        before = len(self.gateway.hellos)
        process: trio.Process = await self.nursery.start(run_agent, command)
        await self.gateway.until(lambda: len(self.gateway.hellos) > before and self.gateway.connected)
        return process

    def options(self, *more: str) -> list[str]:
        return [
            *("--server-url", self.url, "--id", "agent-1", "--slots", "4", "--log-level", "warn"),
            *("--state-dir", str(self.root / "state"), "--work-dir", str(self.root / "work"), *more),
        ]

    def keeper(self, state: str = "state") -> Identity:
        """The keeper of the agent with this state directory; it runs."""
        found = read_identity(SystemDisk(), Place(str(self.root / state)))
        assert found is not None and found.is_alive(boot_id(SystemDisk()))
        return found

    async def kill(self, agent: trio.Process) -> None:
        agent.kill()
        await agent.wait()

    def end_keepers(self) -> None:
        for path in self.root.glob("*/keeper.json"):
            found = read_identity(SystemDisk(), Place(str(path.parent)))
            if found is not None and found.is_alive(boot_id(SystemDisk())):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(found.pid, signal.SIGKILL)


async def run_agent(command: list[str], task_status: trio.TaskStatus[trio.Process]) -> None:
    await trio.run_process(command, cwd=ROOT, check=False, task_status=task_status)


@pytest.fixture
async def machine(tmp_path: Path) -> AsyncIterator[Machine]:
    gateway = Gateway()
    async with serve_gateway(gateway) as url, trio.open_nursery() as nursery:
        found = Machine(nursery, gateway, url, tmp_path)
        yield found
        nursery.cancel_scope.cancel()
    found.end_keepers()


def is_alive(pid: int | None) -> bool:
    found = process_tree.read_process(pid or 0)
    return found is not None and found.state not in "ZX"
