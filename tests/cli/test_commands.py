"""The command line against a real server, as a person types it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from tests.cli.conftest import Shell, until
from tests.support.dev import Dev

ROOT = Path(__file__).parents[2]


def test_run_waits_for_the_end_and_prints_the_output(hetuflow: Shell) -> None:
    hetuflow("job", "create", "greet", "-e", "WHO=you", "--", "bash", "-c", "echo hello $WHO $HETUFLOW_PARAM_DAY")
    assert hetuflow("job", "run", "greet", "--wait", "-p", "day=monday") == "hello you monday\n"


def test_run_of_a_failing_job_exits_with_1_and_says_why(hetuflow: Shell) -> None:
    hetuflow("job", "create", "broken", "--max-retries", "0", "--", "bash", "-c", "echo oops >&2; exit 3")
    done = hetuflow.run("job", "run", "broken", "--wait")
    assert done.returncode == 1
    assert "oops" in done.stderr and "3" in done.stderr.splitlines()[-1]


def test_missing_program_is_a_clear_error_on_the_instance(hetuflow: Shell) -> None:
    hetuflow("job", "create", "typo", "--max-retries", "0", "--", "no-such-program")
    done = hetuflow.run("job", "run", "typo", "--wait")
    assert done.returncode == 1 and "no-such-program" in done.stderr


def test_explain_says_how_much_of_the_output_is_missing(hetuflow: Shell) -> None:
    limits = '{"max_output_size_bytes": 100}'
    script = "head -c 5000 /dev/zero | tr '\\0' x"
    hetuflow("job", "create", "floods", "--set", f"config.resource_limits={limits}", "--", "bash", "-c", script)
    hetuflow("job", "run", "floods", "--wait")
    told = hetuflow("explain", "floods")
    assert "Its output was cut at its limit: 4900 of 5000 bytes are missing." in told
    assert told.splitlines()[-1].endswith("(cut at its limit: 4900 of 5000 bytes are missing)")


def test_job_list_and_show_are_tables_for_people(hetuflow: Shell) -> None:
    created = hetuflow.json("job", "create", "shown", "--label", "gpu=true", "--", "echo", "x")
    assert created["id"] in hetuflow("job", "list", "--name", "SHOW")
    shown = hetuflow("job", "show", "shown")
    assert "gpu" in shown and "echo x" in shown
    assert hetuflow.json("job", "show", created["id"])["name"] == "shown"


def test_disable_and_enable(hetuflow: Shell) -> None:
    hetuflow("job", "create", "switched", "--", "true")
    hetuflow("job", "disable", "switched")
    assert hetuflow.json("job", "show", "switched")["status"] == 99
    hetuflow("job", "enable", "switched")
    assert hetuflow.json("job", "show", "switched")["status"] == 100


def test_delete_asks_first(hetuflow: Shell) -> None:
    hetuflow("job", "create", "doomed", "--", "true")
    assert hetuflow.run("job", "delete", "doomed").returncode == 4
    hetuflow("job", "delete", "doomed", "--yes")
    assert "no job is named" in hetuflow.run("job", "show", "doomed").stderr


def test_schedule_fires_and_stops(hetuflow: Shell) -> None:
    hetuflow("job", "create", "ticks", "--", "true")
    created = hetuflow.json("schedule", "add", "ticks", "--every", "1s")
    until(lambda: hetuflow.json("task", "list", "--job", "ticks", "--status", "succeeded"))
    hetuflow("schedule", "disable", created["id"])
    assert "disabled" in hetuflow("schedule", "list", "--job", "ticks")
    task = hetuflow.json("task", "list", "--job", "ticks")[0]
    assert task["trigger"] == "schedule" and task["schedule_id"] == created["id"]


def test_schedule_rule_mistakes_are_named(hetuflow: Shell) -> None:
    hetuflow("job", "create", "ruled", "--", "true")
    wrong = hetuflow.run("schedule", "add", "ruled", "--cron", "0 0 25 * * ?")
    assert wrong.returncode == 2 and "cron_expression" in wrong.stderr
    assert hetuflow.run("schedule", "add", "ruled", "--every", "soon").returncode == 2
    assert hetuflow.run("schedule", "add", "ruled").returncode == 2


def test_cancel_ends_a_running_task_and_retry_opens_it_again(hetuflow: Shell) -> None:
    hetuflow("job", "create", "slow", "--", "sleep", "600")
    task = hetuflow.json("job", "run", "slow")["id"]
    until(lambda: hetuflow.json("task", "show", task)["status"] == 10)
    hetuflow("task", "cancel", task, "--reason", "enough")
    until(lambda: hetuflow.json("task", "show", task)["status"] == 99)
    again = hetuflow.run("task", "cancel", task)
    assert again.returncode == 4 and "Error" in again.stderr
    hetuflow("task", "retry", task)
    until(lambda: hetuflow.json("task", "show", task)["status"] == 10)
    hetuflow("task", "cancel", task)
    until(lambda: hetuflow.json("task", "show", task)["status"] == 99)
    assert len(hetuflow.json("task", "show", task)["instances"]) == 2


def test_logs_keep_the_streams_apart(hetuflow: Shell) -> None:
    hetuflow("job", "create", "talks", "--", "bash", "-c", "echo out; echo err >&2")
    hetuflow("job", "run", "talks", "--wait")
    task = hetuflow.json("task", "list", "--job", "talks")[0]["id"]
    done = hetuflow.run("task", "logs", task)
    assert (done.stdout, done.stderr) == ("out\n", "err\n")
    assert hetuflow("task", "logs", task, "--stream", "stderr") == "err\n"


def test_agents_lists_the_agent(hetuflow: Shell) -> None:
    assert "agent-01" in hetuflow("agents")
    assert hetuflow.json("agents", "--online")[0]["status"] == 100


def test_events_show_tells_the_story_of_a_task(hetuflow: Shell) -> None:
    hetuflow("job", "create", "story", "--", "true")
    hetuflow("job", "run", "story", "--wait")
    task = hetuflow.json("task", "list", "--job", "story")[0]["id"]
    types = [event["type"] for event in hetuflow.json("events", "show", task)]
    assert types == [
        "TaskCreated",
        "TaskLocked",
        "TaskDispatched",
        "InstanceStarted",
        "InstanceSucceeded",
        "TaskSucceeded",
    ]
    assert "TaskSucceeded" in hetuflow("events", "show", f"task-{task}")


def test_events_tail_ends_with_the_newest(hetuflow: Shell) -> None:
    position = hetuflow.json("events", "tail", "--no-follow", "-n", "1")["position"]
    assert position > 0


def test_unknown_names_get_the_nearest_known_one(hetuflow: Shell) -> None:
    hetuflow("job", "create", "nightly-backup", "--", "true")
    assert "'nightly-backup'" in hetuflow.run("job", "show", "nightly-bakup").stderr
    assert "'create'" in hetuflow.run("job", "crate").stderr


def test_projections_are_listed_and_rebuilt(dev: Dev, hetuflow: Shell) -> None:
    url = _database_url(dev)
    before = hetuflow.json("task", "list", "-n", "1000")
    assert "live" in hetuflow("projections", "list", "--database-url", url)
    assert "sched_job" in hetuflow("projections", "list")  # of the server
    hetuflow("projections", "rebuild", "--database-url", url)
    assert hetuflow.json("task", "list", "-n", "1000") == before
    [begun] = hetuflow.json("projections", "rebuild", "servers")
    assert set(begun) == {"name", "id"}


def test_a_misspelt_option_is_not_taken_for_the_program(hetuflow: Shell) -> None:
    wrong = hetuflow.run("job", "create", "x", "--timeot", "5", "true")
    assert wrong.returncode == 2 and "--timeot" in wrong.stderr


def test_a_proxy_for_the_internet_is_not_asked_for_loopback(hetuflow: Shell) -> None:
    done = hetuflow.run_process("job", "list", http_proxy="http://127.0.0.1:1", HTTP_PROXY="http://127.0.0.1:1")
    assert done.returncode == 0, done.stderr


def test_a_missing_extra_is_named(tmp_path: Path) -> None:
    (tmp_path / "asyncpg.py").write_text("raise ModuleNotFoundError(name='asyncpg')")
    done = Shell("http://127.0.0.1:1").run_process(
        *("migrate", "--database-url", "postgresql://x@127.0.0.1/y"), PYTHONPATH=f"{tmp_path}:{ROOT}"
    )
    assert done.returncode == 2 and "hetuflow[server]" in done.stderr and "Traceback" not in done.stderr, done.stderr


def test_no_server_is_exit_status_5_and_says_how_to_start_one() -> None:
    done = Shell("http://127.0.0.1:1").run("job", "list")
    assert done.returncode == 5 and "hetuflow dev" in done.stderr and len(done.stderr.splitlines()) == 1


def test_agent_command_is_the_agent() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "hetuflow.cli.main", "agent", "--help"], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0 and "--server-url" in done.stdout


def _database_url(dev: Dev) -> str:
    line = next(line for line in dev.log.read_text().splitlines() if "psql " in line)
    return line.split("psql ", 1)[1].strip()
