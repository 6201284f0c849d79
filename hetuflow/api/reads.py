"""Reading the tables: one page by a client's filter, one row by its id, all rows of a small condition."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

from hetuflow.api.call import Call, Reply
from hetuflow.api.collections import COLLECTIONS
from hetuflow.api.errors import ApiError, invalid, not_found
from hetuflow.api.filters import LIMIT_MAX, Collection, Comparison, PageRequest
from hetuflow.api.kinds import INVALID, Kind, Schema
from hetuflow.api.moments import moment_of, page_at, row_at
from hetuflow.api.problems import Problem, Problems
from hetuflow.api.rooms import BadCursor, Row
from hetuflow.api.shapes import Entity

Render = Callable[[Row], Mapping[str, Any]]
RenderAll = Callable[[Sequence[Row]], Awaitable[Sequence[Mapping[str, Any]]]]


def by(render: Render) -> RenderAll:
    async def render_all(rows: Sequence[Row]) -> Sequence[Mapping[str, Any]]:
        return [render(row) for row in rows]

    return render_all


async def page_of(call: Call, collection: Collection, render: RenderAll) -> Reply:
    """The page that the body asks for."""
    problems = Problems()
    request = collection.read(call.members, problems)
    call.refuse(problems)
    moment = await moment_of(call)
    try:
        if moment is not None:
            position, page = moment.position, await page_at(call, collection, request, moment)
        else:
            position = await call.visible(projection=collection.name)
            page = await call.rooms.rows.page(collection.name, request)
    except BadCursor as error:
        raise invalid([Problem("page.after", str(error) or "is not a cursor of this query", status=400)]) from None
    value = {
        "page": {"total": page.total, "has_more": page.has_more, "next": page.next},
        "result": await render(page.rows),
    }
    return Reply(value, position)


async def rows_of(call: Call, collection: Collection, request: PageRequest) -> tuple[Sequence[Row], int]:
    """The rows of a list, and the position they reflect."""
    if (moment := await moment_of(call)) is not None:
        return (await page_at(call, collection, request, moment)).rows, moment.position
    position = await call.visible(projection=collection.name)
    return (await call.rooms.rows.page(collection.name, request)).rows, position


async def row_of(call: Call, collection: Collection, kind: str) -> tuple[Row, int]:
    """The row that the path names, and the position it reflects.

    Raises:
      ApiError: 404.
    """
    if (moment := await moment_of(call)) is not None:
        return await row_at(call, collection, kind, moment), moment.position
    position = await call.visible(projection=collection.name)
    row = await call.rooms.rows.get(collection.name, call.id)
    if row is None:
        raise not_found(kind, call.id)
    return row, position


Act = Callable[[Row], Awaitable[int]]
"""Does something about a row; returns the position of what was appended, 0 when nothing was."""


async def for_each(call: Call, collection: str, act: Act, **conditions: Any) -> int:
    """Act on every row whose fields equal these values (a list: are among them), as of now: the tables are first
    brought to the head of the log. Returns the highest position."""
    await call.visible(await call.rooms.store.head(), projection=collection)
    request, position = where(COLLECTIONS[collection], limit=LIMIT_MAX, **conditions), 0
    while True:
        page = await call.rooms.rows.page(collection, request)
        for row in page.rows:
            position = max(position, await act(row))
        if page.next is None:
            return position
        request = PageRequest(alternatives=request.alternatives, orders=(), limit=LIMIT_MAX, after=page.next)


async def first_where(call: Call, collection: str, **conditions: Any) -> Row | None:
    """The newest such row, as of now."""
    await call.visible(await call.rooms.store.head(), projection=collection)
    page = await call.rooms.rows.page(collection, where(COLLECTIONS[collection], limit=1, **conditions))
    return page.rows[0] if page.rows else None


async def count_where(call: Call, collection: str, **conditions: Any) -> int:
    """How many rows there are, as of now."""
    await call.visible(await call.rooms.store.head(), projection=collection)
    page = await call.rooms.rows.page(collection, where(COLLECTIONS[collection], limit=1, **conditions))
    assert page.total is not None
    return page.total


def where(collection: Collection, limit: int, **conditions: Any) -> PageRequest:
    comparisons = [
        Comparison(collection.names[name], "in" if isinstance(value, list) else "eq", value)
        for name, value in conditions.items()
    ]
    return PageRequest(alternatives=[comparisons], orders=(), limit=limit)


# --- what replies look like -------------------------------------------------------------------------------------------


class _Reply:
    """Base of the kinds that only describe answers."""

    phrase = "an answer"
    media = "application/json"

    def parse(self, value: Any, path: str, problems: Problems) -> Any:
        return INVALID


def media_of(kind: Kind) -> str:
    """The media type of such an answer."""
    return kind.media if isinstance(kind, _Reply) else _Reply.media


class Nothing(_Reply):
    """`null`."""

    def schema(self) -> Schema:
        return {"type": "null"}


class NewId(_Reply):
    def schema(self) -> Schema:
        return {
            "type": "object",
            "properties": {"id": {"type": "string"}},
            "required": ["id"],
            "additionalProperties": False,
        }


class BatchOfIds(_Reply):
    def schema(self) -> Schema:
        return {
            "type": "object",
            "properties": {"result": {"type": "array", "items": NewId().schema()}},
            "required": ["result"],
            "additionalProperties": False,
        }


class BareId(_Reply):
    """The id itself."""

    def schema(self) -> Schema:
        return {"type": "string", "format": "uuid"}


class OneOf(_Reply):
    """An entity."""

    def __init__(self, entity: Entity) -> None:
        self.entity = entity

    def schema(self) -> Schema:
        return {"$ref": f"#/components/schemas/{self.entity.title}"}


class PageOf(OneOf):
    def schema(self) -> Schema:
        return {"$ref": f"#/components/schemas/PageOf{self.entity.title}"}


class AllOf(OneOf):
    def schema(self) -> Schema:
        return {"type": "array", "items": {"$ref": f"#/components/schemas/{self.entity.title}"}}


class Html(_Reply):
    media = "text/html"

    def schema(self) -> Schema:
        return {"type": "string", "contentMediaType": "text/html"}


class PlainText(_Reply):
    media = "text/plain"

    def schema(self) -> Schema:
        return {"type": "string"}


class Bytes(_Reply):
    """A file."""

    media = "application/octet-stream"

    def schema(self) -> Schema:
        return {}


class AnyDocument(_Reply):
    def schema(self) -> Schema:
        return {"type": "object"}


def require_exists(exists: bool, kind: str, entity_id: str, path: str | None = None) -> None:
    if not exists:
        raise not_found(kind, entity_id, path)


def bad_request(path: str, message: str) -> ApiError:
    return invalid([Problem(path, message, status=400)])
