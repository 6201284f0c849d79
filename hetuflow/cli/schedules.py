"""`hetuflow schedule …`: when to run."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import UTC
from typing import Any, TypeVar

import click

from hetuflow.cli import daemons, render
from hetuflow.cli.backfills import backfill, cancel_backfill, list_backfills
from hetuflow.cli.client import Client
from hetuflow.cli.completion import complete_calendars
from hetuflow.cli.daemons import daemon_changes, daemon_options, option_names
from hetuflow.cli.editing import assign, assignments, edit_options, update_body
from hetuflow.cli.jobs import job_argument
from hetuflow.cli.listing import Wanted, as_of_option, list_options, show_list, status_condition, status_option
from hetuflow.cli.names import JOB, SCHEDULE, resolve
from hetuflow.cli.options import (
    Group,
    Json,
    Moment,
    Seconds,
    confirm,
    is_utc,
    key_option,
    note_option,
    pairs,
    talks_to_server,
    yes_option,
)
from hetuflow.cli.parameters import by_type
from hetuflow.cli.previews import note_of, preview
from hetuflow.cli.runs import after_run, run_body, run_options
from hetuflow.cli.schedule_explaining import explain_schedule
from hetuflow.domain.enums import IntervalMode, MisfirePolicy, OverlapPolicy, ScheduleKind, ScheduleStatus

F = TypeVar("F", bound=Callable[..., Any])


@click.group(cls=Group, name="schedule")
def schedule() -> None:
    """Schedules: when a job runs.

    SCHEDULE is a name, an id, or the beginning of one.
    """


def schedule_argument(command: F) -> F:
    from hetuflow.cli.completion import complete_schedules

    return click.argument("schedule_", metavar="SCHEDULE", shell_complete=complete_schedules)(command)


def rule_options(command: F) -> F:
    """The members of a schedule, for `add` and `update`."""
    for option in reversed(
        [
            click.option("--every", type=Seconds(1), metavar="INTERVAL", help="A fixed rate: 30s, 5m, 1h, 1d."),
            click.option(
                "--delay", type=Seconds(1), metavar="INTERVAL", help="So long after the end of the task before."
            ),
            click.option("--cron", metavar="EXPRESSION", help="Five fields (crontab) or six to seven (seconds first)."),
            click.option("--once", "--at", "once", type=Moment(ahead=True), help="One run, at that moment."),
            click.option("--daemon", is_flag=True, help="Keep it running always: one instance, or --instances."),
            click.option(
                "--on-event",
                "--event",
                "event",
                metavar="TYPE",
                help="One task per event of this type: a name, or file.*",
            ),
            click.option("--event-filter", "--filter", type=Json(), help="Only events whose data are like that."),
            click.option(
                "--where", multiple=True, metavar="PATH=GLOB", help="The same for one member: path=/data/*.csv."
            ),
            click.option(
                "--debounce", type=Seconds(), help="One task for the events of a burst, after so long a quiet."
            ),
            click.option("--timezone", metavar="ZONE", help="IANA name, e.g. Europe/Berlin."),
            click.option("--name", help="A name for people, and for these commands."),
            click.option("--description", help="A sentence for people."),
            click.option("--start", type=Moment(ahead=True), help="First moment: +2h, tomorrow 08:00, RFC 3339."),
            click.option("--end", type=Moment(ahead=True), help="Last moment."),
            click.option("--max-count", type=click.IntRange(1), help="Expire after so many runs."),
            click.option("--priority", type=int, help="Of its tasks; larger runs first."),
            click.option("--misfire", type=click.Choice([str(p) for p in MisfirePolicy]), help="Runs found too late."),
            click.option("--grace", type=Seconds(), help="How late is still on time [default: 60 s]."),
            click.option("--max-age", type=Seconds(1), help="Runs found later than this never happen."),
            click.option(
                "--overlap",
                type=click.Choice([str(p) for p in OverlapPolicy]),
                help="When the previous task has not ended.",
            ),
            click.option("--jitter", type=Seconds(), help="Spread the runs over so long."),
            click.option(
                "--pause-on-failures",
                type=click.IntRange(1),
                metavar="N",
                help="Disable it after N failed tasks in a row.",
            ),
            click.option(
                "--flow/--no-flow",
                default=None,
                help="Run the job and every job that follows it. Alone: only when asked (`schedule run`).",
            ),
            click.option(
                "--exclude-calendar",
                multiple=True,
                shell_complete=complete_calendars,
                metavar="CALENDAR",
                help="No run at what this calendar excludes; may be repeated, replaces all.",
            ),
            click.option(
                "-p",
                "--param",
                multiple=True,
                metavar="NAME=VALUE",
                help="Reaches the program as HETUFLOW_PARAM_<NAME>.",
            ),
            daemon_options,
        ]
    ):
        command = option(command)
    return command


def rule_changes(given: dict[str, Any]) -> dict[str, Any]:
    """Members of a schedule from the options that were given; at most one kind."""
    chosen = [name for name in ("every", "delay", "cron", "once", "daemon", "event") if given[name]]
    if len(chosen) > 1:
        raise click.UsageError(f"give only one of --{' and --'.join(chosen)}")
    if given["where"]:
        given["event_filter"] = {**(given["event_filter"] or {}), **pairs(given["where"], "--where")}
    if chosen and chosen != ["daemon"] and (names := option_names(given)):
        raise click.UsageError(f"{names[0]} is only for --daemon")
    changes = {
        **daemon_changes(given),
        "interval_secs": given["every"] or given["delay"],
        "interval_mode": _mode(given),
        "cron_expression": given["cron"],
        "start_time": given["once"] or given["start"],
        "max_count": 1 if given["once"] else given["max_count"],
        "event_type": given["event"],
        "event_filter": given["event_filter"],
        "debounce_seconds": given["debounce"],
        "end_time": given["end"],
        "misfire_policy": given["misfire"],
        "misfire_grace_seconds": given["grace"],
        "max_age_seconds": given["max_age"],
        "overlap_policy": given["overlap"],
        "jitter_seconds": given["jitter"],
        "pause_on_failures": given["pause_on_failures"],
        "run_flow": given["flow"],
        "exclude_calendars": list(given["exclude_calendar"]) or None,
        "parameters": pairs(given["param"], "--param") or None,
        **{name: given[name] for name in ("timezone", "name", "description", "priority")},
    }
    if chosen:
        changes["kind"] = {"every": "interval", "delay": "interval"}.get(chosen[0], chosen[0])
    return {name: value for name, value in changes.items() if value is not None}


def _mode(given: dict[str, Any]) -> str | None:
    """Every kind but a delay is at fixed rate, whatever it was before; None where no kind is given."""
    if given["delay"]:
        return str(IntervalMode.FIXED_DELAY)
    return str(IntervalMode.FIXED_RATE) if given["every"] or given["cron"] or given["once"] else None


@schedule.command(name="add")
@job_argument
@rule_options
@click.option("--disabled", is_flag=True, help="Do not start it yet.")
@click.option("--set", "set_", multiple=True, metavar="MEMBER=VALUE", help="Any other member by its API name.")
@key_option
@talks_to_server
def add(
    client: Client, job_: str, json_: bool, disabled: bool, set_: tuple[str, ...], key: str | None, **given: Any
) -> None:
    """Add a schedule to a job.

    \b
    Examples:
      hetuflow schedule add nightly-backup --name nightly --cron '0 30 2 * * ?' --timezone Europe/Berlin
      hetuflow schedule add probe --every 30s
      hetuflow schedule add sync --delay 5m --pause-on-failures 3
      hetuflow schedule add report --at '2027-01-31 08:00'
      hetuflow schedule add import --on-event file.created --where 'path=/data/input/*.csv'
      hetuflow schedule add web --daemon --instances 3 --restart-limit 10
    """
    changes = rule_changes(given)
    if "kind" not in changes and changes.pop("run_flow", False):
        changes["kind"] = "flow"
    if "kind" not in changes and not set_:
        raise click.UsageError("give one of --every, --delay, --cron, --at, --daemon and --on-event")
    row = resolve(client, JOB, job_)
    body: dict[str, Any] = {"job_id": row["id"], **({"enabled": False} if disabled else {})}
    for name, value in changes.items():
        assign(body, name.split("."), value)
    for path, value in assignments(set_):
        assign(body, path, value)
    created = client.post("/schedules/item", by_type(body, row["config"]), key=key)
    if json_:
        render.as_json(created)
        return
    stored = client.get(f"/schedules/item/{created['id']}")
    click.echo(f"created schedule {created['id']}")
    click.echo(_what_follows(stored))


def _what_follows(row: render.Row) -> str:
    if row["schedule_kind"] == ScheduleKind.EVENT:
        return f"runs on each event {row['event_type']}{' that fits' if row['event_filter'] else ''}{_unwatched(row)}"
    if row["schedule_kind"] == ScheduleKind.DAEMON:
        return daemons.what_follows(row)
    if row["schedule_kind"] == ScheduleKind.FLOW:
        return f"runs the flow when asked: hetuflow schedule run {row['name'] or row['id']}"
    if row["status"] == ScheduleStatus.EXPIRED:
        is_over = row["end_time"] is not None and row["fire_count"] == 0
        return "next run: none, it has expired" + (f": its end was {render.when(row['end_time'])}" if is_over else "")
    return f"next run: {render.when(row['next_run_at']) or 'none'}"


def _unwatched(row: render.Row) -> str:
    """A hint where files are asked for that no agent watches, since the filter does not say where they are."""
    from hetuflow.domain.event_watch import watched

    types, globs = watched(row["event_type"], row["event_filter"])
    if not types or globs or row["event_type"] == "*":
        return ""
    return "\nno agent watches files for it: that needs an absolute path, as --where 'path=/data/input/*.csv'"


def rule(row: render.Row) -> str:
    """A schedule's rule in a few words."""
    if row["schedule_kind"] == ScheduleKind.CRON:
        return f"{row['cron_expression']} {row['timezone']}"
    if row["schedule_kind"] == ScheduleKind.DAEMON:
        return daemons.rule(row["daemon"])
    if row["schedule_kind"] == ScheduleKind.EVENT:
        return f"on {row['event_type']}"
    if row["schedule_kind"] == ScheduleKind.INTERVAL:
        if row.get("interval_mode") == IntervalMode.FIXED_DELAY:
            return f"{row['interval_secs']} s after the end"
        return f"every {row['interval_secs']} s" if row["interval_secs"] else "once"
    return "when asked" if row["schedule_kind"] == ScheduleKind.FLOW else str(row["kind"])


TIMED = (ScheduleKind.CRON, ScheduleKind.INTERVAL)
"""The kinds that have nominal times, which can be found late."""


def _when_late(row: render.Row) -> str:
    age = f", nothing older than {row['max_age_seconds']} s" if row.get("max_age_seconds") else ""
    return f"{row['misfire_policy']}, grace {row['misfire_grace_seconds']} s{age}"


def _next_run(row: render.Row) -> Any:
    is_delayed = row.get("interval_mode") == IntervalMode.FIXED_DELAY and row["status"] == ScheduleStatus.ENABLED
    if is_delayed and row["next_run_at"] is None:
        return f"{row['interval_secs']} s after its task has ended"
    return render.At(row["next_run_at"])


def _pauses(row: render.Row) -> str | None:
    most = row.get("pause_on_failures")
    return f"after {most} failures in a row, {row['consecutive_failures']} now" if most else None


def _columns(names: dict[str, str]) -> list[render.Column]:
    return [
        render.Column("ID", lambda row: row["id"], is_id=True),
        render.Column("NAME", lambda row: row["name"], cut=True, least=20),
        render.Column("JOB", lambda row: names.get(row["job_id"], row["job_id"]), cut=True, least=12),
        render.Column("STATUS", lambda row: render.status(ScheduleStatus, row["status"])),
        render.Column("RULE", rule, drop=1, cut=True, least=12),
        render.Column("NEXT RUN", lambda row: render.At(row["next_run_at"]), drop=2),
        render.Column("LAST RUN", lambda row: render.At(row["last_run_at"]), drop=4),
        render.Column("FIRED", lambda row: row["fire_count"], right=True, drop=3),
    ]


class _JobNames(dict[str, str]):
    """Names of jobs by id, fetched when the first row is shown."""

    def __init__(self, client: Client) -> None:
        super().__init__()
        self._client, self._asked = client, False

    def get(self, key: str, default: Any = None) -> Any:
        if not self._asked:
            self._asked = True
            self.update({row["id"]: row["name"] for row in self._client.rows("jobs", where={}, limit=1000)})
        return super().get(key, default)


@schedule.command(name="list")
@click.option("--job", "job_", metavar="JOB", help="Only this job's.")
@click.option("--kind", type=click.Choice([k.name.lower() for k in ScheduleKind]), help="Only of this kind.")
@status_option(ScheduleStatus, what="schedules")
@list_options()
@talks_to_server
def list_(
    client: Client, json_: bool, job_: str | None, kind: str | None, status_: tuple[str, ...], **given: Any
) -> None:
    """List schedules, newest first."""
    where: dict[str, Any] = status_condition(status_)
    if job_:
        where["job_id"] = {"$eq": resolve(client, JOB, job_)["id"]}
    if kind:
        where["schedule_kind"] = {"$eq": kind}
    show_list(
        client,
        "schedules",
        Wanted.of(given),
        where,
        _columns(_JobNames(client)),
        json_=json_,
        empty="no schedules; add one with `hetuflow schedule add JOB --every 60s`",
    )


@schedule.command(name="show")
@schedule_argument
@as_of_option
@talks_to_server
def show(client: Client, schedule_: str, as_of_: str | None, json_: bool) -> None:
    """Show one schedule."""
    row = resolve(client, SCHEDULE, schedule_, as_of=as_of_)
    if json_:
        render.as_json(row)
        return
    render.fields(
        row,
        [
            ("id", lambda r: r["id"]),
            ("name", lambda r: r["name"]),
            ("description", lambda r: r["description"]),
            ("job", lambda r: _JobNames(client).get(r["job_id"], r["job_id"])),
            ("status", lambda r: render.status(ScheduleStatus, r["status"])),
            ("note", lambda r: r.get("status_note")),
            ("kind", lambda r: r["kind"]),
            ("rule", rule),
            ("restarts", lambda r: daemons.details(r["daemon"])),
            ("zone", lambda r: r["timezone"]),
            ("from", lambda r: render.At(r["start_time"])),
            ("until", lambda r: render.At(r["end_time"])),
            ("runs at most", lambda r: r["max_count"]),
            ("when late", lambda r: _when_late(r) if r["schedule_kind"] in TIMED else None),
            ("overlap", lambda r: None if r["schedule_kind"] == ScheduleKind.DAEMON else r["overlap_policy"]),
            ("pauses", _pauses),
            ("jitter", lambda r: f"{r['jitter_seconds']} s" if r["jitter_seconds"] else None),
            ("event filter", lambda r: r["event_filter"]),
            ("debounce", lambda r: f"{r['debounce_seconds']} s" if r["debounce_seconds"] else None),
            ("parameters", lambda r: r["parameters"]),
            ("priority", lambda r: r["priority"] or None),
            ("runs", lambda r: "the job's flow" if r["run_flow"] or r["schedule_kind"] == ScheduleKind.FLOW else None),
            ("not while", lambda r: " ".join(r.get("exclude_calendars") or ()) or None),
            ("next run", _next_run),
            ("last run", lambda r: render.At(r["last_run_at"])),
            ("fired", lambda r: r["fire_count"]),
            ("created", lambda r: render.At(r["created_at"])),
            ("updated", lambda r: render.At(r["updated_at"])),
        ],
    )
    if row["schedule_kind"] == ScheduleKind.DAEMON:
        daemons.show_seats(client, row["id"], as_of_)


@schedule.command(name="update")
@schedule_argument
@rule_options
@edit_options
@talks_to_server
def update(
    client: Client, schedule_: str, json_: bool, set_: tuple[str, ...], clear: tuple[str, ...], **given: Any
) -> None:
    """Change a schedule; what is not given stays. It never fires for a moment that has passed.

    \b
    Examples:
      hetuflow schedule update nightly --cron '0 0 3 * * ?'
      hetuflow schedule update nightly --clear end_time
      hetuflow schedule update web --instances 5
    """
    row = resolve(client, SCHEDULE, schedule_)
    body = _by_type(client, update_body(row, rule_changes(given), set_, clear), row)
    answer = client.put(f"/schedules/item/{row['id']}", body)
    if json_:
        render.as_json(answer)
        return
    stored = client.get(f"/schedules/item/{row['id']}")
    click.echo(f"updated schedule {row['name'] or row['id']}")
    click.echo(_what_follows(stored))


def _by_type(client: Client, body: dict[str, Any], row: Mapping[str, Any]) -> dict[str, Any]:
    """Parameters in the types that the schedule's job declares, which is asked for only where there are some."""
    return by_type(body, client.get(f"/jobs/item/{row['job_id']}")["config"]) if body.get("parameters") else body


def _action(verb: str, sentence: str, done: str) -> None:
    call = {"pause": "disable", "resume": "enable"}.get(verb, verb)

    @schedule.command(name=verb, help=sentence)
    @schedule_argument
    @note_option
    @talks_to_server
    def act(client: Client, schedule_: str, json_: bool, note: str | None) -> None:
        row = resolve(client, SCHEDULE, schedule_)
        answer = client.post(f"/schedules/item/{row['id']}/{call}", {"note": note} if note else None)
        render.as_json(answer) if json_ else click.echo(f"schedule {row['name'] or row['id']} is {done}")


_action("enable", "Start a schedule; it never fires for a moment that has passed.", "enabled")
_action("disable", "Stop a schedule; its tasks go on, but a daemon stops.", "disabled")
_action("pause", "Stop a schedule for a while; its tasks go on, but a daemon stops. The same as disable.", "disabled")
_action("resume", "Start a paused schedule again, and its count of failures anew. The same as enable.", "enabled")


@schedule.command(name="delete")
@schedule_argument
@click.option("--cascade", is_flag=True, help="Also cancel its open tasks.")
@yes_option
@talks_to_server
def delete(client: Client, schedule_: str, cascade: bool, yes: bool, json_: bool) -> None:
    """Delete a schedule; its tasks stay. SCHEDULE is a whole name or id."""
    row = resolve(client, SCHEDULE, schedule_, exactly=True)
    if schedule_.lower() != row["id"]:  # who types a whole id means it
        confirm(f"delete schedule {row['name']} ({row['id']})?", yes)
    client.delete(f"/schedules/item/{row['id']}", cascade="cancel" if cascade else None)
    render.deleted(row["id"], f"deleted schedule {row['name'] or row['id']}", json_=json_)


@schedule.command(name="run")
@schedule_argument
@run_options
@talks_to_server
def run(client: Client, schedule_: str, json_: bool, **given: Any) -> None:
    """Run a schedule's task now, with its parameters and priority; works while it is disabled, too."""
    row = resolve(client, SCHEDULE, schedule_)
    body = _by_type(client, run_body(given), row)
    created = client.post(f"/schedules/item/{row['id']}/execute", body, key=given["key"])
    of_flow = row["schedule_kind"] == ScheduleKind.FLOW or bool(row.get("run_flow"))
    after_run(client, created["id"], given, json_, of_flow=of_flow)


def preview_options(command: F) -> F:
    command = click.option("--after", type=Moment(), help="Only later ones [default: now].")(command)
    return click.option("-n", "--count", type=click.IntRange(1, 1000), default=10, show_default=True)(command)


@schedule.command(name="next")
@schedule_argument
@preview_options
@click.option("--excluded", is_flag=True, help="List also what calendars exclude, and say so.")
@talks_to_server
def next_(client: Client, schedule_: str, count: int, after: str | None, excluded: bool, json_: bool) -> None:
    """List the next moments at which a schedule fires, as if it were enabled."""
    row = resolve(client, SCHEDULE, schedule_)
    query = {"count": count, "after": after, "excluded": "true" if excluded else None}
    _show_preview(client.get(f"/schedules/item/{row['id']}/next", **query), json_)


schedule.add_command(preview)
schedule.add_command(explain_schedule)
for _command in (backfill, list_backfills, cancel_backfill):
    schedule.add_command(_command)


def _show_preview(answer: Any, json_: bool) -> None:
    if json_:
        render.as_json(answer)
        return
    zone = answer["timezone"]
    render.table(
        answer["result"],
        [
            render.Column("AT", lambda row: render.At(row["at"])),
            render.Column("UTC" if not is_utc() else "AT (UTC)", lambda row: _utc(row["at"]), drop=1),
            render.Column(zone, lambda row: row["local"]),
            render.Column("NOTE", lambda row: note_of(row["note"], row.get("excluded_by") or ()), wrap=True),
        ],
        empty=_nothing_listed(answer),
    )
    if answer["result"] and answer["ends"]:
        click.echo("(the last one)", err=True)


def _nothing_listed(answer: Any) -> str:
    if answer["kind"] not in ("cron", "interval"):
        return f"{answer['kind']}: no fixed times"
    return "it never fires" if answer["ends"] else "not known before its running task has ended"


def _utc(text: str) -> str:
    from datetime import datetime

    return datetime.fromisoformat(text).astimezone(UTC).strftime("%Y-%m-%d %H:%M:%SZ")
