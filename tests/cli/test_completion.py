"""Completion in the shell: names come from the server, and a server that is away is met with silence."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys

import pytest

from tests.cli.conftest import Shell


def complete(url: str, line: str) -> subprocess.CompletedProcess[str]:
    """What bash would be told for the last word of the line."""
    words = line.split(" ")
    return subprocess.run(
        [sys.executable, "-m", "hetuflow.cli.main"],
        capture_output=True,
        text=True,
        timeout=60,
        env=os.environ
        | {
            "HETUFLOW_SERVER": url,
            # the name of the program is that of the module here
            **{f"_{name}_COMPLETE": "bash_complete" for name in ("HETUFLOW", "PYTHON__M_HETUFLOW.CLI.MAIN")},
            "COMP_WORDS": line,
            "COMP_CWORD": str(len(words) - 1),
        },
    )


def test_names_of_jobs_schedules_and_agents_are_completed(hetuflow: Shell) -> None:
    hetuflow("job", "create", "complete-me", "--", "true")
    hetuflow("schedule", "add", "complete-me", "--name", "complete-nightly", "--every", "1d")
    for line, expected in (
        ("hetuflow job show comp", ["complete-me"]),
        ("hetuflow schedule next comp", ["complete-nightly"]),
        ("hetuflow agents drain agent-", ["agent-01"]),
        ("hetuflow job run nothing-like-that", []),
    ):
        done = complete(hetuflow.url, line)
        assert [text.partition(",")[2] for text in done.stdout.split()] == expected, (line, done)
        assert done.stderr == ""


def test_a_server_that_is_away_completes_nothing_and_says_nothing() -> None:
    done = complete("http://127.0.0.1:1", "hetuflow job show a")
    assert (done.returncode, done.stdout.strip(), done.stderr) == (0, "", "")


def test_commands_and_options_are_completed_without_a_server() -> None:
    assert "plain,schedule" in complete("http://127.0.0.1:1", "hetuflow sch").stdout
    assert "plain,--follow" in complete("http://127.0.0.1:1", "hetuflow job run x --fo").stdout


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_script_for_each_shell_is_one_that_it_reads(shell: str) -> None:
    done = Shell("http://127.0.0.1:1").run("completion", shell)
    assert done.returncode == 0 and "_HETUFLOW_COMPLETE" in done.stdout
    if shutil.which(shell):
        checked = subprocess.run([shell, "-n"], input=done.stdout, capture_output=True, text=True, timeout=60)
        assert checked.returncode == 0, checked.stderr
