"""Which hierarchies of control groups are mounted, and where this process is in them. Pure: text in, values out."""

from __future__ import annotations

import os
import re
from typing import Final

from attrs import frozen

CONTROLLERS: Final = ("memory", "cpu", "cpuacct", "pids", "freezer")
"""Those of v1 that are of use here."""


@frozen(slots=True)
class Hierarchy:
    """`directory`: the group of this process, as it is visible here. `controllers`: of v1; v2 tells them by a file."""

    version: int
    directory: str
    controllers: tuple[str, ...] = ()


def hierarchies(mountinfo: str, own: str) -> list[Hierarchy]:
    """Those in which this process has a group that it can see.

    Args:
      mountinfo: the content of /proc/self/mountinfo.
      own: the content of /proc/self/cgroup.
    """
    groups = _own_groups(own)
    found = []
    for line in mountinfo.splitlines():
        before, separator, after = line.partition(" - ")
        fields, kind = before.split(" "), after.split(" ")
        if not separator or kind[0] not in ("cgroup", "cgroup2") or len(fields) < 5 or len(kind) < 3:
            continue
        root, mount_point = plain(fields[3]), plain(fields[4])
        if kind[0] == "cgroup2":
            controllers: tuple[str, ...] = ()
            path = groups.get("")
        else:
            controllers = tuple(name for name in kind[2].split(",") if name in CONTROLLERS)
            path = groups.get(controllers[0]) if controllers else None
        directory = _visible(path, root, mount_point)
        if directory is not None:
            found.append(Hierarchy(1 if kind[0] == "cgroup" else 2, directory, controllers))
    return found


def _own_groups(own: str) -> dict[str, str]:
    """Controller -> path in its hierarchy; "" is v2."""
    groups = {}
    for line in own.splitlines():
        _, _, rest = line.partition(":")
        names, _, path = rest.partition(":")
        for name in names.split(","):
            groups[name] = path.removesuffix(" (deleted)")
    return groups


def _visible(path: str | None, root: str, mount_point: str) -> str | None:
    """A container sees a part of the hierarchy, from `root`; what lies outside of it has no path here."""
    if path is None:
        return None
    inside = os.path.relpath(path, root)
    if inside == ".." or inside.startswith("../"):
        return None
    return os.path.normpath(os.path.join(mount_point, inside))


def plain(text: str) -> str:
    """Without the octal escapes of mountinfo, such as \\040 for a space."""
    return re.sub(r"\\([0-7]{3})", lambda found: chr(int(found[1], 8)), text)
