"""The thread for programs that may have new privileges: asleep until it is called."""

from __future__ import annotations

import signal
import threading
import time

import pytest

from agent import process_tree
from agent.containment.privileged import PrivilegedThread

SIGCHLD_BIT = 1 << (signal.SIGCHLD - 1)


def blocked(thread: int) -> int:
    status = process_tree.read_whole(f"/proc/self/task/{thread}/status")
    return int(status.partition(b"SigBlk:")[2].split(None, 1)[0], 16)


@pytest.mark.skipif(not process_tree.HAS_PROC, reason="needs /proc")
def test_no_end_of_a_child_wakes_it_and_what_it_starts_finds_signals_as_they_are() -> None:
    """While posix_spawn holds back the signals of the thread that calls it, another one gets them."""
    thread = PrivilegedThread()
    numbers: list[int] = []

    def work() -> int:
        numbers.append(threading.get_native_id())
        return blocked(numbers[0])

    before = blocked(threading.get_native_id())
    for _ in range(2):
        assert thread.call(work) == before & ~SIGCHLD_BIT
        deadline = time.monotonic() + 60
        while not blocked(numbers[0]) & SIGCHLD_BIT:
            assert time.monotonic() < deadline
    thread.close()


def test_what_it_raises_is_raised_to_who_calls() -> None:
    thread = PrivilegedThread()

    def work() -> int:
        raise KeyError("x")

    with pytest.raises(KeyError):
        thread.call(work)
    assert thread.call(lambda: 7) == 7
    thread.close()
