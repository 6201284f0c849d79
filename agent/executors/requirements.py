"""What an environment of Python is made from: requirements as text, checked; and the key under which it is kept.

Only packages that are installed without running their code: names with versions, and addresses of wheels. An environment
is built by the agent, outside of what contains the task; a source package would run there whatever it likes. Pure.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from typing import Any, Final

from attrs import frozen

from agent.executors.api import OptionProblem, options

REQUIREMENTS_MAX: Final = 500
LINE_LENGTH_MAX: Final = 2000
PATH: Final = "python"

_VERSION = re.compile(r"3(\.\d{1,2})?")
_NAMED = re.compile(
    r"(?P<name>[A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9])?)\s*"
    r"(?:\[[A-Za-z0-9._,\s-]*\])?\s*"
    r"(?:@\s*(?P<url>\S+)|\(?\s*(?:(?:===|==|~=|!=|<=|>=|<|>)\s*[A-Za-z0-9.*+!_-]+\s*,?\s*)*\)?)\s*"
    r"(?:;(?:(?! -).)*)?"
)
"""After every run of blanks has become one: otherwise a line of blanks would take for ever."""
_HASH = re.compile(r" --hash[= ](sha256|sha384|sha512):([0-9a-fA-F]+)(?= |$)")
_WHEEL = re.compile(r"(https?|file)://[^\s?#]+\.whl(\?[^\s#]*)?(#\S*)?")


@frozen(slots=True, kw_only=True)
class PythonOptions:
    """The member `python` of a job, typed. `venv` excludes the others; `requirements_file` excludes `requirements`."""

    requirements: tuple[str, ...] = ()
    requirements_file: str = ""
    venv: str = ""
    version: str = ""


def python_options(given: Any) -> PythonOptions:
    """Read the member.

    Raises:
      OptionProblem: with the member's name and what is allowed.
    """
    kinds = {"requirements": list, "requirements_file": str, "venv": str, "version": str}
    found = options(given, kinds, path=PATH)
    if "venv" in found and len(found) > 1:
        other = next(name for name in found if name != "venv")
        raise OptionProblem(f"{PATH}.venv is an environment as it is: leave out {PATH}.{other}")
    if "requirements" in found and "requirements_file" in found:
        raise OptionProblem(f"give one of {PATH}.requirements and {PATH}.requirements_file")
    if "venv" in found and not found["venv"].startswith("/"):
        raise OptionProblem(f"{PATH}.venv must be an absolute path on the agent, got {found['venv']!r}")
    version = found.get("version", "")
    if version and _VERSION.fullmatch(version) is None:
        raise OptionProblem(f"{PATH}.version must look like 3 or 3.12, got {version!r}")
    lines = found.get("requirements", ())
    for number, line in enumerate(lines):
        if not isinstance(line, str):
            raise OptionProblem(f"{PATH}.requirements[{number}] must be a string, got {line!r}")
    return PythonOptions(
        requirements=checked(lines, f"{PATH}.requirements"),
        requirements_file=found.get("requirements_file", ""),
        venv=found.get("venv", ""),
        version=version,
    )


def read_requirements(text: str, path: str) -> tuple[str, ...]:
    """The requirements in a file: one a line, with comments and continued lines as pip reads them.

    Raises:
      OptionProblem: a line is none, or one that runs code. It is named by its number only: the file may be one that the
      author of the job cannot read.
    """
    joined = re.sub(r"\\\r?\n", " \x1f", text)
    found, number = [], 1
    for line in joined.split("\n"):
        plain = " ".join(re.sub(r"(^|\s)#.*$", "", line).split())
        if plain:
            problem = _why_not(plain)
            if problem is not None:
                raise OptionProblem(f"{path}: line {number} {problem}")
            found.append(plain)
        number += 1 + line.count("\x1f")
    return _bounded(found, path)


def checked(lines: Sequence[str], path: str) -> tuple[str, ...]:
    """The lines, each run of blanks made one. Raises `OptionProblem` for the first that is not allowed."""
    found = [" ".join(line.split()) for line in lines]
    for number, line in enumerate(found):
        problem = _why_not(line)
        if problem is not None:
            raise OptionProblem(f"{path}[{number}]: {line[:200]!r} {problem}")
    return _bounded(found, path)


def _bounded(lines: Sequence[str], path: str) -> tuple[str, ...]:
    if len(lines) > REQUIREMENTS_MAX:
        raise OptionProblem(f"{path} has {len(lines)} requirements, allowed are {REQUIREMENTS_MAX}")
    return tuple(lines)


def key(interpreter: str, lines: Sequence[str]) -> str:
    """Where the environment of these requirements is kept. `interpreter` says which one it is, to its last digit.

    The order of the lines does not count.
    """
    parts = [interpreter, *sorted(set(lines))]
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:32]


def _why_not(line: str) -> str | None:
    if not line:
        return "is empty"
    if len(line) > LINE_LENGTH_MAX:
        return f"is longer than {LINE_LENGTH_MAX} characters"
    if line.startswith("-"):
        return "is an option: where packages come from is the agent's to say (its pip.conf, uv.toml, PIP_… and UV_…)"
    match = _NAMED.fullmatch(_HASH.sub("", line).strip())
    if match is None:
        return "is no requirement such as 'requests', 'requests==2.32.3' or 'name @ https://host/name-1.0-py3-none-any.whl'"
    url = match["url"]
    if url is not None and _WHEEL.fullmatch(url) is None:
        return "is no address of a wheel (.whl): a source package would run its own code outside of the task"
    return None
