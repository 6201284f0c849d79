"""PostgreSQL dies, restarts, ends our connections, or goes silent on one."""

from __future__ import annotations

import os
import signal

import trio

from eventstore.postgres.settings import PostgresSettings
from eventstore.postgres.writer import SILENCE_SECONDS
from tests.faults.cluster import Setup
from tests.faults.kinds.fault import Fault, Healed, Scene, now, pause


class PostgresKilled(Fault):
    """kill -9 of the postmaster, and a start one second later."""

    name = "postgres-kill"
    seconds = 5.0

    async def strike(self, scene: Scene) -> Healed:
        await scene.cluster.database.kill()
        await trio.sleep(1.0)
        await scene.cluster.database.start_again()
        return Healed(at=now())


class PostgresRestartedImmediately(Fault):
    """pg_ctl restart -m immediate."""

    name = "postgres-restart"
    seconds = 4.0

    async def strike(self, scene: Scene) -> Healed:
        await scene.cluster.database.restart_immediately()
        return Healed(at=now())


class BackendsTerminated(Fault):
    """pg_terminate_backend on all of our connections, three times."""

    name = "postgres-terminate"

    async def strike(self, scene: Scene) -> Healed:
        ended = 0
        for _ in range(3):
            ended += await scene.cluster.database.terminate_backends()
            await pause(scene, 0.1, 0.6)
        at = now()
        notes = () if ended else ("no connection of hetuflow was there to end",)
        return Healed(at=at, injected=3, notes=notes, measured=f"{ended} connections ended")


class PostgresSuspended(Fault):
    """All processes of PostgreSQL stand still (SIGSTOP) for six seconds."""

    name = "postgres-stop"
    seconds = 7.0

    async def strike(self, scene: Scene) -> Healed:
        pids = scene.cluster.database.pids()
        for pid in pids:
            os.kill(pid, signal.SIGSTOP)
        try:
            await trio.sleep(6.0)
        finally:
            for pid in pids:
                os.kill(pid, signal.SIGCONT)
        return Healed(at=now())


class WriterHalfOpen(Fault):
    """The writer's connection goes silent, and nobody is told."""

    name = "postgres-half-open"
    setup = Setup(database_relay=True)
    seconds = 8.0

    async def strike(self, scene: Scene) -> Healed:
        """Nothing heals it but the server's own patience, which has to run out like a lease."""
        relay = scene.cluster.database_relay
        assert relay is not None
        await pause(scene, 0.0, 1.0)
        count = relay.swallow(lambda first: b"hetuflow writer" in first)
        since = now()
        limit = PostgresSettings().append_statement_seconds_max + SILENCE_SECONDS
        await trio.sleep(limit)
        notes = () if count else ("no connection of the writer was found",)
        return Healed(at=since + limit, notes=notes)


KINDS = (PostgresKilled, PostgresRestartedImmediately, BackendsTerminated, PostgresSuspended, WriterHalfOpen)
