"""Which directories have to be watched for some globs, and what of their changes is to be told. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from attrs import field, frozen

from hetuflow.glob import Glob, has_wildcard
from hetuflow.protocol.messages import FileWatch

ROOTS_MAX: Final = 32
"""Directories that one agent watches: each is a thread."""

TOO_BROAD: Final = frozenset({"/", "/proc", "/sys", "/dev"})
"""Not watched with all that is below them."""


@frozen(slots=True)
class Root:
    """A directory, with everything below it if `recursive`."""

    directory: str
    recursive: bool

    def covers(self, other: Root) -> bool:
        if self.recursive:
            below = self.directory.rstrip("/") + "/"
            return other.directory == self.directory or other.directory.startswith(below)
        return self == other


@frozen(slots=True)
class Wanted:
    """What is to be told: a glob and the types of event."""

    watch: FileWatch
    _glob: Glob = field(init=False, eq=False, repr=False)

    @_glob.default
    def _prepare(self) -> Glob:
        return Glob(self.watch.glob)

    def fits(self, event_type: str, path: str) -> bool:
        return event_type in self.watch.types and self._glob.matches(path)


@frozen(slots=True)
class Plan:
    """`refused`: glob -> why nothing is watched for it."""

    roots: Mapping[Root, Sequence[Wanted]]
    refused: Mapping[str, str]


def root_of(glob: str) -> Root:
    """The deepest directory that holds everything that fits. Raises `ValueError`, saying why there is none."""
    if not glob.startswith("/"):
        raise ValueError("not an absolute path")
    names = glob.split("/")[1:]
    if any(name in (".", "..") for name in names):
        raise ValueError("a path with . or .. in it")
    fixed = 0
    while fixed < len(names) - 1 and not has_wildcard(names[fixed]):
        fixed += 1
    root = Root("/" + "/".join(names[:fixed]), recursive=len(names) - fixed > 1 or "**" in names[-1])
    if root.recursive and root.directory in TOO_BROAD:
        raise ValueError(f"too broad: everything below {root.directory} would be watched")
    return root


def plan(watches: Iterable[FileWatch]) -> Plan:
    """Directories that do not overlap, each with what is wanted of it."""
    found: dict[Root, list[Wanted]] = {}
    refused: dict[str, str] = {}
    for watch in watches:
        try:
            found.setdefault(root_of(watch.glob), []).append(Wanted(watch))
        except ValueError as why:
            refused[watch.glob] = str(why)
    merged: dict[Root, list[Wanted]] = {}
    for root in sorted(found, key=lambda each: (not each.recursive, len(each.directory), each.directory)):
        covering = next((each for each in merged if each.covers(root)), root)
        if covering not in merged and len(merged) >= ROOTS_MAX:
            refused.update((wanted.watch.glob, f"more than {ROOTS_MAX} directories") for wanted in found[root])
            continue
        merged.setdefault(covering, []).extend(found[root])
    return Plan(merged, refused)
