"""`hetuflow projections …`: the tables computed from the log. Speaks to the database itself, which works without a server,
or asks a server."""

from __future__ import annotations

import sys
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click
import trio
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from hetuflow.cli import render
from hetuflow.cli.client import open_client
from hetuflow.cli.options import Group, json_option
from hetuflow.cli.unwrap import lone

if TYPE_CHECKING:
    from eventstore.postgres import PostgresStore

T = TypeVar("T")


@click.group(cls=Group, name="projections")
def projections() -> None:
    """Projections: the tables computed from the log."""


def database_options(command: Callable[..., None]) -> Callable[..., None]:
    command = click.option("--database-url", metavar="URL", help="PostgreSQL 13 or later [env: DATABASE_URL].")(command)
    return click.option("--config", "config_file", type=click.Path(path_type=Path), help="config.toml.")(command)


def with_store(config_file: Path | None, database_url: str | None, work: Callable[[PostgresStore], Awaitable[T]]) -> T:
    """Run `work` on the store; a start error is one line and exit status 2, a failure one line and exit status 1."""
    from eventstore.errors import EventStoreError, StartError
    from eventstore.postgres import open_postgres_store
    from hetuflow.cli import processes
    from hetuflow.server import MIGRATION_SOURCES
    from projections.errors import RebuildRefused, RebuildRunning

    url = processes.database_url(config_file, {"database.url": database_url})

    async def main() -> T:
        async with open_postgres_store(url, sources=MIGRATION_SOURCES) as store:
            return await work(store)

    try:
        with lone(EventStoreError, RebuildRunning, RebuildRefused):
            return trio.run(main)
    except StartError as exc:
        click.echo(f"Error: {exc}", err=True)
        sys.exit(2)
    except (EventStoreError, RebuildRunning, RebuildRefused) as exc:
        raise click.ClickException(str(exc)) from exc


def asked_server(server: str | None, config_file: Path | None, database_url: str | None) -> str | None:
    """The server to ask; None: the database is spoken to. What was typed goes before what the environment says."""
    from click.core import ParameterSource

    from hetuflow.cli import processes

    if server is None or config_file is not None or database_url is not None:
        return None
    is_typed = click.get_current_context().get_parameter_source("server") is ParameterSource.COMMANDLINE
    return server if is_typed or processes.settings_of(None, {}).database.url is None else None


def or_server_option(command: Callable[..., None]) -> Callable[..., None]:
    return click.option(
        "--server",
        envvar="HETUFLOW_SERVER",
        show_envvar=True,
        metavar="URL",
        help="Ask a running server instead of the database.",
    )(command)


COLUMNS = [
    render.Column("NAME", lambda row: row["name"], cut=True, least=20),
    render.Column("TABLE", lambda row: row["table"]),
    render.Column("STATUS", lambda row: row["status"]),
    render.Column("POSITION", lambda row: row["position"], right=True),
    render.Column("LAG", lambda row: row["lag_events"], right=True),
    render.Column("DEFINITION", lambda row: row["definition"][:12]),
    render.Column("ERROR", lambda row: row["error"], wrap=True),
]


@projections.command(name="list")
@database_options
@or_server_option
@json_option
def list_(config_file: Path | None, database_url: str | None, server: str | None, json_: bool) -> None:
    """List the tables: how far each is, and whether its definition is this program's."""
    asked = asked_server(server, config_file, database_url)
    rows = with_store(config_file, database_url, _states) if asked is None else _states_of_server(asked)
    if json_:
        render.as_json(rows)
    else:
        render.table(rows, COLUMNS, empty="no projections")


async def _states(store: PostgresStore) -> list[dict[str, Any]]:
    from attrs import asdict

    from projections.status import read_status
    from projections.tables import ALL_TABLES

    found = await read_status(store.database)
    return [{"table": ALL_TABLES[status.name].name, **asdict(status)} for status in found]


def _states_of_server(server: str) -> list[dict[str, Any]]:
    from projections.tables import ALL_TABLES

    with open_client(server) as client:
        rows = client.get("/projections")["result"]
    return [{"table": ALL_TABLES[row["name"]].name if row["name"] in ALL_TABLES else None, **row} for row in rows]


@projections.command(name="rebuild")
@click.argument("names", nargs=-1, metavar="[NAME]...")
@database_options
@or_server_option
@json_option
def rebuild(
    names: Sequence[str], config_file: Path | None, database_url: str | None, server: str | None, json_: bool
) -> None:
    """Compute tables anew from the log: all of them, or those named. Readers see the old ones until the swap.

    A server that is asked begins at once and goes on by itself; `projections list` shows how far it is.
    """
    from projections.tables import ALL_TABLES

    require_known(names)
    asked = asked_server(server, config_file, database_url)
    if asked is not None:
        _ask_for_rebuilds(asked, names or tuple(ALL_TABLES), json_)
        return
    results = with_store(config_file, database_url, lambda store: _rebuild(store, names or tuple(ALL_TABLES)))
    if json_:
        render.as_json(results)
        return
    for result in results:
        click.echo(
            f"rebuilt {', '.join(result['names'])}: {result['position']} events in {result['seconds']:.2f} s "
            f"({result['events_per_second']:.0f} events/s)"
        )


def _ask_for_rebuilds(server: str, names: Sequence[str], json_: bool) -> None:
    with open_client(server) as client:
        begun = [{"name": name, **client.post(f"/projections/{name}/rebuild")} for name in names]
    if json_:
        render.as_json(begun)
        return
    for each in begun:
        click.echo(f"the rebuild of {each['name']} has begun: {each['id']}")
    click.echo("how far it is: hetuflow projections list", err=True)


async def _rebuild(store: PostgresStore, names: Sequence[str]) -> list[dict[str, Any]]:
    from projections.rebuild import Progress as Step
    from projections.rebuild import rebuild as rebuild_tables

    bar = Progress(
        TextColumn("rebuilding"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]}"),
        TimeRemainingColumn(),
        console=Console(stderr=True),
        disable=not sys.stderr.isatty(),
        transient=True,
    )
    with bar:
        shown = bar.add_task("", total=None, rate="")

        def show(step: Step) -> None:
            bar.update(shown, total=step.target, completed=step.position, rate=f"{step.events_per_second:.0f} events/s")

        done = await rebuild_tables(store.database, names, on_progress=show)
    return [
        {
            "names": list(result.names),
            "position": result.position,
            "seconds": result.seconds,
            "events_per_second": result.events_per_second,
        }
        for result in done
    ]


VERIFIED = [
    render.Column("NAME", lambda row: row["name"]),
    render.Column("RESULT", lambda row: "same" if row["is_same"] else "different"),
    render.Column("POSITION", lambda row: row["position"], right=True, drop=2),
    render.Column("ROWS", lambda row: row["rows"], right=True),
    render.Column("MISSING", lambda row: row["missing"], right=True),
    render.Column("UNEXPECTED", lambda row: row["unexpected"], right=True),
    render.Column("FOR EXAMPLE", lambda row: ", ".join(row["examples"]), cut=True),
    render.Column("DIGEST", lambda row: row["digest"][:12], drop=3),
]


@projections.command(name="verify")
@click.argument("names", nargs=-1, metavar="[NAME]...")
@database_options
@json_option
def verify(names: Sequence[str], config_file: Path | None, database_url: str | None, json_: bool) -> None:
    """Compare tables with what the log says: all of them, or those named. Changes nothing; 1 when one is different."""
    require_known(names)
    rows = with_store(config_file, database_url, lambda store: _verify(store, names))
    if json_:
        render.as_json(rows)
    else:
        render.table(rows, VERIFIED, empty="no projections")
    different = [row["name"] for row in rows if not row["is_same"]]
    if different:
        raise click.ClickException(
            f"{', '.join(different)}: not what the log says; `hetuflow projections rebuild {' '.join(different)}` mends it"
        )


async def _verify(store: PostgresStore, names: Sequence[str]) -> list[dict[str, Any]]:
    from attrs import asdict

    from projections.tables import ALL_TABLES
    from projections.verify import verify as verify_tables

    found = await verify_tables(store.database, names or tuple(ALL_TABLES))
    return [{**asdict(each), "is_same": each.is_same} for each in found]


def require_known(names: Sequence[str]) -> None:
    """Raises `UsageError`, with the nearest name, for a projection that there is not."""
    from difflib import get_close_matches

    from projections.tables import ALL_TABLES

    for name in names:
        if name not in ALL_TABLES:
            close = get_close_matches(name, ALL_TABLES, n=1)
            hint = f"did you mean {close[0]!r}?" if close else f"there are: {', '.join(ALL_TABLES)}"
            raise click.UsageError(f"no projection is named {name!r}; {hint}")
