"""`hetuflow schedule preview`: when a rule would fire. No server is asked: the rules are computed here, as a server does."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import click

from hetuflow.cli import render
from hetuflow.cli.options import Moment, Seconds, json_option, utc_option

if TYPE_CHECKING:
    from hetuflow.domain.exclusion import Exclusion
    from hetuflow.domain.preview import Preview, Upcoming
    from hetuflow.domain.rejection import Rejected

NOTES = {"gap": "does not exist in local time: runs right after the gap", "repeated": "first of two"}

_MEMBER_OPTIONS = {
    "cron_expression": "--cron",
    "timezone": "--timezone",
    "interval_secs": "--every",
    "interval_mode": "--delay",
    "start_time": "--start",
    "end_time": "--end",
}


@click.command(name="preview")
@click.option("--cron", metavar="EXPRESSION", help="Five fields (crontab) or six to seven (seconds first).")
@click.option("--every", type=Seconds(1), metavar="INTERVAL", help="A fixed rate: 30, 30s, 5m, 1h, 1d.")
@click.option("--delay", type=Seconds(1), metavar="INTERVAL", help="So long after the end of the task before.")
@click.option("--once", "--at", "once", type=Moment(ahead=True), help="One run, at that moment.")
@click.option("--timezone", default="UTC", show_default=True, metavar="ZONE", help="IANA name, e.g. Europe/Berlin.")
@click.option(
    "--start", type=Moment(ahead=True), help="First moment; an interval counts from it [default: from --after]."
)
@click.option("--end", type=Moment(ahead=True), help="Last moment.")
@click.option("--max-count", type=click.IntRange(1), help="Expire after so many runs.")
@click.option("--after", type=Moment(), help="Only later ones [default: now].")
@click.option(
    "--calendar",
    multiple=True,
    type=click.Path(exists=True, dir_okay=False),
    metavar="FILE",
    help="Leave out what it excludes: .ics, or YAML, TOML or JSON as `hetuflow calendars add -f` reads. May be repeated.",
)
@click.option("--excluded", is_flag=True, help="List also what calendars exclude, and say so.")
@click.option("-n", "--count", type=click.IntRange(1, 1000), default=10, show_default=True)
@json_option
@utc_option
def preview(json_: bool, count: int, after: str | None, **given: Any) -> None:
    """List the moments at which a rule would fire; needs no server.

    With --json: a list of the instants in UTC.

    \b
    Examples:
      hetuflow schedule preview --cron '30 2 * * *' --timezone Europe/Berlin --after 2027-03-27T00:00:00Z -n 3
      hetuflow schedule preview --every 90s --start 2027-01-31T08:00:00Z
      hetuflow schedule preview --cron '0 8 * * 1-5' --timezone Europe/Berlin --calendar holidays.ics
    """
    found = _computed(given, datetime.fromisoformat(after) if after else datetime.now(UTC), count)
    if json_:
        render.as_json([_instant(fire) for fire in found.fires if not fire.excluded_by])
        return
    zone = given["timezone"]
    columns = [
        render.Column(f"LOCAL ({zone})", lambda row: row["local"]),
        render.Column("UTC", lambda row: row["utc"]),
        render.Column("NOTE" if given["excluded"] else "DAYLIGHT SAVING", lambda row: row["note"], wrap=True),
    ]
    rows = [
        {"local": fire.local.isoformat(), "utc": _instant(fire), "note": note_of(fire.note, fire.excluded_by)}
        for fire in found.fires
    ]
    hint = " (--excluded lists what the calendars leave out)" if given["calendar"] and not given["excluded"] else ""
    render.table(rows, columns, empty=f"it never fires after that{hint}")
    if rows and found.ends:
        click.echo("(the last one)", err=True)
    elif given["delay"]:
        click.echo("(what follows counts from the end of its task)", err=True)


def note_of(note: str | None, excluded_by: Sequence[str]) -> str | None:
    """What is special about a nominal time."""
    if excluded_by:
        return f"does not run: excluded by {', '.join(excluded_by)}"
    return NOTES.get(note or "", note)


def _exclusion(files: Sequence[str], timezone: str) -> Exclusion | None:
    """What the calendars in the files exclude together."""
    from hetuflow.cli.calendar_words import local_calendar
    from hetuflow.domain.calendar_rules import rules_of
    from hetuflow.domain.cron import UnknownTimeZone
    from hetuflow.domain.cron_zone import check_zone
    from hetuflow.domain.exclusion import Calendar, Edition, Exclusion

    found = []
    for file in files:
        name, zone, members = local_calendar(file, timezone)
        try:
            check_zone(zone)
        except UnknownTimeZone as unknown:
            raise click.UsageError(f"{file}: timezone: {unknown}") from None
        found.append(Calendar(name, 1, (Edition(None, rules_of(zone, members)),)))
    return Exclusion(tuple(found)) if found else None


def _computed(given: dict[str, Any], after: datetime, count: int) -> Preview:
    """As if the schedule were created at `after`.

    Raises:
      click.UsageError: no kind or several, or a value is wrong; of an expression, where.
    """
    from hetuflow.domain.commands import CreateSchedule
    from hetuflow.domain.enums import IntervalMode, ScheduleKind
    from hetuflow.domain.preview import preview as compute
    from hetuflow.domain.rejection import Rejected

    chosen = [name for name in ("cron", "every", "delay", "once") if given[name] is not None]
    if len(chosen) != 1:
        raise click.UsageError("give one of --cron, --every, --delay and --once")
    if given["once"] and given["start"]:
        raise click.UsageError("--start has no meaning with --once, which is the moment itself")
    start, end = given["once"] or given["start"], given["end"]
    timing = CreateSchedule(
        schedule_id="",
        job_id="",
        schedule_kind=ScheduleKind.CRON if given["cron"] is not None else ScheduleKind.INTERVAL,
        cron_expression=given["cron"],
        interval_secs=given["every"] or given["delay"],
        interval_mode=IntervalMode.FIXED_DELAY if given["delay"] else IntervalMode.FIXED_RATE,
        max_count=1 if given["once"] else given["max_count"],
        timezone=given["timezone"],
        start_time=datetime.fromisoformat(start) if start else None,
        end_time=datetime.fromisoformat(end) if end else None,
    )
    try:
        return compute(
            timing,
            after,
            now=after,
            after=after,
            count=count,
            fires_left=timing.max_count,
            exclusion=_exclusion(given["calendar"], given["timezone"]),
            with_excluded=given["excluded"],
        )
    except Rejected as no:
        raise click.UsageError(_explained(no, given)) from None


def _explained(no: Rejected, given: dict[str, Any]) -> str:
    """The refusal in the words of this command; under a wrong expression, a mark where the mistake is."""
    details = no.detail
    member = details.get("path", "")
    message = f"{_MEMBER_OPTIONS.get(member, member)}: {str(no).removeprefix(f'{member}: ')}"
    position = details.get("position")
    if position is None:
        return message
    return f"{message}\n  {given['cron']}\n  {' ' * position}^"


def _instant(fire: Upcoming) -> str:
    return fire.at.isoformat().replace("+00:00", "Z")
