"""`hetuflow servers …`: the servers of the cluster."""

from __future__ import annotations

from typing import Any

import click

from hetuflow.cli import render
from hetuflow.cli.client import Client
from hetuflow.cli.editing import edit_options, update_body
from hetuflow.cli.listing import Wanted, as_of_option, list_options, show_list, status_condition, status_option
from hetuflow.cli.names import SERVER, resolve
from hetuflow.cli.options import Group, confirm, talks_to_server, yes_option
from hetuflow.domain.enums import ServerStatus


@click.group(cls=Group, name="servers", default="list")
def servers() -> None:
    """Servers: who schedules and answers. Without a verb: list them."""


COLUMNS = [
    render.Column("ID", lambda row: row["id"], is_id=True),
    render.Column("NAME", lambda row: row["name"], cut=True, least=20),
    render.Column("STATUS", lambda row: render.status(ServerStatus, row["status"])),
    render.Column("ADDRESS", lambda row: row["address"], drop=1),
    render.Column("LAST HEARD", lambda row: render.ago(row["last_heartbeat_at"], render.now())),
    render.Column("NAMESPACES", lambda row: " ".join(row["bind_namespaces"]) or "all", wrap=True),
]


@servers.command(name="list")
@status_option(ServerStatus, what="servers")
@list_options(times=False)
@talks_to_server
def list_(client: Client, json_: bool, status_: tuple[str, ...], **given: Any) -> None:
    """List servers."""
    show_list(client, "servers", Wanted.of(given), status_condition(status_), COLUMNS, json_=json_, empty="no servers")


@servers.command(name="show")
@click.argument("server_", metavar="SERVER")
@as_of_option
@talks_to_server
def show(client: Client, server_: str, as_of_: str | None, json_: bool) -> None:
    """Show one server."""
    row = resolve(client, SERVER, server_, as_of=as_of_)
    if json_:
        render.as_json(row)
        return
    render.fields(
        row,
        [
            ("id", lambda r: r["id"]),
            ("name", lambda r: r["name"]),
            ("description", lambda r: r["description"]),
            ("status", lambda r: render.status(ServerStatus, r["status"])),
            ("address", lambda r: r["address"]),
            ("namespaces", lambda r: " ".join(r["bind_namespaces"]) or "all"),
            ("last heard", lambda r: render.At(r["last_heartbeat_at"])),
            ("created", lambda r: render.At(r["created_at"])),
        ],
    )


@servers.command(name="update")
@click.argument("server_", metavar="SERVER")
@click.option("--description")
@click.option("--namespace", multiple=True, help="Served first by this server; may be repeated, replaces all.")
@edit_options
@talks_to_server
def update(
    client: Client,
    server_: str,
    json_: bool,
    description: str | None,
    namespace: tuple[str, ...],
    set_: tuple[str, ...],
    clear: tuple[str, ...],
) -> None:
    """Change what is known about a server."""
    row = resolve(client, SERVER, server_)
    changes = {"description": description, "bind_namespaces": list(namespace) or None}
    answer = client.put(f"/servers/{row['id']}", update_body(row, changes, set_, clear))
    render.as_json(answer) if json_ else click.echo(f"updated server {row['id']}")


@servers.command(name="remove")
@click.argument("server_", metavar="SERVER")
@yes_option
@talks_to_server
def remove(client: Client, server_: str, yes: bool, json_: bool) -> None:
    """Forget a server that does not run any more. SERVER is a whole id or name."""
    row = resolve(client, SERVER, server_, exactly=True)
    confirm(f"remove server {row['name']} ({row['id']})?", yes)
    client.delete(f"/servers/{row['id']}")
    render.deleted(row["id"], f"removed server {row['id']}", json_=json_)
