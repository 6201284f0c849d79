"""The process in which an executor of somebody else's is asked: `python -m agent.executors.preparer NAME`.

The order is JSON on the standard input, the program JSON on the standard output; what the executor prints goes to the
standard error. An exception is the last line there, and the exit code 1. So the agent neither imports what an executor
imports nor waits for one that hangs.
"""

from __future__ import annotations

import base64
import json
import os
import sys
from collections.abc import Mapping
from importlib.metadata import EntryPoint, entry_points
from typing import Any

from agent.executors.api import Executor, Order, Program
from agent.executors.features import GROUP

FAILED = 1


def main() -> int:
    name = sys.argv[1]
    answer = os.dup(1)
    os.dup2(2, 1)
    try:
        program = ask(entry_point(name).load(), json.load(sys.stdin.buffer))
        os.write(answer, json.dumps(program).encode())
    except Exception as exc:
        words = " ".join(str(exc).split())
        print(f"\n{type(exc).__name__}: {words}" if words else f"\n{type(exc).__name__}", file=sys.stderr)
        return FAILED
    return 0


def entry_point(name: str) -> EntryPoint:
    """Raises `LookupError` when none, or more than one package brings it."""
    found = [each for each in entry_points(group=GROUP) if each.name == name]
    if len(found) == 1:
        return found[0]
    packages = ", ".join(sorted(str(each.dist.name if each.dist else each.value) for each in found))
    raise LookupError(f"several packages bring it: {packages}" if found else "no package brings it")


def ask(executor: Executor, given: Mapping[str, Any]) -> dict[str, Any]:
    """The program as JSON values.

    Raises:
      TypeError: the executor is none, or returned something else than a program.
    """
    if not callable(executor):
        raise TypeError(f"the entry point is no function but {executor!r}")
    program = executor(Order(**{**given, "args": tuple(given["args"])}))
    if not isinstance(program, Program):
        raise TypeError(f"it returned {program!r}, no agent.executors.api.Program")
    argv: Any = program.argv  # of a package that nobody has checked
    if not isinstance(argv, tuple | list) or not argv or not all(isinstance(part, str) for part in argv):
        raise TypeError(f"argv must be strings, the program first, got {argv!r}")
    if not all(isinstance(part, str) for pair in program.environment.items() for part in pair):
        raise TypeError("environment must have strings as names and values")
    given_input: Any = program.stdin
    if not isinstance(given_input, bytes | None):
        raise TypeError("stdin must be bytes, or None")
    stdin = None if program.stdin is None else base64.b64encode(program.stdin).decode()
    return {"argv": list(argv), "environment": dict(program.environment), "stdin": stdin}


if __name__ == "__main__":
    sys.exit(main())
