"""The keeper's end of the pipe to its dead-man's switch: what to do when the keeper cannot. See `watchdog` for the other.

    guard  KEY PID START LEASE_SECONDS      an instance runs, in the session of process PID that started at START
    group  KEY PATH                         its control group
    release KEY                             its tree is gone
    renew  INSTANT                          the lease was renewed: every instance may run until INSTANT + LEASE_SECONDS
    goodbye                                 the keeper ends, and has left nothing

Fields are separated by tabs; KEY is instance.epoch. The end of the pipe without a goodbye: the keeper is dead.
"""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Callable
from typing import Final

from agent.keeper import watchdog
from agent.keeper.instance import Instance
from agent.keeper.log import Key
from agent.keeper.loop import NEVER, Loop

UNSENT_BYTES_MAX: Final = 8 * 1024 * 1024
REPLACED_MAX: Final = 10
"""Switches that a keeper replaces; somebody does not want one then."""


class PipeSwitch:
    """See `agent.keeper.core.Switch`. Never blocks: a switch that is stopped is told when it goes on. One that is killed is
    replaced: by a child of the keeper, which finds less of what has cleaned its environment, but all that has not."""

    def __init__(
        self,
        fd: int,
        mark: str,
        loop: Loop,
        bystanders: list[int],
        complain: Callable[[str], None] = lambda problem: None,
        replaced: Callable[[int], None] = lambda pid: None,
    ) -> None:
        """`bystanders`: children of the keeper that are no programs, kept here. `replaced`: is told a new switch's pid."""
        self._fd, self._mark, self._loop = fd, mark, loop
        self._bystanders, self._complain, self._tell = bystanders, complain, replaced
        self._unsent = bytearray()
        self._guarded: dict[Key, bytes] = {}
        self._renewed_at = -NEVER
        self._replaced = 0
        self._child: int | None = None
        self._follow(fd)

    def guard(self, instance: Instance) -> None:
        launched = instance.launched
        if launched is None:
            return
        name = _name(instance.key)
        said = _line("guard", name, str(launched.pid), launched.identity, repr(float(instance.lease_seconds)))
        group = getattr(instance.tree, "group", "")
        if group:
            said += _line("group", name, group)
        self._guarded[instance.key] = said
        self._say(said)

    def release(self, key: Key) -> None:
        if self._guarded.pop(key, None) is not None:
            self._say(_line("release", _name(key)))

    def renew(self, renewed_at: float) -> None:
        self._renewed_at = renewed_at
        self._say(_line("renew", repr(renewed_at)))

    def goodbye(self) -> None:
        if self._fd >= 0:
            self._loop.unwatch(self._fd)
            os.set_blocking(self._fd, True)
            with contextlib.suppress(OSError):
                os.write(self._fd, bytes(self._unsent) + _line("goodbye"))

    # --- inside ----------------------------------------------------------------------------------------------------

    def _follow(self, fd: int) -> None:
        self._fd = fd
        os.set_blocking(fd, False)
        self._loop.watch(fd, self._lost)  # the only thing to be read from this end is that nobody reads at the other

    def _say(self, said: bytes) -> None:
        if self._fd < 0:
            return
        if len(self._unsent) < UNSENT_BYTES_MAX:
            self._unsent += said
        self._flush()

    def _flush(self) -> None:
        while self._unsent:
            try:
                sent = os.write(self._fd, self._unsent)
            except BlockingIOError:
                self._loop.watch_writable(self._fd, self._flush)
                return
            except OSError:  # nobody is there; `_lost` is called
                self._unsent.clear()
                break
            del self._unsent[:sent]
        self._loop.unwatch_writable(self._fd)

    def _lost(self) -> None:
        self._loop.unwatch(self._fd)
        os.close(self._fd)
        self._fd = -1
        self._unsent.clear()
        if self._child is not None:
            self._bystanders.remove(self._child)
            with contextlib.suppress(ChildProcessError):
                os.waitpid(self._child, 0)  # it is ending: its pipe is closed
            self._child = None
        self._replaced += 1
        if self._replaced > REPLACED_MAX:
            self._complain("the dead-man's switch is gone again and again; there is none any more")
            return
        self._complain("the dead-man's switch is gone; it is replaced")
        self._start()

    def _start(self) -> None:
        reads, writes = os.pipe()
        words = [sys.executable, "-I", "-S", watchdog.__file__, self._mark, watchdog.FROM_STDIN]
        try:
            self._child = os.posix_spawn(
                words[0],
                words,
                {},
                file_actions=[(os.POSIX_SPAWN_DUP2, reads, 0)],
                setsid=True,
            )
        except (OSError, NotImplementedError) as exc:
            os.close(writes)
            self._complain(f"there is no dead-man's switch: {exc}")
            return
        finally:
            os.close(reads)
        self._bystanders.append(self._child)
        self._tell(self._child)
        self._follow(writes)
        self._say(b"".join(self._guarded.values()) + _line("renew", repr(self._renewed_at)))


def _line(*words: str) -> bytes:
    return "\t".join(words).encode() + b"\n"


def _name(key: Key) -> str:
    return f"{key[0]}.{key[1]}"
