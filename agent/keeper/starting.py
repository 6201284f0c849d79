"""Starting a keeper, and ending one that does not answer. Agent side."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import trio

from agent import process_tree
from agent.keeper.place import BUSY, Identity, Place
from agent.keeping import KeeperError
from hetuflow.ports.ids import Ids

START_SECONDS_MAX: Final = 30.0
DEATH_SECONDS_MAX: Final = 5.0
COMPLAINTS_BYTES_MAX: Final = 1024 * 1024
"""Of keepers that did not start; one that does begins the file anew."""
ANSWER_BYTES_MAX: Final = 4096
_WATCHDOG: Final = str(Path(__file__).with_name("watchdog.py"))
_ROOT: Final = str(Path(__file__).parent.parent.parent)
_KEPT: Final = ("PATH", "HOME", "LANG", "LC_ALL", "TZ", "TMPDIR", "USER", "LOGNAME", "SHELL")
"""Variables of the agent's own environment that its keeper gets."""


class KeeperBusy(KeeperError):
    """There is a keeper, which may not be found yet: it starts just now, or ends."""


async def start_keeper(place: Place, *, version: str, boot_id: str, ids: Ids, agent_id: str, isolation: str) -> None:
    """Start a keeper, and return when it listens. Raises `KeeperError`; `KeeperBusy` when there is another one."""
    given = {
        "state_dir": place.state_dir,
        "version": version,
        "boot_id": boot_id,
        "mark": ids.token(),
        "agent_id": agent_id,
        "isolation": isolation,
    }
    ready, answer = os.pipe()
    try:
        try:
            os.set_inheritable(answer, True)
            await _launch(_command(answer, given), place, answer)
        finally:
            os.close(answer)
        said = await _answer(ready)
    except BaseException:
        with contextlib.suppress(OSError):
            os.close(ready)
        raise
    if said == BUSY:
        raise KeeperBusy(f"another keeper holds {place.lock}")
    if said != "ready":
        raise KeeperError(f"the keeper did not start: {said or f'it ended at once, see {place.complaints}'}")


async def end_keeper(identity: Identity, boot_id: str) -> None:
    """SIGKILL, and wait until it is dead. Raises `KeeperError` when it is not within some seconds."""
    if not identity.is_alive(boot_id):
        return
    with contextlib.suppress(ProcessLookupError):
        process_tree.send_to(identity.pid, identity.start_time, signal.SIGKILL)
    with trio.move_on_after(DEATH_SECONDS_MAX):
        await until_dead(identity, boot_id)
        return
    raise KeeperError(f"the keeper (process {identity.pid}) cannot be killed")


async def until_dead(identity: Identity, boot_id: str) -> None:
    try:
        pidfd = os.pidfd_open(identity.pid)
    except (AttributeError, OSError):
        while identity.is_alive(boot_id):  # noqa: ASYNC110 (there is no event for the end of another's child here)
            await trio.sleep(0.05)
        return
    try:
        if identity.is_alive(boot_id):  # and so it is this one that we have opened
            await trio.lowlevel.wait_readable(pidfd)
    finally:
        os.close(pidfd)


def _command(answer: int, given: Mapping[str, str]) -> list[str]:
    told = {**given, "ready_fd": answer, "switch_fd": "{switch_fd}"}
    keeper = [sys.executable, "-m", "agent.keeper", json.dumps(told)]
    return [sys.executable, "-I", "-S", _WATCHDOG, given["mark"], str(answer), *keeper]


async def _launch(command: list[str], place: Place, answer: int) -> None:
    """The switch forks at once and its first process ends, so it is nobody's child here."""
    environment = {name: os.environ[name] for name in _KEPT if name in os.environ}
    environment["PYTHONPATH"] = _ROOT
    complaints = os.open(place.complaints, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
    try:
        if os.fstat(complaints).st_size > COMPLAINTS_BYTES_MAX:
            os.ftruncate(complaints, 0)
        process = await trio.lowlevel.open_process(
            command,
            stdin=subprocess.DEVNULL,
            stdout=complaints,
            stderr=complaints,
            cwd="/",
            env=environment,
            pass_fds=(answer,),
            start_new_session=True,
        )
        with trio.CancelScope(shield=True):  # it ends at once, and must be reaped
            await process.wait()
    except OSError as exc:
        raise KeeperError(f"the keeper cannot be started: {exc.strerror}") from exc
    finally:
        os.close(complaints)


async def _answer(ready: int) -> str:
    """What the keeper says of its start; "" when it has ended without a word."""
    said = b""
    async with trio.lowlevel.FdStream(ready) as stream:
        with trio.move_on_after(START_SECONDS_MAX) as patience:
            while b"\n" not in said and len(said) < ANSWER_BYTES_MAX and (data := await stream.receive_some(1024)):
                said += data
    if patience.cancelled_caught:
        return f"it said nothing within {START_SECONDS_MAX:g} s"
    return said.decode(errors="replace").strip()
