"""The one thread of a keeper that has not given up new privileges: for programs that need sudo, or another setuid program.

The kernel keeps that flag per thread, hands it down to children and never takes it back. So the keeper's own thread gives
them up, which costs nothing per program, and this one, made before, sleeps until a program is started that may have them.
It costs 12 KiB.
"""

from __future__ import annotations

import _thread
import signal
from collections.abc import Callable
from typing import Any


class PrivilegedThread:
    """Made before the flag is set. It does what `call` hands it, while the caller waits."""

    def __init__(self) -> None:
        self._asked, self._done = _thread.allocate_lock(), _thread.allocate_lock()
        self._asked.acquire()
        self._done.acquire()
        self._work: Callable[[], int] | None = None
        self._result: int | BaseException = 0
        _thread.start_new_thread(self._run, ())

    def call(self, work: Callable[[], int]) -> int:
        """What `work` returns or raises, done in that thread."""
        self._work = work
        self._asked.release()
        self._done.acquire()
        result, self._result = self._result, 0
        if isinstance(result, BaseException):
            raise result
        return result

    def close(self) -> None:
        self._work = None
        self._asked.release()

    def _run(self, *_: Any) -> None:
        """Asleep for SIGCHLD: a child that ends while posix_spawn holds back the other thread's signals would wake this one."""
        while True:
            before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGCHLD})
            self._asked.acquire()
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
            if self._work is None:
                return
            try:
                self._result = self._work()
            except BaseException as exc:
                self._result = exc
            self._done.release()
