"""kill -9 of the server: when nothing happens, under load, at chosen points of its work, and while it recovers."""

from __future__ import annotations

from typing import ClassVar

import trio

from tests.faults.kinds.fault import Fault, Healed, Scene, now, pause
from tests.faults.workload import IDLE, Pattern

REACHED_SECONDS_MAX = 20.0
PASSINGS_MAX = 60
"""How often a point is passed at most before the server dies there: some seconds of the load."""
TRANSACTIONS_MAX = 12
"""The same for the tables' transactions, which gather many events when the machine is slow."""


async def restart(scene: Scene) -> float:
    """Start it again as a supervisor would; when."""
    at = now()
    scene.cluster.spawn_server()
    await scene.cluster.until_healthy()
    return at


class ServerKilledIdle(Fault):
    """kill -9 of the server while nothing runs."""

    name = "server-kill-idle"
    load: ClassVar[tuple[Pattern, ...]] = IDLE
    by_hand = False

    async def strike(self, scene: Scene) -> Healed:
        # Runs of the idle load take 0.1 s at whole seconds: half a second later nothing happens.
        await trio.sleep(1.5 - now() % 1)
        assert scene.cluster.server is not None
        await scene.cluster.server.kill()
        return Healed(at=await restart(scene))


class ServerKilledLoaded(Fault):
    """kill -9 of the server under load."""

    name = "server-kill-loaded"

    async def strike(self, scene: Scene) -> Healed:
        await pause(scene, 0.0, 1.0)
        assert scene.cluster.server is not None
        await scene.cluster.server.kill()
        return Healed(at=await restart(scene))


class ServerRestarted(Fault):
    """SIGTERM of the server under load, and a start when it has ended."""

    name = "server-restart"

    async def strike(self, scene: Scene) -> Healed:
        server = scene.cluster.server
        assert server is not None
        await server.stop()
        status = server.process.returncode
        notes = () if status == 0 else (f"the server ended with status {status}:\n{server.last_words()}",)
        return Healed(at=await restart(scene), notes=notes)


class _AtFailPoint(Fault):
    point: ClassVar[str]
    most: ClassVar[int] = PASSINGS_MAX
    seconds = 6.0

    async def strike(self, scene: Scene) -> Healed:
        """The server is killed and started again with a fuse, which ends it; then it is started as ever."""
        cluster = scene.cluster
        nth = scene.random.randint(1, self.most)
        assert cluster.server is not None
        await cluster.server.kill()
        doomed = cluster.spawn_server("--fail-point", self.point, "--nth", str(nth))
        doomed.is_expected = True
        with trio.move_on_after(REACHED_SECONDS_MAX) as patience:
            await doomed.ended()
        notes: tuple[str, ...] = ()
        if patience.cancelled_caught:
            notes = (f"{self.point} was not passed {nth} times in {REACHED_SECONDS_MAX:.0f} s",)
            await doomed.kill()
        elif doomed.process.returncode != -9:
            notes = (f"at {self.point} the server ended with {doomed.process.returncode}:\n{doomed.last_words()}",)
        return Healed(at=await restart(scene), injected=2, notes=notes)


class BeforeCommit(_AtFailPoint):
    """The server dies before an append reaches PostgreSQL."""

    name, point = "server-kill-before-commit", "before_commit"


class DuringCommit(_AtFailPoint):
    """The server dies while an append is on its way."""

    name, point = "server-kill-during-commit", "during_commit"


class AfterCommit(_AtFailPoint):
    """The server dies between a commit and everything that follows from it."""

    name, point = "server-kill-after-commit", "after_commit"


class BeforeSend(_AtFailPoint):
    """The server dies before it writes a frame for an agent."""

    name, point = "server-kill-before-send", "before_send"


class AfterSend(_AtFailPoint):
    """The server dies after it wrote a frame for an agent."""

    name, point = "server-kill-after-send", "after_send"


class BeforeProjection(_AtFailPoint):
    """The server dies before the tables follow the log."""

    name, point = "server-kill-before-projection", "before_projection"
    most = TRANSACTIONS_MAX


class AfterProjection(_AtFailPoint):
    """The server dies after the tables followed the log."""

    name, point = "server-kill-after-projection", "after_projection"
    most = TRANSACTIONS_MAX


class WhileRecovering(Fault):
    """The server is killed, and killed again while it recovers, twice."""

    name = "server-kill-recovering"
    seconds = 8.0

    async def strike(self, scene: Scene) -> Healed:
        cluster = scene.cluster
        notes: list[str] = []
        assert cluster.server is not None
        await cluster.server.kill()
        for point, most in (("after_commit", 60), ("recovery", 1)):
            nth = scene.random.randint(1, most)
            doomed = cluster.spawn_server("--fail-point", point, "--nth", str(nth), "--from-start")
            doomed.is_expected = True
            with trio.move_on_after(REACHED_SECONDS_MAX) as patience:
                await doomed.ended()
            if patience.cancelled_caught:
                notes.append(f"{point} was not passed {nth} times while starting")
                await doomed.kill()
        return Healed(at=await restart(scene), injected=3, notes=tuple(notes))


KINDS = (
    ServerKilledIdle,
    ServerKilledLoaded,
    ServerRestarted,
    BeforeCommit,
    DuringCommit,
    AfterCommit,
    BeforeSend,
    AfterSend,
    BeforeProjection,
    AfterProjection,
    WhileRecovering,
)
