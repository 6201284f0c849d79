"""Sessions of earlier versions, and whether what is said today would be understood by them. See `record`."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec
from attrs import frozen

SESSIONS = Path(__file__).parent / "sessions"
NAMES = sorted(path.stem for path in SESSIONS.glob("*.jsonl"))

HELLO, HEARTBEAT, STARTED, ENDED, OBSERVED = 1, 3, 4, 5, 7
WELCOME, BEAT_ACK, DISPATCH, STOP, ACK, STANDING, WATCH, SHUTDOWN = 20, 22, 23, 24, 26, 28, 31, 42

Said = tuple[int, dict[str, Any]]
"""Number of a message, and its members."""


def said_in(frame: bytes) -> Sequence[Said]:
    return [(tag, body) for tag, body in msgspec.msgpack.decode(frame)]


@frozen(kw_only=True)
class Frame:
    """`sender`: agent or server."""

    sender: str
    data: bytes

    @property
    def says(self) -> Sequence[Said]:
        return said_in(self.data)


def connections(name: str) -> Sequence[Sequence[Frame]]:
    """The recorded frames, by connection."""
    found: dict[int, list[Frame]] = {}
    for line in (SESSIONS / f"{name}.jsonl").read_text().splitlines():
        told = json.loads(line)
        frame = Frame(sender=told["from"], data=base64.b64decode(told["frame"]))
        found.setdefault(told["connection"], []).append(frame)
    return list(found.values())


@frozen
class Vocabulary:
    """The messages of one version: `numbers` -> names, names -> members -> type and whether it must be there."""

    numbers: Mapping[str, str]
    members: Mapping[str, Mapping[str, Mapping[str, Any]]]

    @classmethod
    def of(cls, name: str) -> Vocabulary:
        told = json.loads((SESSIONS / f"{name}.vocabulary.json").read_text())
        return cls(told["numbers"], told["members"])

    def misunderstood(self, frame: bytes) -> list[str]:
        """What that version could not read of the frame, in words. Members and numbers that it does not know are skipped
        by it, and are to be said only where it does no harm: they are told too."""
        found = []
        for tag, body in said_in(frame):
            name = self.numbers.get(str(tag))
            found += [f"message {tag} is not known"] if name is None else self._wrong(name, body)
        return found

    def _wrong(self, name: str, body: Mapping[str, Any]) -> list[str]:
        members = self.members[name]
        found = [
            f"{name}: {member} is missing" for member in members if members[member]["required"] and member not in body
        ]
        for member, value in body.items():
            if member in members:
                found += [f"{name}.{member}: {text}" for text in self._unfit(members[member]["type"], value)]
        return found

    def _unfit(self, type_: str, value: Any) -> list[str]:
        if value is None and ("None" in type_ or type_ == "Any"):
            return []
        type_ = type_.removesuffix(" | None")
        items = re.fullmatch(r"tuple\[(\w+), \.\.\.\]", type_)
        if items is not None and isinstance(value, list):
            return [text for item in value for text in self._unfit(items[1], item)]
        if type_ in self.members:
            return self._wrong(type_, value) if isinstance(value, dict) else [f"{value!r} is no {type_}"]
        if type_ == "Any" or isinstance(value, KINDS[type_.partition("[")[0]]):
            return []
        return [f"{value!r} is no {type_}"]


KINDS: Mapping[str, Any] = {
    "str": str,
    "int": int,
    "float": (int, float),
    "bool": bool,
    "bytes": bytes,
    "Mapping": dict,
    "tuple": list,
}
