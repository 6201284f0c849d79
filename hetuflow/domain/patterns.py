"""Patterns of declared parameters: regular expressions of a kind that takes time in proportion to the text.

Characters, `.`, classes (`[a-z0-9]`, `\\d \\w \\s` and their opposites), each with `? * + {n} {n,} {n,m}`, and alternatives at
the top (`a|b`); `^` and `$` at the ends say nothing new, since the whole value must match. No groups, no references: what
those allow can make `re` search for ever, and a pattern comes from outside.
"""

from __future__ import annotations

import re
from functools import lru_cache

from attrs import frozen

PATTERN_LENGTH_MAX = 200
STATES_MAX = 256
"""Repeats written out: `\\d{4}` counts four."""
TEXT_LENGTH_MAX = 1024
"""Characters of a value that is held against a pattern: at most 256 x 1024 steps."""

_ITEM = re.compile(
    r"(?P<atom>\\.|\[\^?(?:\\.|[^\]\[\\])+\]|[^\\\[\](){}*+?|^$])(?:(?P<sign>[?*+])|\{(?P<low>\d{1,3})(?P<range>,(?P<high>\d{0,3}))?\})?",
    re.DOTALL,
)
_ESCAPES = frozenset("dDwWsStn")
_SET_OPERATIONS = re.compile(r"--|&&|~~|\|\|")


class PatternError(ValueError):
    """The pattern is not of that kind. `position` counts from 0."""

    def __init__(self, message: str, position: int) -> None:
        self.position = position
        super().__init__(message)


@frozen(slots=True)
class _State:
    """One character. `may_skip`: or none; `may_repeat`: or more."""

    character: re.Pattern[str]
    may_skip: bool = False
    may_repeat: bool = False


@frozen(slots=True)
class Pattern:
    alternatives: tuple[tuple[_State, ...], ...]

    def matches(self, text: str) -> bool:
        return len(text) <= TEXT_LENGTH_MAX and any(_matches(states, text) for states in self.alternatives)


def _matches(states: tuple[_State, ...], text: str) -> bool:
    """Follow all ways at once: the set of states that the text so far may have led to."""
    reached = _closed(states, {0})
    for character in text:
        following: set[int] = set()
        for at in reached:
            if at < len(states) and states[at].character.fullmatch(character):
                following.add(at if states[at].may_repeat else at + 1)
                if states[at].may_repeat:
                    following.add(at + 1)
        reached = _closed(states, following)
        if not reached:
            return False
    return len(states) in reached


def _closed(states: tuple[_State, ...], reached: set[int]) -> set[int]:
    for at in sorted(reached):
        while at < len(states) and states[at].may_skip:
            at += 1
            reached.add(at)
    return reached


@lru_cache(maxsize=512)
def pattern(text: str) -> Pattern:
    """Read a pattern.

    Raises:
      PatternError: it is not of that kind, or too large.
    """
    if not 0 < len(text) <= PATTERN_LENGTH_MAX:
        raise PatternError(f"must have 1 to {PATTERN_LENGTH_MAX} characters", 0)
    start, end = int(text.startswith("^")), len(text)
    if text.endswith("$") and not text.endswith("\\$"):
        end -= 1
    alternatives: list[list[_State]] = [[]]
    position = start
    while position < end:
        if text[position] == "|":
            alternatives.append([])
            position += 1
            continue
        item = _ITEM.match(text, position, end)
        if item is None:
            raise PatternError(
                f"{text[position]!r} is not allowed here: no groups, and \\ before such a character", position
            )
        alternatives[-1] += _states(item)
        position = item.end()
        if sum(map(len, alternatives)) > STATES_MAX:
            raise PatternError(f"is longer than {STATES_MAX} characters when its repeats are written out", position)
    return Pattern(tuple(tuple(states) for states in alternatives))


def _states(item: re.Match[str]) -> list[_State]:
    atom, at = item["atom"], item.start()
    for escaped in re.findall(r"\\(.)", atom, re.DOTALL):
        if escaped.isalnum() and escaped not in _ESCAPES:
            raise PatternError(f"\\{escaped} is not known; there are \\d \\w \\s \\D \\W \\S \\t \\n", at)
    if atom[0] == "[" and _SET_OPERATIONS.search(atom):
        raise PatternError("-- && ~~ || are not allowed in a class", at)
    try:
        character = re.compile(atom, re.DOTALL)
    except re.error as wrong:
        raise PatternError(f"{atom}: {wrong.msg}", at) from None
    one = _State(character)
    if item["sign"]:
        return {
            "?": [_State(character, may_skip=True)],
            "*": [_State(character, may_skip=True, may_repeat=True)],
            "+": [one, _State(character, may_skip=True, may_repeat=True)],
        }[item["sign"]]
    if item["low"] is None:
        return [one]
    low = int(item["low"])
    if item["range"] is None:
        return [one] * low
    if not item["high"]:
        return [*[one] * low, _State(character, may_skip=True, may_repeat=True)]
    if int(item["high"]) < low:
        raise PatternError("the repeat ends below its beginning", at)
    return [*[one] * low, *[_State(character, may_skip=True)] * (int(item["high"]) - low)]
