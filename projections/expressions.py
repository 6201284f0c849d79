"""The parts of a definition as SQL expressions: sources, conditions, constants."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from attrs import frozen

from projections.definition import (
    Category,
    Condition,
    Constant,
    Equals,
    Field,
    Kind,
    Mapped,
    Metadata,
    NotNull,
    ObjectOf,
    Present,
    RecordedAt,
    SecondsAsMillis,
    Source,
    StreamId,
    TimeAsMillis,
    Version,
)


def quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def literal(value: Any, kind: Kind) -> str:
    """A constant of the definition as SQL. Only definitions come here, never what users send."""
    if value is None:
        return f"NULL::{kind.value}"
    if kind is Kind.JSON:
        return f"{text_literal(json.dumps(value))}::jsonb"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        return f"{value}::{kind.value}" if kind is not Kind.INT else str(value)
    return f"{text_literal(value)}::{kind.value}"


def text_literal(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


def types(names: Sequence[str]) -> str:
    return f"type IN ({', '.join(text_literal(name) for name in names)})" if names else "false"


# --- sources and conditions ----------------------------------------------------------------------------------------


@frozen(slots=True)
class EventSql:
    """Where the parts of an event stand in the query: raw columns, or the array of a slot."""

    data: str
    recorded_at: str
    version: str
    stream_id: str
    metadata: str


RAW_EVENT = EventSql("data", "recorded_at", "version", "stream_id", "metadata")


def _json_at(document: str, path: tuple[str, ...]) -> str:
    if len(path) == 1:
        return f"({document} -> {text_literal(path[0])})"
    return f"({document} #> {text_literal('{' + ','.join(path) + '}')})"


def _text_at(document: str, path: tuple[str, ...]) -> str:
    if len(path) == 1:
        return f"({document} ->> {text_literal(path[0])})"
    return f"({document} #>> {text_literal('{' + ','.join(path) + '}')})"


def read(document: str, path: tuple[str, ...], kind: Kind) -> str:
    """The value at a path, typed; SQL NULL where it is absent or JSON null."""
    if kind is Kind.JSON:
        return f"nullif({_json_at(document, path)}, 'null'::jsonb)"
    text = _text_at(document, path)
    return text if kind is Kind.TEXT else f"{text}::{kind.value}"


def source_sql(source: Source, kind: Kind, event: EventSql) -> str:
    match source:
        case Field(path, default):
            found = read(event.data, path, kind)
            return found if default is None else f"coalesce({found}, {literal(default, kind)})"
        case Metadata(path):
            return read(event.metadata, path, kind)
        case Constant(value):
            return literal(value, kind)
        case Mapped(path, values, default):
            cases = "".join(f" WHEN {text_literal(k)} THEN {literal(v, kind)}" for k, v in values.items())
            return f"(CASE {_text_at(event.data, path)}{cases} ELSE {literal(default, kind)} END)"
        case RecordedAt():
            return event.recorded_at
        case Version():
            return event.version
        case StreamId():
            return event.stream_id
        case Category():
            return f"split_part({event.stream_id}, '-', 1)"
        case SecondsAsMillis(path):
            return f"trunc({_text_at(event.data, path)}::numeric * 1000)::bigint"
        case TimeAsMillis(path):
            # Rounded after the cut: extract() is a double before PostgreSQL 14.
            cut = f"date_trunc('milliseconds', {_text_at(event.data, path)}::timestamptz)"
            return f"round(extract(epoch FROM {cut}) * 1000)::bigint"
        case ObjectOf(members):
            pairs = (f"{text_literal(k)}, {source_sql(v, Kind.JSON, event)}" for k, v in members.items())
            return f"jsonb_build_object({', '.join(pairs)})"


def condition_sql(condition: Condition, event: EventSql = RAW_EVENT) -> str:
    match condition:
        case Present(path):
            return f"{_json_at(event.data, path)} IS NOT NULL"
        case NotNull(path):
            return f"{_text_at(event.data, path)} IS NOT NULL"
        case Equals(path, value):
            return f"coalesce({_json_at(event.data, path)} = {text_literal(json.dumps(value))}::jsonb, false)"


def is_event(type_: str, condition: Condition | None) -> str:
    plain = f"type = {text_literal(type_)}"
    return plain if condition is None else f"({plain} AND {condition_sql(condition)})"


def any_of(rules: Mapping[str, Condition | None]) -> str:
    """True of an event that is one of these; the unconditional ones in one list."""
    always = [name for name, condition in rules.items() if condition is None]
    parts = [types(always)] if always else []
    parts += [is_event(name, condition) for name, condition in rules.items() if condition is not None]
    return f"({' OR '.join(parts)})" if parts else "false"
