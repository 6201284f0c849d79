"""Options and behaviour shared by all commands: `--server`, `--json`, suggestions for mistyped names."""

from __future__ import annotations

from collections.abc import Callable
from difflib import get_close_matches
from functools import wraps
from typing import Any, TypeVar

import click

from hetuflow.cli.client import DEFAULT_SERVER, Client, open_client

F = TypeVar("F", bound=Callable[..., Any])


SERVER_PACKAGES = frozenset({"asyncpg", "quart", "quart_trio", "hypercorn", "msgspec", "msgpack", "trio_websocket"})


class NotInstalled(click.ClickException):
    """A part of hetuflow is not installed on this machine. Exit status 2."""

    exit_code = 2


class Group(click.Group):
    """A group that lists its commands in the order they were added and suggests the nearest for an unknown one."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(self.commands)

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
            close = get_close_matches(name, self.commands, n=1)
            hint = f"did you mean {close[0]!r}?" if close else f"there are: {', '.join(self.commands)}"
            ctx.fail(f"no such command {name!r}; {hint}")
        return super().resolve_command(ctx, args)


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


def limit_option(default: int = 20) -> Callable[[F], F]:
    return click.option(
        "-n", "--limit", type=click.IntRange(1, 100_000), default=default, show_default=True, help="Rows at most."
    )


def talks_to_server(command: Callable[..., None]) -> Callable[..., None]:
    """Add `--server` and `--json`; the function gets an open `Client` first."""

    @server_option
    @json_option
    @wraps(command)
    def run(server: str, **arguments: Any) -> None:
        with open_client(server) as client:
            command(client, **arguments)

    return run


def pairs(values: tuple[str, ...], option: str) -> dict[str, str]:
    """`NAME=VALUE` options as a dict; the value may hold further `=`."""
    result: dict[str, str] = {}
    for text in values:
        name, sign, value = text.partition("=")
        if not sign or not name:
            raise click.BadParameter(f"{text!r} is not NAME=VALUE", param_hint=option)
        result[name] = value
    return result


def resolve_job(client: Client, name_or_id: str) -> dict[str, Any]:
    """The job with that id, else the only one with that name."""
    if _is_uuid(name_or_id):
        found: dict[str, Any] = client.get(f"/jobs/item/{name_or_id}")
        return found
    rows = client.rows("jobs", where={"name": {"$eq": name_or_id}}, limit=2)
    if not rows:
        known = [row["name"] for row in client.rows("jobs", where={}, limit=1000)]
        close = get_close_matches(name_or_id, known, n=1)
        hint = f"did you mean {close[0]!r}?" if close else "see `hetuflow job list`"
        raise click.ClickException(f"no job is named {name_or_id!r}; {hint}")
    if len(rows) > 1:
        raise click.ClickException(f"several jobs are named {name_or_id!r}: give the id, see `hetuflow job list`")
    return dict(rows[0])


def _is_uuid(text: str) -> bool:
    from uuid import UUID

    try:
        UUID(text)
    except ValueError:
        return False
    return len(text) == 36
