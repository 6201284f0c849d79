"""`hetuflow dev`: everything on this machine, until Ctrl-C."""

from __future__ import annotations

import signal
from pathlib import Path

import click
import trio

from hetuflow.cli.cluster import ClusterError, Layout, open_cluster, port_is_free
from hetuflow.cli.unwrap import lone


def run(
    data_dir: Path | None, http_port: int, websocket_port: int, database_port: int | None, agents: int, slots: int
) -> int:
    """Returns the exit status."""
    from eventstore.errors import StartError

    for option, port in (("--http-port", http_port), ("--websocket-port", websocket_port)):
        if not port_is_free(port):
            click.echo(
                f"Error: port {port} is in use: end what listens there, or choose another with {option}", err=True
            )
            return 2
    layout = Layout(
        data_dir=(data_dir or default_data_dir()).resolve(),
        http_port=http_port,
        websocket_port=websocket_port,
        database_port=database_port,
        agents=agents,
        slots=slots,
        logs_to_terminal=True,
        restarts_killed=True,
    )
    try:
        with lone(ClusterError, StartError, OSError):
            return trio.run(_main, layout)
    except (ClusterError, StartError, OSError) as exc:
        click.echo(f"Error: {exc}", err=True)
        return 2


def run_past(
    export_file: Path, data_dir: Path | None, http_port: int, websocket_port: int, database_port: int | None
) -> int:
    """Serve an exported log, read-only, until Ctrl-C; without a data directory it is forgotten. The exit status."""
    from tempfile import TemporaryDirectory

    from eventstore.errors import EventStoreError
    from hetuflow.history.archive import ArchiveError

    with TemporaryDirectory(prefix="hetuflow-past-") as temporary:
        layout = Layout(
            data_dir=(data_dir or Path(temporary)).resolve(),
            http_port=http_port,
            websocket_port=websocket_port,
            database_port=database_port,
            agents=0,
            read_only=True,
            logs_to_terminal=True,
        )
        try:
            with lone(ClusterError, EventStoreError, ArchiveError, OSError):
                return trio.run(_look_at, layout, export_file)
        except (ClusterError, EventStoreError, ArchiveError, OSError) as exc:
            click.echo(f"Error: {exc}", err=True)
            return 2


async def _look_at(layout: Layout, export_file: Path) -> int:
    async def fill(url: str) -> None:
        from eventstore.postgres import open_postgres_store
        from eventstore.postgres.migrate import migrate
        from eventstore.postgres.restore import restore
        from hetuflow.cli.carrying import progress
        from hetuflow.cli.sources import pieces
        from hetuflow.history.archive import read
        from hetuflow.server import MIGRATION_SOURCES

        await migrate(url, MIGRATION_SOURCES)
        async with open_postgres_store(url, sources=MIGRATION_SOURCES) as store:
            with progress("importing", None) as show:
                count = await restore(store.database, read(pieces(export_file)), on_progress=show)
        click.echo(f"{count} events of {export_file}, verified; computing the tables ...", err=True)

    running = trio.CancelScope()
    async with trio.open_nursery() as nursery:
        await nursery.start(stop_on_signal, running)
        click.echo(f"starting PostgreSQL and a read-only server in {layout.data_dir} ...", err=True)
        with running:
            async with open_cluster(layout, prepare=fill) as cluster:
                server = "" if layout.http_port == 8080 else f" --server {layout.http_url}"
                click.echo(
                    f"\n  REST API       {layout.http_url}/api/v1   (read-only)\n  database       psql {cluster.database_url}\n"
                    f"\n  next, in another terminal:\n    hetuflow task list{server}\n    hetuflow explain TASK{server}\n"
                    f"    hetuflow history STREAM{server}\n  Ctrl-C stops it.\n",
                    err=True,
                )
                await cluster.failed.wait()
                raise ClusterError(cluster.failure)
        nursery.cancel_scope.cancel()
    click.echo("stopped", err=True)
    return 0


def default_data_dir() -> Path:
    import platformdirs

    return Path(platformdirs.user_state_dir("hetuflow", appauthor=False)) / "dev"


async def _main(layout: Layout) -> int:
    running = trio.CancelScope()
    async with trio.open_nursery() as nursery:
        await nursery.start(stop_on_signal, running)
        click.echo(f"starting PostgreSQL, server and {layout.agents} agent(s) in {layout.data_dir} ...", err=True)
        with running:
            async with open_cluster(layout) as cluster:
                click.echo(_welcome(layout, cluster.database_url), err=True)
                await cluster.failed.wait()
                raise ClusterError(cluster.failure)
        nursery.cancel_scope.cancel()
    click.echo(f"stopped; the data are in {layout.data_dir}", err=True)
    return 0


async def stop_on_signal(running: trio.CancelScope, *, task_status: trio.TaskStatus[None]) -> None:
    with trio.open_signal_receiver(signal.SIGINT, signal.SIGTERM, signal.SIGHUP) as signals:
        task_status.started()
        async for number in signals:
            if running.cancel_called:
                click.echo("stopping; please wait for PostgreSQL to close its files", err=True)
            else:
                click.echo(f"\n{signal.Signals(number).name}: stopping", err=True)
            running.cancel()


def _welcome(layout: Layout, database_url: str) -> str:
    server = "" if layout.http_port == 8080 else f" --server {layout.http_url}"
    return f"""
  REST API       {layout.http_url}/api/v1
  documentation  {layout.http_url}/docs
  agents         ws://127.0.0.1:{layout.websocket_port}
  database       psql {database_url}
  data           {layout.data_dir}

  next, in another terminal:
    hetuflow job create hello{server} -- bash -c 'echo hello from $HOSTNAME'
    hetuflow job run hello --wait{server}
    hetuflow schedule add hello --every 10s{server}
    hetuflow events tail{server}
  Ctrl-C stops everything; the data stay.
"""
