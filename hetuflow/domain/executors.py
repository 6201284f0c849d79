"""`config.python`, `config.wasm`, and `config.executor` with its options: how a task is run that is no plain program.

At most one of them. What is allowed inside, the agent's executor has the last word on; here are the shapes.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

JSON = Mapping[str, Any]
Found = list[tuple[str, str]]

NAME_PATTERN = r"(?!(?:python|wasm|\.{1,2})$)[A-Za-z0-9._-]{1,64}"
NAME_RULE = 'the name of an executor: 1-64 of A-Z a-z 0-9 . _ -; "python" and "wasm" are members of their own'

PYTHON_MEMBERS = ("version", "requirements", "venv")
WASM_MEMBERS = ("module", "function", "memory_mb", "allowed_paths", "allowed_hosts", "config")
REQUIREMENTS_MAX = 500
OPTIONS_BYTES_MAX = 32 * 1024

_CHOICES = ("python", "wasm", "executor")
_VERSION = re.compile(r"3(\.\d{1,2})?")
_NONE: JSON = {}


def chosen(config: JSON) -> tuple[str, JSON]:
    """The executor's name, "" for a plain program, and what it is told."""
    for name in ("python", "wasm"):
        if config.get(name) is not None:
            return name, config[name]
    name = config.get("executor") or ""
    return name, (config.get("executor_options") or _NONE) if name else _NONE


def conflicts(config: JSON) -> Found:
    """(member, message) of what does not go together."""
    given = [name for name in _CHOICES if config.get(name) is not None]
    found: Found = [(name, f"does not go together with {given[0]}") for name in given[1:]]
    if config.get("executor_options") is not None and config.get("executor") is None:
        found.append(("executor_options", "has no effect without executor"))
    return found


def faults_of_python(python: JSON) -> Found:
    found = _not_known(python, PYTHON_MEMBERS)
    version, requirements, venv = (python.get(name) for name in PYTHON_MEMBERS)
    if version is not None and not (isinstance(version, str) and _VERSION.fullmatch(version)):
        found.append((".version", f'must be a version such as "3.12", got {version!r}'))
    if requirements is not None and not _is_texts(requirements, REQUIREMENTS_MAX):
        found.append((".requirements", f"must be an array of at most {REQUIREMENTS_MAX} strings that are not empty"))
    if venv is not None and not (isinstance(venv, str) and venv.startswith("/") and "\0" not in venv):
        found.append((".venv", f"must be an absolute path, got {venv!r}"))
    if venv is not None and requirements is not None:
        found.append((".requirements", "does not go together with venv: that one is used as it is"))
    return found or _too_large(python)


def faults_of_wasm(wasm: JSON) -> Found:
    found = _not_known(wasm, WASM_MEMBERS)
    module, function, memory_mb = wasm.get("module"), wasm.get("function"), wasm.get("memory_mb")
    if not isinstance(module, str) or not module or "\0" in module:
        found.append((".module", f"is required: a path on the agent, or of one of files; got {module!r}"))
    if function is not None and not (isinstance(function, str) and function):
        found.append((".function", f"must be the name of an export, got {function!r}"))
    if memory_mb is not None and not (isinstance(memory_mb, int) and not isinstance(memory_mb, bool) and memory_mb > 0):
        found.append((".memory_mb", f"must be an integer ≥ 1, got {memory_mb!r}"))
    if (paths := wasm.get("allowed_paths")) is not None and not _is_table(paths):
        found.append((".allowed_paths", "must be an object: a path on the agent, and as its value that in the module"))
    if (hosts := wasm.get("allowed_hosts")) is not None and not _is_texts(hosts, 100):
        found.append((".allowed_hosts", "must be an array of at most 100 strings that are not empty"))
    if (config := wasm.get("config")) is not None and not _is_table(config):
        found.append((".config", "must be an object of strings"))
    return found or _too_large(wasm)


def faults_of_options(options: JSON) -> Found:
    """Any members: the executor knows them."""
    return _too_large(options)


def _not_known(given: JSON, known: tuple[str, ...]) -> Found:
    return [(f".{name}", f"is not known; known are {', '.join(known)}") for name in given if name not in known]


def _is_texts(value: Any, most: int) -> bool:
    return isinstance(value, list | tuple) and len(value) <= most and all(isinstance(v, str) and v for v in value)


def _is_table(value: Any) -> bool:
    return isinstance(value, Mapping) and all(isinstance(k, str) and isinstance(v, str) for k, v in value.items())


def _too_large(value: JSON) -> Found:
    size = len(json.dumps(value, ensure_ascii=False).encode(errors="replace"))
    return [("", f"must have at most {OPTIONS_BYTES_MAX} bytes, has {size}")] if size > OPTIONS_BYTES_MAX else []
