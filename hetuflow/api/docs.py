"""D1, D2: the documentation. Swagger UI and all it needs come from this server: it works offline."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache, partial
from hashlib import sha256
from importlib.resources import files
from importlib.resources.abc import Traversable

from hetuflow.api.call import Call, Reply
from hetuflow.api.jsontext import write_json
from hetuflow.api.reads import AnyDocument, Html
from hetuflow.api.routing import Endpoint

_MEDIA = {
    "html": b"text/html; charset=utf-8",
    "js": b"text/javascript; charset=utf-8",
    "css": b"text/css; charset=utf-8",
}
_STATIC = files(__package__).joinpath("static")
_ASSETS: Mapping[str, Traversable] = {
    "docs.js": _STATIC.joinpath("docs.js"),
    "docs.css": _STATIC.joinpath("docs.css"),
    "swagger-ui-bundle.js": _STATIC.joinpath("swagger-ui", "swagger-ui-bundle.js"),
    "swagger-ui.css": _STATIC.joinpath("swagger-ui", "swagger-ui.css"),
}
_HEADERS = (
    (
        b"content-security-policy",
        b"default-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; object-src 'none'; "
        b"base-uri 'none'; frame-ancestors 'none'",
    ),
    (b"x-content-type-options", b"nosniff"),
)
"""Swagger UI sets style attributes; scripts come from here alone."""


async def page(call: Call) -> Reply:
    return Reply(content=_page(), content_type=_MEDIA["html"], headers=_HEADERS)


async def _asset(name: str, call: Call) -> Reply:
    content, tag = _read(name)
    headers = (*_HEADERS, (b"etag", tag), (b"cache-control", b"max-age=3600"))
    return Reply(content=content, content_type=_MEDIA[name.rpartition(".")[2]], headers=headers)


@lru_cache(maxsize=1)
def _page() -> bytes:
    return _STATIC.joinpath("docs.html").read_bytes()


@lru_cache(maxsize=len(_ASSETS))
def _read(name: str) -> tuple[bytes, bytes]:
    """The asset and its tag, read when somebody looks: a start that recovers from a crash needs neither."""
    content = _ASSETS[name].read_bytes()
    return content, b'"' + sha256(content).hexdigest()[:32].encode() + b'"'


async def openapi(call: Call) -> Reply:
    return Reply(content=_document(call.rooms.identity.version))


@lru_cache(maxsize=1)
def _document(version: str) -> bytes:
    from hetuflow.api.endpoints import ENDPOINTS as ALL  # the table that this endpoint is a row of
    from hetuflow.api.openapi import document

    return write_json(document(ALL, version))


ENDPOINTS = (
    Endpoint(
        number="D1",
        is_positioned=False,
        method="GET",
        path="/docs",
        aliases=(("GET", "/docs/swagger-ui"),),
        handler=page,
        reply=Html(),
        summary="This documentation, for people",
        tag="documentation",
    ),
    Endpoint(
        number="D2",
        is_positioned=False,
        method="GET",
        path="/docs/openapi.json",
        handler=openapi,
        reply=AnyDocument(),
        summary="This documentation, for programs",
        tag="documentation",
    ),
)

ASSETS = tuple(
    Endpoint(
        number=f"D1 {name}",
        is_positioned=False,
        method="GET",
        path=f"/docs/assets/{name}",
        handler=partial(_asset, name),
        reply=Html(),
        summary="What the page needs",
        tag="documentation",
    )
    for name in _ASSETS
)
