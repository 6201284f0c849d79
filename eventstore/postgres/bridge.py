"""asyncio in one thread, trio everywhere else. Nothing above this package knows asyncio.

An operation is one asyncio function, run as a whole in the thread: cross once per operation, never once per asyncpg
call. A trio cancellation asks the asyncio task to cancel and waits until it has really ended, so that no connection is
ever used by two. (trio-asyncio was as fast, but cannot be imported on Python >= 3.14, and every step of asyncpg's
protocol would wait for trio's turn.)
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, NoReturn, TypeVar

import outcome
import trio

from eventstore.errors import StoreClosed

try:
    import uvloop

    _new_event_loop: Callable[[], asyncio.AbstractEventLoop] = uvloop.new_event_loop
except ImportError:  # no CPython, or no wheel for this platform: slower, and nothing else
    _new_event_loop = asyncio.new_event_loop

T = TypeVar("T")

JOIN_SECONDS_MAX = 5.0
"""The thread ends at once unless a task in it refuses to; then it is left behind (it is a daemon)."""


class Bridge:
    """Runs asyncio functions for trio tasks. An async context manager; calls must end before it does."""

    def __init__(self) -> None:
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._token: trio.lowlevel.TrioToken | None = None

    def __repr__(self) -> str:
        return f"<Bridge {'open' if self._loop is not None else 'closed'}>"

    async def __aenter__(self) -> Bridge:
        self._token = trio.lowlevel.current_trio_token()
        self._loop = _new_event_loop()
        self._thread = threading.Thread(target=self._run, args=(self._loop,), name="postgres", daemon=True)
        self._thread.start()
        return self

    async def __aexit__(self, *exc: object) -> None:
        loop, self._loop = self._loop, None
        if loop is not None:
            with trio.CancelScope(shield=True):
                await trio.to_thread.run_sync(self._stop, loop)

    async def call(self, afn: Callable[..., Awaitable[T]], *args: Any) -> T:
        """Run `afn(*args)` in the thread and return what it returns, or raise what it raises.

        Raises:
          StoreClosed: the bridge is closed.
        """
        loop, token = self._loop, self._token
        if loop is None or token is None:
            raise StoreClosed
        await trio.lowlevel.checkpoint_if_cancelled()
        call = _Call(loop, token, trio.lowlevel.current_task())
        loop.call_soon_threadsafe(call.start, afn, args)
        result: outcome.Outcome[T] = await trio.lowlevel.wait_task_rescheduled(call.abort)
        try:
            return result.unwrap()
        except asyncio.CancelledError:
            if call.raise_cancel is not None:
                call.raise_cancel()  # becomes trio.Cancelled
            raise StoreClosed from None  # cancelled in the thread by `_stop`, not by our caller

    def tell(self, fn: Callable[..., object], *args: Any) -> None:
        """From the thread: run `fn(*args)` in trio soon. Nothing happens when trio has ended."""
        assert self._token is not None
        with contextlib.suppress(trio.RunFinishedError):
            self._token.run_sync_soon(fn, *args)

    @staticmethod
    def _run(loop: asyncio.AbstractEventLoop) -> None:
        asyncio.set_event_loop(loop)
        try:
            loop.run_forever()
        finally:
            loop.run_until_complete(_cancel_all(loop))
            loop.run_until_complete(loop.shutdown_asyncgens())
            asyncio.set_event_loop(None)
            loop.close()

    def _stop(self, loop: asyncio.AbstractEventLoop) -> None:
        loop.call_soon_threadsafe(loop.stop)
        assert self._thread is not None
        self._thread.join(JOIN_SECONDS_MAX)


class _Call:
    """One crossing: begun in trio, run in the thread, finished in trio."""

    __slots__ = ("_cancelled", "_job", "_loop", "_task", "_token", "raise_cancel")

    def __init__(
        self, loop: asyncio.AbstractEventLoop, token: trio.lowlevel.TrioToken, task: trio.lowlevel.Task
    ) -> None:
        self._loop, self._token, self._task = loop, token, task
        self._job: asyncio.Task[Any] | None = None
        self.raise_cancel: Callable[[], NoReturn] | None = None

    def start(self, afn: Callable[..., Awaitable[Any]], args: tuple[Any, ...]) -> None:
        """In the thread."""
        self._job = self._loop.create_task(_awaited(afn, args))
        self._job.add_done_callback(self._finish)

    def _finish(self, job: asyncio.Task[Any]) -> None:
        result = outcome.capture(job.result)
        with contextlib.suppress(trio.RunFinishedError):
            self._token.run_sync_soon(trio.lowlevel.reschedule, self._task, outcome.Value(result))

    def abort(self, raise_cancel: Callable[[], NoReturn]) -> trio.lowlevel.Abort:
        """In trio: cancelled. The job exists by the time this reaches the thread, since `start` was sent before."""
        self.raise_cancel = raise_cancel
        self._loop.call_soon_threadsafe(self._cancel)
        return trio.lowlevel.Abort.FAILED  # _finish will reschedule us

    def _cancel(self) -> None:
        if self._job is not None:
            self._job.cancel()


def _awaited(afn: Callable[..., Awaitable[T]], args: tuple[Any, ...]) -> Coroutine[Any, Any, T]:
    async def run() -> T:
        return await afn(*args)

    return run()


async def _cancel_all(loop: asyncio.AbstractEventLoop) -> None:
    tasks = [task for task in asyncio.all_tasks(loop) if task is not asyncio.current_task()]
    for task in tasks:
        task.cancel()
    if tasks:
        await asyncio.wait(tasks, timeout=JOIN_SECONDS_MAX / 2)
