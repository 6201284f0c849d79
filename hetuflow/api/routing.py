"""The table of endpoints: what each answers to, what it reads, what it replies. Router and OpenAPI read the same rows."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Sequence
from enum import Enum
from typing import TYPE_CHECKING, Any

from attrs import Factory, define, field, frozen

from hetuflow.api.errors import ApiError
from hetuflow.api.filters import Collection
from hetuflow.api.kinds import INVALID, NOT_SUPPORTED, AsOf, Kind, Uuid, is_name_id, parse_uuid
from hetuflow.api.problems import Problems
from hetuflow.api.requests import BODY_BYTES_MAX
from hetuflow.api.shapes import Shape

if TYPE_CHECKING:
    from hetuflow.api.call import Call, Reply

PREFIX = "/api/v1"

Handler = Callable[["Call"], Awaitable["Reply"]]


class PathId(Enum):
    """What an `{id}` of a path must look like."""

    UUID = "uuid"
    NAME = "name"


@frozen(slots=True, kw_only=True)
class Parameter:
    """A query parameter. `parse` turns the text into a value of `kind`'s JSON type first."""

    name: str
    kind: Kind
    doc: str = ""
    is_repeatable: bool = False
    from_text: Callable[[str], Any] = str


def integer_text(text: str) -> Any:
    """The integer that the text is, or the text itself, so that the kind refuses it."""
    digits = text[1:] if text[:1] == "-" else text
    return int(text) if digits.isascii() and digits.isdigit() and len(digits) <= 20 else text


def boolean_text(text: str) -> Any:
    return {"true": True, "false": False, "1": True, "0": False}.get(text.lower(), text)


READING_POSTS = frozenset({"C11"})
"""Besides pages: what a POST computes without storing anything."""


@frozen(slots=True, kw_only=True)
class Endpoint:
    """One row of the contract's §3.

    Args:
      number: as in the contract, `J1`.
      body: the shape of the request; None for methods without one. A POST that takes nothing has `NO_BODY`.
      reply: what a 200 holds.
      also: statuses that come on top of the usual ones.
      is_keyed: takes an `Idempotency-Key`.
      body_bytes_max: of the request.
      is_positioned: a read that waits for `X-Hetuflow-Min-Position`.
      has_tail: the last parameter of the path takes all that is left of it, with its slashes.
      takes_bytes: the body is a file, of any media type.
      is_stream: the reply is an event stream, and `reply` the data of its events. `may_stream`: it can be one too.
    """

    number: str
    method: str
    path: str
    handler: Handler
    summary: str
    tag: str
    reply: Kind
    aliases: Sequence[tuple[str, str]] = ()
    body: Shape | Collection | None = None
    path_id: PathId | None = None
    parameters: Sequence[Parameter] = ()
    also: Sequence[int] = ()
    is_keyed: bool = False
    body_bytes_max: int = BODY_BYTES_MAX
    is_positioned: bool = True
    is_stream: bool = False
    may_stream: bool = False
    has_tail: bool = False
    takes_bytes: bool = False
    example: Any = None

    @property
    def is_write(self) -> bool:
        """Whether a request can change anything."""
        asks = isinstance(self.body, Collection) or self.number in READING_POSTS
        return self.method != "GET" and not asks

    @property
    def has_body(self) -> bool:
        return self.body is not None or self.takes_bytes

    def read_id(self, segment: str) -> str:
        """The id in the path, in its written form.

        Raises:
          ApiError: 400, malformed.
        """
        if self.path_id is PathId.NAME:
            if is_name_id(segment):
                return segment
            raise ApiError(400, f"{segment!r} is not an id of 1-64 characters of A-Z a-z 0-9 . _ -")
        parsed = parse_uuid(segment)
        if parsed is None:
            raise ApiError(400, f"{segment!r} is not a UUID")
        return parsed

    def may_name(self, segment: str) -> bool:
        """Whether the segment has the form of an id here."""
        return (is_name_id(segment) if self.path_id is PathId.NAME else parse_uuid(segment)) not in (False, None)

    def read_query(self, pairs: Sequence[tuple[str, str]], problems: Problems) -> dict[str, Any]:
        """The query parameters by name; a repeatable one as a list."""
        by_name = {parameter.name: parameter for parameter in self.parameters}
        values: dict[str, Any] = {}
        for name, text in pairs:
            parameter = by_name.get(name)
            path = f"query.{name}"
            if parameter is None:
                if by_name:
                    problems.unknown(path, name, by_name, "query parameter")
                else:
                    problems.add(path, "unknown query parameter; this endpoint has none")
                continue
            value = self._value(parameter, text, path, problems)
            if value is INVALID:
                continue
            if parameter.is_repeatable:
                values.setdefault(name, []).append(value)
            elif values.setdefault(name, value) != value:
                problems.add(path, "is given twice with different values", status=400)
        return values

    @staticmethod
    def _value(parameter: Parameter, text: str, path: str, problems: Problems) -> Any:
        found = Problems()
        value = parameter.kind.parse(parameter.from_text(text), path, found)
        for problem in found:
            status = 422 if NOT_SUPPORTED in problem.message else 400
            problems.add(problem.path, problem.message, problem.suggestion, status)
        return value


_BLANK_OFFSET = re.compile(r" (\d\d:\d\d)$")


def time_text(text: str) -> str:
    """A `+` of an offset that arrived as a blank, because it was not percent-encoded."""
    return _BLANK_OFFSET.sub(r"+\1", text)


AS_OF = Parameter(
    name="as_of", kind=AsOf(), from_text=time_text, doc="the answer as it was then: a global position, or a time"
)

NO_BODY = Shape(title="Nothing", members=[])
"""Empty, `null` and `{}` mean the same; anything else is refused."""


@define(slots=True)
class _Node:
    literals: dict[str, _Node] = Factory(dict)
    parameter: _Node | None = None
    tail: _Node | None = None
    endpoints: dict[str, Endpoint] = Factory(dict)


@frozen(slots=True)
class Match:
    endpoint: Endpoint
    arguments: tuple[str, ...]


@define(slots=True)
class Router:
    """Finds the endpoint of a path. A literal segment goes before a parameter."""

    endpoints: Sequence[Endpoint]
    _root: _Node = field(factory=_Node, init=False)

    def __attrs_post_init__(self) -> None:
        for endpoint in self.endpoints:
            for method, path in ((endpoint.method, endpoint.path), *endpoint.aliases):
                self._add(method, path, endpoint)

    def _add(self, method: str, path: str, endpoint: Endpoint) -> None:
        node = self._root
        parts = path[1:].split("/")
        for place, part in enumerate(parts):
            if endpoint.has_tail and place == len(parts) - 1:
                node.tail = node.tail or _Node()
                node = node.tail
            elif part.startswith("{"):
                node.parameter = node.parameter or _Node()
                node = node.parameter
            else:
                node = node.literals.setdefault(part, _Node())
        if method in node.endpoints:
            raise ValueError(f"{method} {path} is defined twice")
        node.endpoints[method] = endpoint

    def match(self, method: str, segments: Sequence[str]) -> Match:
        """Raises `ApiError` 404 or 405."""
        wanted = "GET" if method == "HEAD" else method
        allowed: dict[str, None] = {}
        for at, (node, arguments) in enumerate(self._nodes(self._root, segments, 0, ())):
            endpoints = node.endpoints
            if at:  # a literal has matched too: what cannot be an id is meant as the literal (`/tasks/create`)
                endpoints = {name: each for name, each in endpoints.items() if each.may_name(arguments[0])}
            if wanted in endpoints:
                return Match(endpoints[wanted], arguments)
            allowed.update(dict.fromkeys(endpoints))
        if not allowed:
            raise ApiError(404, f"there is nothing at /{'/'.join(segments)}")
        names = [*allowed, *(["HEAD"] if "GET" in allowed else [])]
        raise ApiError(
            405,
            f"{method} is not allowed here; allowed: {', '.join(names)}",
            {"allowed": names},
            headers=[(b"allow", ", ".join(names).encode())],
        )

    def _nodes(
        self, node: _Node, segments: Sequence[str], at: int, arguments: tuple[str, ...]
    ) -> Sequence[tuple[_Node, tuple[str, ...]]]:
        if at == len(segments):
            return [(node, arguments)] if node.endpoints else []
        found: list[tuple[_Node, tuple[str, ...]]] = []
        if (literal := node.literals.get(segments[at])) is not None:
            found.extend(self._nodes(literal, segments, at + 1, arguments))
        if node.parameter is not None:
            found.extend(self._nodes(node.parameter, segments, at + 1, (*arguments, segments[at])))
        if node.tail is not None and not found:
            found.append((node.tail, (*arguments, "/".join(segments[at:]))))
        return found


UUID_OUT: Kind = Uuid()
