"""`hetuflow schedule preview` needs no server: each test runs it where none answers."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from hetuflow.cli.main import main


def preview(*words: str) -> Result:
    return CliRunner().invoke(main, ["schedule", "preview", *words], env={"HETUFLOW_SERVER": "http://127.0.0.1:1"})


def instants(*words: str) -> list[str]:
    done = preview(*words, "--json")
    assert done.exit_code == 0, done.output
    return list(json.loads(done.stdout))


def test_json_is_the_list_of_instants_in_utc() -> None:
    berlin = ("--cron", "30 2 * * *", "--timezone", "Europe/Berlin", "--after", "2027-03-27T00:00:00Z")
    assert instants(*berlin, "--count", "3") == ["2027-03-27T01:30:00Z", "2027-03-28T01:00:00Z", "2027-03-29T00:30:00Z"]
    assert len(instants("--cron", "@hourly")) == 10
    assert instants("--cron", "0 0 0 1 1 ? 2027-2028", "--after", "2026-12-31T00:00:00Z") == [
        "2027-01-01T00:00:00Z",
        "2028-01-01T00:00:00Z",
    ]


def test_intervals_count_from_their_start_and_a_single_run_is_listed_while_it_lies_ahead() -> None:
    after = ("--after", "2027-01-31T08:00:10Z", "-n", "2")
    assert instants("--every", "90", "--start", "2027-01-31T08:00:00Z", *after) == [
        "2027-01-31T08:01:30Z",
        "2027-01-31T08:03:00Z",
    ]
    assert instants("--every", "1m", *after) == ["2027-01-31T08:01:10Z", "2027-01-31T08:02:10Z"]
    assert instants("--every", "1m", "--max-count", "1", "--start", "2027-01-31T08:00:00Z", *after) == []
    assert instants("--once", "2027-02-01T00:00:00Z", *after) == ["2027-02-01T00:00:00Z"]


def test_the_days_on_which_clocks_change_are_noted() -> None:
    new_york = ("--timezone", "America/New_York", "--count", "1")
    twice = preview("--cron", "30 1 * * *", "--after", "2026-10-31T12:00:00Z", *new_york).stdout
    assert "2026-11-01T01:30:00-04:00" in twice and "2026-11-01T05:30:00Z" in twice and "first of two" in twice
    gap = preview("--cron", "30 2 * * *", "--after", "2027-03-13T12:00:00Z", *new_york).stdout
    assert "2027-03-14T03:00:00-04:00" in gap and "right after the gap" in gap
    assert "first of two" not in preview("--cron", "30 1 * * *", "--after", "2026-11-02T12:00:00Z", *new_york).stdout


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--cron", "0 61 * * *"], "--cron: hour: '61' is not allowed, use 0-23 (at column 2)\n  0 61 * * *\n    ^"),
        (["--cron", "0 0 30 2 *"], "this never fires"),
        (["--cron", ""], "--cron: is required"),
        (["--cron", "@daily", "--timezone", "Europe/Berln"], "did you mean 'Europe/Berlin'?"),
        (["--cron", "@daily", "--every", "5s"], "give one of --cron, --every, --delay and --once"),
        ([], "give one of --cron, --every, --delay and --once"),
        (["--once", "2027-01-01T00:00:00Z", "--start", "2027-01-01T00:00:00Z"], "no meaning with --once"),
        (["--cron", "@daily", "--start", "2027-01-02", "--end", "2027-01-01"], "--end: must not be before start_time"),
    ],
)
def test_what_is_wrong_is_named_with_its_place(words: list[str], said: str) -> None:
    done = preview(*words)
    assert done.exit_code == 2 and said in done.output


def test_the_end_of_the_calendar_is_the_end() -> None:
    for zone in ("UTC", "Pacific/Kiritimati", "Europe/Berlin"):
        assert instants("--cron", "@daily", "--timezone", zone, "--after", "9999-12-31T00:00:00Z") == []


def test_the_zone_is_named_above_local_times_and_a_plan_lies_ahead() -> None:
    assert preview("--cron", "@hourly").stdout.startswith("LOCAL (UTC)")
    done = preview("--every", "1m", "--end", "20s")
    assert done.exit_code == 2 and "write +20s" in done.output
    assert len(instants("--every", "1m", "--end", "+150s")) == 2


def test_nouns_in_either_number_and_verbs_by_their_other_name_are_found_and_listed_once() -> None:
    for words in (
        ("schedules", "preview"),
        ("jobs", "edit"),
        ("job", "add"),
        ("schedule", "create"),
        ("tasks", "list"),
    ):
        assert CliRunner().invoke(main, [*words, "--help"]).exit_code == 0, words
    for words in (
        ("calendar", "remove"),
        ("flow", "show"),
        ("event", "post"),
        ("instances", "show"),
        ("projection", "list"),
    ):
        assert CliRunner().invoke(main, [*words, "--help"]).exit_code == 0, words
    listed = CliRunner().invoke(main, ["--help"]).output
    assert "  job  " in listed and "  jobs  " not in listed
    daemon = CliRunner().invoke(main, ["server", "--help"]).output
    assert "Run a server" in daemon  # not the list of servers


def test_a_rule_that_calendars_leave_nothing_of_says_how_to_see_why(tmp_path: Path) -> None:
    always = tmp_path / "always.yaml"
    always.write_text("times: [{from: '00:00', to: '24:00'}]\n")
    done = preview("--cron", "0 8 * * *", "--calendar", str(always), "-n", "1")
    assert "--excluded lists" in done.output
    assert (
        "excluded by always"
        in preview("--cron", "0 8 * * *", "--calendar", str(always), "-n", "1", "--excluded").stdout
    )
