"""Run as `python -S -E programs.py TOKEN WAY`. Only the standard library: it is started a hundred times."""

import os
import signal
import sys
import time

SECONDS_MAX = 60
GIVE_UP = time.monotonic() + SECONDS_MAX


def wait() -> None:
    while time.monotonic() < GIVE_UP:
        time.sleep(1)


def deafen() -> None:
    for number in range(1, signal.NSIG):
        if number not in (signal.SIGKILL, signal.SIGSTOP, signal.SIGCHLD):
            try:
                signal.signal(number, signal.SIG_IGN)
            except (OSError, ValueError):
                pass


def say(word: str) -> None:
    os.write(1, word.encode() + b"\n")


def bare(way: str) -> None:
    """Go on as `way` with an environment that tells nothing."""
    os.execve(sys.executable, [sys.executable, "-S", "-E", __file__, sys.argv[1], way], {})


def fork_and_leave() -> None:
    """Go on as an orphan in a session of one's own."""
    if os.fork():
        os._exit(0)
    os.setsid()
    if os.fork():
        os._exit(0)


def deaf() -> None:
    deafen()
    os.fork()
    say("ready")
    wait()


def daemon() -> None:
    """Everything at once: its output closed, so that only the process table knows of it."""
    fork_and_leave()
    bare("daemon_bare")


def daemon_bare() -> None:
    deafen()
    say("ready")
    os.close(1)
    os.close(2)
    wait()


def daemon_of_the_living() -> None:
    """The root stays, and what it has left behind is not connected with it by anything."""
    if not os.fork():
        daemon()
    wait()


def comet() -> None:
    """Never the same pid for long."""
    bare("comet_bare")


def comet_bare() -> None:
    deafen()
    say("ready")
    while time.monotonic() < GIVE_UP:
        if os.fork():
            os._exit(0)
        os.setsid()


def bomb() -> None:
    say("ready")
    while time.monotonic() < GIVE_UP:
        try:
            os.fork()
        except OSError:
            pass


def bomb_of_sessions() -> None:
    bare("bomb_of_sessions_bare")


def bomb_of_sessions_bare() -> None:
    deafen()
    say("ready")
    while time.monotonic() < GIVE_UP:
        try:
            if not os.fork():
                os.setsid()
        except OSError:
            pass


def hydra() -> None:
    """Whoever of the two sees the other die makes two new ones, while there is room."""
    deafen()
    say("ready")
    while time.monotonic() < GIVE_UP:
        try:
            child = os.fork()
            if child == 0:
                os.setsid()
                continue
            os.waitpid(child, 0)
        except OSError:
            time.sleep(0.001)


def stopped() -> None:
    """Cannot obey SIGTERM."""
    os.fork()
    say("ready")
    os.kill(os.getpid(), signal.SIGSTOP)
    wait()


def traced() -> None:
    """A child that stands still for its tracer."""
    import ctypes

    libc = ctypes.CDLL(None)
    deafen()
    child = os.fork()
    if child == 0:
        libc.ptrace(0, 0, 0, 0)  # PTRACE_TRACEME
        os.setsid()
        os.kill(os.getpid(), signal.SIGSTOP)
        wait()
    os.waitpid(child, os.WUNTRACED)
    say("ready")
    wait()


def threads() -> None:
    import threading

    for _ in range(20):
        threading.Thread(target=wait, daemon=True).start()
    os.fork()
    say("ready")
    wait()


def hog() -> None:
    """In a child, so that its parent lives on and could hide it."""
    if os.fork() == 0:
        held = []
        while time.monotonic() < GIVE_UP and len(held) < 400:
            held.append(bytearray(os.urandom(1024)) * 1024)
        say("had it all")
        wait()
    os.wait()
    say("hidden")
    wait()


def spin() -> None:
    os.fork()
    os.fork()
    say("ready")
    while time.monotonic() < GIVE_UP:
        pass


if __name__ == "__main__":
    globals()[sys.argv[2]]()
