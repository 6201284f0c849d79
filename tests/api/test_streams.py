"""E3 and I7's `follow`: each thing once, in order, resumable; bounded in number, silence and slowness."""

from __future__ import annotations

import json
import socket

import pytest
import trio
import trio.testing

from hetuflow.api.log_follow import Place
from hetuflow.api.serving import HttpListener
from hetuflow.api.streaming import PULSE_SECONDS
from tests.api.client import Client
from tests.api.memory_rooms import World, memory_world
from tests.api.test_logs import BYTES, TEXT, Piece, printed


async def jobs(client: Client, count: int) -> list[str]:
    return [await client.made("/jobs/item", {"name": f"job {number}"}) for number in range(count)]


# --- E3 ---------------------------------------------------------------------------------------------------------------


async def test_history_then_live_each_once_and_in_order(world: World) -> None:
    await jobs(world.client, 3)
    async with world.client.follow("/events/stream?after=0&stream=job") as stream:
        assert (stream.status, stream.headers["content-type"]) == (200, "text/event-stream; charset=utf-8")
        assert "content-length" not in stream.headers
        found = [await stream.frame() for _ in range(3)]
        await jobs(world.client, 2)
        found += [await stream.frame() for _ in range(2)]
    assert [frame.event for frame in found] == ["JobCreated"] * 5
    page = (await world.client.get("/events?stream=job")).json
    assert [frame.data for frame in found] == page["result"]
    assert [frame.id for frame in found] == [str(record["position"]) for record in page["result"]]


async def test_it_begins_at_the_head_and_resumes_after_the_last_id(world: World) -> None:
    await jobs(world.client, 2)
    async with world.client.follow("/events/stream?type=JobCreated") as stream:
        await world.client.made("/jobs/item", {"name": "new"})
        first = await stream.frame()
        assert first.data["data"]["name"] == "new"
    await world.client.made("/jobs/item", {"name": "meanwhile"})
    headers = [("Last-Event-ID", first.id or "")]
    async with world.client.follow("/events/stream?type=JobCreated&after=0", headers) as stream:
        assert (await stream.frame()).data["data"]["name"] == "meanwhile"  # the header goes before `after`


async def test_every_filter_of_the_page(world: World) -> None:
    first, second = await jobs(world.client, 2)
    await world.client.post(f"/jobs/item/{first}/disable")
    records = (await world.client.get("/events?stream=job")).json["result"]
    conversation = records[-1]["metadata"]["correlation_id"]
    moment = records[1]["recorded_at"].replace("+", "%2B")
    for query, positions in (
        (f"stream=job-{second}", [records[1]["position"]]),
        ("type=JobDisabled&type=JobEnabled", [records[2]["position"]]),
        (f"correlation_id={conversation}", [records[2]["position"]]),
        (f"stream=job&from={moment}&to={moment}", [records[1]["position"]]),
    ):
        async with world.client.follow(f"/events/stream?after=0&{query}") as stream:
            assert [(await stream.frame()).data["position"] for _ in positions] == positions


@pytest.mark.parametrize("query, status", [("stream=nothing", 422), ("type=JobMade", 422), ("after=x", 400)])
async def test_what_cannot_be_followed_is_an_error_and_no_stream(query: str, status: int) -> None:
    async with memory_world() as world:
        assert (await world.client.get(f"/events/stream?{query}")).status == status


async def test_a_malformed_last_event_id_is_400() -> None:
    async with memory_world() as world:
        for wrong in ("x", "-1", "9" * 20):
            answer = await world.client.get("/events/stream", headers=[("Last-Event-ID", wrong)])
            assert answer.status == 400 and "header.Last-Event-ID" in answer.problems


async def test_silence_is_broken_by_a_comment_and_what_was_passed_over_by_a_position(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with memory_world() as world, world.client.follow("/events/stream?type=JobDeleted") as stream:
        await stream.comment()
        before = trio.current_time()
        await stream.comment()
        assert trio.current_time() - before == pytest.approx(PULSE_SECONDS, abs=1)
        head = await world.store.head()
        await jobs(world.client, 2)
        frame = await stream.frame()
        assert (frame.event, frame.id, frame.data) == ("position", str(head + 2), {"position": head + 2})


async def test_too_many_streams_are_429_and_a_closed_one_makes_room() -> None:
    async with memory_world() as world:
        streams = world.client._app.api.memory.streams
        streams.most = 1
        async with world.client.follow("/events/stream"):
            answer = await world.client.get("/events/stream")
            assert (answer.status, answer.headers["retry-after"]) == (429, "1")
        async with world.client.follow("/events/stream") as stream:
            assert stream.status == 200
        assert len(streams) == 0


async def test_streams_end_when_the_server_stops() -> None:
    async with memory_world() as world:
        async with world.client.follow("/events/stream") as stream:
            world.client._app.api.memory.streams.close()
            assert await stream.rest() == []
        assert (await world.client.get("/events/stream")).status == 503


async def test_head_is_answered_without_a_stream() -> None:
    async with memory_world() as world:
        answer = await world.client.send("HEAD", "/api/v1/events/stream")
        assert (answer.status, answer.content) == (200, b"")


async def test_a_client_that_does_not_drain_is_cut_off() -> None:
    async with memory_world() as world, trio.open_nursery() as nursery:
        listener = HttpListener("127.0.0.1", 0, drain_seconds=0.5)
        port = await nursery.start(listener.serve, world.client._app)
        for number in range(40):
            await world.client.made("/jobs/item", {"name": f"{number}", "config": {"args": ["x" * 60_000]}})
        client = socket.socket()
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        client.connect(("127.0.0.1", port))
        with client:
            client.sendall(b"GET /api/v1/events/stream?after=0 HTTP/1.1\r\nHost: localhost\r\n\r\n")
            streams = world.client._app.api.memory.streams
            while not len(streams):
                await trio.lowlevel.checkpoint()
            with trio.fail_after(60):
                while len(streams):  # noqa: ASYNC110  the kernel decides: nothing here could set an event
                    await trio.sleep(0.05)
        nursery.cancel_scope.cancel()


# --- I7 ---------------------------------------------------------------------------------------------------------------


def written(frames: list[object], stream: str | None = None) -> str:
    return "".join(
        frame.data["text"]  # type: ignore[attr-defined]
        for frame in frames
        if frame.event == "log" and stream in (None, frame.data["stream"])  # type: ignore[attr-defined]
    )


@pytest.mark.parametrize("size", [1, 2, 3, 5, 100])
@pytest.mark.parametrize("query", ["follow=true", "follow=true&stream=stdout"])
async def test_output_is_followed_in_whole_characters_and_resumed_anywhere(world: World, size: int, query: str) -> None:
    pieces = [("stdout", BYTES[at : at + size]) for at in range(0, len(BYTES), size)]
    if "stream" not in query:
        pieces = [each for piece in pieces for each in (piece, ("stderr", b"."))]
    instance = await printed(world, *pieces)
    path = f"/task-instances/item/{instance}/logs?{query}"
    task = (await world.client.get(f"/task-instances/item/{instance}")).json["task_id"]
    await world.client.post(f"/tasks/{task}/cancel")
    async with world.client.follow(path) as stream:
        frames = await stream.rest()
    assert written(frames, "stdout") == TEXT
    assert all(frame.data["base64"] is None for frame in frames if frame.event == "log")
    assert frames[-1].event == "end" and frames[-1].data["status"] == 99
    told = [frame for frame in frames if frame.event == "log"]
    for at, frame in enumerate(told):
        async with world.client.follow(path, [("Last-Event-ID", frame.id or "")]) as stream:
            assert written([*told[: at + 1], *await stream.rest()]) == written(told)


async def test_a_line_is_told_when_it_arrives_and_the_end_when_the_instance_ends(world: World) -> None:
    instance = await printed(world, ("stdout", b"one\n"))
    row = (await world.client.get(f"/task-instances/item/{instance}")).json
    async with world.client.follow(f"/task-instances/item/{instance}/logs?follow=true") as stream:
        assert (await stream.frame()).data["text"] == "one\n"
        await world.rooms.output.store([Piece(instance, "stdout", 4, 9, b"two\n")])
        second = await stream.frame()
        assert (second.data["text"], second.data["offset"], second.id) == ("two\n", 4, "9")
        await world.client.post(f"/tasks/{row['task_id']}/cancel")
        end = await stream.frame()
        assert end.event == "end"
        assert set(end.data) == {"status", "exit_code", "dropped", "sha256"}
        with pytest.raises(trio.EndOfChannel):
            await stream.frame()


async def test_following_refuses_a_foreign_token_and_an_absent_instance(world: World) -> None:
    instance = await printed(world)
    path = f"/task-instances/item/{instance}/logs?follow=true"
    assert (await world.client.get(path, headers=[("Last-Event-ID", "abc")])).status == 400
    assert (await world.client.get(path + "&after=abc")).status == 400
    absent = "01900000-0000-7000-8000-000000000000"
    assert (await world.client.get(f"/task-instances/item/{absent}/logs?follow=true")).status == 404


def test_places_survive_being_written_down() -> None:
    for place in (Place(0), Place(-5, {"stdout": 7}), Place(3, {"stdout": 1, "stderr": 2})):
        assert Place.parse(str(place)) == place
    assert Place.parse("1.x3") is None
    assert json.dumps(str(Place(3, {"stderr": 2}))) == '"3.e2"'
