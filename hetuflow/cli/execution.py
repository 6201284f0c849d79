"""`--working-dir`, `--on-disconnect`, `--max-memory` and so on: how a job's program is run, and under what."""

from __future__ import annotations

import re
from base64 import b64encode
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from hetuflow.cli.options import Seconds, nearest_hint
from hetuflow.cli.times import duration_seconds
from hetuflow.domain import config, execution
from hetuflow.domain.file_urls import parse_file_url

if TYPE_CHECKING:
    _ParamType = click.ParamType[Any]
else:
    _ParamType = click.ParamType  # generic for the type checker only, in the older releases

F = TypeVar("F", bound=Callable[..., Any])
Read = Callable[[Any], Any]


class FileText(_ParamType):
    """`conf.ini=TEXT`, or `conf.ini=@LOCAL` for what a local file has, or `conf.ini=@/api/v1/files/…` for a file that the
    server has; the value is (path, the API's)."""

    name = "PATH=TEXT|@FILE|@URL"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        path, sign, content = str(value).partition("=")
        if not sign or not path:
            self.fail(f"{value!r} is not PATH=TEXT, or PATH=@FILE for what a local file has", param, ctx)
        if not content.startswith("@"):
            return path, content
        if parse_file_url(content[1:]) is not None or content.startswith(
            "@/api/"
        ):  # the server says what is wrong with it
            return path, {"url": content[1:]}
        try:
            data = Path(content[1:]).read_bytes()
        except OSError as exc:
            self.fail(f"{content[1:]!r} cannot be read: {exc.strerror}", param, ctx)
        try:
            return path, data.decode()
        except UnicodeDecodeError:
            return path, {"base64": b64encode(data).decode()}


class Module(_ParamType):
    """`PATH` on the agent, `@LOCAL` for what a local file has, or the address of a file that the server has."""

    name = "PATH|@FILE|URL"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if not isinstance(value, str) or not value.startswith("@") or parse_file_url(value[1:]) is not None:
            return str(value).removeprefix("@")
        try:
            data = Path(value[1:]).read_bytes()
        except OSError as exc:
            self.fail(f"{value[1:]!r} cannot be read: {exc.strerror}", param, ctx)
        return {"base64": b64encode(data).decode()}


class Megabytes(_ParamType):
    """`512`, `512M`, `2G`; the value is MiB."""

    name = "MIB"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        found = re.fullmatch(r"(\d{1,9})\s*([MmGg]?)(?:[Ii]?[Bb])?", str(value).strip())
        if found is None or not int(found[1]):
            self.fail(f"{value!r} is no size such as 512M or 2G", param, ctx)
        return int(found[1]) * (1024 if found[2] in "Gg" and found[2] else 1)


def execution_options(command: F) -> F:
    """What `job create` and `job update` both have."""
    for option in reversed(
        [
            click.option("--working-dir", metavar="DIR", help="Where it starts [default: an empty one of its own]."),
            click.option("--stdin", metavar="TEXT", help="What it reads from its standard input."),
            click.option("--run-as", metavar="USER", help="User on the agent's machine [default: the agent's]."),
            click.option("--umask", metavar="OCTAL", help="[default: 0077]"),
            click.option("--nice", type=click.IntRange(-20, 19), help="[default: 0]"),
            click.option("--ionice", metavar="CLASS", help="idle, best-effort, best-effort:0 to best-effort:7."),
            click.option("--max-memory", type=Megabytes(), help="Of its process tree: 512M, 2G [default: no limit]."),
            click.option("--max-cpu", type=float, metavar="CORES", help="0.8 = 80 % of one core [default: no limit]."),
            click.option("--max-processes", type=click.IntRange(1), help="And threads [default: no limit]."),
            click.option("--kill-grace", type=Seconds(), help="Between SIGTERM and SIGKILL [default: 10 s]."),
            click.option(
                "--on-disconnect",
                type=click.Choice(execution.ON_DISCONNECT),
                help="When its agent loses the server for longer than the lease [default: stop].",
            ),
            click.option("--lost-after", type=Seconds(5), help="The lease [default: its agent's]."),
            click.option(
                "--idempotent/--not-idempotent",
                default=None,
                help="Running twice is harmless: with `continue`, another agent gets it after the lease.",
            ),
            click.option(
                "--file",
                "files",
                type=FileText(),
                multiple=True,
                help="A file that it finds, with TEXT, what a local FILE has, or a file of the server by its URL; may be repeated.",
            ),
            click.option(
                "--artifact", "artifacts", multiple=True, metavar="GLOB", help="Files that are kept; may be repeated."
            ),
            click.option(
                "--requirement",
                "requirements",
                multiple=True,
                metavar="PACKAGE",
                help="A package of Python that the program `python` has: requests==2.32.3; may be repeated.",
            ),
            click.option(
                "--wasm",
                type=Module(),
                help="A WebAssembly module instead of a program: a path on the agent, what a local FILE has, or a file of the server by its URL.",
            ),
            click.option("--executor", metavar="NAME", help="An executor of the agent's, instead of a program."),
        ]
    ):
        command = option(command)
    return command


_OPTIONS: Mapping[str, str] = {
    "working_dir": "config.working_dir",
    "stdin": "config.stdin",
    "run_as": "config.run_as",
    "umask": "config.umask",
    "nice": "config.nice",
    "ionice": "config.ionice",
    "max_memory": "config.resource_limits.max_memory_mb",
    "max_cpu": "config.resource_limits.max_cpu_percent",
    "max_processes": "config.resource_limits.max_processes",
    "kill_grace": "config.kill_grace_seconds",
    "on_disconnect": "config.on_disconnect",
    "lost_after": "config.lost_after_seconds",
    "idempotent": "config.idempotent",
    "wasm": "config.wasm.module",
    "executor": "config.executor",
}


def execution_changes(given: Mapping[str, Any]) -> dict[str, Any]:
    """Members of a job, by path, from the options that were given; None is not given."""
    changes = {path: given[name] for name, path in _OPTIONS.items()}
    changes["config.files"] = dict(given["files"]) or None
    changes["config.artifacts"] = list(given["artifacts"]) or None
    changes["config.python.requirements"] = list(given["requirements"]) or None
    return changes


def needs_program(config: Any) -> bool:
    """Whether a job says nothing about what it runs unless it names a program. What is no object is the server's to refuse."""
    return isinstance(config, dict) and not config.get("wasm") and not config.get("executor")


# --- in files ------------------------------------------------------------------------------------------------------


def read_member(name: str) -> Read:
    """How the member is read from a file; durations as elsewhere (`lost_after_seconds: 10m`).

    What it returns raises ValueError, with what is allowed.
    """
    holds, message = execution.BOUNDS[name]

    def read(value: Any) -> Any:
        if name.endswith("_seconds") and isinstance(value, str):
            value = duration_seconds(value)
        if not holds(value):
            raise ValueError(f"{message}, got {value!r}")
        for where, fault in execution.FAULTS[name](value) if name in execution.FAULTS else ():
            raise ValueError(f"{where.lstrip('.')}: {fault}" if where else fault)
        return value

    return read


READ_EXECUTION: Mapping[str, Read] = {name: read_member(name) for name in execution.DEFAULTS}


def read_resource_limits(value: Any) -> dict[str, Any]:
    """`resource_limits` of a file as the API has it.

    Raises:
      ValueError: what is wrong, and what is allowed.
    """
    if not isinstance(value, dict):
        raise ValueError(f"must be an object, got {value!r}")
    found = dict(value)
    if isinstance(found.get("max_execution_time_secs"), str):
        found["max_execution_time_secs"] = duration_seconds(found["max_execution_time_secs"])
    for path, message in config.problems({"resource_limits": found}, ""):
        name = path.rpartition(".")[2]
        hint = None if name in config.LIMIT_BOUNDS else nearest_hint(name, [*config.LIMIT_BOUNDS])
        raise ValueError(f"{name} {message}{f'; {hint}' if hint else ''}")
    return found


# --- shown ---------------------------------------------------------------------------------------------------------


def shown(config: Mapping[str, Any]) -> str | None:
    """The members that differ from their default, in one line; None: there is none."""
    parts = []
    for name, default in execution.DEFAULTS.items():
        value = config.get(name, default)
        if value == default:
            continue
        parts.append(f"{name}={_brief(value)}")
    return " ".join(parts) or None


def _brief(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, dict):
        return ",".join(map(str, value))
    if isinstance(value, list):
        return ",".join(each if isinstance(each, str) else str(each.get("path")) for each in value)
    text = str(value)
    return text if len(text) <= 40 and "\n" not in text else f"({len(text)} characters)"
