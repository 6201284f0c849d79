"""The server stands still for twice the lease and goes on: what it decided before is late, and must be fenced."""

from __future__ import annotations

import signal
from typing import ClassVar

import trio

from tests.faults.cluster import Setup
from tests.faults.kinds.fault import UNREPORTED_SECONDS, Fault, Healed, Scene, now
from tests.faults.verdict import Silence

LEASE_SECONDS = 5.0
"""Of the agents, and of the server's right to decide."""


class ServerSuspended(Fault):
    """SIGSTOP of the only server for twice the lease, then SIGCONT."""

    name = "server-stop-alone"
    setup = Setup(lease_seconds=LEASE_SECONDS, server_lost_seconds=LEASE_SECONDS)
    seconds = 2 * LEASE_SECONDS + 3

    async def strike(self, scene: Scene) -> Healed:
        server = scene.cluster.server
        assert server is not None
        since = now()
        server.signal(signal.SIGSTOP)
        await trio.sleep(2 * LEASE_SECONDS)
        server.signal(signal.SIGCONT)
        at = now()
        # Until the agents have come back with their reports; a dial that began in the pause counts to the cut.
        return Healed(at=at, silences=silences(scene, since, at + LEASE_SECONDS))


class ServerSuspendedAndReplaced(Fault):
    """SIGSTOP of a server for twice the lease while a second one takes over, then SIGCONT."""

    name = "server-stop-replaced"
    same_identity: ClassVar[bool] = False
    setup = Setup(lease_seconds=LEASE_SECONDS, server_lost_seconds=LEASE_SECONDS, relay=True)
    seconds = 2 * LEASE_SECONDS + 6

    async def strike(self, scene: Scene) -> Healed:
        cluster = scene.cluster
        old = cluster.server
        assert old is not None and cluster.relay is not None
        since = now()
        old.signal(signal.SIGSTOP)
        await trio.sleep(1.0)
        cluster.spawn_second_server(same_identity=self.same_identity)
        await cluster.until_healthy()
        cluster.relay.cut()
        await trio.sleep(max(0.0, since + 2 * LEASE_SECONDS - now()))
        old.signal(signal.SIGCONT)
        at = now()
        await trio.sleep(2.0)  # in which the late one would do its harm: start work a second time
        notes = () if old.is_alive else (f"the late server ended by itself:\n{old.last_words()}",)
        await old.stop()
        return Healed(at=at, silences=silences(scene, since, at + LEASE_SECONDS), notes=notes)


class ServerSuspendedAndReborn(ServerSuspendedAndReplaced):
    """SIGSTOP of a server for twice the lease while another life of it takes over, then SIGCONT."""

    name = "server-stop-reborn"
    same_identity = True


def silences(scene: Scene, since: float, until: float) -> tuple[Silence, ...]:
    return tuple(Silence(agent=agent, since=since - UNREPORTED_SECONDS, until=until) for agent in scene.cluster.agents)


KINDS = (ServerSuspended, ServerSuspendedAndReplaced, ServerSuspendedAndReborn)
