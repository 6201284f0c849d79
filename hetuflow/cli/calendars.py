"""`hetuflow calendars …`: when schedules do not run."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import click

from hetuflow.cli import render
from hetuflow.cli.calendar_words import days_of, month_days_of, read_members, times_of, weekdays_of
from hetuflow.cli.client import Client, Refused
from hetuflow.cli.completion import complete_calendars
from hetuflow.cli.editing import edit_options, update_body
from hetuflow.cli.listing import Wanted, as_of_option, list_options, show_list
from hetuflow.cli.names import CALENDAR, resolve
from hetuflow.cli.options import Group, confirm, key_option, talks_to_server, yes_option

F = TypeVar("F", bound=Callable[..., Any])

RULES = ("dates", "ranges", "yearly", "weekdays", "times", "periods")


@click.group(cls=Group, name="calendars", default="list")
def calendars() -> None:
    """Calendars: when schedules do not run. Without a verb: list them.

    A schedule refers to calendars with --exclude-calendar; what they exclude is skipped, with the reason `calendar`.
    """


def calendar_argument(command: F) -> F:
    return click.argument("name", metavar="CALENDAR", shell_complete=complete_calendars)(command)


def rule_options(command: F) -> F:
    """The members of a calendar, for `add` and `edit`."""
    for option in reversed(
        [
            click.option(
                "-f", "--file", "file", type=click.Path(exists=True, allow_dash=True), help="YAML, TOML, JSON."
            ),
            click.option(
                "--timezone", metavar="ZONE", help="IANA name; of all days and times [default: the server's]."
            ),
            click.option("--description", help="A sentence for people."),
            click.option(
                "--date",
                "dates",
                multiple=True,
                metavar="DAY",
                help="2026-12-24, 2026-12-24..2027-01-02 (both included), or 12-25 for every year. May be repeated.",
            ),
            click.option(
                "--weekday",
                "weekdays",
                multiple=True,
                metavar="DAYS[ FROM-TO]",
                help="sat,sun or 'fri 18:00-24:00'. May be repeated.",
            ),
            click.option(
                "--time", "times", multiple=True, metavar="FROM-TO", help="Every day: 22:00-06:00. May be repeated."
            ),
        ]
    ):
        command = option(command)
    return command


def rule_members(given: Mapping[str, Any]) -> dict[str, Any]:
    """The members that a file and the options give; an option replaces the file's."""
    members: dict[str, Any] = {} if given["file"] is None else read_members(given["file"])
    for name in ("timezone", "description"):
        if given[name] is not None:
            members[name] = given[name]
    if given["dates"]:
        members |= {
            **days_of(given["dates"]),
            **({"yearly": found} if (found := month_days_of(given["dates"])) else {}),
        }
    if given["weekdays"]:
        members["weekdays"] = weekdays_of(given["weekdays"])
    if given["times"]:
        members["times"] = times_of(given["times"])
    return members


@calendars.command(name="add")
@click.argument("name", metavar="NAME")
@rule_options
@key_option
@talks_to_server
def add(client: Client, name: str, json_: bool, key: str | None, **given: Any) -> None:
    """Add a calendar.

    \b
    Examples:
      hetuflow calendars add holidays --timezone Europe/Berlin --date 12-25 --date 2027-03-26 --weekday sat,sun
      hetuflow calendars add office -f office.yaml
    """
    created = client.post("/calendars/item", {**rule_members(given), "id": name}, key=key)
    render.as_json(created) if json_ else click.echo(f"created calendar {created['id']}")


def rule_words(row: render.Row) -> str:
    """How much a calendar excludes, in a few words."""
    words = {"dates": "date", "ranges": "range", "yearly": "yearly day", "periods": "period", "times": "time"}
    found = [
        f"{len(row[name])} {word}{'' if len(row[name]) == 1 else 's'}" for name, word in words.items() if row[name]
    ]
    return ", ".join([*found, *(_weekday(each) for each in row["weekdays"])]) or "nothing"


def _weekday(rule: Mapping[str, Any]) -> str:
    return ",".join(rule["days"]) + (f" {_window(rule)}" if "from" in rule or "to" in rule else "")


def _window(rule: Mapping[str, Any]) -> str:
    return f"{rule.get('from', '00:00')}-{rule.get('to', '24:00')}"


def _span(rule: Mapping[str, Any]) -> str:
    return f"{rule['from']}..{rule['to']}"


COLUMNS = [
    render.Column("NAME", lambda row: row["id"], is_id=True),
    render.Column("ZONE", lambda row: row["timezone"]),
    render.Column("EXCLUDES", rule_words, wrap=True),
    render.Column("IMPORTED UNTIL", lambda row: render.At(row["imported_until_at"]), drop=1),
    render.Column("DESCRIPTION", lambda row: row["description"], drop=2, cut=True, least=12),
]


@calendars.command(name="list")
@list_options()
@talks_to_server
def list_(client: Client, json_: bool, **given: Any) -> None:
    """List calendars."""
    empty = "no calendars; add one with `hetuflow calendars add NAME --date 12-25`"
    show_list(client, "calendars", Wanted.of(given), {}, COLUMNS, json_=json_, empty=empty)


@calendars.command(name="show")
@calendar_argument
@as_of_option
@talks_to_server
def show(client: Client, name: str, as_of_: str | None, json_: bool) -> None:
    """Show one calendar, and the schedules that refer to it."""
    row = resolve(client, CALENDAR, name, as_of=as_of_)
    if json_:
        render.as_json(row)
        return
    where = {"exclude_calendars": {"$contains": row["id"]}}
    users = client.rows("schedules", where=where, limit=100, as_of=as_of_)
    render.fields(
        row,
        [
            ("name", lambda r: r["id"]),
            ("description", lambda r: r["description"]),
            ("zone", lambda r: r["timezone"]),
            ("dates", lambda r: " ".join(r["dates"]) or None),
            ("ranges", lambda r: " ".join(_span(each) for each in r["ranges"]) or None),
            ("every year", lambda r: " ".join(r["yearly"]) or None),
            ("every week", lambda r: "; ".join(_weekday(each) for each in r["weekdays"]) or None),
            ("every day", lambda r: " ".join(_window(each) for each in r["times"]) or None),
            ("periods", lambda r: " ".join(_span(each) for each in r["periods"]) or None),
            ("imported until", lambda r: render.At(r["imported_until_at"])),
            ("used by", lambda _: ", ".join(str(user["name"] or user["id"]) for user in users) or "no schedule"),
            ("version", lambda r: r["version"]),
            ("created", lambda r: render.At(r["created_at"])),
            ("updated", lambda r: render.At(r["updated_at"])),
        ],
    )


@calendars.command(name="edit")
@calendar_argument
@rule_options
@click.option("--add-date", multiple=True, metavar="DAY", help="One more, written as for --date. May be repeated.")
@click.option("--remove-date", multiple=True, metavar="DAY", help="One less. May be repeated.")
@edit_options
@talks_to_server
def edit(
    client: Client,
    name: str,
    json_: bool,
    add_date: tuple[str, ...],
    remove_date: tuple[str, ...],
    set_: tuple[str, ...],
    clear: tuple[str, ...],
    **given: Any,
) -> None:
    """Change a calendar for what comes after this moment; what is not given stays, what is given replaces all of its kind.

    \b
    Examples:
      hetuflow calendars edit holidays --add-date 2027-05-07
      hetuflow calendars edit holidays --weekday sun --clear description
    """
    row = resolve(client, CALENDAR, name)
    changes = rule_members(given)
    if add_date or remove_date:
        changes |= _days_changed({**row, **changes}, add_date, remove_date)
    emptied = [f"{member}=[]" for member in clear if member in RULES]
    kept = tuple(member for member in clear if member not in RULES)
    answer = client.put(f"/calendars/item/{row['id']}", update_body(row, changes, (*set_, *emptied), kept))
    render.as_json(answer) if json_ else click.echo(f"updated calendar {row['id']}")


def _days_changed(row: Mapping[str, Any], add: Sequence[str], remove: Sequence[str]) -> dict[str, Any]:
    """`dates`, `ranges` and `yearly` with some more and some less.

    Raises:
      click.UsageError: one that is to be removed is not there.
    """
    found = {member: list(row[member]) for member in ("dates", "ranges", "yearly")}
    for texts, is_added in ((add, True), (remove, False)):
        for text in texts:
            named = {**days_of([text]), "yearly": month_days_of([text])}
            for member, entries in named.items():
                for entry in entries:
                    if is_added:
                        found[member].append(entry)
                    elif entry in found[member]:
                        found[member].remove(entry)
                    else:
                        raise click.UsageError(f"--remove-date: {text} is not in the calendar")
    return {member: entries for member, entries in found.items() if entries != list(row[member])}


@calendars.command(name="delete")
@calendar_argument
@yes_option
@talks_to_server
def delete(client: Client, name: str, yes: bool, json_: bool) -> None:
    """Delete a calendar that no schedule refers to. CALENDAR is the whole name."""
    row = resolve(client, CALENDAR, name, exactly=True)
    confirm(f"delete calendar {row['id']}?", yes)
    client.delete(f"/calendars/item/{row['id']}")
    render.deleted(row["id"], f"deleted calendar {row['id']}", json_=json_)


@calendars.command(name="import")
@click.argument("name", metavar="NAME")
@click.argument("file", type=click.Path(exists=True, dir_okay=False, allow_dash=True, path_type=str))
@click.option("--timezone", metavar="ZONE", help="Of whole days and of times without a zone [default: the server's].")
@click.option("--description", help="A sentence for people.")
@talks_to_server
def import_(client: Client, name: str, file: str, json_: bool, timezone: str | None, description: str | None) -> None:
    """Make or change a calendar by an iCalendar file (.ics, RFC 5545). - is stdin.

    The events replace the calendar's dates, ranges and periods; its weekdays, times and yearly days stay. Recurring
    events are expanded up to ten years ahead: import the file again before (`imported until` in the list).
    """
    import sys

    text = sys.stdin.read() if file == "-" else _text(file)
    body: dict[str, Any] = {"ical": text}
    body |= {key: value for key, value in (("timezone", timezone), ("description", description)) if value is not None}
    try:
        client.get(f"/calendars/item/{name}")
    except Refused as exc:
        if exc.status != 404:
            raise
        client.post("/calendars/item", {**body, "id": name})
        done = "created"
    else:
        client.put(f"/calendars/item/{name}", body)
        done = "updated"
    row = client.get(f"/calendars/item/{name}")
    if json_:
        render.as_json(row)
        return
    click.echo(f"{done} calendar {name}: {rule_words(row)}")
    if row["imported_until_at"]:
        click.echo(f"recurring events are expanded until {render.when(row['imported_until_at'])}")


def _text(file: str) -> str:
    try:
        return Path(file).read_text(encoding="utf-8-sig")
    except UnicodeDecodeError:
        raise click.UsageError(f"{file} is not UTF-8") from None
