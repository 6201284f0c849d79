"""I1, I3, I7: task instances and their output."""

from __future__ import annotations

import json
from base64 import b64encode
from collections.abc import Mapping, Sequence
from enum import StrEnum
from typing import Any

from hetuflow.api import rendering
from hetuflow.api.call import Call, Reply
from hetuflow.api.collections import TASK_INSTANCES
from hetuflow.api.errors import invalid
from hetuflow.api.kinds import Boolean, Integer, Supported, Text, Word
from hetuflow.api.problems import Problem
from hetuflow.api.reads import OneOf, PageOf, bad_request, page_of, row_of
from hetuflow.api.rooms import Chunk, Row
from hetuflow.api.routing import Endpoint, Parameter, PathId, boolean_text, integer_text
from hetuflow.api.schemas.instance import INSTANCE, LOG_PAGE
from hetuflow.domain.enums import InstanceStatus

TAIL_BYTES = 64 * 1024
TAIL_BYTES_IN_PAGES = 4 * 1024
LOG_BYTES_DEFAULT = 65_536
LOG_BYTES_MAX = 1_048_576


class Stream(StrEnum):
    STDOUT = "stdout"
    STDERR = "stderr"


async def page(call: Call) -> Reply:
    async def render(rows: Sequence[Row]) -> Sequence[Mapping[str, Any]]:
        tails = await call.rooms.output.tails([str(row["id"]) for row in rows], TAIL_BYTES_IN_PAGES)
        return [rendering.instance(row, tails.get(str(row["id"]))) for row in rows]

    return await page_of(call, TASK_INSTANCES, render)


async def show(call: Call) -> Reply:
    row, position = await row_of(call, TASK_INSTANCES, "task_instance")
    tails = await call.rooms.output.tails([call.id], TAIL_BYTES)
    return Reply(rendering.instance(row, tails.get(call.id)), position)


# --- logs -------------------------------------------------------------------------------------------------------------


async def logs(call: Call) -> Reply:
    query = call.query
    stream, limit = query.get("stream"), query.get("limit", LOG_BYTES_DEFAULT)
    if "offset" in query and stream is None:
        raise invalid([Problem("query.offset", "needs stream: it counts bytes within one")])
    row, position = await row_of(call, TASK_INSTANCES, "task_instance")
    totals = await call.rooms.output.totals(call.id)
    total = totals.get(stream, 0) if stream else sum(totals.values())
    after = _cursor(query.get("after"))
    if stream is not None:
        offset = after if after is not None else query.get("offset", 0)
        offset = max(0, total + offset) if offset < 0 else offset
        chunks = await call.rooms.output.chunks(call.id, stream=stream, offset=offset, after_seq=None, bytes_max=limit)
        following = chunks[-1].offset + len(chunks[-1].data) if chunks else offset
        has_more = following < total
    else:
        chunks = await call.rooms.output.chunks(call.id, stream=None, offset=0, after_seq=after, bytes_max=limit)
        following = chunks[-1].seq if chunks else (after or 0)
        has_more = bool(chunks) and bool(
            await call.rooms.output.chunks(call.id, stream=None, offset=0, after_seq=following, bytes_max=1)
        )
    ended = InstanceStatus(row["status"]).is_final
    state = await _ending(call, row) if ended else {}
    is_complete = ended and all(totals.get(name, 0) >= kept for name, kept in state.get("kept", {}).items())
    value = {
        "page": {"total": total, "has_more": has_more, "next": str(following) if has_more else None},
        "result": [log_chunk(chunk) for chunk in chunks],
        "complete": is_complete,
        "dropped": state.get("dropped", 0),
        "sha256": state.get("sha256") if is_complete else None,
    }
    return Reply(value, position)


def _cursor(text: str | None) -> int | None:
    if text is None:
        return None
    if not (text.isascii() and text.isdigit() and len(text) < 19):
        raise bad_request("query.after", "must be a cursor from page.next")
    return int(text)


async def _ending(call: Call, row: Row) -> dict[str, Any]:
    """What the instance's last event says of its output: bytes kept and digests per stream, bytes dropped."""

    found: dict[str, Any] = {}
    for event in await call.rooms.store.read_stream(f"task-{row['task_id']}"):
        if event.type in ("InstanceSucceeded", "InstanceFailed", "InstanceCancelled"):
            data = json.loads(event.data)
            if data["instance_id"] == call.id and data.get("output"):
                found = data["output"]
    streams = {name: found[name] for name in Stream if isinstance(found.get(name), dict)}
    return {
        "kept": {name: stream.get("kept", 0) for name, stream in streams.items()},
        "sha256": {name: streams.get(name, {}).get("sha256") for name in Stream} if streams else None,
        "dropped": found.get("dropped", 0),
    }


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
            Parameter(name="follow", kind=Supported(Boolean(), (False,)), from_text=boolean_text, doc="only false yet"),
        ),
        reply=LOG_PAGE,
        summary="The output of a task instance",
        tag="task instances",
    ),
)
