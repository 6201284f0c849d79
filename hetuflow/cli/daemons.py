"""The part of `hetuflow schedule` that is about daemons: options, and how the instances stand."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import click

from hetuflow.cli import render
from hetuflow.cli.client import Client
from hetuflow.cli.options import Seconds
from hetuflow.domain.daemon_rules import FACTOR_MAX, INSTANCES_MAX, RESTART_LIMIT_MAX

F = TypeVar("F", bound=Callable[..., Any])

_MEMBERS: Mapping[str, str] = {
    "instances": "daemon.instances",
    "backoff": "daemon.backoff_initial_seconds",
    "backoff_factor": "daemon.backoff_factor",
    "backoff_max": "daemon.backoff_max_seconds",
    "healthy_after": "daemon.healthy_after_seconds",
    "restart_limit": "daemon.restart_limit",
    "restart_window": "daemon.restart_window_seconds",
    "ready_after": "daemon.ready_after_seconds",
    "max_unavailable": "daemon.max_unavailable",
    "run_timeout": "daemon.timeout_seconds",
}
"""Option -> member, by its path."""


def daemon_options(command: F) -> F:
    for option in reversed(
        [
            click.option(
                "--instances", type=click.IntRange(0, INSTANCES_MAX), help="Daemon: how many to keep [default: 1]."
            ),
            click.option(
                "--backoff", type=Seconds(), help="Daemon: first pause before a restart [the retry interval]."
            ),
            click.option(
                "--backoff-factor",
                type=click.FloatRange(1, FACTOR_MAX),
                help="Daemon: how the pause grows [default: 2].",
            ),
            click.option("--backoff-max", type=Seconds(), help="Daemon: longest pause [default: 5m]."),
            click.option("--healthy-after", type=Seconds(), help="Daemon: a run so long starts over [default: 60s]."),
            click.option(
                "--restart-limit",
                type=click.IntRange(0, RESTART_LIMIT_MAX),
                help="Daemon: give up after more restarts than this within the window.",
            ),
            click.option("--restart-window", type=Seconds(1), help="Daemon: of --restart-limit [default: 1h]."),
            click.option("--ready-after", type=Seconds(), help="Daemon: running so long is available [default: 10s]."),
            click.option(
                "--max-unavailable",
                type=click.IntRange(1, INSTANCES_MAX),
                help="Daemon: replaced at once after a change [default: 1].",
            ),
            click.option("--run-timeout", type=Seconds(), help="Daemon: longest run [default: no limit]."),
        ]
    ):
        command = option(command)
    return command


def daemon_changes(given: Mapping[str, Any]) -> dict[str, Any]:
    """Members, by their paths, from the options that were given."""
    return {path: given[name] for name, path in _MEMBERS.items() if given[name] is not None}


def option_names(given: Mapping[str, Any]) -> list[str]:
    """The options about daemons that were given, as they are written."""
    return [f"--{name.replace('_', '-')}" for name in _MEMBERS if given[name] is not None]


def rule(daemon: Mapping[str, Any] | None) -> str:
    """A daemon's rule in a few words."""
    instances = (daemon or {}).get("instances", 1)
    return "keeps 1 instance" if instances == 1 else f"keeps {instances} instances"


def what_follows(row: Mapping[str, Any]) -> str:
    """What a daemon does now that it was made or changed."""
    if not row["enabled"]:
        return "it is not enabled"
    at = render.when(row["start_time"]) if row["start_time"] else "now on"
    return f"{rule(row['daemon'])} running, from {at}"


def details(daemon: Mapping[str, Any] | None) -> str | None:
    """The rest of the rule: back-off, limit, replacement."""
    if daemon is None:
        return None
    first = daemon["backoff_initial_seconds"]
    words = [
        f"restarts after {'the retry interval' if first is None else f'{first} s'}"
        f" x {daemon['backoff_factor']:g}, at most {daemon['backoff_max_seconds']} s"
    ]
    if daemon["restart_limit"] is not None:
        words.append(
            f"gives up after more than {daemon['restart_limit']} restarts in {daemon['restart_window_seconds']} s"
        )
    words.append(f"replaced {daemon['max_unavailable']} at a time")
    return "; ".join(words)


def show_seats(client: Client, schedule_id: str, as_of: str | None) -> None:
    """The instances of a daemon, a line each."""
    found = client.get(f"/schedules/item/{schedule_id}/seats", as_of=as_of)
    click.echo()
    click.echo(found["summary"])
    render.table(
        found["result"],
        [
            render.Column("SEAT", lambda row: row["seat"], right=True),
            render.Column("STATE", lambda row: row["state"] + (" (older version)" if row["outdated"] else "")),
            render.Column("SINCE", lambda row: render.At(row["since"])),
            render.Column("NEXT START", lambda row: render.At(row["next_start_at"]), drop=3),
            render.Column("RUN", lambda row: row["incarnation"], right=True, drop=4),
            render.Column("AGENT", lambda row: row["agent_id"], cut=True, least=10, drop=2),
            render.Column("TASK", lambda row: row["task_id"], is_id=True, drop=1),
        ],
        empty="no instance was started yet",
    )
