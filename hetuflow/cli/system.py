"""`hetuflow system …` and `hetuflow gateway …`: how the server is."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import click

from hetuflow.cli import exits, render
from hetuflow.cli.client import Client
from hetuflow.cli.names import AGENT, resolve
from hetuflow.cli.options import Group, Json, talks_to_server


@click.group(cls=Group, name="system")
def system() -> None:
    """System: health, figures, versions."""


@system.command(name="health")
@talks_to_server
def health(client: Client, json_: bool) -> None:
    """Say whether the server is well. Exit status 1 when it is not: for monitoring."""
    answer = client.get("/system/health")
    if json_:
        render.as_json(answer)
    else:
        out = render.console()
        out.print(render.word(answer["status"]))
        rows = [{"check": name, **found} for name, found in answer["checks"].items()]
        out.print()
        render.table(
            rows,
            [
                render.Column("CHECK", lambda row: row["check"]),
                render.Column("STATUS", lambda row: render.word(row["status"])),
                render.Column(
                    "DETAIL",
                    lambda row: ", ".join(
                        f"{name.replace('_', ' ')} {value}"
                        for name, value in row.items()
                        if name not in ("check", "status") and value is not None
                    ),
                    wrap=True,
                ),
            ],
            empty="no checks",
        )
    if answer["status"] != "healthy":
        raise click.exceptions.Exit(exits.FAILED)


@system.command(name="metrics")
@talks_to_server
def metrics(client: Client, json_: bool) -> None:
    """Print the server's figures."""
    answer = client.get("/system/metrics")
    if json_:
        render.as_json(answer)
        return
    render.fields(answer, [(name, _constant(value)) for name, value in _flat(answer)])


def _constant(value: Any) -> Callable[[Any], Any]:
    return lambda _: value


def _flat(value: Any, name: str = "") -> list[tuple[str, Any]]:
    if isinstance(value, dict):
        return [pair for key, inner in value.items() for pair in _flat(inner, f"{name}.{key}" if name else key)]
    return [(name, value)]


@system.command(name="info")
@talks_to_server
def info(client: Client, json_: bool) -> None:
    """Print versions, ports, and the position of the log."""
    answer = client.get("/system/info")
    if json_:
        render.as_json(answer)
        return
    render.fields(answer, [(name.replace("_", " "), _constant(_shown(name, value))) for name, value in answer.items()])


def _shown(name: str, value: Any) -> Any:
    return render.At(value) if name.endswith("_time") and isinstance(value, str) else value


@click.group(cls=Group, name="gateway")
def gateway() -> None:
    """Gateway: the agents' connections."""


@gateway.command(name="status")
@talks_to_server
def status(client: Client, json_: bool) -> None:
    """Print how many agents are connected, and from where."""
    answer = client.get("/gateway/status")
    if json_:
        render.as_json(answer)
        return
    render.fields(
        answer,
        [
            ("agents", lambda r: f"{r['online_agents']} online, {r['offline_agents']} offline"),
            ("connections", lambda r: f"{r['active_connections']} now, {r['total_connections']} since the start"),
            ("messages", lambda r: f"{r['total_messages_sent']} sent, {r['total_messages_received']} received"),
        ],
    )
    click.echo()
    render.table(
        answer["connections"],
        [
            render.Column("AGENT", lambda row: row["agent_id"]),
            render.Column("ADDRESS", lambda row: row["address"]),
            render.Column("CONNECTED", lambda row: render.At(row["connected_at"])),
            render.Column("LAST MESSAGE", lambda row: render.At(row["last_message_at"]), drop=1),
        ],
        empty="no agent is connected; start one with `hetuflow agent`",
    )


KINDS = ("cancel_task", "fetch_metrics", "clear_cache", "update_config", "shutdown")


@gateway.command(name="command")
@click.argument("kind", type=click.Choice(KINDS, case_sensitive=False))
@click.argument("agent_", metavar="[AGENT]", required=False)
@click.option("--all", "all_", is_flag=True, help="Every connected agent.")
@click.option("--args", "args_", type=Json(), help="The command's arguments, an object.")
@talks_to_server
def command(client: Client, kind: str, agent_: str | None, all_: bool, args_: Any, json_: bool) -> None:
    """Send a command to one connected agent, or to all of them.

    \b
    Example:
      hetuflow gateway command fetch_metrics agent-01
    """
    if (agent_ is None) == (not all_):
        raise click.UsageError("give an AGENT, or --all")
    if agent_ is not None:
        body: dict[str, Any] = {"agent_id": resolve(client, AGENT, agent_)["id"], "command": kind}
        if args_ is not None:
            body["args"] = args_
    else:
        body = {"type": "broadcast", "command": {"head": {"kind": kind}, "payload": args_}}
    answer = client.post("/gateway/command", body)
    render.as_json(answer) if json_ else click.echo(f"sent {kind}: {answer['id']}")
