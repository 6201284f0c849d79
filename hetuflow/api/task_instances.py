"""I1, I3, I7: task instances and their output."""

from __future__ import annotations

import json
from base64 import b64encode
from collections.abc import Mapping, Sequence
from datetime import datetime
from enum import StrEnum
from typing import Any

from attrs import evolve

from hetuflow.api import rendering
from hetuflow.api.call import Call, Reply
from hetuflow.api.coded import Word
from hetuflow.api.collections import TASK_INSTANCES
from hetuflow.api.deleted_tasks import task_of
from hetuflow.api.errors import dropped, invalid, not_found
from hetuflow.api.kinds import Boolean, Integer, Text
from hetuflow.api.log_follow import Ending, Following, Place
from hetuflow.api.problems import Problem
from hetuflow.api.reads import OneOf, PageOf, bad_request, page_of, row_of
from hetuflow.api.reported_output import reported_tails, use_reported_output
from hetuflow.api.rooms import Row
from hetuflow.api.routing import AS_OF, Endpoint, Parameter, PathId, boolean_text, integer_text
from hetuflow.api.schemas.instance import INSTANCE, LOG_PAGE
from hetuflow.api.streaming import Write
from hetuflow.domain.enums import InstanceReason, InstanceStatus
from projections.output import Chunk

TAIL_BYTES = 64 * 1024
TAIL_BYTES_IN_PAGES = 4 * 1024
LOG_BYTES_DEFAULT = 65_536
LOG_BYTES_MAX = 1_048_576
CHARACTER_BYTES_MAX = 4


class Stream(StrEnum):
    STDOUT = "stdout"
    STDERR = "stderr"


async def page(call: Call) -> Reply:
    async def render(rows: Sequence[Row]) -> Sequence[Mapping[str, Any]]:
        if AS_OF.name in call.query:
            return [rendering.past_instance(row) for row in rows]
        tails = {**await call.rooms.output.tails([str(row["id"]) for row in rows], TAIL_BYTES_IN_PAGES)}
        tails |= await reported_tails(call, rows, TAIL_BYTES_IN_PAGES)
        horizon = await call.rooms.output.dropped_before()
        return [rendering.instance(row, tails.get(str(row["id"])), dropped_before=horizon) for row in rows]

    return await page_of(call, TASK_INSTANCES, render)


async def show(call: Call) -> Reply:
    row, position = await row_of(call, TASK_INSTANCES, "task_instance")
    if AS_OF.name in call.query:
        return Reply(rendering.past_instance(row), position)
    tails = {**await call.rooms.output.tails([call.id], TAIL_BYTES)}
    tails |= await reported_tails(call, [row], TAIL_BYTES)
    shown = rendering.instance(row, tails.get(call.id), dropped_before=await call.rooms.output.dropped_before())
    return Reply(shown, position)


# --- logs -------------------------------------------------------------------------------------------------------------


async def logs(call: Call) -> Reply:
    query = call.query
    stream, limit = query.get("stream"), query.get("limit", LOG_BYTES_DEFAULT)
    if "offset" in query and stream is None:
        raise invalid([Problem("query.offset", "needs stream: it counts bytes within one")])
    if query.get("follow", False):
        return await _follow(call)
    task_id, is_final, position = await task_of_instance(call)
    await use_reported_output(call, task_id, call.id)
    totals = await call.rooms.output.totals(call.id)
    ending = await _ending(call, task_id) if is_final else None
    await _refuse_dropped(call, ending, totals)
    after = _cursor(query.get("after"))
    if stream is None:
        total = sum(totals.values())
        chunks, following = await _in_order_of_arrival(call, after, limit)
    else:
        total = totals.get(stream, 0)
        offset = query.get("offset", 0) if after is None else after
        chunks, following = await _of_one_stream(call, stream, offset, limit, total)
    shipped = ending["shipped"] if ending is not None else None
    is_complete = shipped is not None and all(totals.get(name, 0) >= end for name, end in shipped.items())
    value = {
        "page": {"total": total, "has_more": following is not None, "next": following},
        "result": [log_chunk(chunk) for chunk in chunks],
        "complete": is_complete,
        "dropped": ending["dropped"] if ending else 0,
        "sha256": ending["sha256"] if ending and is_complete else None,
    }
    return Reply(value, position)


async def _follow(call: Call) -> Reply:
    """The same as an event stream, until the instance has ended and all it sent was told."""
    stream = call.query.get("stream")
    task_id, is_final, position = await task_of_instance(call)
    await use_reported_output(call, task_id, call.id)
    if is_final:
        await _refuse_dropped(call, await _ending(call, task_id), await call.rooms.output.totals(call.id))
    place = await _place(call, stream)
    call.memory.streams.require_room()

    async def look() -> Ending | None:
        row = await call.rooms.rows.get(TASK_INSTANCES.name, call.id)
        if row is not None and not InstanceStatus(row["status"]).is_final:
            return None
        found = await _ending(call, task_id)
        del found["ended_at"]
        status = InstanceStatus.CANCELLED if row is None else row["status"]
        return Ending(status=int(status), exit_code=None if row is None else row["exit_code"], **found)

    async def produce(write: Write) -> None:
        following = Following(
            output=call.rooms.output,
            instance_id=call.id,
            stream=stream,
            place=place,
            look=look,
            unfinished=unfinished,
            rendered=log_chunk,
            write=write,
        )
        await following.run()

    return Reply(position=position, stream=produce)


async def _refuse_dropped(call: Call, ending: Mapping[str, Any] | None, totals: Mapping[str, int]) -> None:
    """Raises `ApiError` 410 when nothing is here of an instance that ended so long ago, and it may have printed something."""
    horizon = None if totals or ending is None else await call.rooms.output.dropped_before()
    if horizon is None or ending is None or ending["ended_at"] is None or ending["ended_at"] >= horizon:
        return
    shipped = ending["shipped"]
    if shipped is None or any(shipped.values()):
        raise dropped(f"the output of instance {call.id}", horizon)


async def _place(call: Call, stream: str | None) -> Place:
    """Where a follower begins: `Last-Event-ID`, else `after`, else `offset`, else at the beginning."""
    header = call.head.text(b"last-event-id")
    text = call.query.get("after") if header is None else header
    if text is not None:
        place = Place.parse(text)
        if place is None:
            where = "query.after" if header is None else "header.Last-Event-ID"
            raise bad_request(where, "must be the id of an event of this stream, or a cursor from page.next")
        return place
    if stream is None:
        return Place()
    offset = call.query.get("offset", 0)
    if offset < 0:
        offset = max(0, (await call.rooms.output.totals(call.id)).get(stream, 0) + offset)
    return Place(offset)


async def task_of_instance(call: Call) -> tuple[str, bool, int]:
    """The instance's task, whether it has ended, and the position that reflects; also when the task was deleted.

    Raises:
      ApiError: 404, there was never such an instance.
    """
    position = await call.visible(projection=TASK_INSTANCES.name)
    row = await call.rooms.rows.get(TASK_INSTANCES.name, call.id)
    if row is not None:
        return str(row["task_id"]), InstanceStatus(row["status"]).is_final, position
    task_id = await task_of(call, call.id)
    if task_id is None:
        raise not_found("task_instance", call.id)
    return task_id, True, position


async def _in_order_of_arrival(call: Call, after: int | None, limit: int) -> tuple[Sequence[Chunk], str | None]:
    """Chunks of both streams after that sequence number, and the cursor of what follows."""
    output = call.rooms.output
    chunks = await output.chunks(call.id, stream=None, offset=0, after_seq=after, bytes_max=limit)
    if not chunks:
        return [], None
    last = chunks[-1].seq
    more = await output.chunks(call.id, stream=None, offset=0, after_seq=last, bytes_max=1)
    return whole_characters(chunks), str(last) if more else None


async def _of_one_stream(
    call: Call, stream: str, offset: int, limit: int, total: int
) -> tuple[Sequence[Chunk], str | None]:
    """Chunks of one stream from that byte on. A character that is cut by the end of the page begins the next one; a
    page that is smaller than one character has that character nevertheless, so that it goes on."""
    for bytes_max in (limit, limit + CHARACTER_BYTES_MAX):
        found = await call.rooms.output.chunks(
            call.id, stream=stream, offset=offset, after_seq=None, bytes_max=bytes_max
        )
        chunks = list(whole_characters(found))
        if not chunks or chunks[-1].end >= total:
            return chunks, None
        last = chunks[-1]
        rest = unfinished(last.data)
        if rest < len(last.data) or len(chunks) > 1:
            if rest:
                chunks[-1:] = [evolve(last, data=last.data[:-rest])] if rest < len(last.data) else []
            return chunks, str(last.end - rest)
    return chunks, str(last.end)


def _cursor(text: str | None) -> int | None:
    if text is None:
        return None
    if not (text.isascii() and text.isdigit() and len(text) < 19):
        raise bad_request("query.after", "must be a cursor from page.next")
    return int(text)


async def _ending(call: Call, task_id: str) -> dict[str, Any]:
    """What the log says of the instance's output after its end.

    `shipped`: bytes per stream that its agent sends, with the marker of a cut; None when nobody knows, as when the agent
    was lost. `sha256` per stream of what was written, None when not known; `dropped` bytes.
    """
    found: dict[str, Any] = {}
    ended_at: datetime | None = None
    captures = is_dispatched = can_have_run = False
    for event in await call.rooms.store.read_stream(f"task-{task_id}"):
        data = json.loads(event.data)
        if event.type in ("TaskCreated", "TaskUpdated") and not is_dispatched:
            captures = data["config"].get("capture_output", True)
        elif data.get("instance_id") != call.id:
            continue
        elif event.type in ("TaskDispatched", "TaskRequeued"):
            is_dispatched, can_have_run = True, event.type == "TaskDispatched"
        elif event.type in ("InstanceSucceeded", "InstanceFailed", "InstanceCancelled"):
            found, ended_at = data.get("output") or {}, event.recorded_at
            can_have_run = can_have_run and data.get("reason") != InstanceReason.START_ERROR
    streams = {str(name): found[name] for name in Stream if isinstance(found.get(name), dict)}
    shipped = {name: stream.get("shipped", stream.get("kept", 0)) for name, stream in streams.items()}
    return {
        "shipped": shipped if streams or not (captures and can_have_run) else None,
        "sha256": {str(name): streams.get(name, {}).get("sha256") for name in Stream} if streams else None,
        "dropped": found.get("dropped", 0),
        "ended_at": ended_at,
    }


def whole_characters(chunks: Sequence[Chunk]) -> Sequence[Chunk]:
    """The same bytes, cut so that no character lies in two chunks: its beginning moves to the chunk that ends it."""
    result: list[Chunk] = []
    newest: dict[str, int] = {}
    for chunk in chunks:
        at = newest.get(chunk.stream)
        if at is not None and result[at].end == chunk.offset and (rest := unfinished(result[at].data)):
            before = result[at]
            moved = before.data[-rest:]
            result[at] = evolve(before, data=before.data[:-rest])
            chunk = evolve(chunk, offset=chunk.offset - rest, data=moved + chunk.data)
        newest[chunk.stream] = len(result)
        result.append(chunk)
    return [chunk for chunk in result if chunk.data]


def unfinished(data: bytes) -> int:
    """How many bytes at the end are the beginning of a character of UTF-8 that is not all there: 0 to 3."""
    for back in range(1, min(3, len(data)) + 1):
        lead = data[-back]
        if lead & 0xC0 != 0x80:
            length = 4 if lead >= 0xF0 else 3 if lead >= 0xE0 else 2 if lead >= 0xC0 else 1
            return back if length > back else 0
    return 0


def log_chunk(chunk: Chunk) -> dict[str, Any]:
    try:
        text, exact = chunk.data.decode("utf-8"), None
    except UnicodeDecodeError:
        text, exact = chunk.data.decode("utf-8", "replace"), b64encode(chunk.data).decode()
    return {
        "stream": chunk.stream,
        "offset": chunk.offset,
        "length": len(chunk.data),
        "at": chunk.at,
        "text": text,
        "base64": exact,
    }


_ITEM = "/api/v1/task-instances/item/{id}"

ENDPOINTS = (
    Endpoint(
        number="I1",
        method="POST",
        path="/api/v1/task-instances/page",
        aliases=(("POST", "/api/v1/task-instances/query"),),
        handler=page,
        body=TASK_INSTANCES,
        reply=PageOf(INSTANCE),
        summary="Find task instances",
        tag="task instances",
        example={"filter": {"status": {"$eq": "Failed"}}},
        parameters=(AS_OF,),
        also=(410,),
    ),
    Endpoint(
        number="I3",
        method="GET",
        path=_ITEM,
        path_id=PathId.UUID,
        handler=show,
        reply=OneOf(INSTANCE),
        summary="Show a task instance, with the end of its output",
        tag="task instances",
        parameters=(AS_OF,),
        also=(410,),
    ),
    Endpoint(
        number="I7",
        method="GET",
        path=f"{_ITEM}/logs",
        path_id=PathId.UUID,
        handler=logs,
        parameters=(
            Parameter(name="stream", kind=Word(Stream), doc="default: both, in order of arrival"),
            Parameter(
                name="offset",
                kind=Integer(None),
                from_text=integer_text,
                doc="byte within that stream (needs `stream`); negative = from the end",
            ),
            Parameter(name="after", kind=Text(100, 1), doc="cursor from `page.next`"),
            Parameter(name="limit", kind=Integer(1, LOG_BYTES_MAX), from_text=integer_text, doc="bytes; default 65536"),
            Parameter(name="follow", kind=Boolean(), from_text=boolean_text, doc="true: Server-Sent Events"),
        ),
        reply=LOG_PAGE,
        summary="The output of a task instance",
        tag="task instances",
        also=(410, 429),
        may_stream=True,
    ),
)
