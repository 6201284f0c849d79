"""Event objects <-> stored JSON.

Type names are stable strings given at registration, never class paths: a class may move or be renamed, the log does
not change. What this program does not know, it refuses loudly (`UnknownEventType`): folding a stream while skipping an
event would be a wrong state.

On the hot path: one msgspec encoder for all, and the checks that msgspec and jsonb disagree about cost a substring
search each unless they find something (msgspec writes NaN as null; jsonb cannot hold NUL).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import date, datetime, timedelta
from operator import attrgetter
from typing import Any
from uuid import UUID

import attrs
import msgspec
from attrs import field, frozen

from eventstore.errors import EventStoreError, InvalidEvent, UnknownEventType
from eventstore.event import EVENT_BYTES_MAX, NewEvent, RecordedEvent
from eventstore.upcaster import Upcaster, upcast
from eventstore.version import check_escapes

_decode_object = msgspec.json.Decoder(dict[str, Any]).decode


def _as_tuple(upcasters: Sequence[Upcaster]) -> Sequence[Upcaster]:
    return tuple(tuple(steps) for steps in upcasters)


@frozen(slots=True)
class EventType:
    """An attrs class and its history: `upcasters[n - 1]` lifts the data of schema n to n + 1, up to `schema`."""

    cls: type
    schema: int = 1
    upcasters: Sequence[Upcaster] = field(default=(), converter=_as_tuple)

    def __attrs_post_init__(self) -> None:
        if not attrs.has(self.cls):
            raise EventStoreError(f"{self.cls.__name__} is not an attrs class")
        if self.schema < 1 or len(self.upcasters) != self.schema - 1:
            raise EventStoreError(
                f"{self.cls.__name__} of schema {self.schema} needs {self.schema - 1} upcasters, not {len(self.upcasters)}"
            )


@frozen(slots=True)
class Metadata:
    """Common to several events: written and checked once. `size`: bytes of UTF-8."""

    text: str
    size: int


NO_METADATA = Metadata("{}", 2)


class EventCodec:
    """Encodes and decodes the events of a registry: name -> `EventType`, or the class alone for schema 1."""

    def __init__(self, registry: Mapping[str, EventType | type]) -> None:
        self._types: dict[str, EventType] = {
            name: kind if isinstance(kind, EventType) else EventType(kind) for name, kind in registry.items()
        }
        self._names: dict[type, tuple[str, int]] = {}
        for name, kind in self._types.items():
            if kind.cls in self._names:
                raise EventStoreError(f"{kind.cls.__name__} is registered as {self._names[kind.cls][0]} and as {name}")
            self._names[kind.cls] = (name, kind.schema)
        # "deterministic" sorts sets and mappings: the same event is the same text in every process.
        self._encode = msgspec.json.Encoder(order="deterministic").encode
        self._decoders: dict[str, Callable[[str], Any]] = {
            name: msgspec.json.Decoder(kind.cls).decode for name, kind in self._types.items()
        }

    @property
    def registry(self) -> Mapping[str, EventType]:
        return self._types

    def metadata(self, values: Mapping[str, Any]) -> Metadata:
        """For `encode`. Raises `InvalidEvent`."""
        return Metadata(*self._text("metadata", values))

    def encode(self, event: object, event_id: UUID, metadata: Mapping[str, Any] | Metadata) -> NewEvent:
        """Return the event to append.

        Raises:
          InvalidEvent: it holds what the store cannot keep (NUL, lone surrogate, NaN, infinity, too large).
          UnknownEventType: its class is not registered.
        """
        name, schema = self._known(event.__class__)
        data, size = self._text(name, event)
        if not isinstance(metadata, Metadata):
            metadata = Metadata(*self._text(name, metadata)) if metadata else NO_METADATA
        size += metadata.size
        if size > EVENT_BYTES_MAX:
            raise InvalidEvent(f"event {name} has {size} bytes, allowed are {EVENT_BYTES_MAX}")
        return NewEvent(
            event_id=event_id, type=name, schema=schema, data=data, metadata=metadata.text, checked_bytes=size
        )

    def decode(self, recorded: RecordedEvent) -> Any:
        """Return the event object, lifted to the schema of this program.

        Raises:
          UnknownEventType: the type or the schema is not known here, or the data does not fit its class.
        """
        kind = self._types.get(recorded.type)
        if kind is None:
            raise UnknownEventType(f"event type {recorded.type!r} at position {recorded.position} is not known")
        try:
            if recorded.schema == kind.schema:
                return self._decoders[recorded.type](recorded.data)
            if not 1 <= recorded.schema < kind.schema:
                raise UnknownEventType(
                    f"schema {recorded.schema} of {recorded.type} at position {recorded.position} is not known, "
                    f"only 1 to {kind.schema}"
                )
            data = upcast(_decode_object(recorded.data), kind.upcasters, recorded.schema)
            return msgspec.convert(data, kind.cls)
        except (msgspec.MsgspecError, TypeError, ValueError) as exc:
            raise UnknownEventType(
                f"{recorded.type} at position {recorded.position} does not fit its schema {recorded.schema}: {exc}"
            ) from exc

    def _known(self, cls: type) -> tuple[str, int]:
        try:
            return self._names[cls]
        except KeyError:
            raise UnknownEventType(f"{cls.__module__}.{cls.__qualname__} is not a registered event") from None

    def _text(self, name: str, value: Any) -> tuple[str, int]:
        """JSON that PostgreSQL takes as it is, and its bytes."""
        try:
            raw = self._encode(value)
        except UnicodeEncodeError:
            raise InvalidEvent(f"event {name} holds a lone surrogate") from None
        except (TypeError, ValueError, OverflowError, RecursionError) as exc:
            raise InvalidEvent(f"event {name} cannot be written as JSON: {exc}") from exc
        if b"null" in raw:
            _refuse_non_finite(name, value)
        text = raw.decode()
        if "\\u0000" in text:
            check_escapes(name, text)
        return text, len(raw)


def decode_metadata(recorded: RecordedEvent) -> dict[str, Any]:
    """The metadata of an event as a dict."""
    return _decode_object(recorded.metadata)


_SCALARS = frozenset({str, int, bool, type(None), UUID, datetime, date, timedelta})
_FINITE_TYPES = frozenset(
    f"{name}{rest}"
    for name in ("str", "int", "bool", "UUID", "datetime", "date", "timedelta")
    for rest in ("", " | None")
)
"""Annotations of members that are never a float: what else a class declares is looked at."""

_getters: dict[type, attrgetter[Any] | None] = {dict: None, list: None, tuple: None}


def _getter(cls: type) -> attrgetter[Any] | None:
    """Of the members that may hold a float; None: it is no attrs class. Looked up once for each class."""
    try:
        return _getters[cls]
    except KeyError:
        getter = None
        if attrs.has(cls):
            members = [member.name for member in attrs.fields(cls) if str(member.type) not in _FINITE_TYPES]
            getter = attrgetter(*members, "__class__", "__class__")  # at least two: always a tuple
        _getters[cls] = getter
        return getter


def _refuse_non_finite(name: str, value: Any) -> None:
    """Find the NaN or infinity that msgspec wrote as null. Exact classes first: isinstance with an ABC is slow."""
    cls = value.__class__
    if cls is float:
        if not math.isfinite(value):
            raise InvalidEvent(f"event {name} holds the number {value}")
        return
    getter = _getter(cls)
    if getter is not None:
        items: Iterable[Any] = getter(value)[:-2]
    elif cls is dict or isinstance(value, Mapping):
        items = value.values()
    elif isinstance(value, (list, tuple, set, frozenset)):
        items = value
    else:
        return
    for item in items:
        if item.__class__ not in _SCALARS and (item or item.__class__ is float):  # what is empty holds nothing
            _refuse_non_finite(name, item)
