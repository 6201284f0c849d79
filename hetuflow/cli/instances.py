"""`hetuflow instance …`: one try of a task each."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import quote

import click

from hetuflow.cli import render, usage
from hetuflow.cli.client import Client
from hetuflow.cli.downloading import copy, place_of
from hetuflow.cli.downloading import download as download_file
from hetuflow.cli.editing import edit_options, update_body
from hetuflow.cli.listing import Wanted, as_of_option, list_options, show_list, status_condition, status_option
from hetuflow.cli.names import AGENT, INSTANCE, JOB, TASK, resolve
from hetuflow.cli.options import Group, Moment, NotThere, confirm, key_option, limit_option, talks_to_server, yes_option
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
    used = {"latest": None, "result": []} if as_of_ else client.get(f"/task-instances/item/{row['id']}/metrics")
    if json_:
        render.as_json({**row, "usage": used})
        return
    points = used["result"]
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
            ("uses", lambda _: usage.now(used["latest"]) if used["latest"] else None),
            ("CPU", lambda _: usage.course(points, "cpu", usage.cores)),
            ("memory", lambda _: usage.course(points, "memory", usage.size)),
            ("used", lambda r: _used(r["metrics"])),
        ],
    )
    if row["output"]:
        click.echo(f"\noutput{' (its end)' if row['output_truncated'] else ''}:\n{row['output'].rstrip()}")


def _used(metrics: render.Row | None) -> str | None:
    """What it had used when it ended."""
    if not metrics:
        return None
    parts = [
        f"{usage.seconds(metrics['cpu_time'])} of CPU",
        f"memory at most {usage.size(metrics['memory_peak'])}" if metrics["memory_peak"] else None,
        f"read {usage.size(metrics['disk_read'])}" if metrics["disk_read"] else None,
        f"wrote {usage.size(metrics['disk_write'])}" if metrics["disk_write"] else None,
    ]
    return ", ".join(part for part in parts if part)


TOP_COLUMNS = [
    render.Column("INSTANCE", lambda row: row["instance_id"], is_id=True),
    render.Column("NAME", lambda row: row["name"], cut=True),
    render.Column("AGENT", lambda row: row["agent_id"], cut=True, drop=2),
    render.Column("FOR", lambda row: usage.seconds(row["usage"]["elapsed"]), right=True),
    render.Column("CPU", lambda row: usage.cores(row["usage"]["cpu"]), right=True),
    render.Column("MEMORY", lambda row: usage.size(row["usage"]["memory"]), right=True),
    render.Column("PEAK", lambda row: usage.size(row["usage"]["memory_peak"]), right=True, drop=3),
    render.Column("PROCESSES", lambda row: row["usage"]["processes"], right=True, drop=4),
    render.Column("READ", lambda row: usage.size(row["usage"]["disk_read"]), right=True, drop=6),
    render.Column("WRITTEN", lambda row: usage.size(row["usage"]["disk_write"]), right=True, drop=5),
]


@instance.command(name="top")
@click.option("--agent", "agent_", metavar="AGENT", help="Only those of this agent.")
@limit_option(20)
@talks_to_server
def top(client: Client, agent_: str | None, limit: int, json_: bool) -> None:
    """Show what runs now and what it uses, the most CPU first, as agents told with their last heartbeat.

    \b
    Examples:
      hetuflow instance top
      hetuflow instance top --agent agent-01 -n 5
    """
    agent_id = resolve(client, AGENT, agent_)["id"] if agent_ else None
    found = client.get("/task-instances/usage", limit=1000)["result"]
    rows = [row for row in found if agent_id in (None, row["agent_id"])][:limit]
    names = _names(client, [row["instance_id"] for row in rows])
    rows = [{**row, "name": names.get(row["instance_id"])} for row in rows]
    if json_:
        render.as_json(rows)
    else:
        render.table(rows, TOP_COLUMNS, empty="nothing runs that has been measured yet")


def _names(client: Client, instance_ids: list[str]) -> dict[str, str]:
    """What the tasks of these instances are called."""
    if not instance_ids:
        return {}
    found = client.rows("task-instances", where={"id": {"$in": instance_ids}}, limit=len(instance_ids))
    tasks = {row["task_id"] for row in found}
    named = client.rows("tasks", where={"id": {"$in": sorted(tasks)}}, limit=len(tasks))
    names = {row["id"]: row["name"] for row in named}
    return {row["id"]: names.get(row["task_id"], "") for row in found}


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


ARTIFACT_COLUMNS = [
    render.Column("PATH", lambda row: row["path"], wrap=True),
    render.Column("SIZE", lambda row: render.size(row["bytes"]), right=True),
    render.Column("STATE", lambda row: _state_of(row), wrap=True),
    render.Column("SHA256", lambda row: row["sha256"], drop=1),
]


def _state_of(row: Any) -> str:
    if row["problem"]:
        return str(row["problem"])
    return "here" if row["complete"] else f"coming, {render.size(row['stored'])} are here"


@instance.command(name="artifacts")
@instance_argument
@talks_to_server
def artifacts(client: Client, instance_: str, json_: bool) -> None:
    """List the files that an instance left behind, and those that it should have."""
    row = resolve(client, INSTANCE, instance_)
    listed = client.get(f"/task-instances/item/{row['id']}/artifacts")
    if json_:
        render.as_json(listed)
    else:
        render.table(listed["result"], ARTIFACT_COLUMNS, empty="it left no files")


@instance.command(name="download")
@instance_argument
@click.argument("paths", nargs=-1, metavar="[PATH]...")
@click.option(
    "-o", "--output", metavar="DIRECTORY", default=".", help="Where they go [default: here]; - = standard output."
)
@talks_to_server
def download(client: Client, instance_: str, paths: tuple[str, ...], output: str, json_: bool) -> None:
    """Download the files that an instance left behind: all of them, or those named.

    \b
    Examples:
      hetuflow instance download 0198f0de -o results
      hetuflow instance download 0198f0de report.csv -o - | head
    """
    row = resolve(client, INSTANCE, instance_)
    base = f"/task-instances/item/{row['id']}/artifacts"
    found = {each["path"]: each for each in client.get(base)["result"] if not each["problem"]}
    missing = [path for path in paths if path not in found]
    if missing:
        raise NotThere(f"instance {row['id']} has no file {missing[0]!r}; see `hetuflow instance artifacts`")
    for each in [found[path] for path in paths] if paths else found.values():
        where = f"{base}/{quote(each['path'])}"
        if output == "-":
            copy(client, where, sys.stdout.buffer, each["bytes"], each["sha256"], each["path"])
            continue
        target = place_of(Path(output), each["path"])
        download_file(client, where, target, each["bytes"], each["sha256"])
        if not json_:
            click.echo(f"{target} ({render.size(each['bytes'])})", err=True)
    if json_:
        render.as_json([found[path] for path in paths] if paths else list(found.values()))


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
    client.delete(f"/task-instances/item/{row['id']}")
    render.deleted(row["id"], f"deleted instance {row['id']}", json_=json_)
