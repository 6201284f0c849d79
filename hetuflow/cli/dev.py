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
    )
    try:
        with lone(ClusterError, StartError, OSError):
            return trio.run(_main, layout)
    except (ClusterError, StartError, OSError) as exc:
        click.echo(f"Error: {exc}", err=True)
        return 2


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
