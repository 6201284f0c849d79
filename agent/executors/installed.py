"""Executors that packages bring: entry points of the group `hetuflow.executors`, by name."""

from __future__ import annotations

import base64
import json
import os
import sys
from typing import Any

import trio
from attrs import asdict

from agent.executors.api import DEADLINE_SECONDS, Order, Program
from agent.executors.children import ANSWER_BYTES_MAX, Done, run
from agent.executors.features import OWN, names
from hetuflow.configuration import nearest
from hetuflow.ports.processes import StartError


async def prepare(name: str, order: Order, *, deadline_seconds: float = DEADLINE_SECONDS) -> Program:
    """Ask the executor of this name for the program to start, in a process of its own.

    Raises:
      StartError: it is not installed, raised an exception, took too long or answered with something else. The message
        names the executor.
    """
    known = names()
    if name not in known:
        near = nearest(name, (*known, *OWN))
        hint = f"; the nearest known one is {near!r}" if near else ""
        raise StartError(f"executor {name!r} is not installed on this agent{hint} ({_listed(known)})")
    done = await _ask(name, json.dumps(asdict(order)).encode(), deadline_seconds)
    if done.code != 0:
        raise StartError(f"executor {name!r}: {_reason(done)}")
    if len(done.answer) > ANSWER_BYTES_MAX:
        raise StartError(f"executor {name!r}: its program is described in more than {ANSWER_BYTES_MAX} bytes")
    found: dict[str, Any] = json.loads(done.answer)
    stdin = None if found["stdin"] is None else base64.b64decode(found["stdin"])
    return Program(argv=tuple(found["argv"]), environment=found["environment"], stdin=stdin)


async def _ask(name: str, given: bytes, deadline_seconds: float) -> Done:
    """With the agent's own environment: what it would import, the process imports too."""
    command = [sys.executable, "-P", "-m", "agent.executors.preparer", name]
    try:
        with trio.fail_after(deadline_seconds):
            return await run(command, _importing_as_we_do(), cwd="/", stdin=given)
    except trio.TooSlowError:
        raise StartError(f"executor {name!r}: it did not answer within {deadline_seconds:g} s") from None
    except OSError as exc:
        raise StartError(f"executor {name!r}: it cannot be asked: {exc.strerror}") from exc


def _importing_as_we_do() -> dict[str, str]:
    """Where the agent was started from a source tree, `agent` is found there."""
    return {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}


def _reason(done: Done) -> str:
    lines = done.said.decode(errors="replace").strip().splitlines()
    if done.code == 1 and lines:
        kind, _, words = lines[-1].partition(": ")
        return words if kind in ("OptionProblem", "LookupError") and words else lines[-1]
    how = f"signal {-done.code}" if done.code < 0 else f"exit code {done.code}"
    return f"it ended with {how}" + (f": {lines[-1]}" if lines else "")


def _listed(known: tuple[str, ...]) -> str:
    return f"installed: {', '.join(known)}" if known else "none is installed"
