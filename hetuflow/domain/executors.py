"""`config.python`, `config.wasm`, and `config.executor` with its options: how a task is run that is no plain program.

At most one of them. What is allowed inside, the agent's executor has the last word on; here are the shapes.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

from hetuflow.domain import inputs
from hetuflow.domain.file_urls import FILE_URL_PATTERN, FILE_URL_RULE, parse_file_url

JSON = Mapping[str, Any]
Found = list[tuple[str, str]]

NAME_PATTERN = r"(?!(?:python|wasm|\.{1,2})$)[A-Za-z0-9._-]{1,64}"
NAME_RULE = 'the name of an executor: 1-64 of A-Z a-z 0-9 . _ -; "python" and "wasm" are members of their own'

PYTHON_MEMBERS = ("version", "requirements", "requirements_file", "venv")
WASM_MEMBERS = ("module", "function", "memory_mb", "allowed_paths", "allowed_hosts", "config", "sha256")
MODULE_PATH = ".hetuflow/module.wasm"
"""Where an agent finds a module that is not on it, in the instance's directory."""
MEMORY_MB_MAX = 4096
"""What WebAssembly can address."""
SHA256_PATTERN = "[0-9a-fA-F]{64}"
MODULE_PATTERN = rf"(?:(?!https?://|/api/v1/)[\s\S]*|{FILE_URL_PATTERN})"
REQUIREMENT_PATTERN = r"\s*[^\s-][\s\S]*"
INDEX_RULE = "where packages come from is the agent's to say"
PATHS_MAX = 100
REQUIREMENTS_MAX = 500
OPTIONS_BYTES_MAX = 32 * 1024
PATH_LENGTH_MAX = 4096

_CHOICES = ("python", "wasm", "executor")
_VERSION = re.compile(r"3(\.\d{1,2})?")
_SHA256 = re.compile(SHA256_PATTERN)
_REQUIREMENT = re.compile(REQUIREMENT_PATTERN)
_NONE: JSON = {}


def chosen(config: JSON) -> tuple[str, JSON]:
    """The executor's name, "" for a plain program, and what it is told."""
    if (python := config.get("python")) is not None:
        return "python", python
    if (wasm := config.get("wasm")) is not None:
        return "wasm", {**wasm, "module": MODULE_PATH} if brings_module(config) else wasm
    name = config.get("executor") or ""
    return name, (config.get("executor_options") or _NONE) if name else _NONE


def files_of(config: JSON) -> JSON | None:
    """`config.files`, with the module that is not on the agent."""
    files: JSON | None = config.get("files")
    return {**(files or {}), MODULE_PATH: _module_file(config["wasm"]["module"])} if brings_module(config) else files


def brings_module(config: JSON) -> bool:
    """Whether the module is no path on the agent, but a file of the server's or one in the config."""
    wasm = config.get("wasm")
    module = wasm.get("module") if isinstance(wasm, Mapping) else None
    return isinstance(module, Mapping) or (isinstance(module, str) and parse_file_url(module) is not None)


def _module_file(module: Any) -> JSON:
    return module if isinstance(module, Mapping) else {"url": module}


def conflicts(config: JSON) -> Found:
    """(member, message) of what does not go together."""
    given = [name for name in _CHOICES if config.get(name) is not None]
    found: Found = [(name, f"does not go together with {given[0]}") for name in given[1:]]
    if config.get("executor_options") is not None and config.get("executor") is None:
        found.append(("executor_options", "has no effect without executor"))
    if config.get("wasm") is not None:
        found += [
            (name, "does not reach a WebAssembly module: it is given the task's parameters")
            for name in ("args", "stdin")
            if config.get(name)
        ]
        if brings_module(config) and not found and not _faults_of_module(config["wasm"]["module"]):
            files = config.get("files")
            if (isinstance(files, Mapping) or files is None) and not inputs.faults_of_files(files or _NONE):
                found += [("wasm.module", message) for _, message in inputs.faults_of_files(files_of(config) or _NONE)]
    return found


def faults_of_python(python: JSON) -> Found:
    found = _not_known(python, PYTHON_MEMBERS)
    version, requirements, file, venv = (python.get(name) for name in PYTHON_MEMBERS)
    if version is not None and not (isinstance(version, str) and _VERSION.fullmatch(version)):
        found.append((".version", f'must be a version such as "3.12", got {version!r}'))
    if requirements is not None and not _is_texts(requirements, REQUIREMENTS_MAX):
        found.append((".requirements", f"must be an array of at most {REQUIREMENTS_MAX} strings that are not empty"))
    else:
        found += [
            (f".requirements[{n}]", f"must be a requirement: {INDEX_RULE}, got {line!r}")
            for n, line in enumerate(requirements or ())
            if not _REQUIREMENT.fullmatch(line)
        ]
    if file is not None and not _is_path(file):
        found.append((".requirements_file", f"must be a path, got {file!r}"))
    if venv is not None and not (_is_path(venv) and venv.startswith("/")):
        found.append((".venv", f"must be an absolute path, got {venv!r}"))
    given = [name for name in PYTHON_MEMBERS if python.get(name) is not None]
    if venv is not None:
        found += [(f".{name}", "does not go together with venv: that one is used as it is") for name in given[:-1]]
    elif requirements is not None and file is not None:
        found.append((".requirements_file", "does not go together with requirements"))
    return found or _too_large(python)


def faults_of_wasm(wasm: JSON) -> Found:
    found = [*_not_known(wasm, WASM_MEMBERS), *_faults_of_module(wasm.get("module"))]
    function, memory_mb, sha256 = wasm.get("function"), wasm.get("memory_mb"), wasm.get("sha256")
    if function is not None and not _is_path(function):
        found.append((".function", f"must be the name of an export, got {function!r}"))
    if memory_mb is not None and not _is_int(memory_mb, 1, MEMORY_MB_MAX):
        found.append((".memory_mb", f"must be an integer 1-{MEMORY_MB_MAX}, got {memory_mb!r}"))
    if (paths := wasm.get("allowed_paths")) is not None and not _are_paths(paths):
        message = "must be an object: a path on the agent, and as its value the absolute path inside the module"
        found.append((".allowed_paths", f"{message}, got {paths!r}"))
    if (hosts := wasm.get("allowed_hosts")) is not None and not _is_texts(hosts, 100):
        found.append((".allowed_hosts", "must be an array of at most 100 strings that are not empty"))
    if (config := wasm.get("config")) is not None and not _is_table(config):
        found.append((".config", "must be an object of strings, numbers or booleans"))
    if sha256 is not None and not (isinstance(sha256, str) and _SHA256.fullmatch(sha256)):
        found.append((".sha256", f"must be 64 hexadecimal digits, got {sha256!r}"))
    return found or _too_large({name: value for name, value in wasm.items() if name != "module"})


def _faults_of_module(module: Any) -> Found:
    if isinstance(module, Mapping):
        faults = inputs.faults_of_files({MODULE_PATH: module})
        return [(f".module{where.removeprefix(f'.{MODULE_PATH}')}", message) for where, message in faults]
    if not _is_path(module):
        return [
            (
                ".module",
                f"is required: a path on the agent, {FILE_URL_RULE}, or an object like one of files; got {module!r}",
            )
        ]
    if module.startswith(("http://", "https://", "/api/v1/")) and parse_file_url(module) is None:
        return [(".module", f"must be a path on the agent or a file of the server ({FILE_URL_RULE}), got {module!r}")]
    return []


def faults_of_options(options: JSON) -> Found:
    """Any members: the executor knows them."""
    return _too_large(options)


def _not_known(given: JSON, known: tuple[str, ...]) -> Found:
    return [(f".{name}", f"is not known; known are {', '.join(known)}") for name in given if name not in known]


def _is_texts(value: Any, most: int) -> bool:
    return isinstance(value, list | tuple) and len(value) <= most and all(isinstance(v, str) and v for v in value)


def _is_table(value: Any) -> bool:
    return isinstance(value, Mapping) and all(isinstance(each, str | int | float) for each in value.values())


def _are_paths(value: Any) -> bool:
    return (
        isinstance(value, Mapping)
        and len(value) <= PATHS_MAX
        and all(_is_path(host) and _is_path(guest) and guest.startswith("/") for host, guest in value.items())
    )


def _is_path(value: Any) -> bool:
    return isinstance(value, str) and 0 < len(value) <= PATH_LENGTH_MAX and "\0" not in value


def _is_int(value: Any, low: int, high: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and low <= value <= high


def _too_large(value: JSON) -> Found:
    size = len(json.dumps(value, ensure_ascii=False).encode(errors="replace"))
    return [("", f"must have at most {OPTIONS_BYTES_MAX} bytes, has {size}")] if size > OPTIONS_BYTES_MAX else []
