"""What is wrong with a request, member by member, and which name was probably meant."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from attrs import frozen


@frozen(slots=True)
class Problem:
    """One field problem. `status` 400 marks values of pages and query parameters that are out of range or malformed."""

    path: str
    message: str
    suggestion: str | None = None
    status: int = 422

    def as_json(self) -> dict[str, Any]:
        return {"path": self.path, "message": self.message, "suggestion": self.suggestion}


class Problems:
    """The problems found so far, in the order of discovery."""

    __slots__ = ("_found",)

    def __init__(self) -> None:
        self._found: list[Problem] = []

    def __bool__(self) -> bool:
        return bool(self._found)

    def __len__(self) -> int:
        return len(self._found)

    def __iter__(self) -> Iterator[Problem]:
        return iter(self._found)

    def add(self, path: str, message: str, suggestion: str | None = None, status: int = 422) -> None:
        self._found.append(Problem(path, message, suggestion, status))

    def unknown(self, path: str, name: str, known: Iterable[str], what: str = "member") -> None:
        """A name that is not known, with the nearest one that is."""
        near = nearest(name, known)
        hint = f'; the nearest known name is "{near}"' if near is not None else ""
        self.add(path, f"unknown {what}{hint}", near)

    def in_order_of(self, names: Sequence[str]) -> list[Problem]:
        """All problems, those of the top-level member sent first coming first; what was not sent comes last."""
        rank = {name: index for index, name in enumerate(names)}

        def place(problem: Problem) -> int:
            head = problem.path
            for index, character in enumerate(head):
                if character in ".[":
                    head = head[:index]
                    break
            return rank.get(problem.path, rank.get(head, len(rank)))

        return sorted(self._found, key=place)


def plain(name: str) -> str:
    """The name without case, `_` and `-`."""
    return name.lower().replace("_", "").replace("-", "")


def distance(left: str, right: str) -> int:
    """Edits from one name to the other; two neighbours exchanged are one edit (optimal string alignment)."""
    before: list[int] = []
    last = list(range(len(right) + 1))
    for i, a in enumerate(left, 1):
        row = [i]
        for j, b in enumerate(right, 1):
            cost = min(last[j] + 1, row[j - 1] + 1, last[j - 1] + (a != b))
            if i > 1 and j > 1 and a == right[j - 2] and left[i - 2] == b:
                cost = min(cost, before[j - 2] + 1)
            row.append(cost)
        before, last = last, row
    return last[-1]


def nearest(name: str, known: Iterable[str]) -> str | None:
    """The known name with the fewest edits; None when nothing is known.

    Of equals one that only lacks or adds letters (`lke` is rather `like` than `lte`), then the first.
    """
    wanted = plain(name)[:64]
    best: tuple[tuple[int, bool], str] | None = None
    for candidate in known:
        spelled = plain(candidate)
        rank = (distance(wanted, spelled), not (_within(wanted, spelled) or _within(spelled, wanted)))
        if best is None or rank < best[0]:
            best = (rank, candidate)
    return best[1] if best else None


def _within(letters: str, word: str) -> bool:
    """Whether the letters occur in the word in that order."""
    rest = iter(word)
    return all(letter in rest for letter in letters)


def resembles(name: str, known: str) -> bool:
    """Whether an open member's name is so near a known one that it is probably a slip (REST contract, TaskConfig)."""
    a, b = plain(name), plain(known)
    if len(a) <= len(b) * 2 and distance(a, b) <= max(1, len(b) // 4):
        return True
    shorter, longer = (a, b) if len(a) <= len(b) else (b, a)
    return len(shorter) >= 3 and shorter in longer
