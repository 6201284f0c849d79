"""What an executor of your own implements: one pure function, from an order to a program.

    from agent.executors.api import Order, Program, options

    def prepare(order: Order) -> Program:
        given = options(order.options, {"database": str, "sql": str}, required=("database", "sql"))
        return Program(argv=("sqlite3", "-csv", given["database"], given["sql"]))

    # pyproject.toml
    [project.entry-points."hetuflow.executors"]
    sql = "my_package:prepare"

It is called in a process of its own, which has `DEADLINE_SECONDS`; whatever it raises fails the instance, which is never
started, with a message that names the executor. What is in this module stays as it is for the packages that import it.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any, Final, Protocol

from attrs import Factory, frozen

from hetuflow.configuration import nearest

DEADLINE_SECONDS: Final = 30.0
"""What the function may take, with the imports of its package."""


@frozen(slots=True, kw_only=True)
class Order:
    """What is to be run. `environment` is the job's, with HETUFLOW_TASK_ID and the others; `directory` the instance's own.

    `options`: the job's `executor_options`, as JSON values. `parameters`: the task's. `timeout_seconds` 0 = no limit.
    """

    task_id: str
    job_id: str
    instance_id: str
    attempt: int = 1
    cmd: str = ""
    args: tuple[str, ...] = ()
    options: Mapping[str, Any] = Factory(dict)
    parameters: Mapping[str, Any] = Factory(dict)
    environment: Mapping[str, str] = Factory(dict)
    directory: str = ""
    timeout_seconds: float = 0.0


@frozen(slots=True, kw_only=True)
class Program:
    """What is to be started: found, contained and captured as any other program.

    `environment` is laid over the job's. `stdin` is given to the program, then end of file; None = the job's `stdin`.
    """

    argv: tuple[str, ...]
    environment: Mapping[str, str] = Factory(dict)
    stdin: bytes | None = None


class Executor(Protocol):
    """An entry point of the group `hetuflow.executors`."""

    def __call__(self, order: Order) -> Program: ...


class OptionProblem(ValueError):
    """An option that the executor does not take; the message names it, what is wrong and what is allowed."""


Allowed = type | tuple[type, ...]

_WORDS: Final[Mapping[type, str]] = {
    str: "a string",
    bool: "true or false",
    int: "an integer",
    float: "a number",
    list: "an array",
    dict: "an object",
}


def options(
    given: Mapping[str, Any],
    known: Mapping[str, Allowed],
    *,
    required: Collection[str] = (),
    path: str = "executor_options",
) -> dict[str, Any]:
    """Return the options that are given and not null, checked.

    Args:
      known: name -> type of its JSON value: str, bool, int, float (integers too), list, dict, or a tuple of these.
      required: those that must be there.
      path: how messages name where the options are.
    Raises:
      OptionProblem: one is not known (the nearest is named), missing, or of another type.
    """
    for name in given:
        if name not in known:
            near = nearest(name, known)
            hint = f"; the nearest known one is {near!r}" if near else f"; known are {', '.join(known) or 'none'}"
            raise OptionProblem(f"{path}.{name} is not known{hint}")
    found = {name: value for name, value in given.items() if value is not None}
    for name, value in found.items():
        if not _fits(value, known[name]):
            raise OptionProblem(f"{path}.{name} must be {_in_words(known[name])}, got {value!r}")
    for name in required:
        if name not in found:
            raise OptionProblem(f"{path}.{name} is required: {_in_words(known[name])}")
    return found


def _fits(value: Any, allowed: Allowed) -> bool:
    kinds = allowed if isinstance(allowed, tuple) else (allowed,)
    if isinstance(value, bool):
        return bool in kinds
    if isinstance(value, int) and float in kinds:
        return True
    if list in kinds and isinstance(value, tuple):
        return True
    return isinstance(value, tuple(kind if kind is not dict else Mapping for kind in kinds))


def _in_words(allowed: Allowed) -> str:
    kinds = allowed if isinstance(allowed, tuple) else (allowed,)
    return " or ".join(_WORDS.get(kind, kind.__name__) for kind in kinds)
