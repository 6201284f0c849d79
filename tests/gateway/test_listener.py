"""The WebSocket port with real sockets: who is let through, and that one connection's trouble stays its own."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest
import trio
import trio_websocket
from trio_websocket import ConnectionClosed, WebSocketConnection, open_websocket_url

from hetuflow.gateway.listener import PATH, ListenError, WebSocketListener
from hetuflow.ports.admission import Admission
from hetuflow.ports.network import ConnectionLost, MessageStream
from hetuflow.protocol.codec import FRAME_BYTES_MAX

DEADLINE_SECONDS = 20.0


ADMISSION = Admission.of(["my.name"], ["https://ops.example"])


@asynccontextmanager
async def listening(handler: Callable[[MessageStream], Awaitable[None]]) -> AsyncIterator[str]:
    """The base address of a listener with this handler."""
    with trio.fail_after(DEADLINE_SECONDS):
        async with trio.open_nursery() as nursery:
            port = await nursery.start(WebSocketListener("127.0.0.1", 0, ADMISSION).serve, handler)
            yield f"ws://127.0.0.1:{port}"
            nursery.cancel_scope.cancel()


@asynccontextmanager
async def a_client(url: str) -> AsyncIterator[WebSocketConnection]:
    """The library's client leaves its socket open when the server closes first."""
    async with open_websocket_url(url) as client:
        try:
            yield client
        finally:
            await trio.aclose_forcefully(client._stream)


async def echo(stream: MessageStream) -> None:
    try:
        while True:
            await stream.send(await stream.receive())
    except ConnectionLost:
        pass


async def test_frames_go_both_ways_and_the_query_is_known() -> None:
    async def handler(stream: MessageStream) -> None:
        await stream.send(stream.query.encode())
        assert stream.peer.startswith("127.0.0.1:")
        await echo(stream)

    async with listening(handler) as url, a_client(f"{url}{PATH}?agent_id=a1") as client:
        assert await client.get_message() == b"agent_id=a1"
        whole = b"x" * FRAME_BYTES_MAX
        await client.send_message(whole)
        assert await client.get_message() == whole


@pytest.mark.parametrize(
    ("target", "status"),
    [
        ("/", 404),
        ("/api/v1/gateway/other?agent_id=a", 404),
        (PATH, 400),
        (f"{PATH}?agent_id=", 400),
        (f"{PATH}?agent_id=..", 400),
        (f"{PATH}?agent_id=a%2Fb", 400),
        (f"{PATH}?agent_id=a%0A", 400),
        (f"{PATH}?agent_id={'a' * 65}", 400),
        (f"{PATH}?agent_id=%C3%A9", 400),
    ],
)
async def test_other_paths_and_nameless_agents_are_answered_in_http(target: str, status: int) -> None:
    async with listening(echo) as url:
        answer = await handshake(int(url.rpartition(":")[2]), target)
        assert answer.startswith(f"HTTP/1.1 {status} ".encode())
        assert b"agent" in answer.partition(b"\r\n\r\n")[2]


@pytest.mark.parametrize(
    ("request_line", "status", "code"),
    [
        ("GET /x HTTP/1.1", 404, "NOT_FOUND"),
        ("POST /api/v1/jobs/item HTTP/1.1", 404, "NOT_FOUND"),
        (f"GET {PATH}?agent_id=a HTTP/1.1", 426, "UPGRADE_REQUIRED"),
    ],
)
async def test_plain_http_is_answered_as_the_contract_says(request_line: str, status: int, code: str) -> None:
    async with listening(echo) as url:
        port = int(url.rpartition(":")[2])
        async with await trio.open_tcp_stream("127.0.0.1", port) as stream:
            head = "\r\n".join([request_line, "Host: localhost", "X-Request-Id: mine-1", "", ""]).encode()
            for piece in (head[:7], head[7:]):
                await stream.send_all(piece)
            answer = b"".join([piece async for piece in stream])
        first, _, body = answer.partition(b"\r\n\r\n")
        assert first.startswith(f"HTTP/1.1 {status} ".encode())
        error = json.loads(body)
        assert (error["err_code"], error["code"], error["request_id"]) == (status, code, "mine-1")
        assert error["message"] and error["err_msg"] == error["message"]
        assert error["detail"] is None and error["details"] is None


async def handshake(port: int, target: str, host: str = "127.0.0.1", *headers: str) -> bytes:
    """All that is answered to a WebSocket handshake. (The library's client leaves its socket open when refused.)"""
    lines = [f"GET {target} HTTP/1.1", f"Host: {host}", "Upgrade: websocket", "Connection: Upgrade", *headers]
    async with await trio.open_tcp_stream("127.0.0.1", port) as stream:
        await stream.send_all(
            "\r\n".join(
                [*lines, "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==", "Sec-WebSocket-Version: 13", "", ""]
            ).encode()
        )
        return b"".join([piece async for piece in stream])


async def hang_up(stream: MessageStream) -> None:
    pass


@pytest.mark.parametrize(
    ("host", "headers", "status"),
    [
        ("127.0.0.1", (), 101),
        ("localhost:{port}", (), 101),
        ("my.name:1", (), 101),
        ("localhost:{port}", ("Origin: http://localhost:{port}",), 101),
        ("localhost:{port}", ("Origin: https://ops.example",), 101),
        ("evil.example:{port}", (), 403),
        ("evil.example:{port}", ("Origin: http://evil.example:{port}",), 403),
        ("127.0.0.1:{port}", ("Origin: https://evil.example",), 403),
        ("127.0.0.1:{port}", ("Origin: null",), 403),
        ("127.0.0.1:{port}", ("Origin:",), 403),
        ("127.0.0.1:{port}", ("Origin: http://localhost:{port}",), 403),
        ("127.0.0.1:{port}", ("Origin: https://ops.example", "Origin: https://evil.example"), 403),
    ],
)
async def test_a_web_page_opens_no_agents_connection(host: str, headers: tuple[str, ...], status: int) -> None:
    async with listening(hang_up) as url:
        port = int(url.rpartition(":")[2])
        said = [header.format(port=port) for header in headers]
        answer = await handshake(port, f"{PATH}?agent_id=a", host.format(port=port), *said)
        assert answer.startswith(f"HTTP/1.1 {status} ".encode())


async def test_an_exception_in_one_handler_leaves_the_others_alone(caplog) -> None:
    async def handler(stream: MessageStream) -> None:
        if "bad" in stream.query:
            raise ZeroDivisionError
        await echo(stream)

    async with listening(handler) as url, a_client(f"{url}{PATH}?agent_id=good") as good:
        async with a_client(f"{url}{PATH}?agent_id=bad") as bad:
            with pytest.raises(ConnectionClosed):
                await bad.get_message()
        await good.send_message(b"still here")
        assert await good.get_message() == b"still here"
        async with a_client(f"{url}{PATH}?agent_id=late") as late:
            await late.send_message(b"let in")
            assert await late.get_message() == b"let in"
    assert "ZeroDivisionError" in caplog.text


async def test_a_message_beyond_the_frame_limit_closes_its_connection() -> None:
    lost: list[ConnectionLost] = []

    async def handler(stream: MessageStream) -> None:
        try:
            await stream.receive()
        except ConnectionLost as exc:
            lost.append(exc)

    async with listening(handler) as url, a_client(f"{url}{PATH}?agent_id=a") as client:
        await client.send_message(b"x" * (FRAME_BYTES_MAX + 1))
        with pytest.raises(ConnectionClosed) as closed:
            await client.get_message()
        assert closed.value.reason is not None and closed.value.reason.code == 1009
    assert [exc.code for exc in lost] == [1009]


async def test_code_and_reason_of_a_close_reach_the_client() -> None:
    async def handler(stream: MessageStream) -> None:
        await stream.aclose(4003, "another connection took over " + "é" * 200)

    async with listening(handler) as url, a_client(f"{url}{PATH}?agent_id=a") as client:
        with pytest.raises(ConnectionClosed) as closed:
            await client.get_message()
        assert closed.value.reason is not None
        assert closed.value.reason.code == 4003
        assert closed.value.reason.reason.startswith("another connection took over")


async def test_noise_on_the_port_is_no_harm() -> None:
    async with listening(echo) as url:
        port = int(url.rpartition(":")[2])
        for noise in (b"\x16\x03\x01\x02\x00", b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", b""):
            stream = await trio.open_tcp_stream("127.0.0.1", port)
            if noise:
                await stream.send_all(noise)
                await stream.receive_some()
            await stream.aclose()
        async with a_client(f"{url}{PATH}?agent_id=a") as client:
            await client.send_message(b"works")
            assert await client.get_message() == b"works"


async def test_a_port_in_use_is_one_line_that_says_what_to_do() -> None:
    async with listening(echo) as url:
        port = int(url.rpartition(":")[2])
        with pytest.raises(ListenError, match=rf"port {port} on 127.0.0.1 is in use: .*server\.websocket_port"):
            await WebSocketListener("127.0.0.1", port, ADMISSION).open()


async def test_a_client_that_vanishes_ends_its_handler() -> None:
    ended = trio.Event()

    async def handler(stream: MessageStream) -> None:
        try:
            await echo(stream)
        finally:
            ended.set()

    async with listening(handler) as url, trio.open_nursery() as nursery:
        client = await trio_websocket.connect_websocket_url(nursery, f"{url}{PATH}?agent_id=a")
        await client.send_message(b"x")
        await client.get_message()
        await trio.aclose_forcefully(client._stream)
        await ended.wait()
        nursery.cancel_scope.cancel()


async def test_orders_written_at_once_and_sends_keep_every_frame_whole() -> None:
    """A socket takes only part of a big frame: the rest goes before anything else, also before the library's pongs."""
    frames = [bytes([n]) * (FRAME_BYTES_MAX - n) for n in range(60)]

    async def handler(stream: MessageStream) -> None:
        for n, frame in enumerate(frames):
            if n % 3 or not stream.send_nowait(frame):
                await stream.send(frame)
        await stream.flush()
        await echo(stream)

    async with (
        listening(handler) as url,
        a_client(f"{url}{PATH}?agent_id=a") as client,
        trio.open_nursery() as nursery,
    ):
        nursery.start_soon(client.ping)
        assert [await client.get_message() for _ in frames] == frames


@pytest.mark.parametrize("size", [0, 125, 126, 65535, 65536, FRAME_BYTES_MAX])
async def test_frames_of_every_length_arrive(size: int) -> None:
    async with listening(echo) as url, a_client(f"{url}{PATH}?agent_id=a") as client:
        await client.send_message(b"x" * size)
        assert await client.get_message() == b"x" * size
