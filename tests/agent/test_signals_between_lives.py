"""Signals that come between two lives of an agent: the first obeys them no more, the next one does."""

from __future__ import annotations

import signal
import subprocess
import sys

import pytest

SCRIPT = """
import os, signal, sys
import trio
from agent import life
from agent.daemon import Farewell

NUMBERS = [signal.Signals[name] for name in os.environ["SIGNALS"].split()]

class Told:
    farewell, heard, all_heard = None, 0, trio.Event()
    def request_stop(self):
        self.hear("stop")
    def request_restart(self, farewell):
        self.hear(farewell.value)
    def hear(self, what):
        print("life", os.environ["LIFE"], what, flush=True)
        self.heard += 1
        if self.heard == len(NUMBERS):
            self.all_heard.set()

async def main():
    agent = Told()
    await trio.to_thread.run_sync(os.getpid)  # there is another thread, which the system may give a signal to
    async with trio.open_nursery() as nursery:
        await nursery.start(life._obey, agent, nursery.cancel_scope)
        if os.environ["LIFE"] == "2":
            await agent.all_heard.wait()
        elif os.environ["WHEN"] == "at the end":
            agent.farewell = Farewell.KEPT
            os.kill(os.getpid(), NUMBERS[0])
            await trio.lowlevel.checkpoint_if_cancelled()
        else:
            agent.farewell = Farewell.KEPT
        nursery.cancel_scope.cancel()

trio.run(main)
if os.environ["LIFE"] == "1":
    for number in NUMBERS:
        os.kill(os.getpid(), number)
    os.environ["LIFE"] = "2"
    life.begin_anew()
"""


@pytest.mark.parametrize("when", ["at the end", "afterwards"])
@pytest.mark.parametrize(("number", "heard"), [("SIGTERM", "stop"), ("SIGUSR1", "keeping"), ("SIGINT", "stop")])
def test_a_signal_that_comes_before_the_next_life_waits_for_it(number: str, heard: str, when: str) -> None:
    assert lives(number, when) == [f"life 2 {heard}"]


def test_each_of_them_waits() -> None:
    assert sorted(lives("SIGTERM SIGUSR2", "afterwards")) == ["life 2 draining", "life 2 stop"]


def lives(signals: str, when: str) -> list[str]:
    environment = {"SIGNALS": signals, "WHEN": when, "LIFE": "1"}
    command = [sys.executable, "-c", SCRIPT]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, (signal.Signals(-done.returncode) if done.returncode < 0 else "", done.stderr)
    return [line for line in done.stdout.splitlines() if line.startswith("life")]
