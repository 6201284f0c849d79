"""I8, I9: the files that an instance left behind."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

from hetuflow.api.call import Call, Reply
from hetuflow.api.downloads import download
from hetuflow.api.endings import InstanceEnd, end_of_instance
from hetuflow.api.errors import ApiError, conflict, dropped
from hetuflow.api.reads import Bytes
from hetuflow.api.routing import Endpoint, PathId
from hetuflow.api.schemas.artifact import ARTIFACT_LIST
from hetuflow.api.task_instances import task_of_instance
from projections.artifacts import Artifact

DROPPED = "dropped by retention"


async def list_(call: Call) -> Reply:
    task_id, _, position = await task_of_instance(call)
    end = await end_of_instance(call.rooms.store, task_id, call.id)
    stored = {each.path: each for each in await call.rooms.artifacts.of(call.id)}
    horizon = await call.rooms.artifacts.dropped_before()
    result = _rows(end, stored, horizon is not None and end is not None and end.ended_at < horizon)
    value = {
        "result": result,
        "bytes": sum(each["bytes"] or 0 for each in result),
        "complete": end is not None and all(each["complete"] or each["problem"] for each in result),
    }
    return Reply(value, position)


def _rows(end: InstanceEnd | None, stored: Mapping[str, Artifact], is_old: bool) -> list[dict[str, Any]]:
    """What the end of the instance names, by path; before its end, what has come. `is_old`: what is not here was dropped."""
    if end is None:
        return [_row(each.path, each.bytes_total, each.sha256, None, each) for each in stored.values()]
    rows = []
    for said in sorted(end.artifacts, key=lambda said: str(said["path"])):
        found = stored.get(said["path"])
        problem = said.get("problem") or (DROPPED if is_old and found is None else None)
        rows.append(_row(str(said["path"]), said.get("bytes"), said.get("sha256"), problem, found))
    return rows


def _row(
    path: str, size: int | None, sha256: str | None, problem: str | None, stored: Artifact | None
) -> dict[str, Any]:
    is_it = stored is not None and stored.sha256 == sha256
    return {
        "path": path,
        "bytes": size,
        "sha256": sha256,
        "collected_at": stored.collected_at if stored is not None and is_it else None,
        "stored": stored.stored if stored is not None and is_it else 0,
        "complete": stored is not None and is_it and stored.is_complete,
        "problem": problem,
    }


async def show(call: Call) -> Reply:
    task_id, _, position = await task_of_instance(call)
    store = call.rooms.artifacts
    found = await store.find(call.id, call.tail)
    if found is None or not found.is_complete:
        end = await end_of_instance(call.rooms.store, task_id, call.id)
        horizon = await store.dropped_before()
        if found is None and end is not None and end.artifact(call.tail) and horizon and end.ended_at < horizon:
            raise dropped(f"artifact {call.tail!r}", horizon)
        raise why_not(call.id, call.tail, found, end)
    return download(
        call, call.tail, found.bytes_total, found.sha256, partial(store.read, call.id, found), position=position
    )


def why_not(instance_id: str, path: str, found: Artifact | None, end: InstanceEnd | None) -> ApiError:
    """Why a file is not here: it never was, or it is still on its way."""
    said = None if end is None else end.artifact(path)
    if found is None and said is None:
        names = [] if end is None else [str(each["path"]) for each in end.artifacts if each.get("sha256")]
        there = f"it left {', '.join(names[:10]) or 'none'}" if end is not None else "it has not ended"
        detail = {"kind": "artifact", "id": instance_id, "path": path}
        return ApiError(404, f"instance {instance_id} has no artifact {path!r}: {there}", detail)
    stored = 0 if found is None else found.stored
    total = found.bytes_total if found is not None else (said or {}).get("bytes") or 0
    return conflict(
        "artifact_incomplete",
        f"{stored} of {total} bytes of {path!r} are here: its agent is still sending it",
        stored=stored,
        bytes=total,
    )


_ARTIFACTS = "/api/v1/task-instances/item/{id}/artifacts"

ENDPOINTS = (
    Endpoint(
        number="I8",
        method="GET",
        path=_ARTIFACTS,
        path_id=PathId.UUID,
        handler=list_,
        reply=ARTIFACT_LIST,
        summary="The files that a task instance left behind",
        tag="task instances",
        also=(410,),
    ),
    Endpoint(
        number="I9",
        method="GET",
        path=f"{_ARTIFACTS}/{{path}}",
        has_tail=True,
        path_id=PathId.UUID,
        handler=show,
        reply=Bytes(),
        summary="One of these files, or a range of its bytes",
        tag="task instances",
        also=(409, 410, 416, 429),
    ),
)
