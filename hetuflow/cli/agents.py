"""`hetuflow agents`: where tasks run."""

from __future__ import annotations

from typing import Any

import click

from hetuflow.cli import render
from hetuflow.cli.client import Client
from hetuflow.cli.options import limit_option, talks_to_server
from hetuflow.domain.enums import AgentStatus


def _state(row: render.Row) -> Any:
    if row["draining"] and row["status"] == AgentStatus.ONLINE:
        return "draining"
    return render.status(AgentStatus, row["status"])


@click.command(name="agents")
@click.option("--online", is_flag=True, help="Only those connected now.")
@limit_option(100)
@talks_to_server
def agents(client: Client, online: bool, limit: int, json_: bool) -> None:
    """List agents: where tasks run."""
    where = {"status": {"$eq": int(AgentStatus.ONLINE)}} if online else {}
    rows = client.rows("agents", where=where, limit=limit)
    if json_:
        render.as_json(rows)
        return
    now = render.now()
    render.table(
        rows,
        [
            render.Column("ID", lambda row: row["id"]),
            render.Column("STATUS", _state),
            render.Column(
                "SLOTS",
                lambda row: f"{row['running_instances']}/{row['capabilities']['max_concurrent_tasks']}",
                right=True,
            ),
            render.Column("DONE", lambda row: row["statistics"]["success_tasks"], right=True),
            render.Column("FAILED", lambda row: row["statistics"]["failure_tasks"], right=True),
            render.Column("LAST HEARD", lambda row: render.ago(row["last_heartbeat_at"], now)),
            render.Column("ADDRESS", lambda row: row["address"]),
            render.Column(
                "LABELS",
                lambda row: " ".join(f"{k}={v}" for k, v in sorted(row["capabilities"]["labels"].items())),
                wrap=True,
            ),
        ],
        empty="no agents; start one with `hetuflow agent`",
    )
