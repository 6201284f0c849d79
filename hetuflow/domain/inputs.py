"""`config.files` and `config.artifacts`: what is put into an instance's directory before it runs, and kept of it after.

Paths are relative to that directory and stay in it. Contents travel in the config, which is copied into every task, so
they are small; what is larger is a file of the server, which the agent fetches.
"""

from __future__ import annotations

import json
import re
from base64 import b64decode
from collections.abc import Mapping, Sequence
from typing import Any

from attrs import frozen

from hetuflow.domain.file_urls import FILE_URL_PATTERN, FILE_URL_RULE, parse_file_url

JSON = Mapping[str, Any]
Found = list[tuple[str, str]]

FILES_MAX = 100
FILES_BYTES_MAX = 128 * 1024
"""Of all files together, as JSON: an event has at most 256 KiB, and holds the rest of the config too."""
ARTIFACTS_MAX = 100
PATH_LENGTH_MAX = 255
URL_LENGTH_MAX = 2048
MODE = 0o600

PATH_PATTERN = r"(?!(?:.*/)?\.{1,2}(?:/|$))[^/]+(?:/[^/]+)*"
PATH_RULE = f"must be a relative path ≤ {PATH_LENGTH_MAX} characters, without empty parts, . and .."
MODE_PATTERN = "0?[0-7]{3}"
BASE64_PATTERN = r"(?:[A-Za-z0-9+/]{4})*(?:[A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?"

SOURCES = ("content", "base64", "url")
FILE_MEMBERS = (*SOURCES, "mode")
ARTIFACT_MEMBERS = ("path", "max_bytes", "optional")

_PATH, _MODE = re.compile(PATH_PATTERN, re.DOTALL), re.compile(MODE_PATTERN)


@frozen(slots=True, kw_only=True)
class FileGiven:
    """A file that the program finds. `content` None: it is fetched from `url`."""

    path: str
    content: bytes | None = None
    url: str = ""
    mode: int = MODE


@frozen(slots=True, kw_only=True)
class ArtifactWanted:
    """Files that are kept. `bytes_max` 0: as the agent allows; `optional`: none may match."""

    glob: str
    bytes_max: int = 0
    optional: bool = False


def files_of(files: JSON | None) -> tuple[FileGiven, ...]:
    """Sorted by path."""
    return tuple(_file(path, said) for path, said in sorted((files or {}).items()))


def _file(path: str, said: Any) -> FileGiven:
    if isinstance(said, str):
        return FileGiven(path=path, content=said.encode())
    content: bytes | None = None
    if said.get("base64") is not None:
        content = b64decode(said["base64"])
    elif said.get("url") is None:
        content = (said.get("content") or "").encode()
    mode = said.get("mode")
    return FileGiven(path=path, content=content, url=said.get("url") or "", mode=MODE if mode is None else int(mode, 8))


def artifacts_of(artifacts: Sequence[Any] | None) -> tuple[ArtifactWanted, ...]:
    return tuple(
        ArtifactWanted(glob=each)
        if isinstance(each, str)
        else ArtifactWanted(
            glob=each["path"], bytes_max=each.get("max_bytes") or 0, optional=bool(each.get("optional"))
        )
        for each in artifacts or ()
    )


# --- bounds --------------------------------------------------------------------------------------------------------


def is_path(value: Any) -> bool:
    if not isinstance(value, str) or len(value) > PATH_LENGTH_MAX or "\0" in value:
        return False
    return _PATH.fullmatch(value) is not None


def faults_of_files(files: JSON) -> Found:
    """(path from `files` on, message) of what is not allowed."""
    if len(files) > FILES_MAX:
        return [("", f"must have at most {FILES_MAX} members, has {len(files)}")]
    found: Found = []
    for name, said in files.items():
        where = f".{name}"
        if not is_path(name):
            found.append(("", f"{PATH_RULE}, got {name!r}"))
        elif isinstance(said, Mapping):
            found += [(f"{where}{path}", message) for path, message in _faults_of_file(said)]
        elif not isinstance(said, str):
            found.append((where, f"must be the file's text, or an object with one of {', '.join(SOURCES)}"))
    found += [("", f"{name!r} is also the directory of another file") for name in _both(files)]
    if not found and (size := _size_of(files)) > FILES_BYTES_MAX:
        found.append(("", f"must have at most {FILES_BYTES_MAX} bytes together, has {size}; give a url for large ones"))
    return found


def _faults_of_file(said: JSON) -> Found:
    found: Found = [(f".{name}", not_known(FILE_MEMBERS)) for name in said if name not in FILE_MEMBERS]
    given = [name for name in SOURCES if said.get(name) is not None]
    if len(given) != 1:
        found.append(("", f"must have one of {', '.join(SOURCES)}, has {' and '.join(given) or 'none'}"))
    found += [(f".{name}", "must be a string") for name in given if not isinstance(said[name], str)]
    if isinstance(text := said.get("base64"), str) and not _is_base64(text):
        found.append((".base64", "must be base64"))
    if isinstance(url := said.get("url"), str) and (message := fault_of_url(url)):
        found.append((".url", message))
    mode = said.get("mode")
    if mode is not None and not (isinstance(mode, str) and _MODE.fullmatch(mode)):
        found.append((".mode", f'must be an octal text such as "0600", got {mode!r}'))
    return found


def faults_of_artifacts(artifacts: Sequence[Any]) -> Found:
    """(path from `artifacts` on, message) of what is not allowed."""
    if len(artifacts) > ARTIFACTS_MAX:
        return [("", f"must have at most {ARTIFACTS_MAX} elements, has {len(artifacts)}")]
    found: Found = []
    for n, each in enumerate(artifacts):
        where = f"[{n}]"
        glob = each.get("path") if isinstance(each, Mapping) else each
        if not is_path(glob):
            found.append((f"{where}.path" if isinstance(each, Mapping) else where, f"{PATH_RULE}, got {glob!r}"))
        if isinstance(each, Mapping):
            found += [(f"{where}.{name}", not_known(ARTIFACT_MEMBERS)) for name in each if name not in ARTIFACT_MEMBERS]
            most, optional = each.get("max_bytes"), each.get("optional")
            if most is not None and not (isinstance(most, int) and not isinstance(most, bool) and most >= 1):
                found.append((f"{where}.max_bytes", f"must be an integer ≥ 1, got {most!r}"))
            if optional is not None and not isinstance(optional, bool):
                found.append((f"{where}.optional", f"must be true or false, got {optional!r}"))
    return found


def not_known(known: Sequence[str]) -> str:
    return f"is not known; known are {', '.join(known)}"


def fault_of_url(url: str) -> str | None:
    """Why an agent cannot fetch it: it asks the server, and nobody else."""
    if len(url) > URL_LENGTH_MAX:
        return f"must have at most {URL_LENGTH_MAX} characters, has {len(url)}"
    if parse_file_url(url) is not None:
        return None
    if re.fullmatch(FILE_URL_PATTERN, url) is not None:
        return f"must be UTF-8 where it is percent-encoded, without NUL, got {url!r}"
    return f"must be a file of the server ({FILE_URL_RULE}); let the program fetch others; got {url!r}"


def _both(files: JSON) -> list[str]:
    """Paths that are a file and a directory."""
    parents = {path[:n] for path in files if isinstance(path, str) for n, letter in enumerate(path) if letter == "/"}
    return [path for path in files if path in parents]


def _size_of(files: JSON) -> int:
    return len(json.dumps(files, ensure_ascii=False).encode(errors="replace"))


def _is_base64(text: str) -> bool:
    return re.fullmatch(BASE64_PATTERN, text) is not None
