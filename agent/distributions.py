"""Which packages are installed here: their versions and entry points, read from their `.dist-info` directories.

As `importlib.metadata` tells it, of which an agent would keep 1.3 MB (the standard library's email and zipfile) for a
version and a few names. The first directory of `sys.path` that has a package wins.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final

INFO_SUFFIXES: Final = (".dist-info", ".egg-info")
_SECTION: Final = re.compile(r"\[(.+)\]")


def version_of(package: str) -> str | None:
    """None = it is not installed."""
    for info in _infos():
        name, version = _named(info)
        if _plain(name) == _plain(package):
            return version
    return None


def entry_points(group: str) -> list[tuple[str, str, str]]:
    """(name, package, what it is) of every entry point of this group, in the order of `sys.path`."""
    found = []
    for info in _infos():
        text = _read(os.path.join(info, "entry_points.txt"))
        if group in text:
            package = _named(info)[0]
            found += [(name, package, value) for name, value in _of_group(text, group)]
    return found


def _infos() -> Iterator[str]:
    """The metadata directories, of each package the first one."""
    seen: set[str] = set()
    for directory in sys.path:
        try:
            names = sorted(os.listdir(directory or "."))
        except OSError:  # a zip file, or a directory that is not there
            continue
        for name in names:
            package = _plain(name.partition("-")[0].removesuffix(".egg-info"))
            if name.endswith(INFO_SUFFIXES) and package not in seen:
                seen.add(package)
                yield os.path.join(directory or ".", name)


def _named(info: str) -> tuple[str, str]:
    """Name and version, from the metadata itself; else from the directory's name."""
    name, _, version = os.path.basename(info).rpartition(".")[0].partition("-")
    text = _read(os.path.join(info, "METADATA")) or _read(os.path.join(info, "PKG-INFO"))
    given = dict(
        line.split(": ", 1)
        for line in text.partition("\n\n")[0].split("\n")
        if line.startswith(("Name: ", "Version: "))
    )
    return given.get("Name", name).strip(), given.get("Version", version).strip()


def _of_group(text: str, group: str) -> Iterator[tuple[str, str]]:
    section = None
    for line in map(str.strip, text.split("\n")):
        if (head := _SECTION.fullmatch(line)) is not None:
            section = head[1].strip()
        elif section == group and "=" in line and not line.startswith(("#", ";")):
            name, _, value = line.partition("=")
            yield name.strip(), value.strip()


def _plain(name: str) -> str:
    """As package indexes compare names."""
    return re.sub(r"[-_.]+", "-", name).lower()


def _read(path: str) -> str:
    try:
        return Path(path).read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
