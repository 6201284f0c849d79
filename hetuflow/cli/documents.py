"""Files of people: YAML, TOML, JSON, JSON lines, from files, directories or stdin; with the line of every member.

YAML is read as YAML 1.2 does: `no`, `on`, `12:30` and `2027-01-31` are text; a member given twice is an error.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from attrs import Factory, frozen

from hetuflow.cli import exits

if TYPE_CHECKING:
    from yaml import Node

SUFFIXES = (".yaml", ".yml", ".toml", ".json")
FILE_BYTES_MAX = 16 << 20
DEPTH_MAX = 64
"""As the API."""

_INTEGER = re.compile(r"[-+]?(0|[1-9][0-9]*)")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
_CONSTANTS = {"true": True, "false": False, "null": None, "~": None, "": None}


class FileError(click.ClickException):
    """A file cannot be read, or something in it is wrong; the message begins with the place."""

    exit_code = exits.USAGE


@frozen
class Document:
    """One document: its value, and the line of each path in it (`jobs[0].config.timeout`)."""

    file: str
    value: Any
    lines: Mapping[str, int] = Factory(dict)

    def place(self, path: str) -> str:
        """`jobs.yaml:12: jobs[0].config.timeout`; the line of the nearest member around it that has one."""
        known = path
        while known and known not in self.lines:
            known = re.sub(r"(\.[^.\[]*|\[\d+\]|^[^.\[]*)$", "", known)
        line = self.lines.get(known)
        where = f"{self.file}:{line}" if line else self.file
        return f"{where}: {path}" if path else where


def read_documents(names: Sequence[str]) -> list[Document]:
    """Every document of the files, of the directories (`*.yaml`, `*.yml`, `*.toml`, `*.json`, by name), and of `-`.

    Raises:
      FileError: one cannot be read or parsed; it names the file and the line.
    """
    found: list[Document] = []
    for name in names:
        if name == "-":
            found += _parse("stdin", sys.stdin.buffer.read(FILE_BYTES_MAX), ".yaml")
            continue
        path = Path(name)
        if path.is_dir():
            files = sorted(file for file in path.rglob("*") if file.suffix in SUFFIXES and file.is_file())
            if not files:
                raise FileError(f"{name}: no file in it ends with {', '.join(SUFFIXES)}")
        else:
            files = [path]
        for file in files:
            found += _parse(str(file), _read(file), file.suffix)
    return found


def read_tasks(name: str) -> list[dict[str, Any]]:
    """The tasks of a file: `tasks:` of a document, a list, or one object per line.

    Raises:
      FileError: the file has none, or something else.
    """
    found: list[dict[str, Any]] = []
    for document in _parse_lines(name) or read_documents([name]):
        value = document.value
        if isinstance(value, dict) and "tasks" in value:
            value = value["tasks"]
        for index, one in enumerate(value if isinstance(value, list) else [value]):
            if not isinstance(one, dict):
                raise FileError(f"{document.place(f'[{index}]')}: must be a task (an object), got {one!r}")
            found.append(one)
    return found


def _parse_lines(name: str) -> list[Document]:
    """JSON lines, when every line of it is an object; else nothing, and it is read as something else."""
    if name != "-" and not name.endswith((".jsonl", ".ndjson")):
        return []
    text = sys.stdin.read() if name == "-" else _text(name, _read(Path(name)))
    found = []
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip():
            continue
        try:
            found.append(Document(f"{name}:{number}", json.loads(line)))
        except ValueError as exc:
            if name == "-":
                return list(_parse("stdin", text.encode(), ".yaml"))
            raise FileError(f"{name}:{number}: is not JSON: {exc}") from exc
    return found


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as exc:
        raise FileError(f"{path}: {exc.strerror.lower() if exc.strerror else exc}") from exc


def _text(name: str, data: bytes) -> str:
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as exc:
        line = data.count(b"\n", 0, exc.start) + 1
        raise FileError(f"{name}:{line}: is not UTF-8") from exc


def _parse(name: str, data: bytes, suffix: str) -> Iterator[Document]:
    text = _text(name, data)
    if suffix == ".toml":
        yield _toml(name, text)
    else:
        yield from _yaml(name, text)


def _toml(name: str, text: str) -> Document:
    import tomllib

    try:
        value = tomllib.loads(text)
    except tomllib.TOMLDecodeError as exc:
        at = re.search(r"\(at line (\d+), column \d+\)|\(at end of document\)", str(exc))
        line = f":{at[1]}" if at and at[1] else ""
        raise FileError(f"{name}{line}: is not TOML: {exc}") from exc
    return Document(name, _plain_times(value), _toml_lines(text))


def _plain_times(value: Any) -> Any:
    """TOML has times of its own; the API's are text."""
    if isinstance(value, dict):
        return {key: _plain_times(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [_plain_times(inner) for inner in value]
    return value if isinstance(value, str | int | float | bool) or value is None else value.isoformat()


def _toml_lines(text: str) -> dict[str, int]:
    """Lines of tables and of simple members: enough to find a mistake; what stands inline has the line around it."""
    lines: dict[str, int] = {}
    counts: dict[str, int] = {}
    prefix = ""
    for number, line in enumerate(text.splitlines(), 1):
        if match := re.match(r"\s*\[\[\s*([\w.-]+)\s*\]\]", line):
            prefix = _indexed(match[1], counts, is_new=True)
        elif match := re.match(r"\s*\[\s*([\w.-]+)\s*\]", line):
            prefix = _indexed(match[1], counts, is_new=False)
        elif match := re.match(r"\s*([\w-]+)\s*=", line):
            lines.setdefault(f"{prefix}.{match[1]}" if prefix else match[1], number)
            continue
        else:
            continue
        lines.setdefault(prefix, number)
    return lines


def _indexed(dotted: str, counts: dict[str, int], *, is_new: bool) -> str:
    path = ""
    parts = dotted.split(".")
    for position, part in enumerate(parts):
        path = f"{path}.{part}" if path else part
        if position == len(parts) - 1 and is_new:
            counts[path] = counts.get(path, -1) + 1
        if path in counts:
            path = f"{path}[{counts[path]}]"
    return path


def _yaml(name: str, text: str) -> Iterator[Document]:
    import yaml

    try:
        for node in yaml.compose_all(text, Loader=yaml.SafeLoader):
            if node is None or (isinstance(node, yaml.ScalarNode) and node.value == ""):
                continue
            lines: dict[str, int] = {}
            yield Document(name, _build(name, node, "", lines), lines)
    except yaml.MarkedYAMLError as exc:
        mark = exc.problem_mark or exc.context_mark
        where = f"{name}:{mark.line + 1}" if mark else name
        raise FileError(f"{where}: is not YAML: {exc.problem or exc.context}") from exc
    except yaml.YAMLError as exc:
        raise FileError(f"{name}: is not YAML: {exc}") from exc


def _build(name: str, node: Node, path: str, lines: dict[str, int]) -> Any:
    import yaml

    lines.setdefault(path, node.start_mark.line + 1)
    if path.count(".") + path.count("[") > DEPTH_MAX:  # also what an alias of itself looks like
        raise FileError(f"{name}:{node.start_mark.line + 1}: is nested deeper than {DEPTH_MAX}")
    if isinstance(node, yaml.MappingNode):
        result: dict[str, Any] = {}
        for key_node, value_node in node.value:
            if not isinstance(key_node, yaml.ScalarNode):
                raise FileError(f"{name}:{key_node.start_mark.line + 1}: the name of a member must be text")
            key = str(key_node.value)
            inner = f"{path}.{key}" if path else key
            lines[inner] = key_node.start_mark.line + 1
            if key in result:
                raise FileError(f"{name}:{lines[inner]}: {inner}: is given twice")
            result[key] = _build(name, value_node, inner, lines)
        return result
    if isinstance(node, yaml.SequenceNode):
        return [_build(name, inner, f"{path}[{index}]", lines) for index, inner in enumerate(node.value)]
    assert isinstance(node, yaml.ScalarNode)
    return _scalar(node.value) if node.style is None and not node.tag.endswith(":str") else str(node.value)


def _scalar(text: str) -> Any:
    if text in _CONSTANTS:
        return _CONSTANTS[text]
    if _INTEGER.fullmatch(text):
        return int(text)
    return float(text) if _FLOAT.fullmatch(text) else text
