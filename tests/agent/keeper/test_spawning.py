"""The keeper's real system: how programs are started, read, reaped and ended, without limits."""

from __future__ import annotations

import errno
import itertools
import os
import resource
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from agent import process_tree
from agent.keeper import launching
from agent.keeper.messages import Manners
from hetuflow.ports.processes import StartError
from tests.support.programs import Bench, open_bench

LIBC_SIGNALS = 0b11 << 31
"""32 and 33, which glibc keeps for itself and lets nobody set."""


@pytest.fixture
def bench() -> Iterator[Bench]:
    with open_bench() as bench:
        yield bench


def descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


@pytest.mark.parametrize("way", ["posix_spawn", "Popen"])
def test_both_ways_of_starting_do_the_same(
    way: str, bench: Bench, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(launching, "_SPAWNS_SESSIONS", way == "posix_spawn")
    script = "pwd; ps -o sid= -p $$ | tr -d ' '; umask; cat; trap -p PIPE; echo $A >&2; ls /proc/self/fd | wc -l"
    before = descriptors()
    tree, heard = bench.launch("bash", "-c", script, directory=str(tmp_path), A="1")
    assert tree.identity == process_tree.identity(tree.pid)
    assert bench.finish(tree, heard).exit_code == 0
    where, session, umask, open_in_ls = heard.output[1].decode().split()
    assert (where, int(session), umask) == (str(tmp_path), tree.pid, "0077")
    assert int(open_in_ls) == 4, "0, 1, 2 and the directory that ls reads"
    assert heard.output[2] == b"1\n"
    assert descriptors() == before


@pytest.mark.parametrize("way", ["memfd", "temporary file"])
def test_standard_input_is_given_and_ends(way: str, bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    if way == "temporary file":
        monkeypatch.delattr(os, "memfd_create")
    given = bytes(range(256)) * 256
    tree, heard = bench.launch("cat", stdin=given)
    assert bench.finish(tree, heard).exit_code == 0
    assert heard.output[1] == given


def test_signals_are_as_a_program_expects_them(bench: Bench) -> None:
    """Python ignores some, whoever started the keeper may have ignored others (nohup), and both are inherited."""
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR1])
    try:
        tree, heard = bench.launch("grep", "-E", "^Sig(Blk|Ign)", "/proc/self/status")
        bench.finish(tree, heard)
    finally:
        signal.signal(signal.SIGHUP, before)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGUSR1])
    _, blocked, _, ignored = heard.output[1].split()
    assert int(blocked, 16) == 0
    assert int(ignored, 16) & ~LIBC_SIGNALS == 0


@pytest.mark.parametrize("umask", [0o077, 0o022, 0])
def test_the_umask_is_the_programs_alone(umask: int, bench: Bench, tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        tree, heard = bench.launch("bash", "-c", "umask", manners=Manners(umask=umask))
        bench.finish(tree, heard)
        assert int(heard.output[1], 8) == umask
        assert os.umask(0o027) == 0o027
    finally:
        os.umask(before)


@pytest.mark.parametrize("error", [errno.ENOSYS, errno.EMFILE])
def test_without_pidfd_the_end_is_looked_for(error: int, bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(pid: int) -> int:
        raise OSError(error, os.strerror(error))

    monkeypatch.setattr(os, "pidfd_open", refuse)
    tree, heard = bench.launch("bash", "-c", "echo x; exit 3")
    assert bench.finish(tree, heard).exit_code == 3
    assert heard.output[1] == b"x\n"


def test_without_captured_output_there_are_no_pipes(bench: Bench) -> None:
    tree, heard = bench.launch("bash", "-c", "readlink /proc/self/fd/1 >&2; exit 4", capture_output=False)
    assert bench.finish(tree, heard).exit_code == 4
    assert heard.output == {1: b"", 2: b""}


def test_a_signal_is_told(bench: Bench) -> None:
    tree, heard = bench.launch("bash", "-c", "kill -SEGV $$")
    exit_ = bench.finish(tree, heard)
    assert (exit_.exit_code, exit_.signal) == (128 + signal.SIGSEGV, signal.SIGSEGV)


def test_a_working_directory_that_is_gone_says_so(bench: Bench) -> None:
    before, here = descriptors(), os.getcwd()
    with pytest.raises(StartError, match="working directory /no/such cannot be entered: No such file"):
        bench.launch("true", directory="/no/such")
    assert descriptors() == before and os.getcwd() == here


@pytest.mark.parametrize("argv", [(), ("",), ("no-such-program",), ("/etc/passwd",), ("/",), ("a\0b",)])
def test_what_cannot_be_started_says_why(argv: tuple[str, ...], bench: Bench) -> None:
    before = descriptors()
    with pytest.raises(StartError, match="program"):
        bench.launch(*argv)
    assert descriptors() == before


def test_no_descriptor_left_is_a_start_error(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse() -> tuple[int, int]:
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    monkeypatch.setattr(os, "pipe", refuse)
    with pytest.raises(StartError, match="Too many open files"):
        bench.launch("true")


@pytest.mark.parametrize("calls", [0, 1, 2])
def test_a_program_that_cannot_be_followed_does_not_run_on(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, calls: int
) -> None:
    """It is reported lost: then it must not work any more."""
    before, watch, count = descriptors(), bench.watch, itertools.count()

    def refuse(fd: int, callback: Callable[[], None]) -> None:
        if next(count) == calls:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        watch(fd, callback)

    monkeypatch.setattr(bench, "watch", refuse)
    with pytest.raises(OSError, match="No space left"):
        bench.launch("sleep", "300", A="1")
    bench.until(lambda: not bench.system._running)
    assert process_tree.marked(f"bench-{os.getpid()}-1") == [] and descriptors() == before


@pytest.mark.parametrize("nice", [0, 1], ids=["posix_spawn", "fork"])
def test_many_programs_are_followed_and_find_the_limit_of_descriptors_that_was(nice: int) -> None:
    """Each costs the keeper three, and a login shell, or a service, gets 1024."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    few = descriptors() + 40
    resource.setrlimit(resource.RLIMIT_NOFILE, (few, hard))
    try:
        with open_bench() as bench:
            manners = Manners(no_new_privs=False, nice=nice)
            trees = [
                bench.launch("bash", "-c", "ulimit -n; read; sleep 300", manners=manners, stdin=b"\n")
                for _ in range(40)
            ]
            bench.until(lambda: all(heard.output[1] == b"%d\n" % few for _, heard in trees))
        assert resource.getrlimit(resource.RLIMIT_NOFILE) == (few, hard)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_standard_input_is_given_back_when_nothing_comes_of_the_start(bench: Bench) -> None:
    before = descriptors()
    with pytest.raises(StartError, match="ionice"):
        bench.launch("true", stdin=b"x", manners=Manners(ionice="realtime"))
    assert descriptors() == before


def test_a_pipe_held_by_somebody_else_is_given_up(bench: Bench) -> None:
    before = descriptors()
    tree, heard = bench.launch("bash", "-c", "echo x; sleep 300")
    bench.until(lambda: heard.output[1] == b"x\n")
    holder = os.open(f"/proc/{tree.pid}/fd/1", os.O_WRONLY)
    tree.kill()
    bench.until(lambda: heard.exit is not None and not tree.is_alive())
    assert not heard.is_closed
    tree.close()
    os.close(holder)
    assert descriptors() == before


def test_what_was_given_up_is_reaped_when_it_ends(bench: Bench) -> None:
    """Such as after a disk's or a network's work that nothing interrupts."""
    before = descriptors()
    tree, _ = bench.launch("sleep", "300")
    tree.close()
    bench.turn(0.0)
    tree.kill()
    bench.until(lambda: process_tree.read_process(tree.pid) is None)
    bench.until(lambda: not bench.system._running and not bench.system._lingering)
    assert descriptors() == before


def test_what_still_runs_at_the_end_is_killed_and_reaped() -> None:
    with open_bench() as bench:
        tree, heard = bench.launch("bash", "-c", "sleep 300 & echo x; sleep 300")
        bench.until(lambda: heard.output[1] == b"x\n")
        pids = process_tree.members(tree.pid, None)
        assert len(pids) >= 2
    assert [process_tree.read_process(pid) for pid in pids] == [None] * len(pids)


def test_a_number_that_was_used_again_is_not_signalled(bench: Bench) -> None:
    """After the root is reaped its pid may belong to anybody: here, to a process of our own."""
    tree, heard = bench.launch("true")
    bench.until(lambda: heard.exit is not None)
    other, other_heard = bench.launch("sleep", "300")
    tree._pid, tree._tree_gone = other.pid, False  # type: ignore[attr-defined]
    assert not tree.is_alive()
    tree.kill()
    assert other.is_alive()
    other.kill()
    bench.finish(other, other_heard)


def test_orphans_that_have_ended_are_reaped(bench: Bench) -> None:
    tree, heard = bench.launch("bash", "-c", "(setsid bash -c 'echo $$; sleep 0.05' &)", HETUFLOW_INSTANCE_ID="o-1")
    bench.until(lambda: heard.exit is not None and heard.is_closed)
    orphan = int(heard.output[1])
    bench.until(lambda: process_tree.read_process(orphan) is None)
    assert not tree.is_alive()


def test_peak_memory_below_the_keepers_own_is_sampled(bench: Bench) -> None:
    tree, heard = bench.launch("sleep", "300")
    bench.until(lambda: tree.usage().memory_peak_bytes > 0)
    tree.kill()
    exit_ = bench.finish(tree, heard)
    assert 0 < exit_.memory_peak_bytes < 20 * 1024 * 1024


def test_nothing_is_due_while_nothing_runs(bench: Bench) -> None:
    tree, heard = bench.launch("true")
    assert bench.system.tick(bench.system.now()) < float("inf")
    bench.finish(tree, heard)
    bench.until(lambda: bench.system.tick(bench.system.now() + 10) == float("inf"))
