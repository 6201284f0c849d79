"""The tree of commands. Each noun is a module; what is heavy is imported when it is used."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from hetuflow.cli import exits
from hetuflow.cli.options import Group, Lazy, json_option

EVERYDAY, PAST, OPERATING, PROCESSES = "What to run", "What happened", "Where it runs", "Run hetuflow"

COMMANDS = {
    "job": Lazy("hetuflow.cli.jobs:job", "Jobs: what to run, and how.", EVERYDAY),
    "schedule": Lazy("hetuflow.cli.schedules:schedule", "Schedules: when a job runs.", EVERYDAY),
    "calendars": Lazy("hetuflow.cli.calendars:calendars", "Calendars: when schedules do not run.", EVERYDAY),
    "flows": Lazy("hetuflow.cli.flows:flows", "Flows: jobs that follow each other, run together.", EVERYDAY),
    "apply": Lazy("hetuflow.cli.apply:apply", "Make jobs and schedules as files say.", EVERYDAY),
    "export": Lazy("hetuflow.cli.export:export", "Write jobs and schedules as files.", EVERYDAY),
    "files": Lazy("hetuflow.cli.files:files", "Files: kept on the server for instances to read.", EVERYDAY),
    "task": Lazy("hetuflow.cli.tasks:task", "Tasks: one due moment of a job each.", PAST),
    "instance": Lazy("hetuflow.cli.instances:instance", "Instances: one try of a task each.", PAST),
    "explain": Lazy("hetuflow.cli.explaining:explain", "Say why a task runs, waits, or ended.", PAST),
    "history": Lazy("hetuflow.cli.history:history", "What happened to one thing, by whom, and why.", PAST),
    "replay": Lazy("hetuflow.cli.replay:replay", "A state event by event; decisions taken again.", PAST),
    "events": Lazy("hetuflow.cli.events:events", "Events: the log that all else is computed from.", PAST),
    "top": Lazy("hetuflow.cli.top:top", "Watch agents, tasks and the queue.", PAST),
    "agents": Lazy("hetuflow.cli.agents:agents", "Agents: where tasks run.", OPERATING),
    "servers": Lazy("hetuflow.cli.servers:servers", "Servers: who schedules and answers.", OPERATING),
    "projections": Lazy("hetuflow.cli.projections:projections", "Projections: the tables of the log.", OPERATING),
    "gateway": Lazy("hetuflow.cli.system:gateway", "Gateway: the agents' connections.", OPERATING),
    "system": Lazy("hetuflow.cli.system:system", "System: health, figures, versions.", OPERATING),
    "dev": Lazy("hetuflow.cli.main:dev", "PostgreSQL, server and agents on this machine.", PROCESSES),
    "server": Lazy("hetuflow.cli.main:server", "Run a server.", PROCESSES),
    "agent": Lazy("hetuflow.cli.main:agent", "Run an agent on this machine.", PROCESSES),
    "migrate": Lazy("hetuflow.cli.main:migrate", "Create or update the database schema.", PROCESSES),
    "db": Lazy("hetuflow.cli.database:db", "The database: drop what is old.", PROCESSES),
    "config": Lazy("hetuflow.cli.main:config", "Every setting, and where it came from.", PROCESSES),
    "completion": Lazy("hetuflow.cli.completion:completion", "Completion for bash, zsh and fish.", PROCESSES),
}


class Root(Group):
    """The whole tree. Ctrl-C is not an error."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            click.echo(err=True)
            raise click.exceptions.Exit(exits.INTERRUPTED) from None


@click.group(
    cls=Root,
    lazy=COMMANDS,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog=exits.epilog(),
)
@click.version_option(package_name="hetuflow", prog_name="hetuflow")
def main() -> None:
    """hetuflow runs commands on many machines, at the right time, once, and can prove it.

    \b
    Try it:   hetuflow dev                                  everything on this machine
              hetuflow job create hello -- echo hello       what to run
              hetuflow job run hello --follow               run it now
              hetuflow schedule add hello --every 60s       run it on time
              hetuflow task list --since 12h                what became of it
              hetuflow explain TASK                         why

    Names, ids and the beginning of either are understood. Commands that talk to a server take --server or
    HETUFLOW_SERVER, --json, and --utc; times are local, and may be written as 2h (ago), 02:15 or RFC 3339.
    """


@main.command(name="dev")
@click.option(
    "--data-dir",
    type=click.Path(file_okay=False, path_type=Path),
    help="Where everything is kept [default: the user's state directory].",
)
@click.option("--http-port", type=click.IntRange(1, 65535), default=8080, show_default=True)
@click.option("--websocket-port", type=click.IntRange(1, 65535), default=8081, show_default=True)
@click.option("--database-port", type=click.IntRange(1, 65535), help="[default: 5432, or the next free port]")
@click.option("--agents", "agent_count", type=click.IntRange(0, 100), default=1, show_default=True)
@click.option("--slots", type=click.IntRange(1, 1000), default=5, show_default=True, help="Tasks at once, per agent.")
@click.option(
    "--from-export",
    "export_file",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Look at a log that `hetuflow events export` wrote; needs --read-only.",
)
@click.option("--read-only", is_flag=True, help="Nothing is scheduled, no agent runs, every write is refused.")
def dev(
    data_dir: Path | None,
    http_port: int,
    websocket_port: int,
    database_port: int | None,
    agent_count: int,
    slots: int,
    export_file: Path | None,
    read_only: bool,
) -> None:
    """Run PostgreSQL, a server and agents on this machine until Ctrl-C; the data stay.

    A server or agent that is killed is started again; what the agent ran goes on.

    With --from-export FILE --read-only: the log of another installation, to be looked at; it is gone afterwards.
    """
    from hetuflow.cli import dev as dev_

    if read_only != (export_file is not None):
        raise click.UsageError("--from-export and --read-only belong together: an exported log is only looked at")
    if export_file is not None:
        sys.exit(dev_.run_past(export_file, data_dir, http_port, websocket_port, database_port))

    sys.exit(dev_.run(data_dir, http_port, websocket_port, database_port, agent_count, slots))


@main.command(name="server")
@click.option(
    "--config", "config_file", type=click.Path(path_type=Path), help="config.toml; see `hetuflow config show`."
)
@click.option("--database-url", metavar="URL", help="PostgreSQL 13 or later [env: DATABASE_URL].")
@click.option("--http-port", type=int, help="REST API [default: 8080].")
@click.option("--websocket-port", type=int, help="Agents [default: 8081].")
@click.option("--state-dir", type=click.Path(file_okay=False, path_type=Path), help="The server's identity.")
@click.option("--log-level", metavar="LEVEL", help="debug, info, warn or error [default: info].")
@click.option("--migrate/--no-migrate", default=False, help="Bring the database schema up to date first.")
@click.option("--read-only", is_flag=True, help="Only show the log: nothing is scheduled, every write is refused.")
def server(
    config_file: Path | None,
    database_url: str | None,
    http_port: int | None,
    websocket_port: int | None,
    state_dir: Path | None,
    log_level: str | None,
    migrate: bool,
    read_only: bool,
) -> None:
    """Run a server: the REST API, the scheduler, and the agents' gateway."""
    from hetuflow.cli import processes

    flags = {
        "database.url": database_url,
        "server.http_port": http_port,
        "server.websocket_port": websocket_port,
        "server.state_dir": None if state_dir is None else str(state_dir),
        "logging.level": log_level,
        "server.read_only": True if read_only else None,
    }
    sys.exit(processes.run_server(config_file, flags, migrate_first=migrate))


@main.command(
    name="agent",
    context_settings={"ignore_unknown_options": True, "help_option_names": []},
    add_help_option=False,
)
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
def agent(arguments: Sequence[str]) -> None:
    """Run an agent: the daemon that runs tasks on this machine (see `hetuflow agent --help`)."""
    from hetuflow.cli import processes

    processes.run_agent(arguments)


@main.command(name="migrate")
@click.option(
    "--config", "config_file", type=click.Path(path_type=Path), help="config.toml; see `hetuflow config show`."
)
@click.option("--database-url", metavar="URL", help="PostgreSQL 13 or later [env: DATABASE_URL].")
@json_option
def migrate(config_file: Path | None, database_url: str | None, json_: bool) -> None:
    """Create or update the database schema. Safe to repeat, and with several at once."""
    from hetuflow.cli import processes

    sys.exit(processes.run_migrate(config_file, {"database.url": database_url}, json_))


@main.group(name="config", cls=Group)
def config() -> None:
    """Configuration: every value, and where it came from."""


@config.command(name="show")
@click.option("--config", "config_file", type=click.Path(path_type=Path), help="config.toml or agent.toml.")
@click.option("--agent", "for_agent", is_flag=True, help="The agent's settings instead of the server's.")
@json_option
def show(config_file: Path | None, for_agent: bool, json_: bool) -> None:
    """Print every setting, its value and where it came from."""
    from hetuflow.cli import processes

    sys.exit(processes.show_config(config_file, for_agent, json_))


def server_main() -> None:
    """`hetuflow-server` is `hetuflow server`."""
    main(["server", *sys.argv[1:]], prog_name="hetuflow-server")


if __name__ == "__main__":
    main(prog_name="hetuflow")
