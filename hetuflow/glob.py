"""Globs over texts with `/`: `*` is any run without `/`, `**` any run, `?` one character but `/`; all else is itself.

Matched by stepping through the text once with the set of places in the pattern as the bits of an integer: no pattern
makes it slow, whatever the text (a regular expression of many stars would backtrack).
"""

from __future__ import annotations

from collections import defaultdict
from typing import Final

from attrs import field, frozen

WILD: Final = "*?"
SEPARATOR: Final = "/"


def has_wildcard(text: str) -> bool:
    return any(character in text for character in WILD)


@frozen(slots=True)
class Glob:
    """One pattern, prepared. Equal patterns are equal globs."""

    pattern: str
    _literals: dict[str, int] = field(init=False, eq=False, repr=False)
    _one: int = field(init=False, eq=False, repr=False)
    _run: int = field(init=False, eq=False, repr=False)
    _long_run: int = field(init=False, eq=False, repr=False)
    _end: int = field(init=False, eq=False, repr=False)

    def __attrs_post_init__(self) -> None:
        literals: defaultdict[str, int] = defaultdict(int)
        one = run = long_run = 0
        place, rest = 1, self.pattern
        while rest:
            if rest.startswith("**"):
                long_run |= place
                rest = rest[2:]
            else:
                if rest[0] == "*":
                    run |= place
                elif rest[0] == "?":
                    one |= place
                else:
                    literals[rest[0]] |= place
                rest = rest[1:]
            place <<= 1
        prepared = {"_literals": dict(literals), "_one": one, "_run": run, "_long_run": long_run, "_end": place}
        for name, value in prepared.items():
            object.__setattr__(self, name, value)

    def matches(self, text: str) -> bool:
        """Whether the whole text fits. O(length of the text)."""
        places = self._skipped(1)
        for character in text:
            consumed = self._literals.get(character, 0)
            stays = self._long_run
            if character != SEPARATOR:
                consumed |= self._one
                stays |= self._run
            places = self._skipped(((places & consumed) << 1) | (places & stays))
            if not places:
                return False
        return bool(places & self._end)

    def _skipped(self, places: int) -> int:
        """With the places that are reached because a run may be empty."""
        while (more := places | ((places & (self._run | self._long_run)) << 1)) != places:
            places = more
        return places
