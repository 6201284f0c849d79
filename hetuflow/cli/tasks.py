"""`hetuflow task …`: what became of each due moment."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

import click

from hetuflow.cli import render
from hetuflow.cli.client import Client, Refused
from hetuflow.cli.editing import edit_options, update_body
from hetuflow.cli.jobs import job_argument
from hetuflow.cli.listing import (
    Wanted,
    as_of_option,
    label_option,
    labels,
    list_options,
    show_list,
    status_condition,
    status_option,
)
from hetuflow.cli.names import JOB, SCHEDULE, TASK, newest_task, resolve
from hetuflow.cli.options import Group, Moment, NotThere, confirm, key_option, pairs, talks_to_server, yes_option
from hetuflow.cli.output import follow_output, print_output
from hetuflow.cli.parameters import by_type
from hetuflow.cli.runs import after_run, run_body, run_options
from hetuflow.cli.waiting import instances
from hetuflow.domain.enums import InstanceStatus, TaskStatus

F = TypeVar("F", bound=Callable[..., Any])
HISTORY_PAGE = 1000


@click.group(cls=Group, name="task")
def task() -> None:
    """Tasks: one due moment of a job each, with every try of it.

    TASK is an id or its beginning. Where a command only reads, it may be a name: the newest task of that name.
    """


def task_argument(command: F) -> F:
    return click.argument("task_", metavar="TASK")(command)


COLUMNS = [
    render.Column("ID", lambda row: row["id"], is_id=True),
    render.Column("NAME", lambda row: row["name"], cut=True, least=20),
    render.Column("STATUS", lambda row: render.status(TaskStatus, row["status"])),
    render.Column("TRIGGER", lambda row: row["trigger"], drop=3),
    render.Column("SCHEDULED", lambda row: render.At(row["scheduled_at"])),
    render.Column("ENDED", lambda row: render.At(row["completed_at"]), drop=2),
    render.Column("TRY", lambda row: row["attempt"], right=True, drop=1),
]

INSTANCE_COLUMNS = [
    render.Column("TRY", lambda row: row["attempt"], right=True),
    render.Column("INSTANCE", lambda row: row["id"], is_id=True),
    render.Column("STATUS", lambda row: render.status(InstanceStatus, row["status"])),
    render.Column("AGENT", lambda row: row["agent_id"]),
    render.Column("STARTED", lambda row: render.At(row["started_at"]), drop=2),
    render.Column("TOOK", lambda row: render.between(row["started_at"], row["completed_at"]), drop=1),
    render.Column("EXIT", lambda row: row["exit_code"], right=True),
    render.Column("WHY", lambda row: row["error_message"], wrap=True),
]


@task.command(name="list")
@click.option("--job", "job_", metavar="JOB", help="Only this job's.")
@click.option("--schedule", "schedule_", metavar="SCHEDULE", help="Only this schedule's.")
@status_option(TaskStatus, what="tasks")
@click.option(
    "--trigger", type=click.Choice(["schedule", "execute", "run", "api", "event", "daemon"]), help="Only so made."
)
@click.option("--name", help="Only tasks whose name contains this.")
@label_option("tasks that need this agent label")
@list_options()
@talks_to_server
def list_(
    client: Client,
    json_: bool,
    job_: str | None,
    schedule_: str | None,
    status_: tuple[str, ...],
    trigger: str | None,
    name: str | None,
    label: tuple[str, ...],
    **given: Any,
) -> None:
    """List tasks, newest first.

    \b
    Examples:
      hetuflow task list --since 22:00 --status failed --status cancelled
      hetuflow task list --job nightly-backup --sort -completed_at -n 5
      hetuflow task list --status running --as-of 02:30
    """
    where: dict[str, Any] = status_condition(status_)
    if job_:
        where["job_id"] = {"$eq": resolve(client, JOB, job_)["id"]}
    if schedule_:
        where["schedule_id"] = {"$eq": resolve(client, SCHEDULE, schedule_)["id"]}
    if trigger:
        where["trigger"] = {"$eq": trigger}
    if name:
        where["name"] = {"$containsCi": name}
    if label:
        where["task_config"] = {"$contains": {"labels": labels(label)}}
    show_list(
        client,
        "tasks",
        Wanted.of(given),
        where,
        COLUMNS,
        json_=json_,
        empty="no tasks; run a job with `hetuflow job run JOB`",
    )


def _event(row: render.Row) -> str | None:
    """What triggered it, where an event did."""
    event = row.get("event")
    return None if event is None else f"{event['type']}, at position {event['position']}"


@task.command(name="show")
@task_argument
@as_of_option
@talks_to_server
def show(client: Client, task_: str, as_of_: str | None, json_: bool) -> None:
    """Show one task with every try of it."""
    row = newest_task(client, task_, as_of=as_of_)
    tries = instances(client, row["id"], as_of_)
    if json_:
        render.as_json({**row, "instances": tries})
        return
    config = row["config"]
    render.fields(
        row,
        [
            ("id", lambda r: r["id"]),
            ("name", lambda r: r["name"]),
            ("description", lambda r: r["description"]),
            ("job", lambda r: r["job_id"]),
            ("status", lambda r: render.status(TaskStatus, r["status"])),
            ("trigger", lambda r: r["trigger"]),
            ("event", _event),
            ("schedule", lambda r: r["schedule_id"]),
            ("command", lambda _: render.command_line(config)),
            ("labels", lambda _: config["labels"]),
            ("parameters", lambda r: r["parameters"]),
            ("environment", lambda r: r["environment"]),
            ("priority", lambda r: r["priority"]),
            ("waits for", lambda r: ", ".join((r["dependencies"] or {}).get("task_ids", []))),
            ("scheduled", lambda r: render.At(r["scheduled_at"])),
            ("next retry", lambda r: render.At(r["next_retry_at"])),
            ("cancel asked", lambda r: render.At(r["cancel_requested_at"])),
            ("ended", lambda r: render.At(r["completed_at"])),
            ("retries", lambda r: f"{r['retry_count']} of {r['max_retries']}"),
        ],
    )
    click.echo()
    render.table(tries, INSTANCE_COLUMNS, empty="no tries yet")


@task.command(name="create")
@job_argument
@run_options
@click.option("--schedule", "schedule_", metavar="SCHEDULE", help="Make it a task of this schedule.")
@click.option("--at", type=Moment(ahead=True), help="Not before: 2027-01-31 08:00, or RFC 3339.")
@click.option("--after", "after_", multiple=True, metavar="TASK", help="Not before this task has ended; repeatable.")
@click.option("--after-failure", type=click.Choice(["cancel", "run"]), help="When such a task did not succeed.")
@talks_to_server
def create(
    client: Client,
    job_: str,
    json_: bool,
    schedule_: str | None,
    at: str | None,
    after_: tuple[str, ...],
    after_failure: str | None,
    **given: Any,
) -> None:
    """Create a task of a job: now, later, or after other tasks.

    \b
    Example:
      hetuflow task create report --at '2027-01-31 08:00' -p day=2027-01-31
    """
    of = resolve(client, JOB, job_)
    body = by_type({"job_id": of["id"], **run_body(given)}, of["config"])
    if schedule_:
        body["schedule_id"] = resolve(client, SCHEDULE, schedule_)["id"]
    if at:
        body["scheduled_at"] = at
    if after_:
        body["dependencies"] = {"task_ids": [resolve(client, TASK, one)["id"] for one in after_]}
        if after_failure:
            body["dependencies"]["on_failure"] = after_failure
    created = client.post("/tasks/create", body, key=given["key"])
    after_run(client, created["id"], given, json_)


@task.command(name="batch")
@click.argument("file", type=click.Path(allow_dash=True, dir_okay=False))
@key_option
@talks_to_server
def batch(client: Client, file: str, key: str | None, json_: bool) -> None:
    """Create up to 1000 tasks in one commit: all or none. FILE is YAML, JSON or TOML with `tasks`, or JSON lines; - is stdin.

    Each task has the API's members; `job` (a name) stands for `job_id`, `schedule` for `schedule_id`.

    \b
    Example:
      seq 1 100 | sed 's/.*/{"job": "resize", "parameters": {"n": &}}/' | hetuflow task batch -
    """
    from hetuflow.cli.documents import read_tasks

    wanted = read_tasks(file)
    known: dict[tuple[str, str], str] = {}
    for one in wanted:
        for short, member, kind in (("job", "job_id", JOB), ("schedule", "schedule_id", SCHEDULE)):
            if short in one:
                name = str(one.pop(short))
                if (short, name) not in known:
                    known[short, name] = resolve(client, kind, name)["id"]
                one.setdefault(member, known[short, name])
    answer = client.post("/tasks/batch", {"tasks": wanted}, key=key)
    if json_:
        render.as_json(answer)
        return
    for one in answer["result"]:
        click.echo(one["id"])
    click.echo(f"created {len(answer['result'])} tasks", err=True)


@task.command(name="update")
@task_argument
@click.option("--name")
@click.option("--description")
@click.option("--priority", type=int, help="Larger runs first.")
@click.option("--at", type=Moment(ahead=True), help="Not before this.")
@click.option("-p", "--param", multiple=True, metavar="NAME=VALUE", help="Replaces all parameters.")
@edit_options
@talks_to_server
def update(
    client: Client,
    task_: str,
    json_: bool,
    set_: tuple[str, ...],
    clear: tuple[str, ...],
    at: str | None,
    param: tuple[str, ...],
    **given: Any,
) -> None:
    """Change a task that has not started; name and description always. Refused when somebody else changed it meanwhile."""
    row = resolve(client, TASK, task_)
    changes = {**given, "scheduled_at": at, "parameters": pairs(param, "--param") or None}
    body = by_type(update_body(row, changes, set_, clear), row["config"])
    if any(isinstance(row.get(name), dict) and name in body for name in ("config", "environment", "dependencies")):
        body.setdefault("lock_version", row["lock_version"])  # what is replaced as a whole was read before
        if "update_mask" in body:
            body["update_mask"] = sorted({*body["update_mask"], "lock_version"})
    answer = client.post(f"/tasks/{row['id']}/update", body)
    render.as_json(answer) if json_ else click.echo(f"updated task {row['id']}")


def each(
    client: Client,
    texts: Sequence[str],
    json_: bool,
    act: Callable[[Mapping[str, Any]], str],
    answer: Callable[[str], Any] | None = None,
) -> None:
    """Do something with each task, going on after one that is refused; the worst exit status is the command's.

    `answer`: what there is to say as JSON of one, by its id, with which it was done; None = nothing of any.
    """
    failures: list[click.ClickException] = []
    done: list[Any] = []
    for text in texts:
        try:
            row = resolve(client, TASK, text)
            line = act(row)
            if answer is not None:
                done.append(answer(row["id"]))
            if not json_:
                click.echo(line)
        except (Refused, NotThere) as exc:
            if len(texts) == 1:
                raise
            exc.show()
            failures.append(exc)
    if json_:
        render.as_json(None if answer is None else done)
    if failures:
        raise click.exceptions.Exit(failures[0].exit_code)


def tasks_argument(command: F) -> F:
    return click.argument("tasks_", metavar="TASK...", nargs=-1, required=True)(command)


@task.command(name="cancel")
@tasks_argument
@click.option("--reason", help="Kept in the event.")
@talks_to_server
def cancel(client: Client, tasks_: tuple[str, ...], reason: str | None, json_: bool) -> None:
    """Cancel tasks; a running one has its whole process tree ended."""

    def act(row: Mapping[str, Any]) -> str:
        client.post(f"/tasks/{row['id']}/cancel", {"reason": reason} if reason else None)
        return f"cancel of task {row['id']} accepted"

    each(client, tasks_, json_, act)


@task.command(name="retry")
@tasks_argument
@talks_to_server
def retry(client: Client, tasks_: tuple[str, ...], json_: bool) -> None:
    """Run failed or cancelled tasks again, or a waiting retry now."""

    def act(row: Mapping[str, Any]) -> str:
        client.post(f"/tasks/{row['id']}/retry")
        return f"task {row['id']} runs again"

    each(client, tasks_, json_, act)


@task.command(name="delete")
@tasks_argument
@click.option("--cascade", is_flag=True, help="Cancel it first when it has not ended, instead of refusing.")
@yes_option
@talks_to_server
def delete(client: Client, tasks_: tuple[str, ...], cascade: bool, yes: bool, json_: bool) -> None:
    """Remove tasks from the lists; history, explanation and output stay readable."""
    confirm(f"delete {len(tasks_)} task(s)?", yes)

    def act(row: Mapping[str, Any]) -> str:
        client.delete(f"/tasks/{row['id']}", cascade="cancel" if cascade else None)
        return f"deleted task {row['id']}"

    each(client, tasks_, json_, act, render.deletion)


@task.command(name="history")
@task_argument
@talks_to_server
def history(client: Client, task_: str, json_: bool) -> None:
    """Print everything that happened to a task, its tries included."""
    from hetuflow.cli.events import echo

    row = newest_task(client, task_)
    found: list[Mapping[str, Any]] = []
    while True:
        after = found[-1]["version"] if found else None
        page = client.get(f"/tasks/{row['id']}/history", after=after, limit=HISTORY_PAGE)
        found += page["result"]
        if not page["page"]["has_more"]:
            break
    if json_:
        render.as_json(found)
    else:
        echo(found, json_=False)


@task.command(name="explain")
@task_argument
@as_of_option
@talks_to_server
def explain(client: Client, task_: str, as_of_: str | None, json_: bool) -> None:
    """Say why a task exists, what it waits for, where it can run, and why it ended as it did."""
    from hetuflow.cli.explaining import show_explanation

    show_explanation(client, newest_task(client, task_, as_of=as_of_), as_of_, json_)


@task.command(name="logs")
@task_argument
@click.option("--try", "attempt", type=click.IntRange(1), help="Of this try; default: the newest.")
@click.option(
    "--stream", type=click.Choice(["stdout", "stderr"]), help="Only this stream; default: both, as they came."
)
@click.option("-f", "--follow", is_flag=True, help="Go on until the try ends, over restarts of the server.")
@talks_to_server
def logs(client: Client, task_: str, attempt: int | None, stream: str | None, follow: bool, json_: bool) -> None:
    """Print what a task wrote. With --json --follow: JSON lines."""
    row = newest_task(client, task_)
    tries = instances(client, row["id"])
    chosen = [one for one in tries if attempt is None or one["attempt"] == attempt]
    if not chosen:
        raise NotThere(f"task {row['id']} has no try {attempt}; it has {len(tries)}")
    if follow:
        follow_output(client, chosen[-1]["id"], stream, json_)
    else:
        print_output(client, chosen[-1]["id"], stream, json_)
