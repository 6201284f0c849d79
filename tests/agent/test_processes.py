"""The process port by itself: other ways of starting and waiting, back-pressure, what is left at the end."""

from __future__ import annotations

import errno
import os
import signal
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
import trio

from agent import process_tree, processes
from agent.processes import SystemProcesses, open_processes
from hetuflow.ports.processes import ProcessSpec, StartError

PATIENCE_SECONDS = 60


@pytest.fixture
async def runner() -> AsyncIterator[SystemProcesses]:
    async with open_processes() as runner:
        yield runner


def a_spec(*argv: str, work_dir: str = "/", **environment: str) -> ProcessSpec:
    return ProcessSpec(argv=argv, environment={"PATH": os.environ["PATH"], **environment}, work_dir=work_dir)


async def until(condition: Callable[[], bool]) -> None:
    """For what the kernel does without telling anybody."""
    with trio.fail_after(PATIENCE_SECONDS):
        while not condition():  # noqa: ASYNC110
            await trio.sleep(0.01)


async def read_all(process: processes.SystemProcess) -> dict[int, bytes]:
    found = {1: b"", 2: b""}
    while (piece := await process.receive_output()) is not None:
        found[piece[0]] += piece[1]
    return found


@pytest.mark.parametrize("way", ["posix_spawn", "Popen"])
async def test_both_ways_of_starting_do_the_same(
    way: str, runner: SystemProcesses, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(processes, "_SPAWNS_SESSIONS", way == "posix_spawn")
    script = (
        "pwd; ps -o sid= -p $$ | tr -d ' '; echo $$; cat; trap -p PIPE; env | grep -c . >&2; ls /proc/self/fd | wc -l"
    )
    process = await runner.start(a_spec("bash", "-c", script, work_dir=str(tmp_path), A="1"))
    output = await read_all(process)
    where, session, pid, descriptors = output[1].decode().split()
    assert (where, session, int(pid)) == (str(tmp_path), pid, process.pid)
    assert int(descriptors) == 4, "0, 1, 2 and the directory that ls reads"
    assert (await process.wait()).exit_code == 0 and not process.tree_is_alive()


@pytest.mark.parametrize("error", [errno.ENOSYS, errno.EMFILE])
async def test_without_pidfd_a_thread_waits(
    error: int, runner: SystemProcesses, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(pid: int) -> int:
        raise OSError(error, os.strerror(error))

    monkeypatch.setattr(os, "pidfd_open", refuse)
    process = await runner.start(a_spec("bash", "-c", "echo x; exit 3"))
    assert await read_all(process) == {1: b"x\n", 2: b""}
    with trio.fail_after(PATIENCE_SECONDS):
        assert (await process.wait()).exit_code == 3


async def test_a_reader_that_waits_stops_the_writer(runner: SystemProcesses) -> None:
    process = await runner.start(a_spec("bash", "-c", "yes"))
    await process.receive_output()
    await until(lambda: process._paused)
    assert process._queued_bytes <= processes.QUEUE_BYTES_MAX + processes.READ_BYTES
    for _ in range(100):
        assert await process.receive_output() is not None
    process.kill_tree()
    assert (await process.wait()).signal == signal.SIGKILL


async def test_a_pipe_held_by_somebody_else_is_given_up(runner: SystemProcesses) -> None:
    """A process outside the tree (here: its environment cleaned, its session its own) keeps the pipe open."""
    before = len(os.listdir("/proc/self/fd"))
    process = await runner.start(a_spec("bash", "-c", "setsid env -i sleep 300 & echo $!"))
    stray = (await process.receive_output() or (1, b""))[1]
    assert (await process.wait()).exit_code == 0
    with trio.move_on_after(0.05) as patience:
        await read_all(process)
    assert patience.cancelled_caught
    assert len(os.listdir("/proc/self/fd")) == before
    os.kill(int(stray), signal.SIGKILL)


async def test_a_working_directory_that_is_gone_says_so(runner: SystemProcesses) -> None:
    before, here = len(os.listdir("/proc/self/fd")), os.getcwd()
    with pytest.raises(StartError, match="working directory /no/such cannot be entered: No such file"):
        await runner.start(a_spec("true", work_dir="/no/such"))
    assert len(os.listdir("/proc/self/fd")) == before and os.getcwd() == here


async def test_no_descriptor_left_is_a_start_error(runner: SystemProcesses, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse() -> tuple[int, int]:
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    monkeypatch.setattr(os, "pipe", refuse)
    with pytest.raises(StartError, match="Too many open files"):
        await runner.start(a_spec("true"))


async def test_what_still_runs_at_the_end_is_killed() -> None:
    async with open_processes() as runner:
        await runner.start(a_spec("bash", "-c", "sleep 300 & sleep 300", HETUFLOW_INSTANCE_ID="end-1"))
        assert len(process_tree.marked("end-1")) >= 1
    await until(lambda: not process_tree.marked("end-1"))


async def test_a_number_that_was_used_again_is_not_signalled(runner: SystemProcesses) -> None:
    """After the root is reaped its pid may belong to anybody: here, to a process of our own."""
    process = await runner.start(a_spec("true"))
    await process.wait()
    other = await runner.start(a_spec("sleep", "300"))
    process._pid, process._tree_gone = other.pid, False
    assert not process.tree_is_alive()
    process.kill_tree()
    assert other.tree_is_alive()
    other.kill_tree()
    await other.wait()


async def test_orphans_that_have_ended_are_reaped(runner: SystemProcesses) -> None:
    process = await runner.start(
        a_spec("bash", "-c", "(setsid bash -c 'echo $$; sleep 0.05' &)", HETUFLOW_INSTANCE_ID="o-1")
    )
    output = await read_all(process)
    orphan = int(output[1])
    await process.wait()
    await until(lambda: process_tree.read_process(orphan) is None)
    assert not process.tree_is_alive()
