"""Enums in requests and answers: a code, the code in decimal, or a name, however it is spelled."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from enum import IntEnum, StrEnum
from typing import Any

from attrs import field, frozen

from hetuflow.api.jsontext import shown
from hetuflow.api.kinds import INVALID, Schema
from hetuflow.api.problems import Problems, nearest, plain


def title(member: IntEnum) -> str:
    """The contract's name of an enum member: `WAITING_RETRY` is `WaitingRetry`."""
    return "".join(word.capitalize() for word in member.name.split("_"))


def _any_spelling(name: str) -> str:
    """A regular expression of the name ignoring case, `_` and `-`, as JSON Schema's dialect has it."""
    return "[_-]*" + "".join(f"[{letter.upper()}{letter}][_-]*" for letter in plain(name))


@frozen(slots=True)
class Code:
    """A coded enum: its code, the code as a decimal string, or its name; the value is the code."""

    enum: type[IntEnum]
    also: Mapping[str, int] = field(factory=dict)
    """More names, in plain spelling, and the code (or a subclass of int that says more) they mean."""

    among: Sequence[int] = ()
    """Only these members; empty: all."""

    @property
    def _members(self) -> Sequence[IntEnum]:
        return [member for member in self.enum if not self.among or member in self.among]

    @property
    def phrase(self) -> str:
        described = [f"{title(member)} ({member.value})" for member in self._members]
        described += [name for name, code in self.also.items() if not self.among or int(code) in self.among]
        return described[0] if len(described) == 1 else "one of " + ", ".join(described)

    def parse(self, value: Any, path: str, problems: Problems) -> Any:
        code = self.code(value)
        if code is not None and (not self.among or code in self.among):
            return code
        near = (
            nearest(value, [*(title(member) for member in self._members), *self.also])
            if isinstance(value, str) and value
            else None
        )
        problems.add(path, f"must be {self.phrase}, got {shown(value)}", near)
        return INVALID

    def code(self, value: Any) -> int | None:
        if isinstance(value, str):
            word = plain(value)
            for member in self.enum:
                if plain(member.name) == word:
                    return member.value
            if word in self.also:
                return self.also[word]
            if not (value.isascii() and value.isdigit() and len(value) < 10):
                return None
            value = int(value)
        elif isinstance(value, float) and value.is_integer():
            value = int(value)
        if isinstance(value, int) and not isinstance(value, bool) and value in self.enum._value2member_map_:
            return value
        return None

    def schema(self) -> Schema:
        return self.schema_of([member.value for member in self._members])

    def schema_of(self, values: Sequence[Any]) -> Schema:
        known = [member for member in self.enum if member.value in values]
        names = [title(member) for member in known] + [name for name, code in self.also.items() if int(code) in values]
        codes = "|".join(str(member.value) for member in known)
        return {
            "description": "; ".join(f"{member.value} = {title(member)}" for member in known),
            "anyOf": [
                {"type": "integer", "enum": [member.value for member in known]},
                {"type": "string", "enum": names},
                {
                    "type": "string",
                    "pattern": f"^(?:{'|'.join(map(_any_spelling, names))}|0{{0,6}}(?:{codes}))$",
                    "description": "the name ignoring case, _ and -, or the code in decimal",
                },
            ],
        }


@frozen(slots=True)
class CodeOut:
    """A coded enum as answers have it."""

    enum: type[IntEnum]

    phrase: str = "a code"

    def parse(self, value: Any, path: str, problems: Problems) -> Any:
        return Code(self.enum).parse(value, path, problems)

    def schema(self) -> Schema:
        return {
            "type": "integer",
            "enum": [member.value for member in self.enum],
            "description": "; ".join(f"{member.value} = {title(member)}" for member in self.enum),
        }


@frozen(slots=True)
class Word:
    """A string enum, without regard to case, `_` and `-`."""

    enum: type[StrEnum]

    @property
    def phrase(self) -> str:
        return "one of " + ", ".join(f'"{member.value}"' for member in self.enum)

    def parse(self, value: Any, path: str, problems: Problems) -> Any:
        if isinstance(value, str):
            word = plain(value)
            for member in self.enum:
                if plain(member.value) == word:
                    return member.value
        near = nearest(value, [member.value for member in self.enum]) if isinstance(value, str) and value else None
        problems.add(path, f"must be {self.phrase}, got {shown(value)}", near)
        return INVALID

    def schema(self) -> Schema:
        return self.schema_of([member.value for member in self.enum])

    def schema_of(self, values: Sequence[Any]) -> Schema:
        return {
            "anyOf": [
                {"type": "string", "enum": list(values)},
                {
                    "type": "string",
                    "pattern": f"^(?:{'|'.join(map(_any_spelling, values))})$",
                    "description": "the same ignoring case, _ and -",
                },
            ]
        }


@frozen(slots=True)
class WordOut:
    """A string enum as answers have it."""

    enum: type[StrEnum]

    phrase: str = "a word"

    def parse(self, value: Any, path: str, problems: Problems) -> Any:
        return Word(self.enum).parse(value, path, problems)

    def schema(self) -> Schema:
        return {"type": "string", "enum": [member.value for member in self.enum]}
