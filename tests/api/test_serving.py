"""The application behind real sockets: hypercorn, curl, a WebSocket client, and a stop with connections open."""

from __future__ import annotations

import json
import socket
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
import trio
from trio_websocket import ConnectionClosed, wrap_client_stream

from hetuflow.api.serving import GRACEFUL_SECONDS, HttpListener, ListenError
from tests.api.memory_rooms import World, memory_world


@asynccontextmanager
async def served() -> AsyncIterator[tuple[World, str]]:
    async with memory_world() as world, trio.open_nursery() as nursery:
        port = await nursery.start(HttpListener("127.0.0.1", 0).serve, world.client._app)
        yield world, f"http://127.0.0.1:{port}"
        nursery.cancel_scope.cancel()


async def curl(*arguments: str, data: bytes | None = None) -> tuple[int, bytes]:
    """Status and body."""
    command = ["curl", "-sS", "--max-time", "30", "-w", "\n%{http_code}", *arguments]
    done = await trio.run_process(command, stdin=data or b"", capture_stdout=True, capture_stderr=True, check=False)
    assert done.returncode == 0, done.stderr.decode()
    body, _, status = done.stdout.rpartition(b"\n")
    return int(status), body


async def test_curl_creates_and_reads() -> None:
    async with served() as (_, base):
        status, body = await curl(
            "-X", "POST", f"{base}/api/v1/jobs/item", "-H", "Content-Type: application/json", "-d", '{"name":"x"}'
        )
        assert status == 200
        job = json.loads(body)["id"]
        status, body = await curl(f"{base}/api/v1/jobs/item/{job}", f"{base}/api/v1/jobs/item/{job}/")
        assert status == 200
        assert (await curl("-X", "POST", f"{base}/api/v1/jobs/item/{job}/disable"))[0] == 200
        assert (await curl("-I", f"{base}/api/v1/jobs/item/{job}"))[0] == 200
        assert (await curl(f"{base}/docs"))[0] == 200


async def test_a_large_body_is_answered_and_not_reset() -> None:
    async with served() as (_, base):
        for transfer in ((), ("-H", "Transfer-Encoding: chunked"), ("-H", "Expect:")):
            status, body = await curl(
                *("-X", "POST", f"{base}/api/v1/jobs/item", "-H", "Content-Type: application/json"),
                *transfer,
                *("--data-binary", "@-"),
                data=b" " * (3 * 1024 * 1024),
            )
            assert (status, json.loads(body)["code"]) == (413, "PAYLOAD_TOO_LARGE")


async def test_a_body_that_nobody_reads_keeps_the_connection_and_one_that_does_not_come_ends_it() -> None:
    async with served() as (_, base):
        head = b"POST /api/v1/nothing HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100000\r\n\r\n"
        async with await trio.open_tcp_stream("127.0.0.1", int(base.rpartition(":")[2])) as stream:
            for _ in range(2):
                await stream.send_all(head + b"x" * 50_000)
                received = b""
                while not received.endswith(b'"}'):
                    received += await stream.receive_some()
                assert received.startswith(b"HTTP/1.1 404")
                await stream.send_all(b"x" * 50_000)
            await stream.send_all(head)
            received = b"".join([piece async for piece in stream])
            assert received.startswith(b"HTTP/1.1 404") and received.endswith(b'"}')


async def test_large_heads_are_431() -> None:
    async with served() as (_, base):
        status, body = await curl(f"{base}/api/v1/agents", "-H", "X-Padding: " + "x" * 20_000)
        assert (status, json.loads(body)["code"]) == (431, "HEADERS_TOO_LARGE")
        status, _ = await curl(f"{base}/api/v1/agents?x=" + "x" * 10_000)
        assert status == 431


async def test_one_connection_carries_many_requests() -> None:
    async with served() as (_, base):
        stream = await trio.open_tcp_stream("127.0.0.1", int(base.rpartition(":")[2]))
        async with stream:
            for _ in range(5):
                await stream.send_all(b"GET /api/v1/agents HTTP/1.1\r\nHost: localhost\r\n\r\n")
                received = b""
                while not received.endswith(b"[]"):
                    received += await stream.receive_some()
                assert received.startswith(b"HTTP/1.1 200")


async def test_agents_may_use_the_http_port() -> None:
    async with served() as (world, base):
        port = int(base.rpartition(":")[2])
        async with await trio.open_tcp_stream("127.0.0.1", port) as stream, trio.open_nursery() as nursery:
            path = "/api/v1/gateway/ws?agent_id=a"
            connection = await wrap_client_stream(nursery, stream, f"127.0.0.1:{port}", path)
            await connection.send_message(b"\xc1 no message of the protocol")
            with pytest.raises(ConnectionClosed):
                while True:
                    await connection.get_message()
        assert world.rooms.agents.status().total_connections == 1
        for path, status in (
            ("/api/v1/gateway/ws", 400),
            ("/api/v1/gateway/ws?agent_id=a/b", 400),
            ("/ws?agent_id=a", 404),
        ):
            assert await handshake(base + path) == (status, status)
        evil = ("-H", "Origin: https://evil.example")
        assert await handshake(f"{base}/api/v1/gateway/ws?agent_id=a", *evil) == (403, 403)


async def handshake(url: str, *headers: str) -> tuple[int, int]:
    """Status and `err_code` of a refused WebSocket handshake."""
    upgrade = ("-H", "Connection: Upgrade", "-H", "Upgrade: websocket", "-H", "Sec-WebSocket-Version: 13")
    key = ("-H", "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==")
    status, body = await curl(url, *upgrade, *key, *headers)
    return status, json.loads(body)["err_code"]


async def test_a_stop_waits_for_nobody_for_ever() -> None:
    """An idle connection, and one that sent half a request and stopped."""
    async with memory_world() as world:
        listener = HttpListener("127.0.0.1", 0)
        with trio.fail_after(GRACEFUL_SECONDS + 10):
            async with trio.open_nursery() as nursery:
                port = await nursery.start(listener.serve, world.client._app)
                idle = await trio.open_tcp_stream("127.0.0.1", port)
                await idle.send_all(b"GET /api/v1/agents HTTP/1.1\r\nHost: localhost\r\n\r\n")
                await idle.receive_some()
                stalled = await trio.open_tcp_stream("127.0.0.1", port)
                await stalled.send_all(
                    b"POST /api/v1/jobs/item HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
                    b"Content-Length: 100\r\n\r\n{"
                )
                await trio.testing.wait_all_tasks_blocked()
                nursery.cancel_scope.cancel()
        for stream in (idle, stalled):
            await stream.aclose()


def test_a_port_in_use_is_one_clear_sentence() -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        with pytest.raises(ListenError, match=f"port {port} on 127.0.0.1 is in use: .*server.http_port"):
            HttpListener("127.0.0.1", port).open()


def test_curl_is_here() -> None:
    assert subprocess.run(["curl", "--version"], capture_output=True, check=True).stdout
