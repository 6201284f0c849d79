"""Processes of the operating system: the process port, for real.

**Starting.** `posix_spawn` with a session of its own (vfork inside: the cost does not grow with the agent's memory, and
errors of exec come back as errno). It cannot change directory, so the agent's own is changed for the length of the call;
nothing in between gives up the thread. Measured on two cores, /bin/true, the call alone: posix_spawn 0.12 ms,
subprocess.Popen 0.17-0.23, trio.run_process 0.5 (of 1 ms in all). Where libc lacks setsid in posix_spawn: Popen.

**Waiting and reading.** All pipes and pidfds are in one selector of ours, and trio watches that one: a process that ends
at once costs one wake-up instead of three tasks. The exit status is taken with wait4, which also tells CPU time and disk
blocks. Its peak memory is useless below the agent's own: after vfork the kernel starts counting at the parent's size. So
VmHWM of the root is sampled after 20 ms, 60 ms ... and then every second; 0 = ended before the first sample.

**Ending.** A whole tree, see `process_tree`. The runner makes its process a subreaper, so that orphans come to it.
"""

from __future__ import annotations

import contextlib
import ctypes
import math
import os
import resource
import selectors
import signal
import subprocess
import sys
from collections import deque
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from typing import Any, Final

import trio

from agent import process_tree
from agent.programs import explain, find_program
from agent.wakeup import Wakeup
from hetuflow.ports.processes import Exit, ProcessSpec, StartError

READ_BYTES: Final = 48 * 1024
QUEUE_BYTES_MAX: Final = 256 * 1024
"""Output read and not yet taken, per process; beyond it the pipe is left alone and the process waits."""
SAMPLE_SECONDS_FIRST: Final = 0.02
SAMPLE_SECONDS_MAX: Final = 1.0
_BLOCK_BYTES: Final = 512
_RESET_SIGNALS: Final = (signal.SIGPIPE, signal.SIGXFSZ)
"""Ignored by Python, and ignored signals are inherited."""
_PR_SET_CHILD_SUBREAPER: Final = 36


class SystemProcess:
    """See `RunningProcess`. Made by `SystemProcesses.start`."""

    def __init__(self, owner: SystemProcesses, pid: int, mark: str | None) -> None:
        self._owner = owner
        self._pid = pid
        self._mark = mark
        self._pieces: deque[tuple[int, bytes]] = deque()
        self._queued_bytes = 0
        self._open_streams: dict[int, int] = {}
        self._paused = False
        self._grown = Wakeup()
        self._ended = trio.Event()
        self._exit: Exit | None = None
        self._tree_gone = False
        self.memory_peak_bytes = 0
        self.sample_step = SAMPLE_SECONDS_FIRST
        self.sample_deadline = trio.current_time() + SAMPLE_SECONDS_FIRST

    @property
    def pid(self) -> int:
        return self._pid

    @property
    def mark(self) -> str | None:
        return self._mark

    async def receive_output(self) -> tuple[int, bytes] | None:
        while not self._pieces:
            if not self._open_streams:
                await trio.lowlevel.checkpoint()
                return None
            try:
                await self._grown.wait()
            except trio.Cancelled:
                if self._exit is not None:  # who gives up after the end gives up for good: somebody else holds the pipe
                    self.close()
                raise
        piece = self._pieces.popleft()
        self._queued_bytes -= len(piece[1])
        if self._paused and self._queued_bytes < QUEUE_BYTES_MAX // 2:
            self._resume()
        return piece

    async def wait(self) -> Exit:
        if self._ended.is_set():  # an end that has happened is told even to a task that is being cancelled
            await trio.lowlevel.cancel_shielded_checkpoint()
        else:
            await self._ended.wait()
        assert self._exit is not None
        return self._exit

    def terminate_tree(self) -> None:
        self._signal(signal.SIGTERM)
        self._signal(signal.SIGCONT)  # a stopped process cannot obey

    def kill_tree(self) -> None:
        self._signal(signal.SIGKILL)

    def tree_is_alive(self) -> bool:
        if self._tree_gone:
            return False
        if self._exit is None or self._members():
            return True
        self._tree_gone = True
        return False

    # --- called by the runner --------------------------------------------------------------------------------------

    def attach(self, stream: int, fd: int) -> None:
        self._open_streams[stream] = fd
        self._owner.watch(fd, lambda: self._readable(stream, fd))

    def ended(self, exit_: Exit, *, alone: bool) -> None:
        """The root has been reaped. `alone`: nothing else of its tree can be left."""
        self._exit = exit_
        self._tree_gone = alone
        self._ended.set()

    def close(self) -> None:
        for fd in self._open_streams.values():
            self._owner.unwatch(fd)
            os.close(fd)
        self._open_streams.clear()
        self._grown.set()

    # --- inside ----------------------------------------------------------------------------------------------------

    def _readable(self, stream: int, fd: int) -> None:
        try:
            data = os.read(fd, READ_BYTES)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if data:
            self._pieces.append((stream, data))
            self._queued_bytes += len(data)
            if self._queued_bytes >= QUEUE_BYTES_MAX:
                self._pause()
        else:
            self._owner.unwatch(fd)
            os.close(fd)
            del self._open_streams[stream]
        self._grown.set()

    def _pause(self) -> None:
        self._paused = True
        for fd in self._open_streams.values():
            self._owner.unwatch(fd)

    def _resume(self) -> None:
        self._paused = False
        for stream, fd in self._open_streams.items():
            self._owner.watch(fd, lambda stream=stream, fd=fd: self._readable(stream, fd))  # type: ignore[misc]

    def _members(self) -> list[int]:
        found = process_tree.members(self._pid, self._mark)
        if self._exit is not None and self._pid in found:
            return []  # the root is reaped: its number belongs to somebody else now, and so does its session
        return found

    def _signal(self, number: signal.Signals) -> None:
        if self._exit is None:  # not reaped, so the number is still ours, and the group gets it at one instant
            process_tree.send_group_signal(self._pid, number)
        for pid in self._members():
            found = process_tree.read_process(pid) if process_tree.HAS_PROC else None
            if self._exit is not None or found is None or found.group != self._pid:
                process_tree.send_signal([pid], number)


class SystemProcesses:
    """See `ProcessRunner`. Use `open_processes`."""

    def __init__(self, bystanders: Sequence[int] = ()) -> None:
        self._bystanders = tuple(bystanders)
        self._selector = selectors.DefaultSelector()
        self._running: dict[int, SystemProcess] = {}
        self._null = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
        self._home = os.open(".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        self._busy = Wakeup()
        self._threads: trio.Nursery | None = None
        self._adopts = _become_subreaper()
        _keep_descriptors()

    def __repr__(self) -> str:
        return f"<SystemProcesses: {len(self._running)} running>"

    async def start(self, spec: ProcessSpec) -> SystemProcess:
        await trio.lowlevel.checkpoint_if_cancelled()
        path = find_program(spec.argv[0], spec.environment, spec.work_dir)
        pipes: dict[int, tuple[int, int]] = {}
        pid = None
        try:
            for stream in (1, 2) if spec.capture_output else ():
                pipes[stream] = os.pipe()
            pid = self._spawn(path, spec, {stream: pair[1] for stream, pair in pipes.items()})
        except OSError as exc:
            raise StartError(explain(path, exc)) from exc
        finally:
            for read_end, write_end in pipes.values():
                os.close(write_end)
                if pid is None:
                    os.close(read_end)
        process = SystemProcess(self, pid, spec.environment.get(process_tree.MARK))
        self._running[pid] = process
        for stream, (read_end, _) in pipes.items():
            os.set_blocking(read_end, False)
            process.attach(stream, read_end)
        self._watch_exit(process)
        self._busy.set()
        return process

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Read pipes and reap processes until cancelled."""
        async with trio.open_nursery() as nursery:
            self._threads = nursery
            task_status.started()
            nursery.start_soon(self._sample)
            while True:
                await trio.lowlevel.wait_readable(self._selector.fileno())
                for key, _ in self._selector.select(0):
                    if key.fd in self._selector.get_map():  # an earlier callback of this round may have closed it
                        key.data()

    def close(self) -> None:
        for process in self._running.values():
            process.close()
        self._selector.close()
        os.close(self._null)
        os.close(self._home)

    def memory_peak_of(self, pid: int) -> int:
        """In bytes, as sampled so far of a running process; 0 = not yet."""
        process = self._running.get(pid)
        return process.memory_peak_bytes if process is not None else 0

    # --- for processes of this runner ------------------------------------------------------------------------------

    def watch(self, fd: int, callback: Callable[[], None]) -> None:
        self._selector.register(fd, selectors.EVENT_READ, callback)

    def unwatch(self, fd: int) -> None:
        with contextlib.suppress(KeyError):
            self._selector.unregister(fd)

    # --- inside ----------------------------------------------------------------------------------------------------

    def _spawn(self, path: str, spec: ProcessSpec, ends: Mapping[int, int]) -> int:
        out, err = ends.get(1, self._null), ends.get(2, self._null)
        if not _SPAWNS_SESSIONS:
            return _popen(path, spec, self._null, out, err)
        try:
            os.chdir(spec.work_dir)
        except OSError as exc:
            raise StartError(f"working directory {spec.work_dir} cannot be entered: {exc.strerror}") from exc
        try:
            return os.posix_spawn(
                path,
                list(spec.argv),
                spec.environment,
                file_actions=[
                    (os.POSIX_SPAWN_DUP2, self._null, 0),
                    (os.POSIX_SPAWN_DUP2, out, 1),
                    (os.POSIX_SPAWN_DUP2, err, 2),
                ],
                setsid=True,
                setsigdef=_RESET_SIGNALS,
            )
        finally:
            os.fchdir(self._home)

    def _watch_exit(self, process: SystemProcess) -> None:
        try:
            pidfd = os.pidfd_open(process.pid)
        except (AttributeError, OSError):  # no such call here, or no file descriptor left
            assert self._threads is not None, "SystemProcesses.run is not running"
            self._threads.start_soon(self._wait_in_thread, process)
        else:
            self.watch(pidfd, lambda: self._exited(process, pidfd))

    async def _wait_in_thread(self, process: SystemProcess) -> None:
        waiting = trio.to_thread.run_sync(os.wait4, process.pid, 0, abandon_on_cancel=True, limiter=_WAITERS)
        _, status, usage = await waiting
        self._reaped(process, status, usage)

    def _exited(self, process: SystemProcess, pidfd: int) -> None:
        try:
            pid, status, usage = os.wait4(process.pid, os.WNOHANG)
        except ChildProcessError:  # somebody else in this process waits for all children
            pid, status, usage = process.pid, None, None
        if pid == 0:
            return
        self.unwatch(pidfd)
        os.close(pidfd)
        self._reaped(process, status, usage)

    def _reaped(self, process: SystemProcess, status: int | None, usage: Any) -> None:
        del self._running[process.pid]
        alone = not process_tree.group_is_alive(process.pid)
        if alone and self._adopts:
            alone = not self._reap_adopted()
        process.ended(_exit_of(status, usage, process.memory_peak_bytes), alone=alone)

    def _reap_adopted(self) -> list[int]:
        """Reap orphans that have ended; those that live."""
        alive = []
        for pid in process_tree.adopted_children((*self._running, *self._bystanders)):
            found = process_tree.read_process(pid)
            if found is None or found.session == os.getsid(0):  # not of ours: a child of whoever embeds the agent
                continue
            if found.state != "Z":
                alive.append(pid)
                continue
            with contextlib.suppress(ChildProcessError):
                os.waitpid(pid, os.WNOHANG)
        return alive

    async def _sample(self) -> None:
        """Peak memory of what runs; reap orphans meanwhile. Sleeps while nothing does."""
        while True:
            alive = self._reap_adopted() if self._adopts else []
            idle = trio.current_time() + 1 if alive else math.inf
            due = min((p.sample_deadline for p in self._running.values()), default=idle)
            await self._busy.wait(until=due)  # whatever else runs, a program that starts is measured by its own steps
            await trio.sleep(SAMPLE_SECONDS_FIRST)
            now = trio.current_time()
            for process in [p for p in self._running.values() if p.sample_deadline <= now]:
                process.memory_peak_bytes = max(process.memory_peak_bytes, memory_peak_of(process.pid))
                process.sample_step = min(process.sample_step * 2, SAMPLE_SECONDS_MAX)
                process.sample_deadline = now + process.sample_step


@contextlib.asynccontextmanager
async def open_processes(bystanders: Sequence[int] = ()) -> AsyncIterator[SystemProcesses]:
    """A runner for the length of the block. Processes that still run at its end are killed.

    `bystanders`: children of this process that are none of the runner's, to be left alone.
    """
    runner = SystemProcesses(bystanders)
    try:
        async with trio.open_nursery() as nursery:
            await nursery.start(runner.run)
            yield runner
            nursery.cancel_scope.cancel()
    finally:
        for process in list(runner._running.values()):
            process.kill_tree()
        runner.close()


def _exit_of(status: int | None, usage: Any, sampled_bytes: int) -> Exit:
    if status is None or usage is None:
        return Exit(exit_code=None, signal=None, cpu_seconds=0.0, memory_peak_bytes=sampled_bytes)
    code = os.waitstatus_to_exitcode(status)
    unit = 1 if sys.platform == "darwin" else 1024
    peak = usage.ru_maxrss * unit
    if peak <= resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit:  # perhaps our own size at vfork
        peak = sampled_bytes
    return Exit(
        exit_code=code if code >= 0 else 128 - code,
        signal=-code if code < 0 else None,
        cpu_seconds=round(usage.ru_utime + usage.ru_stime, 6),
        memory_peak_bytes=max(peak, sampled_bytes),
        disk_read_bytes=usage.ru_inblock * _BLOCK_BYTES,
        disk_write_bytes=usage.ru_oublock * _BLOCK_BYTES,
    )


def memory_peak_of(pid: int) -> int:
    """VmHWM in bytes; 0 when it cannot be told."""
    data = process_tree.read_proc(f"/proc/{pid}/status")
    _, _, rest = data.partition(b"VmHWM:")
    return int(rest.split(None, 1)[0]) * 1024 if rest else 0


def _popen(path: str, spec: ProcessSpec, null: int, out: int, err: int) -> int:
    process = subprocess.Popen(
        list(spec.argv),
        executable=path,
        env=spec.environment,
        cwd=spec.work_dir,
        stdin=null,
        stdout=out,
        stderr=err,
        start_new_session=True,
    )
    process.returncode = 0  # reaped here with wait4, not by Popen
    return process.pid


def _keep_descriptors() -> None:
    """What this process was given beyond 0, 1 and 2 is not for its children. Its own are closed at exec anyway."""
    for name in os.listdir("/dev/fd"):
        if int(name) > 2:
            with contextlib.suppress(OSError):  # the descriptor of the listing itself
                os.set_inheritable(int(name), False)


def _become_subreaper() -> bool:
    if not process_tree.HAS_PROC:
        return False
    libc = ctypes.CDLL(None, use_errno=True)
    return bool(libc.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) == 0)


def _spawns_sessions() -> bool:
    """Whether posix_spawn knows setsid here (glibc 2.26; not musl before 1.1.24, not macOS before 10.15)."""
    try:
        os.posix_spawn("/nonexistent", ["x"], {}, setsid=True)
    except FileNotFoundError:
        return True
    except (NotImplementedError, OSError):
        return False
    return False


_SPAWNS_SESSIONS: Final = _spawns_sessions()
_WAITERS: Final = trio.CapacityLimiter(10_000)
