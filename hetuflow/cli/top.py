"""`hetuflow top`: agents, what runs, what waits, and how late, at a glance and again every two seconds."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

import click

from hetuflow.cli import render
from hetuflow.cli.client import Client, Refused, Unreachable
from hetuflow.cli.options import talks_to_server
from hetuflow.cli.top_screen import Sample, screen

ROWS_MAX = 200
"""Of each table: more than any terminal shows."""

INTERVAL_SECONDS = 2.0
WAITING = ["pending", "locked", "waiting_retry"]
UNDERWAY = ["dispatched", "running"]


@click.command(name="top")
@click.option("--interval", type=click.FloatRange(0.2), default=INTERVAL_SECONDS, show_default=True, help="Seconds.")
@click.option("--once", is_flag=True, help="Print it once; so it is when piped, too.")
@talks_to_server
def top(client: Client, interval: float, once: bool, json_: bool) -> None:
    """Watch agents, running tasks, the queue, lateness and throughput. q quits.

    Piped, with --once or with --json it prints one picture and ends.
    """
    if json_:
        render.as_json(take(client).as_json())
    elif once or not (sys.stdin.isatty() and sys.stdout.isatty()):
        out = render.console()
        with out.capture() as picture:
            out.print(screen(take(client), None, client.server, width=out.width, height=None))
        for line in picture.get().splitlines():
            click.echo(line.rstrip())
    else:
        _watch(client, interval)


def take(client: Client) -> Sample:
    """Ask the server for everything that is shown."""
    underway = client.find(
        "task-instances", where={"status": {"$in": UNDERWAY}}, limit=ROWS_MAX, order=["started_at", "created_at"]
    )
    ids = list({row["task_id"] for row in underway.rows})
    names = client.rows("tasks", where={"id": {"$in": ids}}, limit=ROWS_MAX) if ids else []
    waiting = client.find(
        "tasks", where={"status": {"$in": WAITING}}, limit=ROWS_MAX, order=["-priority", "scheduled_at"]
    )
    agents = client.find("agents", where={}, limit=ROWS_MAX, order=["-status", "id"])
    return Sample(
        health=client.get("/system/health"),
        metrics=client.get("/system/metrics"),
        agents=agents.rows,
        agent_count=agents.total,
        running=underway.rows,
        running_count=underway.total,
        names={row["id"]: row["name"] for row in names},
        waiting=waiting.rows,
        waiting_count=waiting.total,
        taken=time.monotonic(),
    )


def _watch(client: Client, interval: float) -> None:
    from rich.live import Live

    sample, before, trouble = take(client), None, ""
    out = render.console()
    with _keys() as wait_for_key, Live(console=out, screen=True, auto_refresh=False) as live:
        while True:
            shown = screen(sample, before, client.server, width=out.width, height=out.height, trouble=trouble)
            live.update(shown, refresh=True)
            if wait_for_key(interval) in ("q", "Q", "\x03", "\x1b"):
                return
            try:
                fresh = take(client)
            except (Unreachable, Refused) as exc:
                trouble = exc.format_message().partition(";")[0]
                continue
            sample, before, trouble = fresh, sample, ""


@contextmanager
def _keys() -> Iterator[_WaitForKey]:
    """Keys without Return and without echo; the terminal is as before in the end."""
    import termios
    import tty

    fd = sys.stdin.fileno()
    before = termios.tcgetattr(fd)
    try:
        tty.setcbreak(fd)
        yield _WaitForKey(fd)
    finally:
        termios.tcsetattr(fd, termios.TCSADRAIN, before)


class _WaitForKey:
    """The next key within so many seconds, else the empty string."""

    def __init__(self, fd: int) -> None:
        self._fd = fd

    def __call__(self, seconds: float) -> str:
        import os
        import select

        ready, _, _ = select.select([self._fd], [], [], seconds)
        return os.read(self._fd, 1).decode("latin-1") if ready else ""
