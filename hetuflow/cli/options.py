"""Options and behaviour shared by all commands: groups that load lazily, `--server`, `--json`, `--utc`, values of options."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from difflib import get_close_matches
from functools import wraps
from importlib import import_module
from typing import TYPE_CHECKING, Any, TypeVar

import click
from attrs import frozen

from hetuflow.cli import exits
from hetuflow.cli.client import DEFAULT_SERVER, open_client

F = TypeVar("F", bound=Callable[..., Any])

if TYPE_CHECKING:
    _ParamType = click.ParamType[Any]
else:
    _ParamType = click.ParamType  # generic for the type checker only, in the older releases

SAME_VERBS = ({"add", "create"}, {"edit", "update"}, {"delete", "remove"})
"""Verbs that mean the same in every group: the one that a group lists is also found by the other."""

SERVER_PACKAGES = frozenset({"asyncpg", "quart", "quart_trio", "hypercorn", "msgspec", "msgpack", "trio_websocket"})
UTC_KEY = "hetuflow.utc"


class NotInstalled(click.ClickException):
    """A part of hetuflow is not installed on this machine."""

    exit_code = exits.USAGE


class NotThere(click.ClickException):
    """There is no such thing."""

    exit_code = exits.NOT_FOUND


class Declined(click.ClickException):
    """Not done: somebody, or some rule, said no."""

    exit_code = exits.REFUSED


@frozen
class Lazy:
    """A command that is imported when it is used: `module:name`, and its line in the list of commands."""

    where: str
    line: str
    section: str = ""
    hidden: bool = False

    def load(self) -> click.Command:
        module, _, name = self.where.partition(":")
        found: click.Command = getattr(import_module(module), name)
        return found


class Group(click.Group):
    """A group that lists its commands in the order they were added and suggests the nearest for an unknown one.

    `lazy` commands are not imported to list them. `default` is the command that runs when none is named. A noun is found
    in the singular and in the plural, a verb by those of SAME_VERBS; each is listed once.
    """

    def __init__(
        self, *args: Any, lazy: Mapping[str, Lazy] | None = None, default: str | None = None, **kwargs: Any
    ) -> None:
        super().__init__(*args, **kwargs)
        self.lazy, self.default = dict(lazy or {}), default
        if default is not None:
            self.no_args_is_help = False

    def list_commands(self, ctx: click.Context) -> list[str]:
        return [*self.lazy, *(name for name in self.commands if name not in self.lazy)]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        cmd_name = self._listed(cmd_name)
        if cmd_name in self.lazy and cmd_name not in self.commands:
            self.commands[cmd_name] = self.lazy[cmd_name].load()
        return self.commands.get(cmd_name)

    def _listed(self, name: str) -> str:
        """The name in the list of what the user wrote; the same when there is none."""
        known = self.lazy.keys() | self.commands.keys()
        if name in known:
            return name
        nouns = {f"{name}s", name.removesuffix("s")} if self.lazy else set()
        verbs = {verb for same in SAME_VERBS if name in same for verb in same}
        return next(iter(sorted((nouns | verbs) & known)), name)

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        if self.default is not None and (not args or (args[0].startswith("-") and args[0] not in ("-h", "--help"))):
            args = [self.default, *args]
        return super().parse_args(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        if not self.lazy:
            super().format_commands(ctx, formatter)
            return
        width = max(len(name) for name in self.lazy)
        sections: dict[str, list[tuple[str, str]]] = {}
        for name, command in self.lazy.items():
            if not command.hidden:
                sections.setdefault(command.section or "Commands", []).append((name.ljust(width), command.line))
        for section, rows in sections.items():
            with formatter.section(section):
                formatter.write_dl(rows)

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except ModuleNotFoundError as exc:
            if exc.name is None or exc.name.partition(".")[0] not in SERVER_PACKAGES:
                raise
            raise NotInstalled(
                f"this needs the server's packages ({exc.name} is missing): run `pip install 'hetuflow[server]'`"
            ) from exc

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        name = args[0] if args else ""
        if args and self.get_command(ctx, name) is None and not name.startswith("-"):
            known = self.list_commands(ctx)
            ctx.fail(f"no such command {name!r}; {nearest_hint(name, known) or 'there are: ' + ', '.join(known)}")
        return super().resolve_command(ctx, args)


def nearest_hint(name: str, known: Sequence[str]) -> str | None:
    """`did you mean 'x'?`, or None when nothing is near."""
    close = get_close_matches(name, known, n=1)
    return f"did you mean {close[0]!r}?" if close else None


def server_option(command: F) -> F:
    return click.option(
        "--server",
        envvar="HETUFLOW_SERVER",
        default=DEFAULT_SERVER,
        show_default=True,
        show_envvar=True,
        metavar="URL",
        help="The server's address.",
    )(command)


def json_option(command: F) -> F:
    return click.option("--json", "json_", is_flag=True, help="Print JSON instead of text.")(command)


def _remember_utc(ctx: click.Context, _: click.Parameter, value: bool) -> bool:
    if value:
        ctx.meta[UTC_KEY] = True
    return value


def utc_option(command: F) -> F:
    return click.option(
        "--utc",
        is_flag=True,
        is_eager=True,
        expose_value=False,
        callback=_remember_utc,
        help="Read and show times in UTC instead of local time.",
    )(command)


def is_utc() -> bool:
    context = click.get_current_context(silent=True)
    return bool(context and context.meta.get(UTC_KEY))


def limit_option(default: int = 20) -> Callable[[F], F]:
    return click.option(
        "-n", "--limit", type=click.IntRange(1, 100_000), default=default, show_default=True, help="Rows at most."
    )


def yes_option(command: F) -> F:
    return click.option("-y", "--yes", is_flag=True, help="Do not ask.")(command)


def key_option(command: F) -> F:
    return click.option(
        "--idempotency-key",
        "key",
        metavar="KEY",
        help="Repeating the command with the same key within 24 h has no second effect.",
    )(command)


def note_option(command: F) -> F:
    return click.option("--note", metavar="TEXT", help="Why: kept in the history, and shown beside the status.")(
        command
    )


def talks_to_server(command: Callable[..., None]) -> Callable[..., None]:
    """Add `--server`, `--json` and `--utc`; the function gets an open `Client` first."""

    @server_option
    @json_option
    @utc_option
    @wraps(command)
    def run(server: str, **arguments: Any) -> None:
        with open_client(server) as client:
            command(client, **arguments)

    return run


class Moment(_ParamType):
    """A moment, as `times.moment` reads it; the value is RFC 3339 in UTC.

    `or_position`: also a position of the log. `ahead`: of what is planned, so that `02:15` is the next one.
    """

    name = "TIME"

    def __init__(self, *, or_position: bool = False, ahead: bool = False) -> None:
        self.or_position, self.ahead = or_position, ahead

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        from datetime import UTC, datetime

        from hetuflow.cli import times

        text = str(value)
        if self.or_position and text.isascii() and text.isdigit():
            return text
        try:
            instant = times.moment(text, datetime.now(UTC), UTC if ctx and ctx.meta.get(UTC_KEY) else None, self.ahead)
        except ValueError as exc:
            self.fail(str(exc) + (", or a position of the log" if self.or_position else ""), param, ctx)
        return times.rfc3339(instant)


class Seconds(_ParamType):
    """A duration: `90`, `90s`, `5m`, `1h30m`, `1d`; the value is whole seconds."""

    name = "DURATION"

    def __init__(self, least: int = 0) -> None:
        self.least = least

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        from hetuflow.cli.times import duration_seconds

        try:
            seconds = duration_seconds(str(value))
        except ValueError as exc:
            self.fail(str(exc), param, ctx)
        if seconds < self.least:
            self.fail(f"{value!r} is less than {self.least} s", param, ctx)
        return seconds


class Json(_ParamType):
    """A JSON value."""

    name = "JSON"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if not isinstance(value, str):
            return value
        try:
            return json.loads(value)
        except ValueError as exc:
            self.fail(f"{value!r} is not JSON ({exc}); strings need double quotes inside single ones", param, ctx)


def pairs(values: Sequence[str], option: str) -> dict[str, str]:
    """`NAME=VALUE` options as a dict; the value may hold further `=`."""
    result: dict[str, str] = {}
    for text in values:
        name, sign, value = text.partition("=")
        if not sign or not name:
            raise click.BadParameter(f"{text!r} is not NAME=VALUE", param_hint=option)
        result[name] = value
    return result


def confirm(question: str, yes: bool) -> None:
    """Ask, unless `yes`. Raises `Declined`, also when nobody can be asked."""
    if yes:
        return
    try:
        if click.confirm(question, err=True):
            return
    except click.Abort:
        click.echo(err=True)
        raise Declined("nobody answered, nothing was done; --yes does it without asking") from None
    raise Declined("nothing was done")
