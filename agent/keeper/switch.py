"""The keeper's end of the pipe to its dead-man's switch: what to do when the keeper cannot. See `watchdog` for the other.

    guard  KEY PID START LEASE_SECONDS      an instance runs, in the session of process PID that started at START
    group  KEY PATH                         its control group
    release KEY                             its tree is gone
    renew  INSTANT                          the lease was renewed: every instance may run until INSTANT + LEASE_SECONDS
    goodbye                                 the keeper ends, and has left nothing

Fields are separated by tabs; KEY is instance.epoch. The end of the pipe without a goodbye: the keeper is dead.
"""

from __future__ import annotations

import os
from typing import Final

from agent.keeper.instance import Instance
from agent.keeper.log import Key
from agent.keeper.loop import Loop

UNSENT_BYTES_MAX: Final = 8 * 1024 * 1024


class PipeSwitch:
    """See `agent.keeper.core.Switch`. Never blocks: a switch that is stopped is told when it goes on."""

    def __init__(self, fd: int, mark: str, loop: Loop) -> None:
        self._fd, self._loop = fd, loop
        self._unsent = bytearray()
        os.set_blocking(fd, False)

    def guard(self, instance: Instance) -> None:
        launched = instance.launched
        if launched is not None:
            lease = instance.lease_seconds
            self._say("guard", _name(instance.key), str(launched.pid), launched.identity, repr(float(lease)))

    def release(self, key: Key) -> None:
        self._say("release", _name(key))

    def renew(self, renewed_at: float) -> None:
        self._say("renew", repr(renewed_at))

    def goodbye(self) -> None:
        os.set_blocking(self._fd, True)
        self._say("goodbye")

    def _say(self, *words: str) -> None:
        if len(self._unsent) < UNSENT_BYTES_MAX:
            self._unsent += "\t".join(words).encode() + b"\n"
        self._flush()

    def _flush(self) -> None:
        while self._unsent:
            try:
                sent = os.write(self._fd, self._unsent)
            except BlockingIOError:
                self._loop.watch_writable(self._fd, self._flush)
                return
            except OSError:  # nobody is there
                self._unsent.clear()
                break
            del self._unsent[:sent]
        self._loop.unwatch_writable(self._fd)


def _name(key: Key) -> str:
    return f"{key[0]}.{key[1]}"
