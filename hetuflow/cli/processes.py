"""The verbs that start a process or speak to the database themselves. Each returns the exit status."""

from __future__ import annotations

import gc
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import trio

from hetuflow.cli import render
from hetuflow.cli.unwrap import lone

if TYPE_CHECKING:
    from hetuflow.settings import ServerSettings

USAGE = 2


def read_text(path: Path) -> str:
    return path.read_text(encoding="utf-8")


def settings_of(config_file: Path | None, flags: Mapping[str, Any]) -> ServerSettings:
    """The server's settings, or a one-line error per mistake and exit status 2."""
    from hetuflow.configuration import ConfigurationError
    from hetuflow.settings import load_server_settings

    try:
        return load_server_settings(config_file, os.environ, flags, read_text=read_text)
    except ConfigurationError as exc:
        for line in str(exc).splitlines():
            click.echo(f"Error: {line}", err=True)
        raise SystemExit(USAGE) from None


def database_url(config_file: Path | None, flags: Mapping[str, Any]) -> str:
    """The configured database, or one line that says how to name one and exit status 2."""
    url = settings_of(config_file, flags).database.url
    if url is None:
        click.echo(
            "Error: no database is configured: give --database-url, or set DATABASE_URL "
            "(postgresql://user:password@host:5432/database); `hetuflow dev` brings its own",
            err=True,
        )
        raise SystemExit(USAGE)
    return url


GC_THRESHOLDS = (20_000, 20, 20)
"""A fire makes some hundred objects that live until it is committed, and hundreds of fires are under way at once: at
Python's 700, a fifth of ten thousand fires was looking for garbage where there was none."""


def run_server(config_file: Path | None, flags: Mapping[str, Any], *, migrate_first: bool) -> int:
    """Run until SIGTERM or SIGINT."""
    database_url(config_file, flags)
    settings = settings_of(config_file, flags)

    gc.disable()  # all that is imported stays: to look for garbage in it is a tenth of the start
    from hetuflow.server import run

    gc.freeze()
    gc.set_threshold(*GC_THRESHOLDS)
    gc.enable()
    if migrate_first:
        status = run_migrate(config_file, flags, json_=False, quiet=True)
        if status:
            return status
    return run(settings)


def run_migrate(config_file: Path | None, flags: Mapping[str, Any], json_: bool, quiet: bool = False) -> int:
    """Bring the schema up to date."""
    from eventstore.errors import EventStoreError
    from eventstore.postgres.migrate import migrate
    from hetuflow.server import MIGRATION_SOURCES

    url = database_url(config_file, flags)
    try:
        with lone(EventStoreError, OSError):
            applied: Sequence[Any] = trio.run(migrate, url, MIGRATION_SOURCES)
    except (EventStoreError, OSError) as exc:
        click.echo(f"Error: {exc}", err=True)
        return USAGE
    if json_:
        render.as_json({"applied": [str(migration) for migration in applied]})
    elif not quiet:
        for migration in applied:
            click.echo(f"applied {migration}")
        click.echo("the database schema is up to date")
    return 0


def run_agent(arguments: Sequence[str]) -> None:
    """Become the agent: a process that imports nothing of this command line or of the server."""
    import sys

    os.execv(sys.executable, [sys.executable, "-m", "agent", *arguments])


def show_config(config_file: Path | None, for_agent: bool, json_: bool) -> int:
    """Every value and its source, passwords hidden."""
    from hetuflow.configuration import ConfigurationError

    try:
        if for_agent:
            from agent.settings import load_agent_settings

            configuration = load_agent_settings(config_file, os.environ, {}, read_text=read_text).configuration
        else:
            configuration = settings_of(config_file, {}).configuration
    except ConfigurationError as exc:
        for line in str(exc).splitlines():
            click.echo(f"Error: {line}", err=True)
        return USAGE
    rows = [{"name": name, "value": value, "source": source} for name, value, source in configuration.rows()]
    if json_:
        render.as_json(rows)
        return 0
    columns = [
        render.Column("SETTING", lambda row: row["name"]),
        render.Column("VALUE", lambda row: row["value"], wrap=True),
        render.Column("FROM", lambda row: row["source"]),
    ]
    render.table(rows, columns, empty="no settings")
    return 0
