"""`hetuflow-agent restart`: the agent of this state directory begins a new life, with the code that is installed now.

It is found by what it says of itself (`agent.status`): pid, start time and boot. The same process goes on, so the number
of its start tells that the new life is there.
"""

from __future__ import annotations

import json
import signal
import time
from collections.abc import Callable
from typing import Final

import click
from attrs import define

from agent import host, process_tree
from agent.status import Status, read_status
from hetuflow.ports.real import SystemDisk

POLL_SECONDS: Final = 0.05
KEEP_SECONDS_MAX: Final = 60.0
"""Until the next life is connected, unless `--timeout` says otherwise."""
SIGNALS: Final = {"keep": signal.SIGUSR1, "drain": signal.SIGUSR2}


class RestartError(Exception):
    """It did not come to a new life; the message says why."""


@define
class Restart:
    """One restart. `say` hears what happens, line by line."""

    state_dir: str
    how: str
    timeout_seconds: float | None
    say: Callable[[str], None]

    def run(self) -> tuple[Status, Status]:
        """The life before and the one after. Raises `RestartError`."""
        before = self._agent()
        self.say(_announcement(before, self.how))
        try:
            process_tree.send_to(before.pid, before.start_time, SIGNALS[self.how])
        except PermissionError as exc:
            raise RestartError(f"process {before.pid} belongs to somebody else: run this as its user, or root") from exc
        except ProcessLookupError as exc:
            raise RestartError(f"the agent (process {before.pid}) has just ended") from exc
        return before, self._follow(before)

    def _agent(self) -> Status:
        found = read_status(self.state_dir)
        if found is None:
            raise RestartError(f"no agent has run in {self.state_dir}: name its directory with --state-dir")
        if not found.is_alive or found.boot_id not in ("", host.boot_id(SystemDisk())):
            raise RestartError(f"the agent of {self.state_dir} does not run (its last process was {found.pid})")
        if found.state == "stopping":
            raise RestartError(f"the agent (process {found.pid}) is stopping")
        return found

    def _follow(self, before: Status) -> Status:
        deadline = None if self.timeout_seconds is None else time.monotonic() + self.timeout_seconds
        shown: int | None = None
        has_begun = False
        while deadline is None or time.monotonic() < deadline:
            now = read_status(self.state_dir) or before
            if now.incarnation > before.incarnation:
                if not has_begun:
                    has_begun = True
                    self.say(f"life {now.incarnation} has begun: version {now.version}, {_tasks(now.running)}")
                if now.connected:
                    self.say("connected")
                    return now
            elif now.state == "stopping":
                raise RestartError("the agent was told to stop meanwhile")
            elif now.state == "draining" and now.running != shown:
                shown = now.running
                self.say(f"{_tasks(shown)} left")
            if not now.is_alive:
                raise RestartError(f"the agent (process {before.pid}) has ended; its log says why")
            time.sleep(POLL_SECONDS)
        what = "is not connected yet" if has_begun else "has not begun"
        raise RestartError(f"the next life {what} after {self.timeout_seconds:g} s; it goes on")


def restart(state_dir: str, how: str, *, timeout_seconds: float | None, json_: bool) -> int:
    """The exit status: 0 = the next life is connected, 1 = it is not."""
    if timeout_seconds is None and how == "keep":
        timeout_seconds = KEEP_SECONDS_MAX
    began = time.monotonic()
    try:
        before, after = Restart(state_dir, how, timeout_seconds, _quiet if json_ else click.echo).run()
    except RestartError as exc:
        if json_:
            click.echo(json.dumps({"restarted": False, "error": str(exc)}))
        else:
            click.echo(f"hetuflow-agent: {exc}", err=True)
        return 1
    if json_:
        click.echo(
            json.dumps(
                {
                    "restarted": True,
                    "agent_id": after.agent_id,
                    "pid": after.pid,
                    "how": how,
                    "before": {"incarnation": before.incarnation, "version": before.version},
                    "after": {"incarnation": after.incarnation, "version": after.version, "running": after.running},
                    "seconds": round(time.monotonic() - began, 3),
                }
            )
        )
    return 0


def _announcement(agent: Status, how: str) -> str:
    who = f"agent {agent.agent_id} (process {agent.pid}, life {agent.incarnation}, version {agent.version})"
    if how == "keep":
        return f"{who} restarts at once; what it runs goes on meanwhile"
    return f"{who} takes nothing new, and restarts when what it runs has ended"


def _tasks(count: int) -> str:
    return f"{count} running task{'' if count == 1 else 's'}"


def _quiet(line: str) -> None:
    pass
