"""A server of the simulated cluster, life after life: the real composition over a store of its own on the common log.

Killing it first makes its store and its connections dead and then cancels its tasks, so that no `finally` gets to say
goodbye. It may be killed at any await, also while it starts. Clients reach it only through `request`.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, TypeVar

import trio

from eventstore.errors import StoreClosed
from eventstore.memory import MemoryStore
from hetuflow.actors import Limits, SystemStopped
from hetuflow.core import Core, CoreSettings, open_core
from hetuflow.gateway.settings import GatewaySettings
from hetuflow.usage_room import StoredUsage
from tests.support.nodes import Node
from tests.support.ports import SeededIds, TrioClock

if TYPE_CHECKING:
    from tests.simulation.cluster import Cluster

T = TypeVar("T")


class NoAnswer(Exception):
    """The server is not there, or its answer did not come: what was asked may have happened or may happen yet."""


class _Reply:
    """The answer to one request, on its way to the client."""

    def __init__(self) -> None:
        self.arrived = trio.Event()
        self.value: Any = None
        self.error: Exception | None = NoAnswer("the server ended")


class ServerLife:
    """One life of a server."""

    def __init__(self, server: ServerNode, number: int) -> None:
        self.server, self.number = server, number
        self.node = Node(f"{server.name}#{number}")
        self.store = MemoryStore(
            server.cluster.clock.now, log=server.cluster.log, origin=self.node.name, hooks=server.cluster.store_faults
        )
        self.ended = trio.Event()
        self.is_dead = False
        self.core: Core | None = None
        """None while it starts."""
        self._requests: trio.Nursery | None = None
        self._scope = trio.CancelScope()

    def __repr__(self) -> str:
        return f"<ServerLife {self.node.name}>"

    @property
    def is_serving(self) -> bool:
        return self._requests is not None and not self.is_dead and not self.node.is_paused

    async def run(self) -> None:
        cluster, server = self.server.cluster, self.server
        ids = SeededIds(f"{cluster.seed} {self.node.name}", server.clock)
        try:
            with self._scope:
                async with open_core(
                    self.store,
                    cluster.output,
                    server.clock,
                    ids,
                    self._settings(),
                    find_open=cluster.tables.find_open,
                    schedules_of=cluster.tables.schedules_of,
                    followers_of=cluster.tables.followers_of,
                    usage=StoredUsage(cluster.usage),
                ) as self.core:
                    listener = cluster.network.listener(server.address, self.node.name)
                    async with trio.open_nursery() as nursery:
                        await nursery.start(listener.serve, self.core.gateway.serve_connection)
                        self._requests = nursery
                        await trio.sleep_forever()
        except Exception as exc:
            if not self.is_dead:
                raise
            cluster.last_words.append(f"{self.node.name}: {exc!r}")
        finally:
            self._requests = None
            self.ended.set()

    def kill(self) -> None:
        self.is_dead = True
        self.store.close()
        self.server.cluster.network.drop(self.node.name)
        self._scope.cancel()
        self.node.resume()

    async def request(self, work: Callable[[Core], Awaitable[T]], seconds: float) -> T:
        """Have the server do this as for a client, who waits so long. Raises `NoAnswer`, and what `work` raises."""
        if self._requests is None or self.is_dead:
            raise NoAnswer(f"{self.node.name} does not listen")
        reply = _Reply()
        self.node.start_soon(self._requests, self._answer, work, reply)
        with trio.move_on_after(seconds):
            await reply.arrived.wait()
        if not reply.arrived.is_set():
            raise NoAnswer(f"no answer within {seconds:g} s")
        if reply.error is not None:
            raise reply.error
        value: T = reply.value
        return value

    async def _answer(self, work: Callable[[Core], Awaitable[Any]], reply: _Reply) -> None:
        assert self.core is not None
        try:
            reply.value, reply.error = await work(self.core), None
        except (StoreClosed, SystemStopped):
            pass
        except Exception as exc:
            reply.error = exc
        finally:
            if self.is_dead:
                reply.error = NoAnswer("the server was killed")
            reply.arrived.set()

    def _settings(self) -> CoreSettings:
        scale, server = self.server.cluster.scale, self.server
        return CoreSettings(
            server_name=server.name,
            version="0",
            address=server.address,
            gateway=GatewaySettings(
                server_id=server.name, heartbeat_seconds=scale.heartbeat, check_seconds=scale.check
            ),
            tasks_max=server.cluster.tasks_max,
            namespaces_max=server.cluster.namespaces_max,
            limits=Limits(warm_cells=server.cluster.warm_cells),
        )


class ServerNode:
    """A place for a server: its name, its address, its wall clock; `life` is the one that runs there now."""

    def __init__(self, cluster: Cluster, name: str) -> None:
        self.cluster, self.name, self.address = cluster, name, f"{name}:8081"
        self.clock: TrioClock = cluster.clock.another()
        self.life: ServerLife | None = None
        self.zombies: list[ServerLife] = []
        """Earlier lives that were paused and replaced, and may run on."""
        self._lives = 0

    def __repr__(self) -> str:
        return f"<ServerNode {self.name}: {self.life}>"

    @property
    def is_serving(self) -> bool:
        return self.life is not None and self.life.is_serving

    def start(self) -> ServerLife:
        """Start the next life; returns at once."""
        assert self.cluster.nursery is not None
        self._lives += 1
        self.life = ServerLife(self, self._lives)
        self.life.node.start_soon(self.cluster.nursery, self.life.run)
        return self.life

    async def kill(self) -> None:
        life, self.life = self.life, None
        if life is not None:
            life.kill()
            await life.ended.wait()

    def replace(self) -> ServerLife:
        """Start another life while the present one is left where it is, as an orchestrator does that believes it dead."""
        if self.life is not None:
            self.zombies.append(self.life)
        return self.start()

    async def bury(self) -> None:
        """End the lives that were replaced."""
        zombies, self.zombies = self.zombies, []
        for life in zombies:
            life.kill()
            await life.ended.wait()
