"""`hetuflow task …`: what became of each due moment."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

import click

from hetuflow.cli import render
from hetuflow.cli.client import Client
from hetuflow.cli.options import Group, limit_option, resolve_job, talks_to_server
from hetuflow.domain.enums import InstanceStatus, TaskStatus

POLL_SECONDS = 0.2
"""How often a waiting command looks again. It waits for people, not for other programs."""


@click.group(cls=Group, name="task")
def task() -> None:
    """Tasks: one due moment of a job each, with every try of it."""


COLUMNS = [
    render.Column("ID", lambda row: row["id"]),
    render.Column("NAME", lambda row: row["name"]),
    render.Column("STATUS", lambda row: render.status(TaskStatus, row["status"])),
    render.Column("TRIGGER", lambda row: row["trigger"]),
    render.Column("SCHEDULED", lambda row: render.moment(row["scheduled_at"])),
    render.Column("ENDED", lambda row: render.moment(row["completed_at"])),
    render.Column("TRY", lambda row: row["attempt"], right=True),
]

INSTANCE_COLUMNS = [
    render.Column("TRY", lambda row: row["attempt"], right=True),
    render.Column("INSTANCE", lambda row: row["id"]),
    render.Column("STATUS", lambda row: render.status(InstanceStatus, row["status"])),
    render.Column("AGENT", lambda row: row["agent_id"]),
    render.Column("STARTED", lambda row: render.moment(row["started_at"])),
    render.Column("TOOK", lambda row: render.between(row["started_at"], row["completed_at"])),
    render.Column("EXIT", lambda row: row["exit_code"], right=True),
    render.Column("WHY", lambda row: row["error_message"], wrap=True),
]


@task.command(name="list")
@click.option("--job", "job_", metavar="JOB", help="Only this job's.")
@click.option(
    "--status",
    "status_",
    type=click.Choice([status.name.lower() for status in TaskStatus], case_sensitive=False),
    help="Only tasks in this status.",
)
@limit_option()
@talks_to_server
def list_(client: Client, job_: str | None, status_: str | None, limit: int, json_: bool) -> None:
    """List tasks, newest first."""
    where: dict[str, Any] = {}
    if job_:
        where["job_id"] = {"$eq": resolve_job(client, job_)["id"]}
    if status_:
        where["status"] = {"$eq": status_}
    rows = client.rows("tasks", where=where, limit=limit)
    if json_:
        render.as_json(rows)
        return
    render.table(
        rows, COLUMNS, empty="no tasks" + (" like that" if where else "; run a job with `hetuflow job run JOB`")
    )


@task.command(name="show")
@click.argument("task_id")
@talks_to_server
def show(client: Client, task_id: str, json_: bool) -> None:
    """Show one task with every try of it."""
    row = client.get(f"/tasks/{task_id}")
    tries = instances(client, task_id)
    if json_:
        render.as_json({**row, "instances": tries})
        return
    config = row["config"]
    render.fields(
        row,
        [
            ("id", lambda r: r["id"]),
            ("name", lambda r: r["name"]),
            ("job", lambda r: r["job_id"]),
            ("status", lambda r: render.status(TaskStatus, r["status"])),
            ("trigger", lambda r: r["trigger"]),
            ("schedule", lambda r: r["schedule_id"]),
            ("command", lambda _: render.command_line(config)),
            ("parameters", lambda r: r["parameters"]),
            ("priority", lambda r: r["priority"]),
            ("scheduled", lambda r: render.moment(r["scheduled_at"])),
            ("next retry", lambda r: render.moment(r["next_retry_at"])),
            ("cancel asked", lambda r: render.moment(r["cancel_requested_at"])),
            ("ended", lambda r: render.moment(r["completed_at"])),
            ("retries", lambda r: f"{r['retry_count']} of {r['max_retries']}"),
        ],
    )
    click.echo()
    render.table(tries, INSTANCE_COLUMNS, empty="no tries yet")


def instances(client: Client, task_id: str) -> list[Mapping[str, Any]]:
    """Every try of the task, oldest first."""
    return list(
        client.rows(
            "task-instances", where={"task_id": {"$eq": task_id}}, limit=10_000, order=["attempt", "created_at"]
        )
    )


@task.command(name="cancel")
@click.argument("task_id")
@click.option("--reason", help="Kept in the event.")
@talks_to_server
def cancel(client: Client, task_id: str, reason: str | None, json_: bool) -> None:
    """Cancel a task; a running one has its whole process tree ended."""
    answer = client.post(f"/tasks/{task_id}/cancel", {"reason": reason} if reason else None)
    render.as_json(answer) if json_ else click.echo(f"cancel of task {task_id} accepted")


@task.command(name="retry")
@click.argument("task_id")
@talks_to_server
def retry(client: Client, task_id: str, json_: bool) -> None:
    """Run a failed or cancelled task again, or a waiting retry now."""
    answer = client.post(f"/tasks/{task_id}/retry")
    render.as_json(answer) if json_ else click.echo(f"task {task_id} runs again")


@task.command(name="logs")
@click.argument("task_id")
@click.option("--try", "attempt", type=click.IntRange(1), help="Of this try; default: the newest.")
@click.option(
    "--stream", type=click.Choice(["stdout", "stderr"]), help="Only this stream; default: both, as they came."
)
@talks_to_server
def logs(client: Client, task_id: str, attempt: int | None, stream: str | None, json_: bool) -> None:
    """Print what a task wrote."""
    client.get(f"/tasks/{task_id}")
    tries = instances(client, task_id)
    chosen = [row for row in tries if attempt is None or row["attempt"] == attempt]
    if not chosen:
        raise click.ClickException(f"task {task_id} has no try {attempt}; it has {len(tries)}")
    chunks, last = read_output(client, chosen[-1]["id"], stream)
    if json_:
        render.as_json({**last, "result": chunks})
        return
    for chunk in chunks:
        click.echo(_bytes(chunk), nl=False, err=chunk["stream"] == "stderr" and stream is None)
    if last["dropped"]:
        click.echo(f"({last['dropped']} bytes were cut by the output limit)", err=True)


def read_output(client: Client, instance_id: str, stream: str | None) -> tuple[list[Any], Mapping[str, Any]]:
    chunks: list[Any] = []
    cursor: str | None = None
    while True:
        page = client.get(f"/task-instances/item/{instance_id}/logs", stream=stream, after=cursor, limit=1 << 20)
        chunks += page["result"]
        cursor = page["page"]["next"]
        if not page["page"]["has_more"] or not cursor:
            return chunks, page


def _bytes(chunk: Mapping[str, Any]) -> bytes:
    import base64

    return base64.b64decode(chunk["base64"]) if chunk.get("base64") else str(chunk["text"]).encode()


def follow_to_the_end(client: Client, task_id: str, json_: bool) -> None:
    """Wait until the task is terminal, print its output; exit status 1 unless it succeeded."""
    while not TaskStatus(client.get(f"/tasks/{task_id}")["status"]).is_terminal:
        time.sleep(POLL_SECONDS)
    row = client.get(f"/tasks/{task_id}")
    tries = instances(client, task_id)
    if json_:
        render.as_json({**row, "instances": tries})
    else:
        for chunk in read_output(client, tries[-1]["id"], None)[0]:
            click.echo(_bytes(chunk), nl=False, err=chunk["stream"] == "stderr")
    if row["status"] != TaskStatus.SUCCEEDED:
        why = tries[-1]["error_message"] or "see `hetuflow task show`"
        raise click.ClickException(f"task {task_id} {TaskStatus(row['status']).name.lower()}: {why}")
