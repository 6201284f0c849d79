"""A value in a shell's script arrives as one word, whatever is in it, and is never read as code; with real shells."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hetuflow.templates import faults, render

SHELLS = [shell for shell in ("bash", "sh", "dash", "zsh", "ksh", "busybox") if shutil.which(shell)]
NAMES = {"params": ("v", "w"), "task": ("id",)}
HOSTILE = st.text(st.sampled_from([*"'\"`$\\;&|<>(){}[]*?~#!=- \n\t%^,.:/a0é字\x7f\x01"]), max_size=30)
VALUES = HOSTILE | st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=30)


def argv(shell: str, script: str, *rest: str) -> tuple[str, list[str]]:
    return ("busybox", ["sh", "-c", script, *rest]) if shell == "busybox" else (shell, ["-c", script, *rest])


def words(cmd: str, args: Sequence[str], tmp_path: Path, **values: Any) -> list[str]:
    """What the program at the end of the script was given."""
    assert faults(cmd, args, NAMES) == []
    rendered = render(cmd, args, {"params": {"v": "", "w": "", **values}, "task": {"id": "t"}})
    done = subprocess.run(
        [cmd, *rendered.args],
        env={**os.environ, **rendered.variables},
        capture_output=True,
        check=True,
        cwd=tmp_path,
    )
    assert done.stderr == b"" and list(tmp_path.iterdir()) == []
    return done.stdout.decode(errors="surrogateescape").split("\0")[:-1]


PLACES = {
    "unquoted": ("printf '%s\\0' {{ params.v }}", "{}"),
    "within a word": ("printf '%s\\0' a={{ params.v }}-b", "a={}-b"),
    "in double quotes": ('printf "%s\\0" "a {{ params.v }} b"', "a {} b"),
    "in single quotes": ("printf '%s\\0' 'a {{ params.v }} b'", "a {} b"),
    "in a variable": ("x={{ params.v }}\nprintf '%s\\0' \"$x\"", "{}"),
    "in a substitution": ('printf "%s\\0" "$(printf %s. {{ params.v }})"', "{}."),
    "in quotes in a substitution in quotes": ('printf "%s\\0" "$(printf "%s." "{{ params.v }}")"', "{}."),
    "after an expansion": ("y=q; printf '%s\\0' \"${y}${y:-none}{{ params.v }}\"", "qq{}"),
    "after a comment": ("# it's a \"comment\n printf '%s\\0' {{ params.v }} # and 'one more", "{}"),
    "after an escape": ("printf '%s\\0' \\'\\\"{{ params.v }}", "'\"{}"),
    "in a case": ("case {{ params.v }} in '') printf 'E\\0' ;; *) printf '%s\\0' \"{{ params.v }}\" ;; esac", "{}"),
    "in a subshell": ("(printf '%s\\0' {{ params.v }})", "{}"),
}


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("shell", SHELLS)
@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(value=VALUES)
def test_a_value_arrives_as_it_is(shell: str, place: str, tmp_path: Path, value: str) -> None:
    script, expected = PLACES[place]
    cmd, args = argv(shell, script)
    wanted = "E" if place == "in a case" and not value else expected.replace("{}", value)
    assert words(cmd, args, tmp_path, v=value) == [wanted]


@pytest.mark.parametrize("shell", SHELLS)
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(first=VALUES, second=VALUES)
def test_beside_the_script_it_is_a_word_too(shell: str, tmp_path: Path, first: str, second: str) -> None:
    cmd, args = argv(shell, "printf '%s\\0' \"$1\" {{ params.w }}", "_", "x{{ params.v }}")
    assert words(cmd, args, tmp_path, v=first, w=second) == ["x" + first, second]


@pytest.mark.parametrize(
    ("script", "why"),
    [
        ("cat <<EOF\n{{ params.v }}\nEOF", "here-document"),
        ("echo `date {{ params.v }}`", "backticks"),
        ("echo $(( {{ params.v }} + 1 ))", "arithmetic"),
        ("(( {{ params.v }} > 1 ))", "arithmetic"),
        ("# {{ params.v }}", "comment"),
        ("echo a \t# {{ params.v }}", "comment"),
        ("echo \\{{ params.v }}", "backslash"),
        ('echo "\\{{ params.v }}"', "backslash"),
        ("echo ${{ params.v }}", "after a $"),
        ("echo $'{{ params.v }}'", "$'…'"),
        ("echo ${x:-{{ params.v }}}", "${…}"),
        ('echo "${x:-"a"}" {{ params.v }}', "${…}"),
        ("echo $(case x in x) echo;; esac; echo {{ params.v }})", "case"),
    ],
)
def test_where_no_value_can_stand_it_is_refused_when_the_job_is_written(script: str, why: str) -> None:
    found = faults("bash", ["-c", script], NAMES)
    assert len(found) == 1 and found[0].index == 1 and why in found[0].message
    assert f"position {script.index('{{') + 1}: " in found[0].message


@pytest.mark.parametrize(
    ("cmd", "args", "script"),
    [
        ("/bin/bash", ["-c", "{{ params.v }}"], 1),
        ("bash", ["-euo", "pipefail", "-c", "{{ params.v }}"], 3),
        ("bash", ["-lc", "{{ params.v }}", "x"], 1),
        ("bash", ["--norc", "--rcfile", "f", "-c", "--", "{{ params.v }}"], 5),
        ("env", ["A=b", "bash", "-c", "{{ params.v }}"], 3),
        ("sudo", ["-u", "app", "sh", "-c", "{{ params.v }}"], 4),
        ("busybox", ["ash", "-c", "{{ params.v }}"], 2),
    ],
)
def test_scripts_are_found_wherever_the_shell_stands(cmd: str, args: list[str], script: int) -> None:
    rendered = render(cmd, args, {"params": {"v": "x; id"}})
    assert rendered.args[script] == '"${HETUFLOW_ARG_1?}"'
    assert rendered.variables == {"HETUFLOW_ARG_1": "x; id"}


@pytest.mark.parametrize(
    ("cmd", "args"),
    [
        ("bash", ["job.sh", "-c", "{{ params.v }}"]),
        ("bash", ["-x", "job.sh", "{{ params.v }}"]),
        ("python3", ["job.py", "-c", "{{ params.v }}"]),
        ("tar", ["-c", "{{ params.v }}"]),
        ("awk", ["-v", "x={{ params.v }}", "{ print x }", "{{ params.v }}"]),
        ("node", ["job.js", "-e", "{{ params.v }}"]),
        ("report", ["--kind", "batch", "{{ params.v }}"]),
        ("env", ["A={{ params.v }}", "report", "{{ params.v }}"]),
    ],
)
def test_other_arguments_have_the_value_itself(cmd: str, args: list[str]) -> None:
    assert faults(cmd, args, NAMES) == []
    rendered = render(cmd, args, {"params": {"v": "x; id"}})
    assert rendered.args == tuple(arg.replace("{{ params.v }}", "x; id") for arg in args)
    assert rendered.variables == {}


@pytest.mark.parametrize(
    ("cmd", "args"),
    [
        ("python3", ["-c", "print({{ params.v }})"]),
        ("python3.12", ["-u", "-c", "print({{ params.v }})"]),
        ("/usr/bin/perl", ["-lne", "print {{ params.v }}"]),
        ("node", ["--eval={{ params.v }}"]),
        ("node", ["-p", "{{ params.v }}"]),
        ("awk", ["-F", ":", "{ print {{ params.v }} }"]),
        ("fish", ["-c", "echo {{ params.v }}"]),
        ("ssh", ["host", "ls {{ params.v }}"]),
        ("ssh", ["{{ params.v }}"]),
        ("su", ["app", "-c", "ls {{ params.v }}"]),
        ("su", ["-c", "ls {{ params.v }}"]),
        ("env", ["python3", "-c", "{{ params.v }}"]),
        ("psql", ["-c", "select {{ params.v }}"]),
        ("psql", ["app", "--command=select {{ params.v }}"]),
        ("sqlite3", ["app.db", "select {{ params.v }}"]),
        ("env", ["-S", "bash -c 'ls {{ params.v }}'"]),
        ("env", ["-iS", "bash -c 'ls {{ params.v }}'"]),
        ("sudo", ["-u", "app", "ssh", "host", "{{ params.v }}"]),
        ("nice", ["tmux", "new", "ls {{ params.v }}"]),
    ],
)
def test_code_that_is_no_script_of_such_a_shell_has_no_values_in_it(cmd: str, args: list[str]) -> None:
    found = faults(cmd, args, NAMES)
    assert len(found) == 1 and "would be part of the code" in found[0].message


@pytest.mark.parametrize(
    ("cmd", "args", "values"),
    [
        ("env", ["{{ params.v }}", "-c", "{{ params.w }}"], {"v": "bash", "w": "id"}),
        ("bash", ["{{ params.v }}", "{{ params.w }}"], {"v": "-c", "w": "id"}),
        ("env", ["python3", "{{ params.v }}", "{{ params.w }}"], {"v": "-c", "w": "id"}),
    ],
)
def test_a_value_cannot_make_another_argument_code(cmd: str, args: list[str], values: dict[str, str]) -> None:
    assert faults(cmd, args, NAMES) == []
    with pytest.raises(ValueError, match="would make an argument the code"):
        render(cmd, args, {"params": values})
