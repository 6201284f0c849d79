"""Everything dies at once, as when the power fails, and is started again."""

from __future__ import annotations

import trio

from tests.faults.kinds.agent import kill_machine
from tests.faults.kinds.fault import ENDS_PROGRAMS, UNREPORTED_SECONDS, Fault, Healed, Scene, now, pause
from tests.faults.verdict import Silence


class Blackout(Fault):
    """PostgreSQL, the server, all agents and all runs are killed at once, and started again in that order."""

    name = "blackout"
    seconds = 7.0
    without = ENDS_PROGRAMS | {"file"}  # what happens while its agent does not run, nobody sees

    async def strike(self, scene: Scene) -> Healed:
        cluster = scene.cluster
        await pause(scene, 0.0, 1.0)
        since = now()
        assert cluster.server is not None
        agents = list(cluster.agents)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(cluster.database.kill)
            nursery.start_soon(cluster.server.kill)
            for agent in agents:
                nursery.start_soon(kill_machine, scene, agent)
        await cluster.database.start_again()
        cluster.spawn_server()
        at = now()
        for agent in agents:
            cluster.spawn_agent(agent)
        await cluster.until_healthy()
        silences = tuple(Silence(agent=agent, since=since - UNREPORTED_SECONDS, until=at) for agent in agents)
        return Healed(at=at, silences=silences, injected=2 + len(agents))


KINDS = (Blackout,)
