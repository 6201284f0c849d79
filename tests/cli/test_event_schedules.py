"""Event schedules from the command line: added, fired, looked at."""

from __future__ import annotations

from tests.cli.conftest import Shell, until


def test_a_job_that_runs_on_an_event(hetuflow: Shell) -> None:
    hetuflow("job", "create", "importer", "--", "bash", "-c", "echo $HETUFLOW_PARAM_PATH $HETUFLOW_EVENT_TYPE")
    added = hetuflow(
        *("schedule", "add", "importer", "--name", "inbox", "--on-event", "cli.file.*", "--debounce", "0"),
        *("--where", "path=/nowhere/*.csv", "--filter", '{"size": {"$gt": 10}}'),
    )
    assert "runs on each event cli.file.* that fits" in added
    stored = hetuflow.json("schedule", "show", "inbox")
    assert stored["event_filter"] == {"path": "/nowhere/*.csv", "size": {"$gt": 10}}
    assert (stored["kind"], stored["event_type"]) == ("event", "cli.file.*")
    for size in (5, 50):
        data = f'{{"path": "/nowhere/a.csv", "size": {size}}}'
        recorded = hetuflow.json("events", "post", "cli.file.created", "-d", data)
    position = str(recorded["position"])
    until(lambda: "TaskSucceeded" in hetuflow("events", "effects", position))
    led_to = hetuflow("events", "effects", position)
    assert "ScheduleFired" in led_to and led_to.count("TaskCreated") == 1
    assert hetuflow("task", "logs", "importer") == "/nowhere/a.csv cli.file.created\n"
    assert f"cli.file.created, at position {position}" in hetuflow("task", "show", "importer")
    explained = hetuflow("explain", "importer")
    assert f"caused by  event {recorded['position']}" in explained
    assert "Event cli.file.created (/nowhere/a.csv)" in explained
    assert "on cli.file.*" in hetuflow("schedule", "list")
    assert "outcome   fired" in hetuflow("schedule", "explain", "inbox", "--event", position)
    before = str(int(position) - 1)
    assert 'size: wanted {"$gt": 10}, the event has 5' in hetuflow("schedule", "explain", "inbox", "--event", before)


def test_mistakes_are_named(hetuflow: Shell) -> None:
    hetuflow("job", "create", "mistaken", "--", "true")
    for options, said in (
        (("--on-event", "task.faild"), 'the nearest is "task.failed"'),
        (("--on-event", "x", "--filter", '{"size": {"$gtt": 1}}'), "event_filter.size.$gtt"),
        (("--on-event", "x", "--where", "nothing"), "--where"),
        (("--on-event", "x", "--every", "5s"), "give only one of"),
    ):
        done = hetuflow.run("schedule", "add", "mistaken", *options)
        assert done.returncode == 2 and said in done.stderr


def test_a_schedule_whose_files_no_agent_watches_says_so(hetuflow: Shell) -> None:
    hetuflow("job", "create", "relative", "--", "true")
    add = ("schedule", "add", "relative", "--on-event", "file.created")
    assert "no agent watches files" in hetuflow(*add, "--where", "path=in/*.csv", "--name", "files")
    assert "no agent watches files" not in hetuflow("schedule", "update", "files", "--where", "path=/data/in/*.csv")
    assert "no agent" not in hetuflow("schedule", "add", "relative", "--on-event", "task.failed", "--name", "chain")
    assert "when late" not in hetuflow("schedule", "show", "files")  # it has no nominal times
