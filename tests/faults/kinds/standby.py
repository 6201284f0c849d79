"""Two servers from the start: the one that decides ends, and the other takes over."""

from __future__ import annotations

import signal

import trio

from tests.faults.cluster import Setup
from tests.faults.kinds.fault import UNREPORTED_SECONDS, Fault, Healed, Scene, now, pause
from tests.faults.processes import Node
from tests.faults.verdict import Silence

LOST_SECONDS = 5.0
RECONNECTED_SECONDS = 10.0


class _WithStandby(Fault):
    setup = Setup(lease_seconds=2 * LOST_SECONDS, server_lost_seconds=LOST_SECONDS, standby=True)


def deciding(scene: Scene) -> Node:
    """The server that decides: it has been there longest."""
    server = scene.cluster.server
    assert server is not None
    return server


class DeciderKilled(_WithStandby):
    """kill -9 of the server that decides: the standby takes over when its silence is long enough."""

    name = "standby-kill"
    seconds = LOST_SECONDS + 4

    async def strike(self, scene: Scene) -> Healed:
        cluster = scene.cluster
        await pause(scene, 0.0, 1.0)
        since = now()
        await deciding(scene).kill()
        cluster.change_seats()
        await trio.sleep(LOST_SECONDS + 2.0)
        cluster.spawn_standby()
        return Healed(at=since + LOST_SECONDS)


class DeciderStopped(_WithStandby):
    """SIGTERM of the server that decides: the standby takes over at once."""

    name = "standby-restart"
    seconds = 5.0

    async def strike(self, scene: Scene) -> Healed:
        cluster = scene.cluster
        server = deciding(scene)
        await server.stop()
        at = now()
        cluster.change_seats()
        status = server.process.returncode
        notes = () if status == 0 else (f"the server ended with status {status}:\n{server.last_words()}",)
        await trio.sleep(2.0)
        cluster.spawn_standby()
        return Healed(at=at, notes=notes)


class DeciderSuspended(_WithStandby):
    """SIGSTOP of the server that decides for twice its lease: the standby takes over, and the late one stands by."""

    name = "standby-stop"
    seconds = 2 * LOST_SECONDS + 4

    async def strike(self, scene: Scene) -> Healed:
        cluster = scene.cluster
        since = now()
        server = deciding(scene)
        server.signal(signal.SIGSTOP)
        cluster.change_seats()
        await trio.sleep(2 * LOST_SECONDS)
        server.signal(signal.SIGCONT)
        silences = tuple(
            Silence(agent=agent, since=since - UNREPORTED_SECONDS, until=now() + RECONNECTED_SECONDS)
            for agent in cluster.agents
        )
        return Healed(at=since + LOST_SECONDS, silences=silences)


KINDS = (DeciderKilled, DeciderStopped, DeciderSuspended)
