"""Which files of an instance's directory are kept, and what is said of those that are not. Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from attrs import define, field, frozen

from agent.instance_tree import Found
from hetuflow.glob import Glob, has_wildcard
from hetuflow.protocol.messages import ArtifactWanted

FILE_BYTES_MAX: Final = 1024**3
"""Of one file, unless the job says less or more."""
FILES_BYTES_MAX: Final = 4 * 1024**3
"""Of all files of an instance."""
FILES_MAX: Final = 1000
LISTING_BYTES_MAX: Final = 96 * 1024
"""Of all paths together, with what is said of each: the report of the end is one message, and one event."""
ENTRY_BYTES: Final = 130
"""Of a path in the listing, besides itself: size, digest and names of members."""
PATH_BYTES_MAX: Final = 1000


@frozen(slots=True, kw_only=True)
class Problem:
    """Of a path, or of a glob that fits nothing. `is_fatal`: the instance fails for it."""

    path: str
    text: str
    is_fatal: bool

    def as_listed(self) -> Mapping[str, Any]:
        return {"path": self.path, "problem": self.text}


@define(slots=True)
class Plan:
    """`chosen`: the paths to keep, each once, in order."""

    chosen: list[str] = field(factory=list)
    problems: list[Problem] = field(factory=list)

    @property
    def failure(self) -> str | None:
        """Why the instance fails, if it does."""
        return failure_of(self.problems)


def failure_of(problems: Sequence[Problem]) -> str | None:
    fatal = [f"{each.path}: {each.text}" for each in problems if each.is_fatal]
    if not fatal:
        return None
    more = f" (and {len(fatal) - 1} more)" if len(fatal) > 1 else ""
    return f"artifacts: {fatal[0]}{more}"


def plan(found: Sequence[Found], wanted: Sequence[ArtifactWanted]) -> Plan:
    """What to keep. A file that several globs fit counts for the first of them."""
    result, room = Plan(), _Room()
    decided: set[str] = set()
    for each in wanted:
        fits = _fitting(each.glob)
        matches = [file for file in found if fits(file.path)]
        if all(file.problem is not None for file in matches):
            result.problems.append(Problem(path=each.glob, text="no file fits", is_fatal=not each.optional))
        for file in matches:
            if file.path not in decided:
                decided.add(file.path)
                _decide(file, each, room, result)
    if room.left_out:
        text = f"{room.left_out} more are not kept: too many for one instance (at most {FILES_MAX}, and as many as"
        text += f" {LISTING_BYTES_MAX} bytes name)"
        result.problems.append(Problem(path="", text=text, is_fatal=room.left_out_is_fatal))
    return result


def _decide(file: Found, wanted: ArtifactWanted, room: _Room, result: Plan) -> None:
    if not room.has_entry(file.path):
        room.left_out += 1
        room.left_out_is_fatal |= not wanted.optional
        return
    if file.problem is not None:  # a link, a pipe: named, and no reason to fail, for a glob fits it by accident
        result.problems.append(Problem(path=file.path, text=file.problem, is_fatal=False))
    elif problem := room.refuses(file.size, wanted.bytes_max):
        result.problems.append(Problem(path=file.path, text=problem, is_fatal=not wanted.optional))
    else:
        result.chosen.append(file.path)


@define(slots=True)
class _Room:
    """What an instance may still leave behind."""

    entries: int = FILES_MAX
    listing_bytes: int = LISTING_BYTES_MAX
    bytes_left: int = FILES_BYTES_MAX
    left_out: int = 0
    left_out_is_fatal: bool = False

    def has_entry(self, path: str) -> bool:
        """Take one, if there is one."""
        size = len(path.encode(errors="replace")) + ENTRY_BYTES
        if self.entries == 0 or self.listing_bytes < size:
            return False
        self.entries -= 1
        self.listing_bytes -= size
        return True

    def refuses(self, size: int, bytes_max: int) -> str | None:
        """Why a file of this size is too much; None: it is taken into account."""
        most = bytes_max or FILE_BYTES_MAX
        if size > most:
            return f"has {size} bytes, at most {most} are kept"
        if size > self.bytes_left:
            return f"has {size} bytes, and {self.bytes_left} are left of the {FILES_BYTES_MAX} for all files"
        self.bytes_left -= size
        return None


def _fitting(glob: str) -> Callable[[str], bool]:
    """A glob without wildcards that names a directory means all that is in it."""
    if has_wildcard(glob):
        return Glob(glob).matches
    below = f"{glob.rstrip('/')}/"
    return lambda path: path == glob or path.startswith(below)
