"""X1 to X4: files that people upload for instances to read (`files` of a job, by `url`)."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

from hetuflow.api.call import Call, Reply
from hetuflow.api.downloads import download
from hetuflow.api.errors import not_found
from hetuflow.api.kinds import Array
from hetuflow.api.reads import Bytes, Nothing
from hetuflow.api.routing import Endpoint, PathId
from hetuflow.api.schemas.artifact import KEPT_FILE
from hetuflow.domain.file_urls import KeptFileUrl
from projections.kept_files import FILE_BYTES_MAX, KeptFile


def _rendered(kept: KeptFile) -> Mapping[str, Any]:
    return {
        "id": kept.sha256,
        "sha256": kept.sha256,
        "bytes": kept.bytes_total,
        "created_at": kept.created_at,
        "url": str(KeptFileUrl(kept.sha256)),
    }


async def keep(call: Call) -> Reply:
    kept, _ = await call.rooms.files.keep(call.content)
    return Reply(_rendered(kept))


async def list_(call: Call) -> Reply:
    return Reply([_rendered(kept) for kept in await call.rooms.files.newest()])


async def show(call: Call) -> Reply:
    kept = await call.rooms.files.find(call.id)
    if kept is None:
        raise not_found("file", call.id)
    return download(call, kept.sha256, kept.bytes_total, kept.sha256, partial(call.rooms.files.read, kept.sha256))


async def remove(call: Call) -> Reply:
    if not await call.rooms.files.remove(call.id):
        raise not_found("file", call.id)
    return Reply()


ENDPOINTS = (
    Endpoint(
        number="X1",
        method="POST",
        path="/api/v1/files",
        handler=keep,
        takes_bytes=True,
        body_bytes_max=FILE_BYTES_MAX,
        reply=KEPT_FILE,
        is_positioned=False,
        summary="Keep a file: the body is its bytes; the same bytes are kept once",
        tag="files",
    ),
    Endpoint(
        number="X2",
        method="GET",
        path="/api/v1/files",
        handler=list_,
        reply=Array(KEPT_FILE),
        is_positioned=False,
        summary="The newest 1000 files that are kept",
        tag="files",
    ),
    Endpoint(
        number="X3",
        method="GET",
        path="/api/v1/files/{id}",
        path_id=PathId.NAME,
        handler=show,
        reply=Bytes(),
        is_positioned=False,
        summary="The bytes of a kept file, or a range of them",
        tag="files",
        also=(416, 429),
    ),
    Endpoint(
        number="X4",
        method="DELETE",
        path="/api/v1/files/{id}",
        path_id=PathId.NAME,
        handler=remove,
        reply=Nothing(),
        summary="Remove a kept file: a job that names it cannot start any more",
        tag="files",
    ),
)
