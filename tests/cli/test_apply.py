"""`apply` and `export`: files and the server agree, a repetition does nothing, and only what apply made is pruned."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tests.cli.conftest import Shell

JOBS = """
jobs:
  - name: {p}-backup
    description: every night
    command: bash -c 'echo backup of $WHAT'
    environment: {{WHAT: "no", COUNT: 3}}
    config:
      timeout: 2h
      max_retries: 1
      labels: {{disk: big}}
      team: storage
    schedules:
      - name: nightly
        cron: 0 30 2 * * ?
        timezone: Europe/Berlin
      - name: often
        every: 5m
        start: 2026-01-01T00:00:00+01:00
        parameters: {{day: monday, deep: {{a: [1, null]}}}}
        enabled: false
---
name: {p}-report
namespace: reports
command: [report, --all]
enabled: false
"""


def write(directory: Path, text: str, name: str = "jobs.yaml") -> str:
    path = directory / name
    path.write_text(text)
    return str(path)


def stored(hetuflow: Shell, name: str) -> tuple[Any, list[Any]]:
    return hetuflow.json("job", "show", name), hetuflow.json("schedule", "list", "--job", name)


def test_apply_makes_what_the_file_says_and_the_second_time_nothing(hetuflow: Shell, tmp_path: Path) -> None:
    file = write(tmp_path, JOBS.format(p="made"))
    dry = hetuflow("apply", "-f", file, "--dry-run")
    assert "+ job default/made-backup" in dry and "2 jobs and 2 schedules to be created" in dry
    assert hetuflow.run("job", "show", "made-backup").returncode == 3
    assert hetuflow.run("apply", "-f", file, "--check").returncode == 1
    hetuflow("apply", "-f", file)
    job, schedules = stored(hetuflow, "made-backup")
    assert job["environment"] == {"WHAT": "no", "COUNT": 3}
    assert (job["config"]["cmd"], job["config"]["args"]) == ("bash", ["-c", "echo backup of $WHAT"])
    assert (job["config"]["timeout"], job["config"]["team"]) == (7200, "storage")
    by_name = {row["name"]: row for row in schedules}
    assert by_name["nightly"]["cron_expression"] == "0 30 2 * * ?"
    assert (by_name["often"]["interval_secs"], by_name["often"]["status"]) == (300, 99)
    assert hetuflow.json("job", "show", "reports/made-report")["status"] == 99
    assert hetuflow("apply", "-f", file) == "nothing to do: all as wanted\n"
    assert hetuflow.json("job", "show", "made-backup")["version"] == job["version"]


def test_a_changed_file_changes_only_that_and_a_member_left_out_gets_its_default(
    hetuflow: Shell, tmp_path: Path
) -> None:
    text = JOBS.format(p="changed")
    hetuflow("apply", "-f", write(tmp_path, text))
    before, _ = stored(hetuflow, "changed-backup")
    text = text.replace("timeout: 2h", "timeout: 3h").replace("    description: every night\n", "")
    text = text.replace("every: 5m", "every: 10m").replace('WHAT: "no", ', "")
    dry = hetuflow("apply", "-f", write(tmp_path, text), "--dry-run")
    assert "config.timeout: 7200 -> 10800" in dry
    assert "description: every night -> (none)" in dry
    assert "environment.WHAT: no -> (none)" in dry
    assert "interval_secs: 300 -> 600" in dry
    assert "1 job and 1 schedule to be changed; 1 as wanted" in dry
    hetuflow("apply", "-f", write(tmp_path, text))
    job, schedules = stored(hetuflow, "changed-backup")
    assert (job["id"], job["description"], job["config"]["timeout"]) == (before["id"], None, 10800)
    assert {row["interval_secs"] for row in schedules} == {None, 600}
    assert "nothing to do" in hetuflow("apply", "-f", write(tmp_path, text))


def test_export_applied_again_changes_nothing(hetuflow: Shell, tmp_path: Path) -> None:
    hetuflow("apply", "-f", write(tmp_path, JOBS.format(p="round")))
    hetuflow(
        "job",
        "create",
        "by-hand",
        "--label",
        "gpu=true",
        "--set",
        "config.resource_limits.max_execution_time_secs=60",
        "--",
        "echo",
        "two\nlines",
        "12:30",
        "no",
    )
    hetuflow("schedule", "add", "by-hand", "--every", "30s", "--disabled")  # without a name
    hetuflow("schedule", "add", "by-hand", "--name", "twice", "--once", "2030-01-01 00:00")
    hetuflow("schedule", "add", "by-hand", "--name", "twice", "--cron", "*/5 * * * *", "--priority", "7")
    hetuflow("job", "create", "by-hand", "--", "true")  # the same name
    position = hetuflow.json("system", "info")["position"]
    written = tmp_path / "all.yaml"
    hetuflow("export", "jobs", "-o", str(written))
    assert hetuflow("apply", "-f", str(written)) == "nothing to do: all as wanted\n"
    as_json = tmp_path / "all.json"
    as_json.write_text(json.dumps(hetuflow.json("export", "jobs")))
    assert hetuflow("apply", "-f", str(as_json), "--check") == "nothing to do: all as wanted\n"
    changes = hetuflow.json("events", "list", "--after", str(position), "--stream", "job", "--all")
    assert changes == []


def test_what_was_exported_is_made_again_after_it_was_deleted(hetuflow: Shell, tmp_path: Path) -> None:
    hetuflow("apply", "-f", write(tmp_path, JOBS.format(p="again")))
    written = write(tmp_path, hetuflow("export", "jobs", "again-backup"), "again.yaml")
    before, schedules = stored(hetuflow, "again-backup")
    hetuflow("job", "delete", "again-backup", "--yes")
    hetuflow("apply", "-f", written)
    after, remade = stored(hetuflow, "again-backup")
    assert after["id"] != before["id"] and after["config"] == before["config"]
    assert {s["name"]: s["cron_expression"] for s in remade} == {s["name"]: s["cron_expression"] for s in schedules}


def test_prune_deletes_only_what_apply_made(hetuflow: Shell, tmp_path: Path) -> None:
    owner = ("--owner", "pruning")
    hetuflow("job", "create", "pruned-by-hand", "--", "true")
    hetuflow("apply", "-f", write(tmp_path, JOBS.format(p="pruned")), *owner)
    hetuflow("schedule", "add", "pruned-backup", "--name", "by-hand", "--every", "1d")
    smaller = JOBS.format(p="pruned").partition("---")[0].partition("      - name: often")[0]
    file = write(tmp_path, smaller)
    assert "nothing to do" in hetuflow("apply", "-f", file, *owner)
    refused = hetuflow.run("apply", "-f", file, "--prune", *owner)
    assert refused.returncode == 4 and "- job reports/pruned-report" in refused.stderr
    done = hetuflow("apply", "-f", file, "--prune", "--yes", *owner)
    assert "1 job and 1 schedule deleted" in done
    _, schedules = stored(hetuflow, "pruned-backup")
    assert {row["name"] for row in schedules} == {"nightly", "by-hand"}
    assert hetuflow.run("job", "show", "pruned-by-hand").returncode == 0
    assert hetuflow.run("job", "show", "reports/pruned-report").returncode == 3
    other = hetuflow.run("apply", "-f", file, "--owner", "somebody")
    assert other.returncode == 4 and "belongs to 'pruning'" in other.stderr


def test_mistakes_are_named_with_file_line_and_member(hetuflow: Shell, tmp_path: Path) -> None:
    text = (
        "jobs:\n- name: wrong\n  comand: x\n  config:\n    timeout: soon\n    max_retires: 2\n"
        "  schedules:\n  - name: a\n    cron: 0 0 25 * * ?\n  - every: 5m\n"
    )
    done = hetuflow.run("apply", "-f", write(tmp_path, text), "--dry-run")
    assert done.returncode == 2
    for line in (
        "jobs.yaml:3: jobs[0].comand: unknown member; did you mean 'command'?",
        "jobs.yaml:5: jobs[0].config.timeout: 'soon' is not a number of seconds",
        "jobs.yaml:6: jobs[0].config.max_retires: unknown member; did you mean 'max_retries'?",
        "jobs.yaml:9: jobs[0].schedules[0].cron: at position 4",
        "jobs.yaml:10: jobs[0].schedules[1].name: is required",
    ):
        assert line in done.stderr, done.stderr


def test_what_the_server_refuses_has_its_place_too_and_the_rest_is_done(hetuflow: Shell, tmp_path: Path) -> None:
    text = "name: refused-one\ncommand: x\nconfig:\n  environment: {1X: a}\n---\nname: refused-two\ncommand: x\n"
    file = write(tmp_path, text)
    done = hetuflow.run("apply", "-f", file)
    assert done.returncode == 2 and "jobs.yaml:4: config.environment.1X" in done.stderr, done.stderr
    assert hetuflow.run("job", "show", "refused-two").returncode == 0


def test_toml_directories_and_stdin(hetuflow: Shell, tmp_path: Path) -> None:
    write(
        tmp_path,
        '[[jobs]]\nname = "toml-one"\ncommand = ["true"]\n[[jobs.schedules]]\nname = "s"\nevery = "1h"\nstart = 2026-01-01T00:00:00Z\n',
        "a.toml",
    )
    (tmp_path / "sub").mkdir()
    write(tmp_path / "sub", "name: toml-two\ncommand: 'true'\n", "b.yml")
    assert "2 jobs and 1 schedule created" in hetuflow("apply", "-f", str(tmp_path))
    assert "nothing to do" in hetuflow("apply", "-f", str(tmp_path / "a.toml"), "-f", str(tmp_path / "sub"))
    wrong = hetuflow.run("apply", "-f", write(tmp_path, '[[jobs]]\nname = "x"\ncommand = 5\n', "c.toml"), "--dry-run")
    assert wrong.returncode == 2 and "c.toml:3: jobs[0].command: must be a list" in wrong.stderr
    done = hetuflow.run("apply", "-f", "-", input="- name: from-stdin\n  command: 'true'\n")
    assert done.returncode == 0 and "1 job created" in done.stdout


FLOW = """
jobs:
  - {{name: {p}-report, command: "true", upstream: {{jobs: ["{p}-load", "{p}-clean:finished"], match: any}}}}
  - {{name: {p}-load, command: "true", upstream: [{p}-extract]}}
  - {{name: {p}-clean, command: "true", upstream: ["default/{p}-extract:failed"]}}
  - {{name: {p}-extract, command: "true"}}
"""


def test_jobs_that_follow_each_other_are_made_in_their_order_and_exported_by_name(
    hetuflow: Shell, tmp_path: Path
) -> None:
    file = write(tmp_path, FLOW.format(p="flow"))
    hetuflow("apply", "-f", file)
    ids = {name: hetuflow.json("job", "show", f"flow-{name}")["id"] for name in ("extract", "load", "clean", "report")}
    upstream = hetuflow.json("job", "show", "flow-report")["upstream"]
    assert {each["job_id"]: each["on"] for each in upstream["jobs"]} == {
        ids["load"]: "succeeded",
        ids["clean"]: "finished",
    }
    assert upstream["match"] == "any"
    assert "nothing to do" in hetuflow("apply", "-f", file)
    shown = hetuflow("job", "show", "flow-clean")
    assert "flow-extract (failed)" in shown and "flow-report" in shown
    exported = hetuflow("export", "jobs", "flow-report", "flow-load")
    assert "flow-clean:finished" in exported
    assert "nothing to do" in hetuflow("apply", "-f", write(tmp_path, exported, "again.yaml"))
    turned = FLOW.format(p="flow").replace("upstream: [flow-extract]", "description: first now")
    turned = turned.replace(
        'name: flow-extract, command: "true"', 'name: flow-extract, command: "true", upstream: [flow-load]'
    )
    hetuflow("apply", "-f", write(tmp_path, turned, "turned.yaml"))
    assert hetuflow.json("job", "show", "flow-load")["upstream"] is None
    assert hetuflow.json("job", "show", "flow-extract")["upstream"]["jobs"][0]["job_id"] == ids["load"]


def test_an_upstream_job_that_there_is_not_is_refused_with_its_place(hetuflow: Shell, tmp_path: Path) -> None:
    file = write(tmp_path, "name: lonely\ncommand: x\nupstream: [nobody-of-this-name]\n")
    done = hetuflow.run("apply", "-f", file)
    assert done.returncode != 0 and "nobody-of-this-name" in done.stderr and "jobs.yaml" in done.stderr
    assert hetuflow.run("job", "show", "lonely").returncode == 3


def test_upstream_as_options(hetuflow: Shell) -> None:
    hetuflow("job", "create", "up-a", "--", "true")
    hetuflow("job", "create", "up-b", "--upstream", "up-a:failed", "--", "true")
    assert hetuflow.json("job", "show", "up-b")["upstream"]["jobs"][0]["on"] == "failed"
    hetuflow("job", "update", "up-b", "--upstream-match", "any")
    assert hetuflow.json("job", "show", "up-b")["upstream"]["match"] == "any"
    wrong = hetuflow.run("job", "update", "up-b", "--upstream", "up-a:done")
    assert wrong.returncode == 2 and "succeeded, failed, finished" in wrong.stderr
    circle = hetuflow.run("job", "update", "up-a", "--upstream", "up-b")
    assert circle.returncode != 0 and "up-b (" in circle.stderr and " -> " in circle.stderr
    hetuflow("job", "update", "up-b", "--clear", "upstream")
    assert hetuflow.json("job", "show", "up-b")["upstream"] is None
