"""A child of a fork is a copy with one thread, whatever the other threads of the keeper were at."""

from __future__ import annotations

import signal
import sys
import threading
import time

import pytest

from agent.keeper import launching
from agent.keeper.messages import Manners
from hetuflow.ports.processes import StartError
from tests.support.programs import open_bench

FORKED = Manners(nice=1)


def test_other_threads_that_want_the_interpreter_do_not_stop_a_child(monkeypatch: pytest.MonkeyPatch) -> None:
    """With a short interval children wait for a thread that they do not have."""
    before = sys.getswitchinterval()
    is_over = threading.Event()

    def ask_often() -> None:
        while not is_over.is_set():
            time.sleep(1e-6)

    others = [threading.Thread(target=ask_often, daemon=True) for _ in range(4)]
    sys.setswitchinterval(1e-6)
    try:
        with open_bench("session") as bench:
            for each in others:
                each.start()
            for _ in range(60):
                assert bench.finish(*bench.launch("true", manners=FORKED)).exit_code == 0
    finally:
        is_over.set()
        assert sys.getswitchinterval() == pytest.approx(1e-6)
        sys.setswitchinterval(before)


def test_a_child_that_never_becomes_its_program_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(launching, "_REPORT_SECONDS_MAX", 0.1)
    monkeypatch.setattr(launching, "_be_child", lambda *given: signal.pause())
    with open_bench("auto") as bench, pytest.raises(StartError, match=r"not started within 0\.1 s"):
        bench.launch("true", manners=FORKED)
