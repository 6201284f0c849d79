"""Every noun and verb once, against a real server; names, moments, filters and exit statuses."""

from __future__ import annotations

import json
from pathlib import Path

from tests.cli.conftest import Shell, until


def test_names_beginnings_and_ids_mean_the_same_and_what_is_ambiguous_is_listed(hetuflow: Shell) -> None:
    one = hetuflow.json("job", "create", "alpha-one", "--", "true")["id"]
    two = hetuflow.json("job", "create", "alpha-two", "--namespace", "ns", "--", "true")["id"]
    for text in ("alpha-one", "alpha-o", one, one.upper(), "default/alpha-one"):
        assert hetuflow.json("job", "show", text)["id"] == one
    assert hetuflow.json("job", "show", "ns/alpha-two")["id"] == two
    done = hetuflow.run("job", "show", "alpha")
    assert done.returncode == 2 and one in done.stderr and two in done.stderr
    assert hetuflow.run("job", "delete", "alpha-o", "--yes").returncode == 3  # no beginnings where it removes
    absent = hetuflow.run("job", "show", "01900000-0000-7000-8000-000000000000")
    assert absent.returncode == 3 and len(absent.stderr.splitlines()) == 1


def test_job_update_changes_what_it_names(hetuflow: Shell) -> None:
    hetuflow("job", "create", "edited", "--description", "d", "--timeout", "1h", "--", "echo", "a")
    hetuflow(
        "job", "update", "edited", "--timeout", "90m", "--set", "config.capture_output=false", "--clear", "description"
    )
    row = hetuflow.json("job", "show", "edited")
    assert (row["config"]["timeout"], row["config"]["capture_output"], row["description"]) == (5400, False, None)
    assert row["config"]["args"] == ["a"]
    assert hetuflow.run("job", "update", "edited").returncode == 2
    wrong = hetuflow.run("job", "update", "edited", "--set", "nmae=x")
    assert wrong.returncode == 2 and "name" in wrong.stderr


def test_lists_filter_sort_limit_and_say_what_they_left_out(hetuflow: Shell) -> None:
    for name in ("sorted-b", "sorted-a", "sorted-c"):
        hetuflow("job", "create", name, "--", "true")
    where = '{"name": {"$startsWith": "sorted-"}}'
    rows = hetuflow.json("job", "list", "--filter", where, "--sort", "-name", "-n", "2")
    assert [row["name"] for row in rows] == ["sorted-c", "sorted-b"]
    assert "2 of 3; more with -n or --all" in hetuflow.run("job", "list", "--filter", where, "-n", "2").stderr
    assert len(hetuflow.json("job", "list", "--filter", where, "--since", "1h", "--all")) == 3
    assert hetuflow.json("job", "list", "--filter", where, "--until", "1h") == []
    assert hetuflow.run("job", "list", "--filter", "{").returncode == 2
    wrong = hetuflow.run("job", "list", "--sort", "nmae")
    assert wrong.returncode == 2 and "name" in wrong.stderr
    assert hetuflow.run("task", "list", "--since", "soon").returncode == 2


def test_as_of_shows_the_past_by_position_and_by_time(hetuflow: Shell) -> None:
    hetuflow("job", "create", "past", "--description", "before", "--", "true")
    position = str(hetuflow.json("system", "info")["position"])
    hetuflow("job", "update", "past", "--description", "after")
    hetuflow("job", "delete", "past", "--yes")
    assert hetuflow.json("job", "show", "past", "--as-of", position)["description"] == "before"
    assert "past" in {row["name"] for row in hetuflow.json("job", "list", "--as-of", position, "--all")}
    assert hetuflow.run("job", "show", "past", "--as-of", "1").returncode == 3


def test_a_schedule_is_changed_run_and_looked_ahead(hetuflow: Shell) -> None:
    hetuflow("job", "create", "planned", "--", "echo", "ran")
    hetuflow("schedule", "add", "planned", "--name", "plan", "--cron", "0 30 2 * * ?", "--timezone", "Europe/Berlin")
    hetuflow("schedule", "update", "plan", "--cron", "0 0 3 * * ?", "-p", "day=monday", "--max-age", "2h")
    assert hetuflow.json("schedule", "show", "plan")["cron_expression"] == "0 0 3 * * ?"
    window = ("--from", "2026-01-05T00:00:00Z", "--to", "2026-01-07T23:00:00Z")
    made = hetuflow("schedule", "backfill", "plan", *window, "--max-concurrent", "3", "--wait")
    assert "3 moments from" in made and "3 made, 3 succeeded, 0 failed, 0 cancelled, 0 left out" in made
    again = hetuflow.json("schedule", "backfill", "plan", *window, "--wait")
    assert (again["made"], again["left_out"], again["status"]) == (0, 3, "finished")
    assert "3/3" in hetuflow("schedule", "backfills", "plan")
    hetuflow("schedule", "cancel-backfill", again["id"])
    wrong = hetuflow.run("schedule", "backfill", "plan", "--from", "2026-01-05", "--to", "2026-01-04")
    assert wrong.returncode == 2 and "to: must not be before from" in wrong.stderr
    assert "It will fire then." in hetuflow("schedule", "explain", "plan", "--at", "2057-03-24T02:00:00Z")
    hetuflow("schedule", "pause", "plan", "--note", "holidays")
    told = hetuflow.json("schedule", "explain", "plan", "--at", "2057-03-24T02:00:00Z")
    assert told["code"] == "schedule_disabled" and "(holidays)" in told["summary"]
    assert "holidays" in hetuflow("schedule", "show", "plan")
    hetuflow("schedule", "resume", "plan")
    assert hetuflow.json("schedule", "show", "plan")["status_note"] is None
    hetuflow("job", "disable", "planned", "--note", "broken")
    assert "broken" in hetuflow("job", "show", "planned")
    hetuflow("job", "enable", "planned", "--note", "repaired")
    assert "nothing older than 7200 s" in hetuflow("schedule", "show", "plan")
    assert hetuflow("schedule", "run", "plan", "--wait") == "ran\n"
    ahead = hetuflow.json("schedule", "next", "plan", "-n", "3", "--after", "2027-03-26T12:00:00Z")
    assert [one["local"][:16] for one in ahead["result"]] == [
        "2027-03-27T03:00",
        "2027-03-28T03:00",
        "2027-03-29T03:00",
    ]
    shown = hetuflow(
        "schedule",
        "preview",
        "--cron",
        "0 30 2 * * ?",
        "--timezone",
        "Europe/Berlin",
        "--after",
        "2027-03-27T12:00:00Z",
    )
    assert "right after the gap" in shown


def test_tasks_are_made_later_in_batches_changed_and_removed(hetuflow: Shell) -> None:
    hetuflow("job", "create", "made", "--", "true")
    later = hetuflow.json("task", "create", "made", "--at", "2035-01-01 00:00", "--name", "later", "-p", "a=b")["id"]
    hetuflow("task", "update", later, "--priority", "7", "--set", "config.timeout=5")
    row = hetuflow.json("task", "show", "later")
    assert (row["priority"], row["config"]["timeout"], row["parameters"]) == (7, 5, {"a": "b"})
    assert "scheduled_later" in json.dumps(hetuflow.json("explain", "later"))
    hetuflow("task", "cancel", later)
    hetuflow("task", "delete", later, "--yes")
    assert "later" not in {row["name"] for row in hetuflow.json("task", "list", "--job", "made")}
    lines = "".join(f'{{"job": "made", "name": "batch-{n}"}}\n' for n in range(20))
    done = hetuflow.run("task", "batch", "-", input=lines)
    assert done.returncode == 0 and len(done.stdout.split()) == 20, done.stderr
    wrong = hetuflow.run("task", "batch", "-", input="tasks:\n- {job: made, priority: high}\n")
    assert wrong.returncode == 2 and "tasks[0].priority" in wrong.stderr


def test_what_was_deleted_is_said_in_one_form(hetuflow: Shell, tmp_path: Path) -> None:
    job = hetuflow.json("job", "create", "leaving", "--label", "nowhere=true", "--", "true")["id"]
    schedule = hetuflow.json("schedule", "add", "leaving", "--name", "leaves", "--cron", "0 8 * * *")["id"]
    tasks = [hetuflow.json("job", "run", "leaving")["id"] for _ in range(2)]
    [instance] = hetuflow.json("instance", "list", "--task", tasks[0])
    hetuflow("instance", "update", instance["id"], "--status", "running")
    hetuflow("instance", "update", instance["id"], "--status", "succeeded")
    hetuflow("task", "cancel", tasks[1])
    hetuflow("calendars", "add", "gone", "--date", "12-25")
    hetuflow("agents", "create", "leaver", "--id", "leaver")
    (tmp_path / "file").write_text("leaves")
    [kept] = hetuflow.json("files", "put", str(tmp_path / "file"))
    for noun, verb, each in (
        ("schedule", "delete", schedule),
        ("instance", "delete", instance["id"]),
        ("calendars", "delete", "gone"),
        ("agents", "remove", "leaver"),
        ("files", "delete", kept["id"]),
    ):
        assert hetuflow.json(noun, verb, each, "--yes") == {"id": each, "deleted": True}
    assert hetuflow.json("task", "delete", *tasks, "--yes") == [{"id": each, "deleted": True} for each in tasks]
    assert hetuflow.json("job", "delete", "leaving", "--yes") == {"id": job, "deleted": True}


def test_an_execution_outside_is_reported(hetuflow: Shell) -> None:
    hetuflow("job", "create", "outside", "--label", "nowhere=true", "--", "true")
    task = hetuflow.json("job", "run", "outside")["id"]
    [row] = hetuflow.json("instance", "list", "--task", task)
    hetuflow("instance", "update", row["id"], "--status", "running")
    hetuflow("instance", "update", row["id"], "--status", "succeeded", "--exit-code", "0", "--output", "hello")
    assert hetuflow.json("instance", "show", row["id"])["external"] is True
    assert hetuflow.json("task", "show", task)["status"] == 100


def test_agents_are_labelled_drained_and_shown(hetuflow: Shell) -> None:
    assert hetuflow("agents", "labels", "agent-01", "gpu=true", "zone=a") == "gpu=true\nzone=a\n"
    assert hetuflow("agents", "labels", "agent-01", "zone-") == "gpu=true\n"
    assert [row["id"] for row in hetuflow.json("agents", "list", "--label", "gpu=true")] == ["agent-01"]
    hetuflow("agents", "labels", "agent-01", "--reset")
    hetuflow("agents", "drain", "agent-01", "--reason", "new disk")
    assert "draining" in hetuflow("agents") and "new disk" in hetuflow("agents", "show", "agent-01")
    hetuflow("agents", "undrain", "agent-01")
    until(lambda: hetuflow.json("agents", "show", "agent-01")["draining"] is False)
    hetuflow("agents", "create", "spare", "--id", "spare-1", "--slots", "2")
    hetuflow("agents", "update", "spare-1", "--description", "in the cupboard")
    assert hetuflow.json("agents", "show", "spare")["description"] == "in the cupboard"
    hetuflow("agents", "remove", "spare-1", "--yes")
    assert hetuflow.run("agents", "show", "spare-1").returncode == 3


def test_events_are_posted_once_and_listed(hetuflow: Shell) -> None:
    posted = hetuflow.json("events", "post", "file.created", "-d", '{"path": "/a.csv"}', "--id", "one")
    assert posted["duplicate"] is False
    assert "known already" in hetuflow("events", "post", "file.created", "-d", '{"path": "/a.csv"}', "--id", "one")
    assert hetuflow.run("events", "post", "file.created", "-d", "{}", "--id", "one").returncode == 4
    [record] = hetuflow.json("events", "list", "--event-type", "file.created", "--since", "1h")
    assert record["position"] == posted["position"]
    assert hetuflow.json("events", "list", "--reverse", "-n", "1")[0]["position"] >= posted["position"]


def test_servers_gateway_and_system(hetuflow: Shell) -> None:
    [row] = hetuflow.json("servers")
    hetuflow("servers", "update", row["name"], "--description", "the only one")
    assert hetuflow.json("servers", "show", row["id"])["description"] == "the only one"
    assert hetuflow.run("servers", "remove", row["id"], "--yes").returncode == 4
    assert "agent-01" in hetuflow("gateway", "status")
    assert "sent fetch_metrics" in hetuflow("gateway", "command", "fetch_metrics", "agent-01")
    assert hetuflow.run("gateway", "command", "fetch_metrics", "nobody").returncode == 3
    assert "healthy" in hetuflow("system", "health")
    assert "events.position" in hetuflow("system", "metrics") and "version" in hetuflow("system", "info")


def test_times_are_utc_on_request(hetuflow: Shell) -> None:
    row = hetuflow.json("job", "create", "zoned", "--", "true")
    created = hetuflow.json("job", "show", row["id"])["created_at"]
    assert created[:19].replace("T", " ") + "Z" in hetuflow("job", "show", "zoned", "--utc")


def test_a_daemon_is_kept_changed_looked_at_and_stopped(hetuflow: Shell) -> None:
    hetuflow("job", "create", "web", "--", "sleep", "1000")
    made = hetuflow("schedule", "add", "web", "--name", "keeper", "--daemon", "--instances", "2", "--backoff", "1s")
    assert "keeps 2 instances running, from now on" in made
    until(lambda: "2 of 2 running." in hetuflow("schedule", "show", "keeper"))
    row = hetuflow.json("schedule", "show", "keeper")
    assert (row["daemon"]["instances"], row["daemon"]["backoff_initial_seconds"]) == (2, 1)
    hetuflow("schedule", "update", "keeper", "--instances", "1", "--restart-limit", "5")
    row = hetuflow.json("schedule", "show", "keeper")
    assert (row["daemon"]["instances"], row["daemon"]["backoff_initial_seconds"]) == (1, 1), "the others stay"
    until(lambda: "1 of 1 running." in hetuflow("schedule", "explain", "keeper"))
    hetuflow("schedule", "pause", "keeper", "--note", "maintenance")
    until(lambda: "Not running: the schedule is disabled." in hetuflow("schedule", "show", "keeper"))
    wrong = hetuflow.run("schedule", "add", "web", "--every", "5m", "--instances", "2")
    assert wrong.returncode == 2 and "--instances is only for --daemon" in wrong.stderr
    wrong = hetuflow.run("schedule", "add", "web", "--daemon", "--set", "daemon.instancs=2")
    assert wrong.returncode == 2 and "instances" in wrong.stderr
    exported = hetuflow("export", "jobs", "web")
    assert "daemon:\n" in exported and "restart_limit: 5" in exported
