"""`hetuflow calendars`, and what else has to do with them, against a real server; previews without one."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.cli.conftest import Shell
from tests.cli.test_preview import instants, preview

BANK_HOLIDAYS = """BEGIN:VCALENDAR
VERSION:2.0
BEGIN:VEVENT
UID:xmas@example.org
DTSTART;VALUE=DATE:20201225
DTEND;VALUE=DATE:20201227
RRULE:FREQ=YEARLY
END:VEVENT
END:VCALENDAR
"""


def test_a_calendar_is_added_shown_edited_used_and_deleted(hetuflow: Shell) -> None:
    hetuflow(
        *("calendars", "add", "office", "--timezone", "Europe/Berlin", "--description", "closed"),
        *("--date", "12-25", "--date", "2027-03-26", "--date", "2026-12-27..2027-01-03"),
        *("--weekday", "sat,Sunday", "--weekday", "fri 18:00-24:00", "--time", "22:00-06:00"),
    )
    row = hetuflow.json("calendars", "show", "office")
    assert (row["yearly"], row["dates"], row["timezone"]) == (["12-25"], ["2027-03-26"], "Europe/Berlin")
    assert row["ranges"] == [{"from": "2026-12-27", "to": "2027-01-03"}]
    assert row["weekdays"] == [{"days": ["fri"], "from": "18:00", "to": "24:00"}, {"days": ["sat", "sun"]}]
    assert row["times"] == [{"from": "22:00", "to": "06:00"}]
    shown = hetuflow("calendars", "show", "offi")
    assert "fri 18:00-24:00; sat,sun" in shown and "no schedule" in shown
    assert "1 date, 1 range, 1 yearly day, 1 time" in hetuflow("calendars")
    hetuflow("calendars", "edit", "office", "--add-date", "2027-05-07", "--remove-date", "12-25", "--clear", "times")
    row = hetuflow.json("calendars", "show", "office")
    assert (row["yearly"], row["dates"], row["times"]) == ([], ["2027-03-26", "2027-05-07"], [])
    hetuflow("calendars", "edit", "office", "--clear", "description", "--weekday", "sun")
    row = hetuflow.json("calendars", "show", "office")
    assert (row["description"], row["weekdays"]) == (None, [{"days": ["sun"]}])

    hetuflow("job", "create", "reporting", "--", "true")
    hetuflow("schedule", "add", "reporting", "--name", "report", "--cron", "0 8 * * *", "--exclude-calendar", "office")
    assert "office" in hetuflow("schedule", "show", "report")
    listed = hetuflow("schedule", "next", "report", "--after", "2027-03-25T12:00:00Z", "-n", "2", "--excluded")
    assert "does not run: excluded by office" in listed.splitlines()[1]
    refused = hetuflow.run("calendars", "delete", "office", "--yes")
    assert refused.returncode == 4 or refused.returncode == 1
    assert "1 schedule refers to the calendar: report" in refused.stderr
    assert "report" in hetuflow("calendars", "show", "office")
    assert "calendar office" in hetuflow("schedule", "explain", "report", "--at", "2027-03-26T08:00:00Z")
    hetuflow("schedule", "update", "report", "--set", "exclude_calendars=[]")
    hetuflow("calendars", "delete", "office", "--yes")
    assert hetuflow.run("calendars", "show", "office").returncode == 3
    assert "CalendarDeleted" in hetuflow("history", "calendar-office", "--json")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--date", "24.12."], "must be a date such as 2026-12-24"),
        (["--date", "2027-01-02..2027-01-01"], "must not be before from"),
        (["--weekday", "sat,frei"], "the nearest is fri"),
        (["--time", "22:00"], "is not FROM-TO"),
        (["--time", "25:00-26:00"], "must be a time of day"),
        (["--timezone", "Europe/Berln", "--date", "12-25"], "Europe/Berlin"),
    ],
)
def test_what_is_wrong_is_refused(hetuflow: Shell, words: list[str], message: str) -> None:
    done = hetuflow.run("calendars", "add", "wrong", *words)
    assert done.returncode == 2 and message in done.stderr


def test_an_unknown_calendar_of_a_schedule_names_the_nearest(hetuflow: Shell) -> None:
    hetuflow("calendars", "add", "holidays", "--date", "12-25")
    hetuflow("job", "create", "of-holidays", "--", "true")
    done = hetuflow.run("schedule", "add", "of-holidays", "--every", "1h", "--exclude-calendar", "holydays")
    assert done.returncode == 2 and 'the nearest known name is "holidays"' in done.stderr
    edited = hetuflow.run("calendars", "edit", "holidays", "--remove-date", "12-26")
    assert edited.returncode == 2 and "12-26 is not in the calendar" in edited.stderr


def test_an_icalendar_file_is_imported_and_imported_again(hetuflow: Shell, tmp_path: Path) -> None:
    file = tmp_path / "bank.ics"
    file.write_text(BANK_HOLIDAYS)
    said = hetuflow("calendars", "import", "bank", str(file), "--timezone", "Europe/Berlin")
    assert said.startswith("created calendar bank: ") and "recurring events are expanded until" in said
    hetuflow("calendars", "edit", "bank", "--weekday", "sun")
    assert hetuflow("calendars", "import", "bank", str(file)).startswith("updated calendar bank: ")
    row = hetuflow.json("calendars", "show", "bank")
    assert row["weekdays"] == [{"days": ["sun"]}] and {"from": "2027-12-25", "to": "2027-12-26"} in row["ranges"]
    file.write_text(BANK_HOLIDAYS.replace("FREQ=YEARLY", "FREQ=HOURLY"))
    done = hetuflow.run("calendars", "import", "bank", str(file))
    assert done.returncode == 2 and "line 3 (UID xmas@example.org): RRULE of FREQ=HOURLY" in done.stderr


def test_apply_makes_calendars_before_the_schedules_that_refer_to_them(hetuflow: Shell, tmp_path: Path) -> None:
    file = tmp_path / "all.yaml"
    file.write_text(
        "calendars:\n"
        "  - id: closed\n"
        "    timezone: Europe/Berlin\n"
        "    dates: [2027-03-26]\n"
        "    weekdays:\n"
        "      - days: [sat, sun]\n"
        "jobs:\n"
        "  - name: applied-report\n"
        "    command: 'true'\n"
        "    schedules:\n"
        "      - name: daily\n"
        "        cron: 0 8 * * *\n"
        "        exclude_calendars: [closed]\n"
    )
    said = hetuflow("apply", "-f", str(file), "--dry-run")
    assert "+ calendar closed" in said and "1 calendar and 1 job and 1 schedule to be created" in said
    hetuflow("apply", "-f", str(file))
    assert hetuflow.json("calendars", "show", "closed")["dates"] == ["2027-03-26"]
    assert "nothing to do" in hetuflow("apply", "-f", str(file))
    exported = tmp_path / "exported.yaml"
    exported.write_text(hetuflow("export", "jobs", "applied-report"))
    assert "calendars:\n  - id: closed" in exported.read_text()
    assert "nothing to do" in hetuflow("apply", "-f", str(exported))
    file.write_text(file.read_text().replace("[2027-03-26]", "[2027-03-26, 2027-03-29]"))
    assert 'dates: ["2027-03-26"] -> ' in hetuflow("apply", "-f", str(file))
    file.write_text(file.read_text().replace("2027-03-29", "29.3.2027").replace("id: closed", "dates: []"))
    wrong = hetuflow.run("apply", "-f", str(file))
    assert wrong.returncode == 2 and "dates: is given twice" in wrong.stderr


# --- without a server --------------------------------------------------------------------------------------------------


def test_a_preview_leaves_out_what_files_exclude(tmp_path: Path) -> None:
    ics, toml, json = tmp_path / "bank.ics", tmp_path / "office.toml", tmp_path / "night.json"
    ics.write_text(BANK_HOLIDAYS)
    toml.write_text('timezone = "Europe/Berlin"\ndates = [2026-12-23]\n[[weekdays]]\ndays = ["sat", "sun"]\n')
    json.write_text('{"times": [{"from": "09:00", "to": "11:00"}]}')
    asked = ["--cron", "0 8,10 * * *", "--timezone", "Europe/Berlin", "--after", "2026-12-22T00:00:00Z", "-n", "4"]
    files = [word for file in (ics, toml, json) for word in ("--calendar", str(file))]
    assert instants(*asked, *files) == [f"2026-12-{day}T07:00:00Z" for day in (22, 24, 28, 29)]
    shown = preview(*asked, *files, "--excluded").stdout
    assert "2026-12-22T10:00:00+01:00  2026-12-22T09:00:00Z  does not run: excluded by night" in shown
    every = ["--every", "6h", "--start", "2026-12-24T18:00:00Z", "--after", "2026-12-24T12:00:00Z", "-n", "2"]
    assert instants(*every, "--calendar", str(ics)) == ["2026-12-24T18:00:00Z", "2026-12-27T00:00:00Z"]
    used_up = [*asked, "--max-count", "1", "--calendar", str(toml)]
    assert instants(*used_up) == ["2026-12-22T07:00:00Z"]


def test_a_file_that_is_wrong_is_refused_with_its_line(tmp_path: Path) -> None:
    wrong = tmp_path / "wrong.yaml"
    wrong.write_text("dats: [1]\ntimes:\n  - from: 8\n")
    done = preview("--cron", "@daily", "--calendar", str(wrong))
    assert done.exit_code == 2
    assert f"{wrong}:1: dats: unknown member; did you mean 'dates'?" in done.output
    assert f"{wrong}:3: times[0].from: must be a time of day" in done.output
    ics = tmp_path / "wrong.ics"
    ics.write_text(BANK_HOLIDAYS.replace("VALUE=DATE:20201225", "TZID=Mars:20201225T080000"))
    done = preview("--cron", "@daily", "--calendar", str(ics))
    assert done.exit_code == 2 and "line 3 (UID xmas@example.org): " in done.output
