"""Processes that the agent itself starts while it prepares an instance: bounded in what is kept, ended when cancelled."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
from collections.abc import Callable, Mapping, Sequence
from typing import Final

import trio
from attrs import frozen

SAID_BYTES_MAX: Final = 2000
"""Of what a process wrote on its standard error, the end."""
ANSWER_BYTES_MAX: Final = 1 << 20
"""Of what it wrote on its standard output, the beginning."""
REAP_SECONDS_MAX: Final = 5.0


@frozen(slots=True)
class Done:
    """`code` negative: the signal. `answer` is longer than `ANSWER_BYTES_MAX` by one where there was more."""

    code: int
    answer: bytes
    said: bytes


async def run(
    command: Sequence[str], environment: Mapping[str, str], *, cwd: str, stdin: bytes = b"", mixed: bool = False
) -> Done:
    """Run a program to its end; its whole session is killed when the caller is cancelled.

    Args:
      mixed: what it writes on its standard output counts as said, not as its answer.
    Raises:
      OSError: it cannot be started.
    """
    process = await trio.lowlevel.open_process(
        list(command),
        stdin=subprocess.PIPE if stdin else subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT if mixed else subprocess.PIPE,
        cwd=cwd,
        env=dict(environment),
        start_new_session=True,
        umask=0o022,
    )
    kept = {1: b"", 2: b""}
    try:
        async with trio.open_nursery() as nursery:
            if process.stdin is not None:
                nursery.start_soon(_feed, process.stdin, stdin)
            for stream, number in ((process.stdout, 2 if mixed else 1), (process.stderr, 2)):
                if stream is not None:
                    nursery.start_soon(_read, stream, kept, number, _KEEPING[number])
        code = await process.wait()
    except BaseException:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        with trio.CancelScope(shield=True, deadline=trio.current_time() + REAP_SECONDS_MAX):
            await process.wait()
        raise
    return Done(code, kept[1], kept[2])


async def _feed(stream: trio.abc.SendStream, data: bytes) -> None:
    async with stream:
        with contextlib.suppress(trio.BrokenResourceError):  # it does not read, and says itself what that means
            await stream.send_all(data)


async def _read(
    stream: trio.abc.ReceiveStream, kept: dict[int, bytes], number: int, keep: Callable[[bytes, bytes], bytes]
) -> None:
    async with stream:
        while data := await stream.receive_some():
            kept[number] = keep(kept[number], bytes(data))


def _beginning(kept: bytes, data: bytes) -> bytes:
    return kept if len(kept) > ANSWER_BYTES_MAX else (kept + data)[: ANSWER_BYTES_MAX + 1]


def _end(kept: bytes, data: bytes) -> bytes:
    return (kept + data)[-SAID_BYTES_MAX:]


_KEEPING: Final = {1: _beginning, 2: _end}
