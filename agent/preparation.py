"""From an order to a program that can be launched: what is asked for besides is put into place here, step by step.

A plain program needs no step, and none costs it a task. Steps may take long and are cancelled by a stop; so are the
collectors, which take in what an instance leaves when its process tree is gone.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from typing import Any, Final

from attrs import Factory, frozen

from agent.keeper.messages import Limits, Manners
from hetuflow.ports.processes import StartError
from hetuflow.protocol.messages import Dispatch

INSTANCE_MARK: Final = "HETUFLOW_INSTANCE_ID"


@frozen(slots=True, kw_only=True)
class Prepared:
    """What will be launched. `directory`: the instance's own; `working_dir`: where the program starts."""

    argv: tuple[str, ...]
    environment: Mapping[str, str]
    directory: str
    working_dir: str
    stdin: bytes = b""
    limits: Limits = Factory(Limits)
    manners: Manners = Factory(Manners)


@frozen(slots=True)
class Step:
    """`take` returns what is prepared now; it raises `StartError`."""

    wanted: Callable[[Dispatch], bool]
    take: Callable[[Dispatch, Prepared], Awaitable[Prepared]]


@frozen(slots=True)
class Collected:
    """`listing` goes into the report of the end. `problem`: why the instance counts as failed, though its program did not."""

    listing: Sequence[Mapping[str, Any]] = ()
    problem: str | None = None


@frozen(slots=True)
class Collector:
    """`take` is given the order (what the journal keeps of it, after a restart) and the instance's directory.

    It may be called again for what it has collected before: when the agent was killed in between.
    """

    wanted: Callable[[Dispatch], bool]
    take: Callable[[Dispatch, str], Awaitable[Collected]]


@frozen(slots=True, kw_only=True)
class Preparations:
    """All of them, in the order in which they are done."""

    steps: Sequence[Step] = ()
    collectors: Sequence[Collector] = ()
    cleaners: Sequence[Callable[[Collection[str]], Awaitable[int]]] = ()
    """Each removes what it keeps beside the instances, is given the ids of those that are held, and says how many it removed."""


def plain(order: Dispatch, base_environment: Mapping[str, str], directory: str) -> Prepared:
    """The order without any step. Raises `StartError` for what no operating system takes."""
    environment = {**base_environment, **order.environment, INSTANCE_MARK: order.instance_id}
    argv = (order.cmd, *order.args)
    _refuse_impossible(argv, environment)
    return Prepared(
        argv=argv,
        environment=environment,
        directory=directory,
        working_dir=order.working_dir or directory,
        stdin=order.stdin,
        limits=Limits(
            memory_bytes=order.memory_bytes_max,
            cpu_cores=order.cpu_cores_max,
            processes=order.processes_max,
        ),
        manners=Manners(
            run_as=order.run_as,
            umask=order.umask,
            nice=order.nice,
            ionice=order.ionice,
        ),
    )


def _refuse_impossible(argv: tuple[str, ...], environment: Mapping[str, str]) -> None:
    for number, argument in enumerate(argv[1:]):
        if "\0" in argument:
            raise StartError(f"args[{number}] contains a NUL character")
    for name, value in environment.items():
        if not name or "=" in name or "\0" in name or "\0" in value:
            raise StartError(f"environment variable {name!r} has a name or value that the system does not take")
