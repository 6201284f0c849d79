"""A scripted server for agents: the real session and codec, and a memory of all that was heard instead of a store."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import AsyncIterator, Callable
from typing import Any

import trio
import trio_websocket

from hetuflow.ports.network import ConnectionLost, DialError, MessageStream
from hetuflow.protocol.codec import FRAME_BYTES_MAX
from hetuflow.protocol.messages import (
    PROTOCOL_VERSION,
    Ack,
    Dispatch,
    Ended,
    Forget,
    Heartbeat,
    HeartbeatAck,
    HeartbeatHeard,
    Hello,
    Message,
    Observed,
    Output,
    OutputAck,
    Started,
    Stop,
    Welcome,
)
from hetuflow.protocol.session import Role, Session, State


class Gateway:
    """Welcomes every agent, acknowledges what it is told to acknowledge, remembers everything by arrival."""

    def __init__(self, *, lease_seconds: float = 120.0, heartbeat_interval: float = 30.0) -> None:
        self.lease_seconds, self.heartbeat_interval = lease_seconds, heartbeat_interval
        self.acks_reports = self.acks_output = self.acks_heartbeats = self.welcomes = True
        self.renews = True
        self.next_interval = 0.0
        self.store_id = "store-1"
        self.heard: list[Message] = []
        self.hellos: list[Hello] = []
        self.frames = self.ended_count = 0
        self.times: dict[str, float] = {}
        self._stored: dict[tuple[str, str], dict[int, bytes]] = {}
        self._stream: MessageStream | None = None
        self._session: Session | None = None
        self._changed = trio.Event()
        self._numbers = itertools.count(1)

    # --- as a server -----------------------------------------------------------------------------------------------

    async def handle(self, stream: MessageStream) -> None:
        """Serve one connection until it ends."""
        session = Session(Role.SERVER)
        try:
            while True:
                frame = await stream.receive()
                self.frames += 1
                replies: list[Message] = []
                for message in session.receive(frame):
                    replies += self._hear(message, stream, session)
                for reply in session.send(replies):
                    await stream.send(reply)
                self._notify()
        except ConnectionLost:
            pass
        finally:
            if self._stream is stream:
                self._stream = self._session = None
            self._notify()

    def _hear(self, message: Message, stream: MessageStream, session: Session) -> list[Message]:
        self.heard.append(message)
        match message:
            case Hello():
                self.hellos.append(message)
                if not self.welcomes:
                    return []
                self._stream, self._session = stream, session
                return [
                    Welcome(
                        session=f"session-{next(self._numbers)}",
                        server_id="server-1",
                        lease_seconds=self.lease_seconds,
                        heartbeat_interval=self.heartbeat_interval,
                        check_interval=10.0,
                        server_time="2026-01-05T08:00:00Z",
                        store_id=self.store_id,
                        protocol=PROTOCOL_VERSION,
                    )
                ]
            case Heartbeat():
                if not self.acks_heartbeats:
                    return []
                if not self.renews:
                    return [HeartbeatHeard(sequence=message.sequence)]
                interval, self.next_interval = self.next_interval, 0.0
                return [HeartbeatAck(sequence=message.sequence, heartbeat_interval=interval)]
            case Started() | Ended():
                self.ended_count += isinstance(message, Ended)
                self.times.setdefault(f"{type(message).__name__} {message.instance_id}", trio.current_time())
                return [Ack(sequences=(message.sequence,))] if self.acks_reports else []
            case Observed():
                return [Ack(sequences=(message.sequence,))] if self.acks_reports else []
            case Output():
                self._stored.setdefault((message.instance_id, message.stream), {})[message.offset] = message.data
                end = message.offset + len(message.data)
                ack = OutputAck(instance_id=message.instance_id, stream=message.stream, offset_end=end)
                return [ack] if self.acks_output else []
        return []

    def _notify(self) -> None:
        self._changed.set()
        self._changed = trio.Event()

    # --- as a person -----------------------------------------------------------------------------------------------

    @property
    def connected(self) -> bool:
        return self._session is not None and self._session.state is State.OPEN

    async def until(self, condition: Callable[[], bool]) -> None:
        """Wait for a condition on what has been heard; fails after a minute of trio's time."""
        with trio.fail_after(60):
            while not condition():
                await self._changed.wait()

    async def until_connected(self) -> None:
        await self.until(lambda: self.connected)

    async def send(self, *messages: Message) -> None:
        assert self._session is not None and self._stream is not None, "no agent is connected"
        for frame in self._session.send(messages):
            await self._stream.send(frame)

    async def run(self, cmd: str, *args: str, **fields: Any) -> Ended:
        """Dispatch one instance and wait for its end."""
        order = an_order(cmd, *args, **fields)
        await self.send(order)
        return await self.until_ended(order.instance_id)

    async def stop(self, instance_id: str, *, epoch: int = 1, grace_seconds: float = 10.0) -> None:
        await self.send(Stop(instance_id=instance_id, epoch=epoch, reason="test", grace_seconds=grace_seconds))

    async def forget(self, *instance_ids: str) -> None:
        await self.send(Forget(instance_ids=instance_ids))

    async def until_started(self, instance_id: str) -> Started:
        await self.until(lambda: bool(self.of(Started, instance_id)))
        return self.of(Started, instance_id)[0]  # type: ignore[return-value]

    async def until_ended(self, instance_id: str) -> Ended:
        await self.until(lambda: bool(self.of(Ended, instance_id)))
        return self.of(Ended, instance_id)[0]  # type: ignore[return-value]

    async def until_output(self, instance_id: str, part: bytes, stream: str = "stdout") -> None:
        await self.until(lambda: part in self.output(instance_id, stream))

    def of(self, kind: type[Message], instance_id: str) -> list[Message]:
        return [m for m in self.heard if isinstance(m, kind) and getattr(m, "instance_id", None) == instance_id]

    def output(self, instance_id: str, stream: str = "stdout") -> bytes:
        """The stored bytes, as far as they are without a gap."""
        data = b""
        chunks = self._stored.get((instance_id, stream), {})
        while len(data) in chunks:
            data += chunks[len(data)]
        return data

    def order_of_output(self, instance_id: str) -> list[tuple[str, bytes]]:
        """Chunks of both streams in the order of `seq`."""
        found = {
            m.seq: (m.stream, m.data) for m in self.heard if isinstance(m, Output) and m.instance_id == instance_id
        }
        return [found[seq] for seq in sorted(found)]

    async def cut(self) -> None:
        """Close the connection from the server's side."""
        if self._stream is not None:
            await self._stream.aclose(1001, "cut")


_orders = itertools.count(1)


def an_order(cmd: str, *args: str, **fields: Any) -> Dispatch:
    number = next(_orders)
    given: dict[str, Any] = {
        "task_id": f"task-{number}",
        "job_id": "job-1",
        "instance_id": f"instance-{number}",
        "epoch": 1,
        "attempt": 1,
        "scheduled_at": "2026-01-05T08:00:00Z",
        **fields,
    }
    return Dispatch(cmd=cmd, args=args, **given)


class MemoryStream:
    """One end of a connection in memory, with room for some frames."""

    def __init__(self, send: trio.MemorySendChannel[bytes], receive: trio.MemoryReceiveChannel[bytes]) -> None:
        self._send, self._receive = send, receive
        self.closed: tuple[int, str] | None = None

    @property
    def peer(self) -> str:
        return "192.0.2.1:1"

    @property
    def query(self) -> str:
        return ""

    async def send(self, frame: bytes) -> None:
        try:
            await self._send.send(frame)
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            raise ConnectionLost() from None

    async def receive(self) -> bytes:
        try:
            return await self._receive.receive()
        except (trio.EndOfChannel, trio.ClosedResourceError):
            raise ConnectionLost() from None

    async def aclose(self, code: int = 1000, reason: str = "") -> None:
        self.closed = self.closed or (code, reason)
        self._send.close()
        self._receive.close()
        await trio.lowlevel.cancel_shielded_checkpoint()


def stream_pair(frames: int = 1000) -> tuple[MemoryStream, MemoryStream]:
    there_send, there_receive = trio.open_memory_channel[bytes](frames)
    back_send, back_receive = trio.open_memory_channel[bytes](frames)
    return MemoryStream(there_send, back_receive), MemoryStream(back_send, there_receive)


class MemoryDialer:
    """Dials a `Gateway` in memory. `reachable` False: nobody answers."""

    def __init__(self, nursery: trio.Nursery, gateway: Gateway) -> None:
        self._nursery, self._gateway = nursery, gateway
        self.reachable = True
        self.dialled: list[float] = []
        self.urls: list[str] = []
        self.streams: list[MemoryStream] = []

    async def dial(self, url: str) -> MemoryStream:
        self.dialled.append(trio.current_time())
        self.urls.append(url.partition("/api/")[0])
        await trio.lowlevel.checkpoint()
        if not self.reachable:
            raise DialError(f"{url}: nobody there")
        ours, theirs = stream_pair()
        self.streams.append(ours)
        self._nursery.start_soon(self._gateway.handle, theirs)
        return ours


class LibraryStream:
    """A `MessageStream` as the library has it."""

    peer = query = ""

    def __init__(self, connection: trio_websocket.WebSocketConnection) -> None:
        self._connection = connection

    async def send(self, frame: bytes) -> None:
        try:
            await self._connection.send_message(frame)
        except trio_websocket.ConnectionClosed as exc:
            raise ConnectionLost from exc

    async def receive(self) -> bytes:
        try:
            message = await self._connection.get_message()
        except trio_websocket.ConnectionClosed as exc:
            raise ConnectionLost from exc
        assert isinstance(message, bytes)
        return message

    async def aclose(self, code: int = 1000, reason: str = "") -> None:
        await self._connection.aclose(code, reason)


@contextlib.asynccontextmanager
async def serve_gateway(gateway: Gateway) -> AsyncIterator[str]:
    """The gateway on a real WebSocket; its base URL."""

    async def handler(request: Any) -> None:
        connection = await request.accept()
        await gateway.handle(LibraryStream(connection))

    async with trio.open_nursery() as nursery:
        server = await nursery.start(_serve, handler)
        yield f"ws://127.0.0.1:{server.port}"
        nursery.cancel_scope.cancel()


async def _serve(handler: Any, task_status: trio.TaskStatus[Any]) -> None:
    await trio_websocket.serve_websocket(
        handler, "127.0.0.1", 0, None, max_message_size=FRAME_BYTES_MAX, message_queue_size=16, task_status=task_status
    )
