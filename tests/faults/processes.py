"""Child processes of the harness, and what is left of other people's."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

import trio
from attrs import define, field

from hetuflow.cli.cluster import _end_with_parent

ROOT = Path(__file__).parents[2]
STOP_SECONDS = 25.0
DIRECTORY_VARIABLE = "FAULTS_DIRECTORY"
"""In the environment of servers and agents: the directory of their cluster. Tells whose they are when the harness is dead."""
LINES_VARIABLE = "FAULTS_LINES"
"""In the environment of runs: where they write their lines."""


@define
class Node:
    """A server or an agent. `is_expected` turns true when somebody ended it on purpose."""

    name: str
    process: subprocess.Popen[bytes]
    log: Path
    is_expected: bool = False
    kills: int = field(default=0)

    @property
    def pid(self) -> int:
        return self.process.pid

    @property
    def is_alive(self) -> bool:
        return self.process.poll() is None

    async def ended(self) -> int:
        """Wait for its end; the exit status, negative for a signal."""
        if self.process.poll() is None:
            descriptor = os.pidfd_open(self.process.pid)
            try:
                await trio.lowlevel.wait_readable(descriptor)
            finally:
                os.close(descriptor)
        return self.process.wait()

    async def kill(self) -> None:
        self.is_expected = True
        self.kills += 1
        self.process.kill()
        await self.ended()

    async def stop(self) -> None:
        """SIGTERM, and SIGKILL when that is not enough."""
        self.is_expected = True
        if self.is_alive:
            self.process.send_signal(signal.SIGCONT)
            self.process.terminate()
        with trio.move_on_after(STOP_SECONDS) as patience:
            await self.ended()
        if patience.cancelled_caught:
            self.process.kill()
            await self.ended()

    def signal(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    def last_words(self) -> str:
        lines = self.log.read_text(errors="replace").strip().splitlines()
        return "\n".join(lines[-15:])


def spawn(
    name: str, arguments: Sequence[str], log: Path, environ: Mapping[str, str], prefix: Sequence[str] = ()
) -> Node:
    """Start a command in a session of its own; its output is appended to the log."""
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("ab") as output:
        process = subprocess.Popen(
            [*prefix, *arguments],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
            cwd=ROOT,
            env={**os.environ, **environ},
            preexec_fn=_end_with_parent,
        )
    return Node(name, process, log)


def with_environment(text: bytes) -> list[int]:
    """The processes whose environment contains those bytes; zombies and strangers have none."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                if text in (entry / "environ").read_bytes():
                    found.append(int(entry.name))
            except OSError:
                continue
    return found


def working_below(directory: Path) -> list[int]:
    """The processes whose working directory lies below that one."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                if os.readlink(entry / "cwd").startswith(f"{directory}/"):
                    found.append(int(entry.name))
            except OSError:
                continue
    return found


def kill_all(pids: Sequence[int]) -> None:
    signal_all(pids, signal.SIGKILL)


def stop_all(pids: Sequence[int]) -> None:
    signal_all(pids, signal.SIGSTOP)


def signal_all(pids: Sequence[int], number: signal.Signals) -> None:
    for pid in pids:
        try:
            os.kill(pid, number)
        except ProcessLookupError:
            continue
