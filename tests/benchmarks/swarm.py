"""Many agents in one process, over real sockets: `python -m tests.benchmarks.swarm --url ws://127.0.0.1:8081 --count 500`.

Each is the real agent, with its connection, reports and journal; behind its ports there are memory and processes that
nobody starts. So what a server sees of it, and how it comes back, is what it sees of a thousand machines.
"""

from __future__ import annotations

import argparse
import logging

import structlog
import trio

from agent.daemon import Agent, Ports
from agent.inside import InsideKeepers
from agent.profile import Profile
from agent.websocket import open_dialer
from hetuflow.ports.real import SystemClock, SystemIds, SystemRandom
from tests.agent.world import MemoryDisk, Script, ScriptedRunner

GAUGES = {"cpu_usage": 12.5, "memory_usage": 40.1, "disk_usage": 61.0, "load": 0.4}


class SteadyGauges:
    def read(self) -> dict[str, float]:
        return dict(GAUGES)


async def swarm(url: str, first: int, count: int, lost_after_seconds: float, heartbeat_interval: float) -> None:
    """All of them start at once, as after a power cut; until cancelled."""
    async with open_dialer() as dialer, trio.open_nursery() as nursery:
        for number in range(first, first + count):
            disk, clock, name = MemoryDisk(), SystemClock(), f"swarm-{number:05}"
            ports = Ports(
                clock=clock,
                ids=SystemIds(),
                random=SystemRandom(),
                disk=disk,
                dialer=dialer,
                keepers=InsideKeepers(ScriptedRunner(lambda spec: Script()), disk, clock),
                gauges=SteadyGauges(),
            )
            profile = Profile(
                agent_id=name,
                name=name,
                boot_id="boot",
                host=name,
                version="bench",
                server_url=url,
                state_dir="/state",
                work_dir="/work",
                labels={"sys.os": "linux", "sys.arch": "x86_64", "sys.hostname": name, "sys.cores": "8"},
                lost_after_seconds=lost_after_seconds,
                heartbeat_interval=heartbeat_interval,
            )
            nursery.start_soon(Agent(profile, ports).run)


def main() -> None:
    options = argparse.ArgumentParser(prog="python -m tests.benchmarks.swarm", description=__doc__)
    options.add_argument("--url", required=True)
    options.add_argument("--first", type=int, default=1)
    options.add_argument("--count", type=int, default=500)
    options.add_argument("--lost-after", type=float, default=120.0)
    options.add_argument("--heartbeat", type=float, default=30.0)
    given = options.parse_args()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR))
    trio.run(swarm, given.url, given.first, given.count, given.lost_after, given.heartbeat)


if __name__ == "__main__":
    main()
