"""`hetuflow instance …`: one try of a task each."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import click

from hetuflow.cli import render
from hetuflow.cli.client import Client
from hetuflow.cli.editing import edit_options, update_body
from hetuflow.cli.listing import Wanted, as_of_option, list_options, show_list, status_condition, status_option
from hetuflow.cli.names import AGENT, INSTANCE, JOB, TASK, resolve
from hetuflow.cli.options import Group, Moment, confirm, key_option, talks_to_server, yes_option
from hetuflow.cli.output import follow_output, print_output
from hetuflow.domain.enums import InstanceStatus

F = TypeVar("F", bound=Callable[..., Any])
STATUSES = click.Choice([status.name.lower() for status in InstanceStatus], case_sensitive=False)


@click.group(cls=Group, name="instance")
def instance() -> None:
    """Instances: one try of a task each. INSTANCE is an id or its beginning."""


def instance_argument(command: F) -> F:
    return click.argument("instance_", metavar="INSTANCE")(command)


COLUMNS = [
    render.Column("ID", lambda row: row["id"], is_id=True),
    render.Column("TASK", lambda row: row["task_id"], is_id=True),
    render.Column("TRY", lambda row: row["attempt"], right=True),
    render.Column("STATUS", lambda row: render.status(InstanceStatus, row["status"])),
    render.Column("AGENT", lambda row: row["agent_id"]),
    render.Column("STARTED", lambda row: render.At(row["started_at"]), drop=1),
    render.Column("TOOK", lambda row: render.between(row["started_at"], row["completed_at"]), drop=2),
    render.Column("EXIT", lambda row: row["exit_code"], right=True, drop=3),
    render.Column("REASON", lambda row: row["reason"], drop=4),
]


@instance.command(name="list")
@click.option("--task", "task_", metavar="TASK", help="Only this task's.")
@click.option("--job", "job_", metavar="JOB", help="Only this job's.")
@click.option("--agent", "agent_", metavar="AGENT", help="Only those given to this agent.")
@click.option("--reason", help="Only those that ended so: exit_code, timeout, lost, memory, start_error, …")
@status_option(InstanceStatus, what="instances")
@list_options()
@talks_to_server
def list_(
    client: Client,
    json_: bool,
    task_: str | None,
    job_: str | None,
    agent_: str | None,
    reason: str | None,
    status_: tuple[str, ...],
    **given: Any,
) -> None:
    """List instances, newest first."""
    where: dict[str, Any] = status_condition(status_)
    if task_:
        where["task_id"] = {"$eq": resolve(client, TASK, task_)["id"]}
    if job_:
        where["job_id"] = {"$eq": resolve(client, JOB, job_)["id"]}
    if agent_:
        where["agent_id"] = {"$eq": resolve(client, AGENT, agent_)["id"]}
    if reason:
        where["reason"] = {"$eq": reason}
    show_list(client, "task-instances", Wanted.of(given), where, COLUMNS, json_=json_, empty="no instances yet")


@instance.command(name="show")
@instance_argument
@as_of_option
@talks_to_server
def show(client: Client, instance_: str, as_of_: str | None, json_: bool) -> None:
    """Show one instance with the end of its output."""
    row = resolve(client, INSTANCE, instance_, as_of=as_of_)
    row = client.get(f"/task-instances/item/{row['id']}", as_of=as_of_)
    if json_:
        render.as_json(row)
        return
    render.fields(
        row,
        [
            ("id", lambda r: r["id"]),
            ("task", lambda r: r["task_id"]),
            ("job", lambda r: r["job_id"]),
            ("try", lambda r: r["attempt"]),
            ("status", lambda r: render.status(InstanceStatus, r["status"])),
            ("agent", lambda r: r["agent_id"]),
            ("external", lambda r: r["external"] or None),
            ("started", lambda r: render.At(r["started_at"])),
            ("ended", lambda r: render.At(r["completed_at"])),
            ("took", lambda r: render.between(r["started_at"], r["completed_at"])),
            ("exit status", lambda r: r["exit_code"]),
            ("signal", lambda r: r["signal"]),
            ("reason", lambda r: r["reason"]),
            ("why", lambda r: r["error_message"]),
            ("metrics", lambda r: r["metrics"]),
        ],
    )
    if row["output"]:
        click.echo(f"\noutput{' (its end)' if row['output_truncated'] else ''}:\n{row['output'].rstrip()}")


@instance.command(name="logs")
@instance_argument
@click.option("--stream", type=click.Choice(["stdout", "stderr"]), help="Only this stream; default: both.")
@click.option("-f", "--follow", is_flag=True, help="Go on until it ends, over restarts of the server.")
@talks_to_server
def logs(client: Client, instance_: str, stream: str | None, follow: bool, json_: bool) -> None:
    """Print what an instance wrote. With --json --follow: JSON lines."""
    row = resolve(client, INSTANCE, instance_)
    if follow:
        follow_output(client, row["id"], stream, json_)
    else:
        print_output(client, row["id"], stream, json_)


@instance.command(name="create")
@click.argument("task_", metavar="TASK")
@click.option("--status", type=click.Choice(["pending", "dispatched", "running"]), help="[default: pending]")
@click.option("--agent", help="Who executes it.")
@key_option
@talks_to_server
def create(client: Client, task_: str, status: str | None, agent: str | None, key: str | None, json_: bool) -> None:
    """Record a try of a task that runs outside hetuflow's agents."""
    body = {"task_id": resolve(client, TASK, task_)["id"], "status": status, "agent_id": agent}
    created = client.post(
        "/task-instances/item", {name: value for name, value in body.items() if value is not None}, key=key
    )
    render.as_json(created) if json_ else click.echo(f"created instance {created}")


@instance.command(name="update")
@instance_argument
@click.option("--status", type=STATUSES, help="Forward only.")
@click.option("--started", type=Moment(), help="[default: now, when it starts]")
@click.option("--completed", type=Moment(), help="[default: now, when it ends]")
@click.option("--exit-code", type=int)
@click.option("--error", help="Why it did not succeed.")
@click.option("--output", help="What it wrote.")
@edit_options
@talks_to_server
def update(
    client: Client,
    instance_: str,
    json_: bool,
    set_: tuple[str, ...],
    clear: tuple[str, ...],
    started: str | None,
    completed: str | None,
    error: str | None,
    **given: Any,
) -> None:
    """Report a try that no agent holds: it started, it ended, with what result. Its task follows."""
    row = resolve(client, INSTANCE, instance_)
    changes = {**given, "started_at": started, "completed_at": completed, "error_message": error}
    answer = client.post(f"/task-instances/item/{row['id']}/update", update_body(row, changes, set_, clear))
    render.as_json(answer) if json_ else click.echo(f"updated instance {row['id']}")


@instance.command(name="delete")
@instance_argument
@yes_option
@talks_to_server
def delete(client: Client, instance_: str, yes: bool, json_: bool) -> None:
    """Remove an ended instance from the lists; its output and events stay."""
    row = resolve(client, INSTANCE, instance_)
    confirm(f"delete instance {row['id']} (try {row['attempt']} of task {row['task_id']})?", yes)
    answer = client.delete(f"/task-instances/item/{row['id']}")
    render.as_json(answer) if json_ else click.echo(f"deleted instance {row['id']}")
