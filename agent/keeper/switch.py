"""The keeper's end of the pipe to its dead-man's switch: what to do when the keeper cannot. See `watchdog` for the other.

    guard  KEY PID START LEASE_SECONDS GROUP    an instance runs, in the session of process PID that started at START (0 and
                                                nothing: it is about to be started); the directory of its control group,
                                                if it has one
    release KEY                                 its tree is gone
    renew  INSTANT                              the lease was renewed: every instance may run until INSTANT + LEASE_SECONDS
    goodbye                                     the keeper ends, and has left nothing

Fields are separated by tabs; KEY is instance.epoch. The end of the pipe without a goodbye: the keeper is dead.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import sys
from collections.abc import Callable, Sequence
from typing import Final

from agent.keeper import watchdog
from agent.keeper.instance import Instance
from agent.keeper.log import Key
from agent.keeper.loop import NEVER, Loop

PIPE_BYTES: Final = 1024 * 1024
"""What fits into the pipe, which the switch reads four times a second. Linux gives everybody as much."""
UNSENT_BYTES_MAX: Final = 4096
"""Of news that are in order already; what is newer than they may overtake the others."""
RENEWAL: Final = ""
"""Key of the news that the lease was renewed."""
AGAIN_SECONDS: Final = 5.0
"""Between two tries to start one."""
REPLACED_MAX: Final = 10
"""Switches that a keeper replaces; somebody does not want one then."""


class PipeSwitch:
    """See `agent.keeper.core.Switch`. Never blocks: a switch that is stopped is told when it goes on, how things are by then,
    and of the renewal first: it must not kill for what is only late. One that is killed is replaced: by a child of the
    keeper, which finds less of what has cleaned its environment, but all that has not.

    That an instance runs is said at once, and before it does, for the keeper may be stopped in the next moment: by its control
    group and its environment it is found all the same. The rest is said by the next `flush`.
    """

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
        self._is_full = False
        self._news: dict[str, bytes] = {}
        """By instance: what it has not been told, the latest only."""
        self._told: set[str] = set()
        """Instances that it knows of, or will when it has read the pipe."""
        self._guarded: dict[str, bytes] = {}
        self._renewed_at = -NEVER
        self._replaced = 0
        self.group_of: Callable[[Key], str] = lambda key: ""
        """The directory of the control group that an instance will be started in; "" = it will have none."""
        self._child: int | None = None
        self._follow(fd)

    def expect(self, instances: Sequence[Instance]) -> None:
        for instance in instances:
            self._guard(instance.key, 0, "", instance.lease_seconds, self.group_of(instance.key))
        self.flush()

    def guard(self, instances: Sequence[Instance]) -> None:
        for instance in instances:
            launched = instance.launched
            if launched is not None:
                group = getattr(instance.tree, "group", "")
                self._guard(instance.key, launched.pid, launched.identity, instance.lease_seconds, group)
        self.flush()

    def release(self, key: Key) -> None:
        name = _name(key)
        if self._guarded.pop(name, None) is None:
            return
        if name in self._told:
            self._told.discard(name)
            self._say(name, _line("release", name))
        else:
            self._news.pop(name, None)

    def renew(self, renewed_at: float) -> None:
        self._renewed_at = renewed_at
        self._say(RENEWAL, _line("renew", repr(renewed_at)))

    def flush(self) -> None:
        """Say what is to be said, as much as the pipe takes; the rest when there is room."""
        if not self._is_full:
            self._write()

    def goodbye(self) -> None:
        """Nothing is left to be ended. One that cannot be told, being stopped, finds that out for itself."""
        if self._fd >= 0:
            self._loop.unwatch(self._fd)
            with contextlib.suppress(OSError):
                os.write(self._fd, bytes(self._unsent) + _line("goodbye"))

    def _guard(self, key: Key, pid: int, start: str, lease_seconds: float, group: str) -> None:
        name = _name(key)
        self._guarded[name] = said = f"guard\t{name}\t{pid}\t{start}\t{lease_seconds!r}\t{group}\n".encode()
        self._say(name, said)

    # --- inside ----------------------------------------------------------------------------------------------------

    def _follow(self, fd: int) -> None:
        self._fd = fd
        os.set_blocking(fd, False)
        with contextlib.suppress(AttributeError, OSError):  # not Linux, or this user has too many pipes
            fcntl.fcntl(fd, fcntl.F_SETPIPE_SZ, PIPE_BYTES)
        self._loop.watch(fd, self._lost)  # the only thing to be read from this end is that nobody reads at the other

    def _say(self, name: str, said: bytes) -> None:
        if self._fd >= 0:
            self._news[name] = said

    def _write(self) -> None:
        while self._unsent or self._news:
            if not self._unsent:
                self._take_news()
            try:
                sent = os.write(self._fd, self._unsent)
            except BlockingIOError:
                if not self._is_full:
                    self._is_full = True
                    self._loop.watch_writable(self._fd, self._write)
                return
            except OSError:  # nobody is there; `_lost` is called
                self._forget_news()
                break
            del self._unsent[:sent]
        if self._is_full:
            self._is_full = False
            self._loop.unwatch_writable(self._fd)

    def _take_news(self) -> None:
        """The renewal, and then the oldest."""
        self._unsent += self._news.pop(RENEWAL, b"")
        while self._news and len(self._unsent) < UNSENT_BYTES_MAX:
            name = next(iter(self._news))
            self._unsent += self._news.pop(name)
            if name in self._guarded:
                self._told.add(name)

    def _forget_news(self) -> None:
        self._unsent.clear()
        self._news.clear()
        self._told.clear()

    def _lost(self) -> None:
        self._loop.unwatch(self._fd)
        self._is_full = False
        os.close(self._fd)
        self._fd = -1
        self._forget_news()
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
        words = [sys.executable, "-I", "-S", watchdog.__file__, self._mark, watchdog.FROM_STDIN]
        try:
            reads, writes = os.pipe()
        except OSError as exc:
            self._try_again(exc)
            return
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
            self._try_again(exc)
            return
        finally:
            os.close(reads)
        self._bystanders.append(self._child)
        self._tell(self._child)
        self._follow(writes)
        self._news.update(self._guarded)
        self.renew(self._renewed_at)
        self.flush()

    def _try_again(self, problem: Exception) -> None:
        self._complain(f"there is no dead-man's switch for the next {AGAIN_SECONDS:g} s: {problem}")
        self._loop.call_at(self._loop.now() + AGAIN_SECONDS, self._start)


def _line(*words: str) -> bytes:
    return "\t".join(words).encode() + b"\n"


def _name(key: Key) -> str:
    return f"{key[0]}.{key[1]}"
