"""Clients that are slow, stop half-way, read nothing or come in crowds, on real sockets: they hold nothing for long."""

from __future__ import annotations

import json
import socket
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

import pytest
import trio

from hetuflow.api.connections import Connections
from hetuflow.api.serving import HttpListener
from tests.api.memory_rooms import World, memory_world

GET = b"GET /api/v1/agents HTTP/1.1\r\nHost: localhost\r\n\r\n"


@asynccontextmanager
async def listening(connections: Connections | None = None) -> AsyncIterator[tuple[World, HttpListener, int]]:
    listener = HttpListener("127.0.0.1", 0, drain_seconds=2, connections=connections)
    async with memory_world() as world, trio.open_nursery() as nursery:
        port = await nursery.start(listener.serve, world.client._app)
        yield world, listener, port
        nursery.cancel_scope.cancel()


async def opened(stack: AsyncExitStack, port: int) -> trio.SocketStream:
    return await stack.enter_async_context(await trio.open_tcp_stream("127.0.0.1", port))


async def ended(stream: trio.SocketStream) -> bytes:
    """What still came until the other side closed."""
    received = b""
    with trio.fail_after(30):
        try:
            async for piece in stream:
                received += piece
        except trio.BrokenResourceError:  # a reset is an end too
            pass
    return received


async def answered(stream: trio.SocketStream, request: bytes = GET) -> bytes:
    """The head of the answer to a request."""
    await stream.send_all(request)
    received = b""
    with trio.fail_after(30):
        while b"\r\n\r\n" not in received:
            piece = await stream.receive_some()
            if not piece:
                break
            received += piece
    return received


async def until_open(listener: HttpListener, count: int) -> None:
    with trio.fail_after(30):
        while len(listener.connections) != count:  # noqa: ASYNC110
            await trio.sleep(0.01)


@pytest.mark.parametrize("sent", [b"", b"G", GET[:-2], b"POST / HTTP/1.1\r\nX-Slow: " + b"a" * 500])
async def test_a_head_that_does_not_come_ends_the_connection(sent: bytes) -> None:
    async with listening(Connections(first_seconds=0.2)) as (_, listener, port), AsyncExitStack() as stack:
        stream = await opened(stack, port)
        await stream.send_all(sent)
        assert await ended(stream) == b""
        await until_open(listener, 0)


async def test_a_head_that_trickles_in_is_not_waited_for_longer() -> None:
    async with listening(Connections(first_seconds=0.5)) as (_, listener, port), AsyncExitStack() as stack:
        stream = await opened(stack, port)
        await stream.send_all(b"GET / HTTP/1.1\r\n")
        with trio.fail_after(30):
            try:
                while True:
                    await stream.send_all(b"X-Header: x\r\n")
                    await trio.sleep(0.02)
            except trio.BrokenResourceError:
                pass
        await until_open(listener, 0)


async def test_a_crowd_of_idle_connections_keeps_nobody_out() -> None:
    """More than there are places: each new one takes the place of the one that has been idle longest."""
    async with listening(Connections(most=50)) as (_, listener, port), AsyncExitStack() as stack:
        first = await opened(stack, port)
        assert (await answered(first)).startswith(b"HTTP/1.1 200")
        crowd = [await opened(stack, port) for _ in range(300)]
        visitor = await opened(stack, port)
        assert (await answered(visitor)).startswith(b"HTTP/1.1 200")
        assert len(listener.connections) <= 50
        assert await ended(first) in (b"", b"[]")
        assert await ended(crowd[0]) == b""
        assert listener.connections.refused == 0
        assert listener.connections.evicted >= 250


async def test_when_every_place_is_busy_a_new_connection_is_told_so() -> None:
    async with listening(Connections(most=2)) as (_, listener, port), AsyncExitStack() as stack:
        half = b"POST /api/v1/jobs/item HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 9\r\n\r\n{"
        streams = [await opened(stack, port) for _ in range(2)]
        with trio.fail_after(30):
            while listener.connections.idle < 2:  # noqa: ASYNC110 - accepted, and waiting for a first request
                await trio.sleep(0.01)
            for stream in streams:
                await stream.send_all(half)
            while listener.connections.idle:  # noqa: ASYNC110
                await trio.sleep(0.01)
        refused = await ended(await opened(stack, port))
        assert refused.startswith(b"HTTP/1.1 503") and b"\r\nRetry-After: 1\r\n" in refused
        assert listener.connections.refused == 1


async def test_a_client_that_never_reads_its_answers_is_cut_off() -> None:
    """It asks on and on for a large document and takes nothing: the answers fill the buffers, and there it ends."""
    async with listening() as (_, listener, port):
        request = b"GET /docs/assets/swagger-ui-bundle.js HTTP/1.1\r\nHost: localhost\r\n\r\n"
        with socket.socket() as client:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            await trio.to_thread.run_sync(client.connect, ("127.0.0.1", port))
            client.sendall(request * 20)
            await until_open(listener, 1)
            await until_open(listener, 0)


async def test_bodies_share_a_bounded_memory() -> None:
    async with listening() as (world, _, port), AsyncExitStack() as stack:
        bodies = world.client._app.api.memory.bodies
        bodies.most = 100_000
        head = (
            b"POST /api/v1/jobs/item HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
            b"Content-Length: 90000\r\n\r\n"
        )
        holder = await opened(stack, port)
        await holder.send_all(head + b" " * 60_000)
        with trio.fail_after(30):
            while bodies.held < 60_000:  # noqa: ASYNC110
                await trio.sleep(0.01)
        refused = await answered(await opened(stack, port), head + b" " * 90_000)
        assert refused.startswith(b"HTTP/1.1 503") and b"retry-after: 1" in refused.lower()
        body = b" " * 29_986 + b'{"name": "x"} '
        assert (await answered(holder, body)).startswith(b"HTTP/1.1 200")
        assert bodies.held == 0


async def test_a_client_that_leaves_in_the_middle_of_its_body_leaves_nothing_behind() -> None:
    async with listening() as (world, listener, port):
        async with AsyncExitStack() as stack:
            stream = await opened(stack, port)
            await stream.send_all(
                b"POST /api/v1/jobs/item HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
                b"Content-Length: 90000\r\n\r\n" + b" " * 50_000
            )
            await until_open(listener, 1)
        await until_open(listener, 0)
        assert world.client._app.api.memory.bodies.held == 0


@pytest.mark.parametrize(
    "head",
    [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\x00" * 200,
        b"GET\r\n\r\n",
        b"GET / HTTP/9.9\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: localhost\r\nContent-Length: -1\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: gzip\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: localhost\r\nX: a\r\n b\r\n\x00\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\xff" * 100,
        b"GET /%zz%00 HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"GET /api/v1/agents?%ff=1 HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"OPTIONS * HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"GET http://localhost/api/v1/nothing HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: localhost\r\n" + b"X: y\r\n" * 20_000 + b"\r\n",
    ],
)
async def test_a_malformed_head_is_refused_and_the_server_lives_on(head: bytes) -> None:
    async with listening() as (_, listener, port), AsyncExitStack() as stack:
        stream = await opened(stack, port)
        try:
            answer = await answered(stream, head)
        except trio.BrokenResourceError:  # it stopped reading what it refuses
            answer = b""
        # 501: a transfer coding that nobody here knows, as HTTP has it
        assert not answer or answer.startswith((b"HTTP/1.1 4", b"HTTP/1.1 501"))
        await stream.aclose()
        assert (await answered(await opened(stack, port))).startswith(b"HTTP/1.1 200")
        with trio.fail_after(30):
            while len(listener.connections) > 1:  # noqa: ASYNC110
                await trio.sleep(0.01)


async def test_errors_on_the_wire_are_the_contracts_json() -> None:
    async with listening() as (_, _, port), AsyncExitStack() as stack:
        stream = await opened(stack, port)
        body = b'{"name": "x", "name": "y"}'
        request = (
            b"POST /api/v1/jobs/item HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nX-Request-Id: mine\r\n"
            b"Content-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(body)
        )
        await stream.send_all(request + body)
        head, _, content = (await ended(stream)).partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 400") and b"x-request-id: mine" in head.lower()
        error = json.loads(content)
        assert (error["request_id"], error["details"]) == ("mine", {"line": 1, "column": 15})
