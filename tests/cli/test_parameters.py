"""Declared parameters, templates and retries, as a person types them, with real agents and programs."""

from __future__ import annotations

import pytest

from hetuflow.cli.parameters import declared
from tests.cli.conftest import Shell, until

HOSTILE = "a\"b 'c' $(touch hacked) `touch hacked` \\ ; touch hacked #\n{{ params.n }}"


def test_a_value_reaches_the_script_of_a_shell_as_one_word(hetuflow: Shell) -> None:
    script = "printf '<%s>' {{ params.v }} \"q{{ params.v }}q\" '{{ params.v }}'; ls; printf '<%s>' \"$1\""
    hetuflow("job", "create", "hostile", "--declare", "v:string", "--", "bash", "-c", script, "_", "{{ params.v }}")
    assert hetuflow("job", "run", "hostile", "--wait", "-p", f"v={HOSTILE}") == (
        f"<{HOSTILE}><q{HOSTILE}q><{HOSTILE}><{HOSTILE}>"
    )


def test_values_are_read_by_their_declaration_and_defaults_are_filled_in(hetuflow: Shell) -> None:
    hetuflow(
        *(
            "job",
            "create",
            "typed",
            "--declare",
            "n:integer",
            "--declare",
            "list:array=[1, 2]",
            "--declare",
            "s:string?",
        ),
        *("--", "echo", "{{ params.n }} {{ params.list | join('+') }} {{ params.s is defined }}"),
    )
    assert hetuflow("job", "run", "typed", "--wait", "-p", "n=7") == "7 1+2 false\n"
    assert hetuflow("job", "run", "typed", "--wait", "-p", "n=7", "-p", 'list=["x"]', "-p", "s=3") == "7 x true\n"
    shown = hetuflow("job", "show", "typed")
    assert "n: integer, required" in shown and "list: array = [1, 2]" in shown and "s: string, optional" in shown


def test_what_does_not_fit_is_refused_and_named(hetuflow: Shell) -> None:
    hetuflow(
        "job", "create", "strict", "--declare", "day:date", "--declare", "n:integer=3", "--", "echo", "{{ params.day }}"
    )
    for arguments, says in (
        ((), "parameters.day: is required by the job"),
        (("-p", "dya=2026-01-01"), 'the nearest is "day"'),
        (("-p", "day=soon"), "must be a date such as 2026-01-31"),
        (("-p", "day=2026-01-01", "-p", "n=x"), "'x' is not a value of type integer"),
    ):
        done = hetuflow.run("job", "run", "strict", *arguments)
        assert says in done.stderr and done.returncode == 2
    assert hetuflow.run("schedule", "add", "strict", "--every", "1h").returncode == 2
    assert hetuflow.run("job", "create", "x", "--declare", "day", "--", "true").returncode == 2


def test_a_preview_of_a_run_runs_nothing(hetuflow: Shell) -> None:
    hetuflow(
        "job", "create", "previewed", "--declare", "day:date", "--", "bash", "-c", "echo {{ params.day | days(-1) }}"
    )
    shown = hetuflow("job", "render", "previewed", "-p", "day=2026-03-01")
    assert "HETUFLOW_ARG_1" in shown and "2026-02-28" in shown
    assert hetuflow.json("job", "render", "previewed", "-p", "day=2026-03-01")["args"] == [
        "-c",
        'echo "${HETUFLOW_ARG_1?}"',
    ]
    assert hetuflow.json("task", "list", "--job", "previewed") == []


def test_a_fire_that_does_not_fit_any_more_is_a_failed_task_that_says_why(hetuflow: Shell) -> None:
    hetuflow("job", "create", "drifting", "--declare", "n:integer", "--", "echo", "{{ params.n }}")
    hetuflow("schedule", "add", "drifting", "--name", "drift", "--every", "1s", "-p", "n=5")
    done = hetuflow.run("job", "update", "drifting", "--set", "config.params.n.maximum=4")
    assert done.returncode == 0 and "tasks of schedule drift will fail: parameters.n must be ≤ 4, got 5" in done.stderr
    failed = until(lambda: hetuflow.json("task", "list", "--job", "drifting", "--status", "failed"))
    assert "not started: parameters.n: must be ≤ 4, got 5" in hetuflow("explain", failed[0]["id"])
    assert hetuflow.json("schedule", "show", "drift")["status"] == 100
    hetuflow("schedule", "disable", "drift")


def test_retries_follow_the_policy_and_the_last_result_says_why_it_was_the_last(hetuflow: Shell) -> None:
    script = "[ $HETUFLOW_ATTEMPT -ge 3 ] && exit 2; exit 1"
    hetuflow(
        *("job", "create", "flaky", "--max-retries", "9", "--retry-interval", "1", "--retry", "exponential"),
        *("--retry-max", "1", "--retry-jitter", "1", "--retry-exit-codes", "!2", "--retry-on", "exit-code,lost"),
        *("--retry-elsewhere", "--", "bash", "-c", script),
    )
    task = hetuflow.json("job", "run", "flaky")["id"]
    until(lambda: hetuflow.json("task", "show", task)["status"] == 90)
    assert hetuflow.json("task", "show", task)["attempt"] == 3
    assert "Not retried: exit code 2 is excluded by retry.exit_codes" in hetuflow("explain", task)
    assert "not after exit code 2" in hetuflow("job", "show", "flaky")


@pytest.mark.parametrize(
    ("text", "declaration"),
    [
        ("day:date", {"type": "date", "required": True}),
        ("n:integer=3", {"type": "integer", "default": 3}),
        ("s:String=a=b:c", {"type": "string", "default": "a=b:c"}),
        ("s:string?", {"type": "string"}),
        ("b:boolean=TRUE", {"type": "boolean", "default": True}),
        ("x:number=1.5", {"type": "number", "default": 1.5}),
    ],
)
def test_declarations_in_one_word(text: str, declaration: dict[str, object]) -> None:
    assert declared([text]) == {f"config.params.{text.partition(':')[0]}": declaration}
