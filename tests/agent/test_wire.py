"""Messages pass the WebSocket library by; the rest of the protocol is still its own. See `agent.wire`."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from functools import partial

import pytest
import trio
import trio.testing
from hypothesis import given
from hypothesis import strategies as st
from wsproto import ConnectionType, WSConnection
from wsproto.connection import Connection
from wsproto.events import AcceptConnection, BytesMessage, CloseConnection, Event, Ping, Pong, Request, TextMessage
from wsproto.utilities import LocalProtocolError

from agent.websocket import WebSocketStream, open_dialer
from agent.wire import Inbound, masked_message
from hetuflow.ports.network import ConnectionLost
from hetuflow.protocol.codec import FRAME_BYTES_MAX

DEADLINE_SECONDS = 60.0
"""Of each test; nothing here is expected to wait."""

Said = Event | bytes


class Peer:
    """A server by the protocol's own library: says what it is given, and keeps what it hears."""

    def __init__(self, *, at_once: tuple[Said, ...] = ()) -> None:
        self._at_once = at_once
        self._protocol = WSConnection(ConnectionType.SERVER)
        self._stream: trio.SocketStream | None = None
        self.heard: list[Event] = []
        self.bytes_heard = 0
        self.has_heard = trio.Event()

    async def serve(self, stream: trio.SocketStream) -> None:
        self._stream = stream
        async with stream:
            while data := await stream.receive_some():
                self._protocol.receive_data(data)
                for event in self._protocol.events():
                    if isinstance(event, Request):
                        await self.say(AcceptConnection(), *self._at_once)
                    else:
                        self.heard.append(event)
                        self.bytes_heard += len(event.data) if isinstance(event, BytesMessage) else 0
                        if isinstance(event, CloseConnection):
                            with suppress(LocalProtocolError, trio.BrokenResourceError):  # it is an answer itself
                                await self.say(event.response())
                        self.has_heard.set()
                        self.has_heard = trio.Event()

    async def say(self, *said: Said) -> None:
        """In one piece."""
        assert self._stream is not None
        await self._stream.send_all(b"".join(s if isinstance(s, bytes) else self._protocol.send(s) for s in said))

    async def until(self, is_so: Callable[[], bool]) -> None:
        while not is_so():
            await self.has_heard.wait()


@asynccontextmanager
async def dialled(peer: Peer) -> AsyncIterator[WebSocketStream]:
    with trio.fail_after(DEADLINE_SECONDS):
        async with trio.open_nursery() as nursery, open_dialer() as dialer:
            listeners = await nursery.start(partial(trio.serve_tcp, peer.serve, 0, host="127.0.0.1"))
            stream = await dialer.dial(f"ws://127.0.0.1:{listeners[0].socket.getsockname()[1]}/api/v1/gateway/ws")
            yield stream
            await stream.aclose()
            nursery.cancel_scope.cancel()


@given(st.lists(st.sampled_from([0, 1, 125, 126, 65535, 65536, FRAME_BYTES_MAX]), max_size=4), st.integers(1, 70_000))
def test_messages_are_cut_out_wherever_the_pieces_end(sizes: list[int], piece: int) -> None:
    server = Connection(ConnectionType.SERVER)
    messages = [bytes([n]) * size for n, size in enumerate(sizes)]
    data = b"".join(
        server.send(BytesMessage(data=each)) + server.send(Ping(payload=b"%d" % len(each))) for each in messages
    )
    inbound = Inbound()
    for at in range(0, len(data), piece):
        inbound.feed(data[at : at + piece])
    assert list(inbound.messages) == messages and not inbound.is_library_only
    library = Connection(ConnectionType.CLIENT)
    library.receive_data(bytes(inbound.library))
    assert [bytes(event.payload) for event in library.events() if isinstance(event, Ping)] == [
        b"%d" % size for size in sizes
    ]


@given(st.sampled_from([0, 1, 3, 4, 5, 125, 126, 65535, 65536, FRAME_BYTES_MAX]), st.binary(min_size=4, max_size=4))
def test_what_is_sent_is_masked_as_the_protocol_asks(size: int, key: bytes) -> None:
    message = os.urandom(size)
    server = Connection(ConnectionType.SERVER)
    server.receive_data(masked_message(message, key))
    parts = [event for event in server.events() if isinstance(event, BytesMessage)]
    assert b"".join(bytes(part.data) for part in parts) == message and parts[-1].message_finished


async def test_a_message_that_comes_with_the_handshake_is_not_lost() -> None:
    peer = Peer(at_once=(BytesMessage(data=b"first"), BytesMessage(data=b"second")))
    async with dialled(peer) as stream:
        assert await stream.receive() == b"first"
        assert stream.take() == [b"second"] and stream.take() == []


async def test_pings_between_messages_are_answered() -> None:
    peer = Peer()
    async with dialled(peer) as stream:
        await peer.say(BytesMessage(data=b"a"), Ping(payload=b"?"), BytesMessage(data=b"b"))
        assert await stream.receive() == b"a" and await stream.receive() == b"b"
        await peer.until(lambda: any(isinstance(event, Pong) and event.payload == b"?" for event in peer.heard))
        await stream.send(b"c")
        await peer.until(lambda: any(isinstance(event, BytesMessage) and event.data == b"c" for event in peer.heard))


async def test_a_message_in_pieces_or_a_text_keeps_its_place() -> None:
    """No server of ours sends them, but a proxy may: from there on the library reads."""
    peer = Peer()
    async with dialled(peer) as stream:
        await peer.say(
            BytesMessage(data=b"1"),
            BytesMessage(data=b"2", message_finished=False),
            BytesMessage(data=b"3", message_finished=True),
            TextMessage(data="4"),
            BytesMessage(data=b"5"),
        )
        assert [await stream.receive() for _ in range(4)] == [b"1", b"23", b"4", b"5"]
        await stream.send(b"6")
        await peer.until(lambda: any(isinstance(event, BytesMessage) and event.data == b"6" for event in peer.heard))
        await peer.say(BytesMessage(data=b"7"))
        assert await stream.receive() == b"7"


async def test_what_was_said_before_a_close_is_heard_and_the_close_tells_why() -> None:
    peer = Peer()
    async with dialled(peer) as stream:
        await peer.say(BytesMessage(data=b"last"), CloseConnection(code=4003, reason="superseded"))
        assert await stream.receive() == b"last"
        with pytest.raises(ConnectionLost) as lost:
            await stream.receive()
        assert (lost.value.code, lost.value.reason) == (4003, "superseded")
        with pytest.raises(ConnectionLost):
            await stream.send(b"too late")


async def test_a_message_that_is_too_large_ends_the_connection() -> None:
    peer = Peer()
    async with dialled(peer) as stream, trio.open_nursery() as nursery:
        nursery.start_soon(peer.say, BytesMessage(data=bytes(FRAME_BYTES_MAX + 1)))
        with pytest.raises(ConnectionLost):
            await stream.receive()
        await peer.until(lambda: any(isinstance(event, CloseConnection) and event.code == 1009 for event in peer.heard))


async def test_a_connection_may_be_closed_while_somebody_receives() -> None:
    peer = Peer()
    async with dialled(peer) as stream, trio.open_nursery() as nursery:

        async def receive() -> None:
            with pytest.raises(ConnectionLost):
                await stream.receive()

        nursery.start_soon(receive)
        await trio.testing.wait_all_tasks_blocked()
        await stream.aclose(4000, "bye")
        await peer.until(lambda: any(isinstance(event, CloseConnection) and event.code == 4000 for event in peer.heard))


async def test_what_the_socket_does_not_take_at_once_follows_in_order() -> None:
    peer = Peer()
    messages = [bytes([n]) * FRAME_BYTES_MAX for n in range(40)]
    async with dialled(peer) as stream:
        for message in messages:
            await stream.send(message)
        await peer.until(lambda: peer.bytes_heard == len(messages) * FRAME_BYTES_MAX)
        assert b"".join(event.data for event in peer.heard if isinstance(event, BytesMessage)) == b"".join(messages)
