"""`hetuflow apply`: make jobs and schedules as files say."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from typing import Any

import click

from hetuflow.cli import exits, plan, render
from hetuflow.cli.calendar_plan import plan_calendars
from hetuflow.cli.client import Client, Refused
from hetuflow.cli.documents import FileError, read_documents
from hetuflow.cli.manifest import MARKER, Reader, WantedJob
from hetuflow.cli.names import JOB, Ambiguous, resolve
from hetuflow.cli.options import NotThere, confirm, talks_to_server, yes_option
from hetuflow.cli.plan import CREATE, DELETE, SAME, UPDATE, Change, JobPlan, Plan, make_plan
from hetuflow.cli.upstream import labels_of, sent

NAMES_PER_QUERY = 1000
SIGNS = {CREATE: ("+", "green"), UPDATE: ("~", "yellow"), DELETE: ("-", "red")}
VALUE_LENGTH_MAX = 60
DONE = {CREATE: "created", UPDATE: "changed", DELETE: "deleted"}


@click.command(name="apply")
@click.option(
    "-f",
    "--file",
    "files",
    multiple=True,
    required=True,
    metavar="FILE",
    type=click.Path(allow_dash=True, exists=True),
    help="YAML, TOML or JSON; a directory of them; - is stdin. May be repeated.",
)
@click.option("--dry-run", is_flag=True, help="Show what would be done, and do nothing.")
@click.option("--check", is_flag=True, help="As --dry-run; exit status 1 when there is something to do.")
@click.option("--prune", is_flag=True, help="Delete jobs and schedules that apply made and the files no longer have.")
@click.option(
    "--cascade", is_flag=True, help="With --prune: cancel open tasks of a job first, instead of being refused."
)
@click.option("--owner", default="default", show_default=True, help="Whose jobs these are; prune sees only those.")
@click.option("--adopt", is_flag=True, help="Take what is as wanted, but was made by hand, into ownership.")
@click.option("--take-over", is_flag=True, help="Take jobs of another owner into ownership.")
@yes_option
@talks_to_server
def apply(
    client: Client, json_: bool, files: tuple[str, ...], dry_run: bool, check: bool, yes: bool, **given: Any
) -> None:
    """Make jobs, schedules and calendars as files say. Repeating it does nothing.

    A file is complete: members that it does not have get their defaults. A job is known by namespace and name, a
    schedule by its name within the job, a calendar by its id; calendars are never pruned. See docs/guide/apply.md for the format.

    \b
    Examples:
      hetuflow apply -f jobs/ --dry-run
      hetuflow apply -f jobs/ --prune
      hetuflow export jobs --as-of 22:00 | hetuflow apply -f -      # as it was last night
    """
    wanted = _read(client, files)
    found = _plan(client, wanted.jobs, **given)
    names = [one.members["id"] for one in wanted.calendars]
    found.calendars = plan_calendars(wanted.calendars, list(_in_parts(client, "calendars", "id", names)))
    if dry_run or check:
        _show(found, json_, will=True)
        raise click.exceptions.Exit(exits.FAILED if check and not found.is_same else exits.OK)
    if found.deletions:
        if not yes:
            _show(found, json_=False, will=True, err=True)
        confirm(f"delete {_counted(found, DELETE)}?", yes)
    failures = _perform(client, found, given["cascade"])
    _show(found, json_, will=False)
    for failure in failures:
        failure.show()
    if failures:
        raise click.exceptions.Exit(failures[0].exit_code)


def _read(client: Client, files: Sequence[str]) -> Reader:
    documents = read_documents(files)
    reader = Reader(str(client.get("/system/info")["timezone"]))
    reader.read(documents)
    if reader.problems:
        raise FileError("\n       ".join(reader.problems))
    return reader


def _plan(
    client: Client, wanted: list[WantedJob], *, owner: str, prune: bool, adopt: bool, take_over: bool, cascade: bool
) -> Plan:
    jobs = {row["id"]: row for row in _stored_jobs(client, wanted, owner if prune else None)}
    schedules = _in_parts(client, "schedules", "job_id", list(jobs))
    found = make_plan(
        wanted,
        list(jobs.values()),
        list(schedules),
        owner=owner,
        prune=prune,
        adopt=adopt,
        take_over=take_over,
        label_of=_labels(client, list(jobs.values())),
    )
    if found.problems:
        raise Refusal("\n       ".join(found.problems))
    return found


def _labels(client: Client, jobs: Sequence[plan.Row]) -> Mapping[str, str]:
    """Of the jobs that these follow as it is stored."""
    known = {row["id"]: row for row in jobs}
    followed = {each["job_id"] for row in jobs for each in (row["upstream"] or {}).get("jobs") or ()}
    others = list(_in_parts(client, "jobs", "id", sorted(followed - known.keys())))
    return labels_of([*known.values(), *others])


class Refusal(click.ClickException):
    """The files and what is stored do not go together."""

    exit_code = exits.REFUSED


class Placed(click.ClickException):
    """What the server refused, with its place in the files."""

    def __init__(self, message: str, status: int) -> None:
        super().__init__(message)
        setattr(self, "exit_code", status)  # noqa: B010 - click has it as a variable of the class


def _stored_jobs(client: Client, wanted: Sequence[WantedJob], owner: str | None) -> Iterator[plan.Row]:
    yield from _in_parts(client, "jobs", "name", list({job.members["name"] for job in wanted}))
    yield from _in_parts(client, "jobs", "id", [job.members["id"] for job in wanted if "id" in job.members])
    if owner is not None:
        yield from client.rows("jobs", where={"config": {"$contains": {MARKER: {"apply": owner}}}}, limit=1_000_000)


def _in_parts(client: Client, collection: str, member: str, values: Sequence[str]) -> Iterator[plan.Row]:
    rest = iter(values)
    while part := list(islice(rest, NAMES_PER_QUERY)):
        yield from client.rows(collection, where={member: {"$in": part}}, limit=1_000_000)


# --- doing it --------------------------------------------------------------------------------------------------------


def _perform(client: Client, found: Plan, cascade: bool) -> list[click.ClickException]:
    """Do all that can be done; what the server refuses is returned, with its place in the files."""
    failures = _perform_calendars(client, found)
    made: dict[str, str] = {}
    for one in found.jobs:
        try:
            job_id = made[one.job.label] = _perform_job(client, one.job, cascade, made)
        except (Refused, NotThere, Ambiguous) as exc:
            failures.append(_placed(exc, one.job))
            one.schedules = [change for change in one.schedules if change.action == SAME]
            one.job = Change(action=SAME, kind="job", label=one.job.label)
            continue
        done: list[Change] = []
        for change in one.schedules:
            try:
                _perform_schedule(client, change, job_id)
                done.append(change)
            except Refused as exc:
                failures.append(_placed(exc, change))
        one.schedules = done
    return failures


def _perform_calendars(client: Client, found: Plan) -> list[click.ClickException]:
    failures: list[click.ClickException] = []
    done: list[Change] = []
    for change in found.calendars:
        try:
            if change.action == CREATE:
                client.post("/calendars/item", change.body)
            elif change.action == UPDATE:
                client.put(f"/calendars/item/{change.id}", change.body)
            done.append(change)
        except Refused as exc:
            failures.append(_placed(exc, change))
    found.calendars = done
    return failures


def _perform_job(client: Client, change: Change, cascade: bool, made: Mapping[str, str]) -> str:
    """`made`: the ids of the jobs of the files that are there by now, by their labels."""

    def id_of(label: str) -> str:
        return made[label] if label in made else str(resolve(client, JOB, label, exactly=True)["id"])

    body = dict(change.body)
    if body.get("upstream") is not None:
        body["upstream"] = sent(body["upstream"], id_of)
    if change.action == CREATE:
        return str(client.post("/jobs/item", body)["id"])
    assert change.id is not None
    if change.action == UPDATE:
        client.put(f"/jobs/item/{change.id}", body)
    elif change.action == DELETE:
        client.delete(f"/jobs/item/{change.id}", cascade="cancel" if cascade else None)
    return change.id


def _perform_schedule(client: Client, change: Change, job_id: str) -> None:
    if change.action == CREATE:
        client.post("/schedules/item", {**change.body, "job_id": job_id})
    elif change.action == UPDATE:
        client.put(f"/schedules/item/{change.id}", change.body)
    elif change.action == DELETE:
        client.delete(f"/schedules/item/{change.id}")


def _placed(exc: Refused | NotThere | Ambiguous, change: Change) -> click.ClickException:
    """The server's refusal, with the file, the line and the member it is about."""
    if change.entry is not None and isinstance(exc, Refused) and exc.problems:
        lines = [f"{change.entry.place_of(str(p['path']))}: {p['message']}" for p in exc.problems]
    else:
        place = change.entry.place if change.entry is not None else f"{change.kind} {change.label}"
        lines = [f"{place}: {exc.format_message()}"]
    return Placed("\n       ".join(lines), exc.exit_code)


# --- showing it ------------------------------------------------------------------------------------------------------


def _show(found: Plan, json_: bool, *, will: bool, err: bool = False) -> None:
    if json_:
        render.as_json(
            {"changes": [_as_json(c) for c in found.changes() if c.action != SAME], "summary": _summary(found)}
        )
        return
    out = render.console(stderr=err)
    for change in found.calendars:
        if change.action != SAME:
            for line, style in _change_lines(change, "", in_full=will):
                out.print(line, style=style if out.is_terminal else "", markup=False, soft_wrap=True)
    for one in found.jobs:
        if not one.is_same:
            for line, style in _lines(one, in_full=will):
                out.print(line, style=style if out.is_terminal else "", markup=False, soft_wrap=True)
    words = [
        f"{_counted(found, action)} {'to be ' if will else ''}{DONE[action]}" for action in (CREATE, UPDATE, DELETE)
    ]
    words = [text for text in words if not text.startswith("0 ")]
    same = found.count("job", SAME)
    click.echo(
        ", ".join(words) + (f"; {same} as wanted" if same else "") if words else "nothing to do: all as wanted", err=err
    )


def _counted(found: Plan, action: str) -> str:
    counts = [(found.count(kind, action), kind) for kind in found.kinds]
    return " and ".join(f"{n} {kind}{'' if n == 1 else 's'}" for n, kind in counts if n) or "0"


def _lines(one: JobPlan, *, in_full: bool) -> Iterator[tuple[str, str]]:
    yield from _change_lines(one.job, "", in_full=in_full)
    for change in one.schedules:
        if change.action != SAME:
            yield from _change_lines(change, "    ", in_full=in_full)


def _change_lines(change: Change, indent: str, *, in_full: bool) -> Iterator[tuple[str, str]]:
    sign, style = SIGNS.get(change.action, (" ", ""))
    yield f"{indent}{sign} {change.kind} {change.label}", style
    if not in_full and change.action != UPDATE:
        return
    for difference in change.differences:
        if change.action == CREATE:
            yield f"{indent}    {difference.path}: {_value(difference.new)}", style
        else:
            yield f"{indent}    {difference.path}: {_value(difference.old)} -> {_value(difference.new)}", style


def _value(value: Any) -> str:
    if value is None:
        return "(none)"
    shown = (
        value if isinstance(value, str) and value.strip() == value and value else json.dumps(value, ensure_ascii=False)
    )
    shown = shown.replace("\n", "\\n")
    return shown if len(shown) <= VALUE_LENGTH_MAX else shown[: VALUE_LENGTH_MAX - 1] + "…"


def _as_json(change: Change) -> dict[str, Any]:
    return {
        "action": change.action,
        "kind": change.kind,
        "name": change.label,
        "id": change.id,
        "members": [{"path": d.path, "old": d.old, "new": d.new} for d in change.differences],
    }


def _summary(found: Plan) -> dict[str, dict[str, int]]:
    return {kind: {a: found.count(kind, a) for a in (CREATE, UPDATE, DELETE, SAME)} for kind in found.kinds}
