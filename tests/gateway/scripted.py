"""Memory connections, and an agent whose every word the test says."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

import trio

from hetuflow.ports.network import ConnectionLost
from hetuflow.protocol.messages import (
    Ack,
    Dispatch,
    Ended,
    Heartbeat,
    Hello,
    Known,
    Message,
    Started,
    Welcome,
)
from hetuflow.protocol.session import Role, Session

M = TypeVar("M", bound=Message)
Handler = Callable[["MemoryStream"], Awaitable[None]]


class MemoryStream:
    """One end of a connection in memory. `capacity` frames are taken without being received."""

    def __init__(
        self,
        send: trio.MemorySendChannel[bytes],
        receive: trio.MemoryReceiveChannel[bytes],
        peer: str,
        query: str = "",
    ) -> None:
        self._send, self._receive = send, receive
        self.peer, self.query = peer, query
        self.closed: tuple[int, str] | None = None
        self.other: MemoryStream | None = None

    async def send(self, frame: bytes) -> None:
        try:
            await self._send.send(frame)
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            raise ConnectionLost(*(self.other.closed if self.other and self.other.closed else ())) from None

    async def receive(self) -> bytes:
        try:
            return await self._receive.receive()
        except (trio.EndOfChannel, trio.ClosedResourceError):
            raise ConnectionLost(*(self.other.closed if self.other and self.other.closed else ())) from None

    async def aclose(self, code: int = 1000, reason: str = "") -> None:
        if self.closed is None:
            self.closed = (int(code), reason)
        self._send.close()
        self._receive.close()


def a_connection(query: str, *, capacity: int = 100) -> tuple[MemoryStream, MemoryStream]:
    """(the agent's end, the server's end)."""
    up_send, up_receive = trio.open_memory_channel[bytes](capacity)
    down_send, down_receive = trio.open_memory_channel[bytes](capacity)
    agent = MemoryStream(up_send, down_receive, "server")
    server = MemoryStream(down_send, up_receive, "10.0.0.1:4000", query)
    agent.other, server.other = server, agent
    return agent, server


class ScriptedAgent:
    """Says what the test says, and remembers what it was told."""

    def __init__(self, handler: Handler, nursery: trio.Nursery, agent_id: str = "agent-1", *, capacity: int = 100):
        self.agent_id = agent_id
        self.stream, server = a_connection(f"agent_id={agent_id}", capacity=capacity)
        self.protocol = Session(Role.AGENT)
        self.told: list[Message] = []
        self.sequence = 0
        nursery.start_soon(handler, server)

    async def say(self, *messages: Message) -> None:
        for frame in self.protocol.send(messages):
            await self.stream.send(frame)

    async def hello(
        self, *, incarnation: int = 1, slots: int = 4, known: tuple[Known, ...] = (), **members: Any
    ) -> None:
        await self.say(
            Hello(
                agent_id=members.pop("agent_id", self.agent_id),
                name=self.agent_id,
                boot_id="boot",
                incarnation=incarnation,
                version="1",
                host="host",
                slots=slots,
                known=known,
                **members,
            )
        )

    async def connect(self, **members: Any) -> Welcome:
        await self.hello(**members)
        return await self.expect(Welcome)

    async def expect(self, kind: type[M]) -> M:
        """The next message of this type; what comes before it is kept in `told`."""
        while True:
            for at, message in enumerate(self.told):
                if isinstance(message, kind):
                    del self.told[at]
                    return message
            self.told += self.protocol.receive(await self.stream.receive())

    async def expect_nothing(self, kind: type[Message], seconds: float = 1.0) -> None:
        with trio.move_on_after(seconds):
            message = await self.expect(kind)
            raise AssertionError(f"unexpected {message}")

    def started(self, order: Dispatch, at: str = "2026-01-05T08:00:01Z") -> Started:
        self.sequence += 1
        return Started(
            event_id=f"event-{self.sequence}",
            sequence=self.sequence,
            task_id=order.task_id,
            instance_id=order.instance_id,
            epoch=order.epoch,
            started_at=at,
            pid=1,
        )

    def ended(self, order: Dispatch, reason: str | None = None, **members: Any) -> Ended:
        self.sequence += 1
        return Ended(
            event_id=f"event-{self.sequence}",
            sequence=self.sequence,
            task_id=order.task_id,
            instance_id=order.instance_id,
            epoch=order.epoch,
            completed_at="2026-01-05T08:00:02Z",
            reason=reason,
            **members,
        )

    async def acknowledged(self, *sequences: int) -> None:
        """Wait until all of these are acknowledged."""
        missing = set(sequences)
        while missing:
            missing -= set((await self.expect(Ack)).sequences)

    async def heartbeat(self, sequence: int = 1, known: tuple[Known, ...] | None = None, **metrics: float) -> None:
        await self.say(Heartbeat(sequence=sequence, metrics=metrics, known=known))

    async def run(self) -> None:
        """Be an agent that accepts and succeeds at once, until the connection ends."""
        try:
            while True:
                order = await self.expect(Dispatch)
                await self.say(self.started(order), self.ended(order))
        except ConnectionLost:
            pass

    async def drop(self) -> None:
        await self.stream.aclose()
