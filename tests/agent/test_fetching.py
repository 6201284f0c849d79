"""A file of the server arrives whole, however its pieces come, or says why not."""

from __future__ import annotations

import hashlib
from collections.abc import Callable

import pytest
import trio

from agent.fetching import AHEAD_MAX, COMING_SECONDS_MAX, PART_BYTES, UNDER_WAY_MAX, FetchError, Fetching
from agent.wakeup import Wakeup
from hetuflow.protocol.messages import FetchPart, FilePart

DATA = bytes(range(256)) * 512 * 11 + b"the end"
URL = "/api/v1/files/x"


class Server:
    """Answers what it is asked, in the way the test wants."""

    def __init__(self, data: bytes = DATA) -> None:
        self.data, self.stored = data, len(data)
        self.fetching = Fetching(Wakeup())
        self.asked: list[FetchPart] = []
        self.most_at_once = 0
        self.answer: Callable[[FetchPart], FilePart] = self.part
        self.sha256 = hashlib.sha256(data).hexdigest()

    def part(self, wanted: FetchPart) -> FilePart:
        if wanted.offset >= self.stored < len(self.data):
            return FilePart(token=wanted.token, problem="some of it has arrived", is_coming=True)
        data = self.data[wanted.offset : min(self.stored, wanted.offset + wanted.length)]
        return FilePart(
            token=wanted.token, offset=wanted.offset, bytes_total=len(self.data), sha256=self.sha256, data=data
        )

    async def serve(self) -> None:
        while True:
            wanted = self.fetching.take()
            self.most_at_once = max(self.most_at_once, len(wanted))
            for each in wanted:
                self.asked.append(each)
                self.fetching.answered(self.answer(each))
            await trio.sleep(0.01)

    async def fetch(self, bytes_max: int = 10**9) -> bytes:
        got = bytearray()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self.serve)
            size = await self.fetching.fetch("i", URL, got.extend, bytes_max=bytes_max)
            nursery.cancel_scope.cancel()
        assert size == len(got)
        return bytes(got)


@pytest.mark.parametrize("size", [0, 1, PART_BYTES, PART_BYTES + 1, len(DATA)])
async def test_every_byte_comes_once(autojump_clock, size: int) -> None:
    server = Server(DATA[:size])
    assert await server.fetch() == DATA[:size]
    assert [each.offset for each in server.asked] == list(range(0, max(size, 1), PART_BYTES))
    assert server.most_at_once <= AHEAD_MAX


async def test_a_connection_that_is_lost_is_no_loss(autojump_clock) -> None:
    server = Server()
    lost = 0

    async def lose() -> None:
        nonlocal lost
        while True:
            await trio.sleep(0.015)
            lost += len(server.fetching.take())  # asked, and never answered
            server.fetching.restart()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(lose)
        assert await server.fetch() == DATA
        nursery.cancel_scope.cancel()
    assert lost > 0


async def test_a_file_that_is_still_arriving_is_taken_as_it_arrives(autojump_clock) -> None:
    server = Server()
    server.stored = 0

    async def arrive() -> None:
        while server.stored < len(DATA):
            await trio.sleep(20)
            server.stored = min(len(DATA), server.stored + 100_001)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(arrive)
        assert await server.fetch() == DATA


async def test_a_file_that_does_not_arrive_is_given_up(autojump_clock) -> None:
    server = Server()
    server.stored = 1000
    with pytest.raises(ExceptionGroup) as caught:
        await server.fetch()
    assert "nothing more came within 600 s" in repr(caught.value.exceptions)
    assert COMING_SECONDS_MAX <= trio.current_time() < COMING_SECONDS_MAX + 60
    assert len(server.asked) < 330  # it does not ask all the time


async def failure_of(server: Server, **how: int) -> str:
    with pytest.raises(ExceptionGroup) as caught:
        await server.fetch(**how)
    (only,) = caught.value.exceptions
    assert isinstance(only, FetchError)
    return str(only)


async def test_why_a_file_cannot_be_had(autojump_clock) -> None:
    server = Server()
    server.answer = lambda wanted: FilePart(token=wanted.token, problem="there is no file x")
    assert await failure_of(server) == "there is no file x"
    assert "at most 10 are taken" in await failure_of(Server(), bytes_max=10)
    damaged = Server()
    damaged.sha256 = "0" * 64
    assert "arrived damaged" in await failure_of(damaged)


async def test_a_file_that_changes_meanwhile_is_not_mixed(autojump_clock) -> None:
    server, other = Server(), Server(DATA[::-1])
    server.answer = lambda wanted: (server if wanted.offset < PART_BYTES * 2 else other).part(wanted)
    assert "has changed" in await failure_of(server)
    empty = Server()
    empty.answer = lambda wanted: FilePart(token=wanted.token, bytes_total=5, sha256=empty.sha256)
    assert "has changed" in await failure_of(empty)


async def test_many_fetches_share_what_may_be_under_way(autojump_clock) -> None:
    server = Server()
    got = [bytearray() for _ in range(12)]
    async with trio.open_nursery() as nursery:
        nursery.start_soon(server.serve)
        async with trio.open_nursery() as fetches:
            for each in got:
                fetches.start_soon(lambda each=each: server.fetching.fetch("i", URL, each.extend, bytes_max=10**9))
        nursery.cancel_scope.cancel()
    assert all(each == DATA for each in got)
    assert server.most_at_once <= UNDER_WAY_MAX + len(got)


async def test_a_fetch_that_is_cancelled_asks_no_more(autojump_clock) -> None:
    server = Server()
    with trio.move_on_after(1):
        await server.fetching.fetch("i", URL, lambda data: None, bytes_max=10**9)
    server.fetching.restart()
    assert server.fetching.take() == []
    server.fetching.answered(FilePart(token=1, data=b"late"))
