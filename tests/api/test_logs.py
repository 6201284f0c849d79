"""I7 and the tails: bytes in any cut come out as whole characters, once each, in order."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest
import trio
from attrs import frozen
from hypothesis import given
from hypothesis import strategies as st

from hetuflow.api.rendering import tail_text
from hetuflow.api.task_instances import unfinished, whole_characters
from hetuflow.domain.identity import instance_id_of
from hetuflow.protocol.messages import Dispatch
from projections.output import Chunk
from tests.api.memory_rooms import World
from tests.gateway.scripted import ScriptedAgent

AT = "2026-01-31T08:00:00Z"


@frozen
class Piece:
    instance_id: str
    stream: str
    offset: int
    seq: int
    data: bytes
    at: str = AT


async def printed(world: World, *parts: tuple[str, bytes]) -> str:
    """An instance that printed these parts, in this order."""
    client = world.client
    job = await client.made("/jobs/item", {"name": "x"})
    task = await client.made(f"/jobs/item/{job}/run", {})
    instance_id = str((await client.get(f"/tasks/{task}")).json["instance_id"])
    ends = {"stdout": 0, "stderr": 0}
    for seq, (stream, data) in enumerate(parts):
        await world.rooms.output.store([Piece(instance_id, stream, ends[stream], seq, data)])
        ends[stream] += len(data)
    return instance_id


async def read_all(world: World, path: str, query: str) -> list[Any]:
    """Every page, one after the other."""
    found, after = [], ""
    for _ in range(1000):
        page = (await world.client.get(f"{path}?{query}{after}")).json
        found.append(page)
        if not page["page"]["has_more"]:
            assert page["page"]["next"] is None
            return found
        after = f"&after={page['page']['next']}"
    raise AssertionError("it goes on for ever")


TEXT = "ü€𝄞 plain, then 你好\n"
BYTES = TEXT.encode()


@pytest.mark.parametrize("limit", [1, 2, 3, 4, 5, 7, 65536])
@pytest.mark.parametrize("size", [1, 2, 3, 5, 100])
async def test_one_stream_in_any_pieces_and_pages(world: World, limit: int, size: int) -> None:
    pieces = [("stdout", BYTES[at : at + size]) for at in range(0, len(BYTES), size)]
    path = f"/task-instances/item/{await printed(world, *pieces)}/logs"
    pages = await read_all(world, path, f"stream=stdout&limit={limit}")
    chunks = [chunk for page in pages for chunk in page["result"]]
    at = 0
    for chunk in chunks:
        assert chunk["offset"] == at
        at += chunk["length"]
    assert at == len(BYTES)
    if limit >= 4:
        assert "".join(chunk["text"] for chunk in chunks) == TEXT
        assert all(chunk["base64"] is None for chunk in chunks)
    assert {page["page"]["total"] for page in pages} == {len(BYTES)}


async def test_both_streams_in_order_of_arrival(world: World) -> None:
    parts = [("stdout", b"1\n"), ("stderr", b"2\n"), ("stdout", b"3\n"), ("stderr", b"4\n")]
    instance_id = await printed(world, *parts)
    path = f"/task-instances/item/{instance_id}"
    for limit in (1, 3, 100):
        pages = await read_all(world, f"{path}/logs", f"limit={limit}")
        assert [chunk["text"] for page in pages for chunk in page["result"]] == ["1\n", "2\n", "3\n", "4\n"]
    shown = (await world.client.get(path)).json
    assert (shown["output"], shown["output_truncated"]) == ("1\n2\n3\n4\n", False)
    end = (await world.client.get(f"{path}/logs?stream=stderr&offset=-2")).json
    assert [chunk["text"] for chunk in end["result"]] == ["4\n"]


async def test_tails_are_cut_at_a_character_and_say_so(world: World) -> None:
    instance_id = await printed(world, ("stdout", "€".encode() * 40_000))
    shown = (await world.client.get(f"/task-instances/item/{instance_id}")).json
    assert shown["output"] == "€" * (65536 // 3)
    assert shown["output_truncated"] is True
    [row] = (await world.client.post("/task-instances/page")).json["result"]
    assert (row["output"], row["output_truncated"]) == ("€" * (4096 // 3), True)


async def test_bytes_that_are_no_text_come_exactly(world: World) -> None:
    instance_id = await printed(world, ("stdout", b"a\xff\xfeb"))
    [chunk] = (await world.client.get(f"/task-instances/item/{instance_id}/logs")).json["result"]
    assert (chunk["text"], chunk["base64"], chunk["length"]) == ("a\ufffd\ufffdb", "Yf/+Yg==", 4)


async def test_logs_and_history_stay_readable_after_the_task_was_deleted(world: World) -> None:
    client = world.client
    first = await printed(world, ("stdout", b"1\n"), ("stderr", b"2\n"))
    task = (await client.post("/tasks/page")).json["result"][0]["id"]
    await client.post(f"/tasks/{task}/cancel")
    await client.post(f"/tasks/{task}/retry")
    second = (await client.get(f"/tasks/{task}")).json["instance_id"]
    await client.post(f"/tasks/{task}/cancel")
    events = (await client.get(f"/tasks/{task}/history")).json["result"]
    paths = [f"/task-instances/item/{instance_id}" for instance_id in (first, second)]
    before = [(await client.get(f"{path}/logs")).json for path in paths]
    assert (await client.get(f"/task-instances/item/{instance_id_of(task, 3)}/logs")).status == 404
    assert (await client.delete(f"/tasks/{task}")).status == 200
    assert (await client.get(f"/task-instances/item/{instance_id_of(task, 3)}/logs")).status == 404
    assert [(await client.get(path)).status for path in paths] == [404, 404]
    assert [(await client.get(f"{path}/logs")).json for path in paths] == before
    assert [chunk["text"] for chunk in before[0]["result"]] == ["1\n", "2\n"]
    after = (await client.get(f"/tasks/{task}/history")).json["result"]
    assert (after[:-1], after[-1]["type"]) == (events, "TaskDeleted")
    never = f"{first[:-1]}{'0' if first[-1] != '0' else '1'}"
    assert (await client.get(f"/task-instances/item/{never}/logs")).status == 404


SHA = "0" * 64
ALL_SENT = {"stdout": {"bytes": 9, "kept": 2, "shipped": 4, "sha256": SHA}, "dropped": 7}


@pytest.mark.parametrize(
    ("reason", "output", "captures", "stored", "complete"),
    [
        (None, ALL_SENT, True, b"12", False),  # all that was kept, and not yet the marker of the cut
        (None, ALL_SENT, True, b"1234", True),
        ("lost", ALL_SENT, True, b"1234", True),
        ("lost", None, True, b"1234", False),
        ("lost", None, True, b"", False),
        ("lost", None, False, b"", True),
        ("exit_code", None, False, b"", True),
        ("start_error", None, True, b"", True),
    ],
)
async def test_output_is_complete_when_all_that_was_sent_is_here(
    world: World, reason: str | None, output: Any, captures: bool, stored: bytes, complete: bool
) -> None:
    client = world.client
    async with trio.open_nursery() as nursery:
        agent = ScriptedAgent(world.rooms.agents.serve_connection, nursery)
        await agent.connect()
        job = await client.made("/jobs/item", {"name": "x", "config": {"capture_output": captures, "max_retries": 0}})
        await client.made(f"/jobs/item/{job}/run", {})
        order = await agent.expect(Dispatch)
        path = f"/task-instances/item/{order.instance_id}/logs"
        assert (await client.get(path)).json["complete"] is False
        await world.rooms.output.store([Piece(order.instance_id, "stdout", 0, 0, stored)] if stored else [])
        report = agent.ended(order, reason, output=output, started_at=AT)
        await agent.say(report)
        await agent.acknowledged(report.sequence)
        await world.rooms.rows.reached(await world.store.head(), 30)
        shown = (await client.get(path)).json
        assert shown["complete"] is complete
        assert shown["sha256"] == ({"stdout": SHA, "stderr": None} if complete and output else None)
        nursery.cancel_scope.cancel()


async def test_what_was_never_sent_to_an_agent_has_printed_nothing(world: World) -> None:
    instance_id = await printed(world)
    task = (await world.client.post("/tasks/page")).json["result"][0]["id"]
    path = f"/task-instances/item/{instance_id}/logs"
    assert (await world.client.get(path)).json["complete"] is False
    await world.client.post(f"/tasks/{task}/cancel")
    assert (await world.client.get(path)).json["complete"] is True


@given(st.text(max_size=20), st.lists(st.integers(0, 60), max_size=6))
def test_no_bytes_are_lost_between_chunks(text: str, cuts: list[int]) -> None:
    data = text.encode("utf-8", "replace")
    places = sorted({0, len(data), *(cut for cut in cuts if cut < len(data))})
    chunks = [
        Chunk(stream="stdout", offset=a, seq=n, at=None, data=data[a:b])  # type: ignore[arg-type]
        for n, (a, b) in enumerate(pairwise(places))
    ]
    whole = whole_characters(chunks)
    assert b"".join(chunk.data for chunk in whole) == data
    assert "".join(chunk.data.decode() for chunk in whole) == data.decode()


@given(st.binary(max_size=12))
def test_unfinished_and_tails_take_any_bytes(data: bytes) -> None:
    assert 0 <= unfinished(data) <= min(3, len(data))
    tail_text(data)
