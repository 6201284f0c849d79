"""What a person sees on a terminal of 80 columns and 24 lines."""

from __future__ import annotations

import re

import pytest

from tests.cli.conftest import Shell, until
from tests.support.dev import Dev
from tests.support.terminal import hetuflow_command, terminal

ESCAPE = b"\x1b["


@pytest.fixture(scope="module")
def busy(dev: Dev) -> Shell:
    """A server with a task that runs, one that waits, and one that failed."""
    hetuflow = Shell(dev.url)
    hetuflow("job", "create", "a-job-with-quite-a-long-name", "--", "sleep", "600")
    hetuflow("job", "create", "needs-gpu", "--label", "gpu=true", "--", "true")
    hetuflow("job", "create", "broken", "--max-retries", "0", "--", "bash", "-c", "echo " + "x" * 200 + "; exit 3")
    running = hetuflow.json("job", "run", "a-job-with-quite-a-long-name")["id"]
    hetuflow("job", "run", "needs-gpu")
    hetuflow.run("job", "run", "broken", "--wait")
    hetuflow(
        "schedule", "add", "needs-gpu", "--name", "gpu-nightly", "--cron", "0 30 2 * * ?", "--timezone", "Europe/Berlin"
    )
    until(lambda: hetuflow.json("task", "show", running)["status"] == 10)
    return hetuflow


@pytest.mark.parametrize(
    "command",
    ["job list", "schedule list", "task list", "instance list", "agents", "servers", "system health", "gateway status"],
)
def test_tables_fit_eighty_columns(busy: Shell, command: str) -> None:
    with terminal(hetuflow_command(*command.split()), environ={"HETUFLOW_SERVER": busy.url}) as shown:
        assert shown.until_end() == 0, shown.text
    plain = re.sub(rb"\x1b\[[0-9;?]*[a-zA-Z]", b"", bytes(shown.raw)).decode()
    lines = plain.replace("\r", "").splitlines()
    assert len(lines) > 1 and max(map(len, lines)) <= 80, lines
    head, rows = lines[0], [line for line in lines[1:] if line and not line.startswith("(")]
    if head.startswith(("ID ", "NAME")):  # no row of these is folded into two
        assert len(rows) == len(busy.json(*command.split())), lines


def test_a_short_id_of_a_table_finds_its_task(busy: Shell) -> None:
    with terminal(hetuflow_command("task", "list"), environ={"HETUFLOW_SERVER": busy.url}) as shown:
        shown.until_end()
    short = next(line for line in shown.lines if "needs-gpu" in line).split()[0]
    assert len(short) < 36
    assert busy.json("task", "show", short)["name"] == "needs-gpu"


def test_colours_are_for_terminals_and_not_for_no_color(busy: Shell) -> None:
    environ = {"HETUFLOW_SERVER": busy.url}
    with terminal(hetuflow_command("task", "list"), environ=environ) as shown:
        shown.until_end()
    assert ESCAPE in shown.raw
    with terminal(hetuflow_command("task", "list"), environ={**environ, "NO_COLOR": "1"}) as shown:
        shown.until_end()
    assert not re.search(rb"\x1b\[3\d", bytes(shown.raw)), bytes(shown.raw)
    assert "\x1b" not in busy("task", "list")


def test_top_shows_all_on_80_by_24_and_q_quits(busy: Shell) -> None:
    environ = {"HETUFLOW_SERVER": busy.url}
    with terminal(hetuflow_command("top", "--interval", "0.3"), environ=environ) as shown:
        text = shown.until(lambda text: "q quits" in text)
        for word in ("agent-01", "a-job-with-quite", "needs-gpu", "slots 1/5", "late p50", "healthy"):
            assert word in text, text
        shown.until(lambda text: "/s)" in text)  # the second picture knows rates
        busy("job", "create", "appears", "--label", "gpu=true", "--", "true")
        busy("job", "run", "appears")
        shown.until(lambda text: "appears" in text)
        shown.press("q")
        assert shown.until_end() == 0


def test_top_fits_many_rows_and_counts_the_rest(busy: Shell) -> None:
    for _ in range(30):
        busy("job", "run", "needs-gpu")
    with terminal(hetuflow_command("top"), environ={"HETUFLOW_SERVER": busy.url}) as shown:
        text = shown.until(lambda text: "q quits" in text)
        assert re.search(r"… and \d\d more", text) and "agent-01" in text and text.startswith("hetuflow"), text
        assert shown.lines[-1] == "q quits" or "q quits" in shown.lines, text
        shown.press("q")
        assert shown.until_end() == 0


def test_top_piped_is_one_picture(busy: Shell) -> None:
    text = busy("top")
    assert "agent-01" in text and "needs-gpu" in text and "\x1b" not in text
    assert max(map(len, text.splitlines())) <= 80
    assert busy.json("top")["running_count"] == 1
