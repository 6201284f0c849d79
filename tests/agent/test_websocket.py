"""Dialling with real sockets: what becomes of a connection that ends before it is one."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial

import pytest
import trio

from agent.websocket import CLOSE_SECONDS_MAX, open_dialer
from hetuflow.gateway.listener import WebSocketListener
from hetuflow.gateway.settings import GatewaySettings
from hetuflow.ports.admission import Admission
from hetuflow.ports.network import DialError, MessageStream
from hetuflow.scheduler.reaper import MARGIN_SECONDS

DEADLINE_SECONDS = 60.0
"""Of each test; nothing here is expected to wait."""


@asynccontextmanager
async def listening(serve: Callable[[trio.SocketStream], Awaitable[None]]) -> AsyncIterator[str]:
    """A TCP server in the place of a hetuflow server; the URL."""
    async with trio.open_nursery() as nursery:
        listeners = await nursery.start(partial(trio.serve_tcp, serve, 0, host="127.0.0.1"))
        yield f"ws://127.0.0.1:{listeners[0].socket.getsockname()[1]}/api/v1/gateway/ws?agent_id=a"
        nursery.cancel_scope.cancel()


async def test_a_server_that_dies_in_the_handshake_is_noticed_at_once() -> None:
    """And not when the deadline for dialling is over: the library would wait for its answer for ever."""

    async def die(stream: trio.SocketStream) -> None:
        await stream.receive_some()

    async with listening(die) as url, open_dialer() as dialer:
        with trio.fail_after(DEADLINE_SECONDS):
            with pytest.raises(DialError, match="ended in its handshake"):
                await dialer.dial(url)


async def test_a_refusal_in_http_is_told_with_its_status() -> None:
    async def refuse(stream: trio.SocketStream) -> None:
        await stream.receive_some()
        await stream.send_all(b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 4\r\n\r\nbusy")

    async with listening(refuse) as url, open_dialer() as dialer:
        with trio.fail_after(DEADLINE_SECONDS):
            with pytest.raises(DialError, match="the server answered 503 busy"):
                await dialer.dial(url)


def test_a_connection_that_went_silent_is_replaced_before_its_agent_is_lost() -> None:
    """Noticed by an unanswered heartbeat, closed, dialled anew, and let in after the server has asked the old one."""
    settings = GatewaySettings(server_id="s")
    lease = settings.lease_seconds(0.0)
    beat = settings.heartbeat_interval(1, lease)
    answered_within = lease / 4
    assert beat + answered_within + CLOSE_SECONDS_MAX + settings.ping_seconds < lease + MARGIN_SECONDS


async def test_something_else_than_http_is_no_server_and_no_reason_to_die() -> None:
    async def babble(stream: trio.SocketStream) -> None:
        await stream.receive_some()
        await stream.send_all(b"220 mail.example.org ESMTP\r\n")

    async with listening(babble) as url, open_dialer() as dialer:
        with trio.fail_after(DEADLINE_SECONDS):
            for _ in range(3):
                with pytest.raises(DialError):
                    await dialer.dial(url)


async def test_a_connection_outlives_its_dial_and_ends_with_the_server() -> None:
    async def echo(stream: MessageStream) -> None:
        await stream.send(await stream.receive())

    listener = WebSocketListener("127.0.0.1", 0, Admission())
    async with open_dialer() as dialer, trio.open_nursery() as nursery:
        port = await nursery.start(listener.serve, echo)
        with trio.fail_after(DEADLINE_SECONDS):
            stream = await dialer.dial(f"ws://127.0.0.1:{port}/api/v1/gateway/ws?agent_id=a")
            await stream.send(b"there and back")
            assert await stream.receive() == b"there and back"
            await stream.aclose()
        nursery.cancel_scope.cancel()
