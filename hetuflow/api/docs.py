"""D1, D2: the documentation. The page and all it needs come from this server: it works offline."""

from __future__ import annotations

from functools import lru_cache
from importlib.resources import files

from hetuflow.api.call import Call, Reply
from hetuflow.api.jsontext import write_json
from hetuflow.api.openapi import document
from hetuflow.api.reads import AnyDocument, Html
from hetuflow.api.routing import Endpoint

_MEDIA = {
    "html": b"text/html; charset=utf-8",
    "js": b"text/javascript; charset=utf-8",
    "css": b"text/css; charset=utf-8",
}
_CONTENTS = {
    name: files(__package__).joinpath("static", name).read_bytes() for name in ("docs.html", "docs.js", "docs.css")
}
_POLICY = (b"content-security-policy", b"default-src 'self'; style-src 'self'; img-src 'self' data:")


def _file(name: str) -> Reply:
    kind = _MEDIA[name.rpartition(".")[2]]
    return Reply(content=_CONTENTS[name], content_type=kind, headers=(_POLICY, (b"x-content-type-options", b"nosniff")))


async def page(call: Call) -> Reply:
    return _file("docs.html")


async def script(call: Call) -> Reply:
    return _file("docs.js")


async def style(call: Call) -> Reply:
    return _file("docs.css")


async def openapi(call: Call) -> Reply:
    return Reply(content=_document(call.rooms.identity.version))


@lru_cache(maxsize=1)
def _document(version: str) -> bytes:
    from hetuflow.api.endpoints import ENDPOINTS as ALL  # the table that this endpoint is a row of

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

ASSETS = (
    Endpoint(
        number="D1.js",
        method="GET",
        path="/docs/docs.js",
        handler=script,
        reply=Html(),
        summary="The page's script",
        tag="documentation",
    ),
    Endpoint(
        number="D1.css",
        method="GET",
        path="/docs/docs.css",
        handler=style,
        reply=Html(),
        summary="The page's style",
        tag="documentation",
    ),
)
