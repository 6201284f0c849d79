"""The dead-man's switch: ends what a keeper has started when the keeper cannot, because it is dead or stopped.

A program of the standard library alone (`python -I -S watchdog.py`), in a session of its own. It starts the keeper and is
its parent, and the subreaper: whatever a dead keeper leaves, also what has left its session and cleaned its environment,
becomes a child of this process, and is killed. Nobody else could find it.

While the keeper lives it says what runs and until when it may (see `switch`). Past that instant the instance's processes
are killed, for the server gives the work to others then: so nothing runs twice even when agent and keeper are stopped.

Kept free of anything that costs memory: 9 MB, of which 3 are its own, and no CPU while nothing happens. While programs come
and go it wakes four times a second, and the news of those that have ended by then cost it a microsecond each.
"""

import ctypes
import os
import select
import signal
import sys
import time

FROM_STDIN = "-"
"""As second argument: the keeper runs, and is the parent of this process; what it says comes on standard input."""
INSTANCE_MARK = "HETUFLOW_INSTANCE_ID"
KEEPER_MARK = "HETUFLOW_KEEPER_MARK"
WAIT_SECONDS_MAX = 5.0
"""At a time, where there is no `Alarm`: timeouts stand still while the machine sleeps, the lease's clock does not."""
AGAIN_SECONDS = 0.25
SURE_SECONDS = 0.2
"""Between two looks at the pipe before anything is killed: this process may have been stopped, and the news be old."""
GATHER_SECONDS = 0.25
"""Between two looks at the pipe while the keeper says something: to be woken for every program costs more than its news."""
SWEEP_SECONDS_MAX = 60.0
READ_BYTES = 64 * 1024
PR_SET_CHILD_SUBREAPER = 36
TFD_TIMER_ABSTIME = 1
NEVER = float("inf")
CLOCK = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)


def main() -> int:
    """Arguments: the mark, the readiness descriptor, then the keeper's command with `{switch_fd}` in its last word."""
    mark, ready_fd, command = sys.argv[1], sys.argv[2], sys.argv[3:]
    if ready_fd != FROM_STDIN:
        if os.fork():
            os._exit(0)  # whoever started this need not reap it
        os.setsid()
    for number in (signal.SIGHUP, signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    if ready_fd == FROM_STDIN:
        return Watchdog(os.getppid(), 0, mark).run()
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    reads, writes = os.pipe()
    keeper = start_keeper(command, writes, reads)
    os.close(writes)
    os.close(int(ready_fd))
    return Watchdog(keeper, reads, mark).run()


def start_keeper(command: list[str], writes: int, reads: int) -> int:
    pid = os.fork()
    if pid:
        return pid
    try:
        os.close(reads)
        os.set_inheritable(writes, True)
        os.setsid()
        for number in (signal.SIGHUP, signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.SIG_DFL)
        words = [*command[:-1], command[-1].replace('"{switch_fd}"', str(writes))]
        os.execv(words[0], words)
    finally:
        os._exit(127)


class Alarm:
    """A descriptor that can be read from an instant of the lease's clock on. It rings at once when the machine has slept past
    that. Where the system has no such thing, `fd` is -1 and it never rings.
    """

    def __init__(self) -> None:
        self.fd, self.at = -1, NEVER
        if sys.platform == "linux":
            self.libc = ctypes.CDLL(None)
            if hasattr(self.libc, "timerfd_create"):
                self.fd = self.libc.timerfd_create(CLOCK, os.O_CLOEXEC | os.O_NONBLOCK)

    def set(self, at: float) -> None:
        """To ring from `at` on, and not before; infinity: not at all."""
        if self.fd < 0 or at == self.at:
            return
        self.at = at
        nanoseconds = 0 if at == NEVER else max(1, int(at * 1e9))
        value = (ctypes.c_long * 4)(0, 0, *divmod(nanoseconds, 1_000_000_000))
        self.libc.timerfd_settime(self.fd, TFD_TIMER_ABSTIME, value, None)

    def silence(self) -> None:
        self.set(NEVER)

    def close(self) -> None:
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1


class Guarded:
    """One instance that runs."""

    def __init__(self, name: str, pid: int, start: str, lease_seconds: float) -> None:
        self.mark = f"{INSTANCE_MARK}={name.rpartition('.')[0]}".encode()
        self.pid, self.start, self.lease_seconds = pid, start, lease_seconds
        self.group = ""


class Watchdog:
    def __init__(self, keeper: int, reads: int, mark: str) -> None:
        self.keeper, self.reads = keeper, reads
        self.mark = f"{KEEPER_MARK}={mark}".encode() if mark else b""
        self.guarded: dict[str, Guarded] = {}
        self.fresh: dict[bytes, bytes] = {}
        """Guarded since the last look at the pipe, as it was said: most have ended when it comes to be understood."""
        self.renewed_at = -NEVER
        self.rest = b""
        self.is_quiet = True
        """Nothing was said when the pipe was looked at last: the next word wakes this process."""
        self.is_over = self.has_goodbye = False
        self.alarm = Alarm()
        os.set_blocking(reads, False)

    def run(self) -> int:
        poll = select.poll()
        poll.register(self.reads, select.POLLIN)
        if self.alarm.fd >= 0:
            poll.register(self.alarm.fd, select.POLLIN)
        while not self.is_over:
            poll.modify(self.reads, select.POLLIN if self.is_quiet else 0)  # that nobody writes any more is told always
            poll.poll(self.wait_milliseconds())
            self.read()
            if not self.is_over and self.overdue():
                time.sleep(SURE_SECONDS)
                self.read()
                for each in self.overdue():
                    self.kill_instance(each)
        if self.has_goodbye:
            try:
                os.waitpid(self.keeper, 0)
            except ChildProcessError:
                pass  # it has started this one, not the reverse
            return 0
        self.sweep()
        return 1

    def wait_milliseconds(self) -> int:
        due = min((self.deadline(each) for each in self.guarded.values()), default=NEVER)
        wait = due - time.clock_gettime(CLOCK)
        if wait <= 0:  # it was killed, and is not gone yet
            self.alarm.silence()
            return int(1000 * AGAIN_SECONDS)
        self.alarm.set(due)
        if not self.is_quiet:
            return int(1000 * min(wait, GATHER_SECONDS)) + 1
        return -1 if self.alarm.fd >= 0 or due == NEVER else int(1000 * min(wait, WAIT_SECONDS_MAX)) + 1

    def deadline(self, guarded: Guarded) -> float:
        return self.renewed_at + guarded.lease_seconds if guarded.lease_seconds > 0 else NEVER

    def overdue(self) -> list[Guarded]:
        now = time.clock_gettime(CLOCK)
        return [each for each in self.guarded.values() if self.deadline(each) <= now]

    # --- the pipe --------------------------------------------------------------------------------------------------

    def read(self) -> None:
        """Everything that the keeper has said."""
        self.is_quiet = True
        while self.read_some():
            self.is_quiet = False
        for name, said in self.fresh.items():
            try:
                self.guard(name.decode(), said.decode().split("\t"))
            except (ValueError, IndexError):
                pass  # of a later version
        self.fresh.clear()

    def read_some(self) -> bool:
        """Whether there may be more."""
        try:
            data = os.read(self.reads, READ_BYTES)
        except BlockingIOError:
            return False
        if not data:
            self.is_over = True
            return False
        *lines, self.rest = (self.rest + data).split(b"\n")
        for line in lines:
            verb, _, rest = line.partition(b"\t")
            if verb == b"guard":
                name, _, said = rest.partition(b"\t")
                self.fresh[name] = said
            elif verb == b"release":
                if self.fresh.pop(rest, None) is None or self.guarded:
                    self.guarded.pop(rest.decode(), None)
            else:
                try:
                    self.hear(verb, rest)
                except ValueError:
                    pass  # of a later version
        return True

    def guard(self, name: str, said: list[str]) -> None:
        guarded = Guarded(name, int(said[0]), said[1], float(said[2]))
        guarded.group = said[3] if len(said) > 3 else ""
        self.guarded[name] = guarded

    def hear(self, verb: bytes, said: bytes) -> None:
        if verb == b"renew":
            self.renewed_at = float(said)
        elif verb == b"group":  # of a keeper from before this file was replaced
            name, _, path = said.partition(b"\t")
            if name in self.fresh:
                self.fresh[name] += b"\t" + path
        elif verb == b"goodbye":
            self.is_over = self.has_goodbye = True

    # --- ending ----------------------------------------------------------------------------------------------------

    def kill_instance(self, guarded: Guarded) -> None:
        kill_group(guarded.group, self.keeper)
        table = processes()
        root = table.get(guarded.pid)
        inside = {pid for pid, found in table.items() if carries(pid, guarded.mark)}
        if root is not None and root.start == guarded.start:
            inside.add(guarded.pid)
            inside.update(pid for pid, found in table.items() if found.session == guarded.pid)
        add_descendants(inside, table)
        kill(inside - {self.keeper, os.getpid()})

    def sweep(self) -> None:
        """Everything of the dead keeper, until nothing is left."""
        until = time.monotonic() + SWEEP_SECONDS_MAX
        delay = 0.005
        while time.monotonic() < until:
            for each in self.guarded.values():
                kill_group(each.group)
            table = processes()
            inside = {os.getpid()}
            add_descendants(inside, table)
            if self.mark:
                inside.update(pid for pid in table if carries(pid, self.mark))
            inside.discard(os.getpid())
            kill(inside)
            if not reap() and not any(table[pid].is_alive for pid in inside if pid in table):
                return
            time.sleep(delay)
            delay = min(2 * delay, AGAIN_SECONDS)


class Process:
    def __init__(self, parent: int, session: int, state: str, start: str) -> None:
        self.parent, self.session, self.start = parent, session, start
        self.is_alive = state not in "ZX"


def processes() -> dict[int, Process]:
    found = {}
    for name in os.listdir("/proc") if os.path.exists("/proc/self/stat") else ():
        data = read(f"/proc/{name}/stat") if name.isdigit() else b""
        if data:
            fields = data[data.rindex(b")") + 2 :].split()
            found[int(name)] = Process(int(fields[1]), int(fields[3]), fields[0].decode(), fields[19].decode())
    return found


def add_descendants(inside: set[int], table: dict[int, Process]) -> None:
    grown = True
    while grown:
        more = [pid for pid, found in table.items() if found.parent in inside and pid not in inside]
        inside.update(more)
        grown = bool(more)


def carries(pid: int, mark: bytes) -> bool:
    return mark in read(f"/proc/{pid}/environ").split(b"\0")


def kill(pids: set[int]) -> None:
    """First none of them may start others any more."""
    for number in (signal.SIGSTOP, signal.SIGKILL):
        for pid in sorted(pids):
            try:
                os.kill(pid, number)
            except (ProcessLookupError, PermissionError):
                pass


def kill_group(path: str, keeper: int = 0) -> None:
    """All of a control group: at once where the kernel can (cgroup.kill), else one by one. `keeper`: it may be in there, for
    the length of a start."""
    if not path:
        return
    try:
        with open(f"{path}/cgroup.kill", "w") as file:
            file.write("1")
    except OSError:
        try:
            with open(f"{path}/pids.max", "w") as file:  # none of them can fork any more
                file.write("0")
        except OSError:
            pass
        data = read(f"{path}/cgroup.procs")
        kill({int(word) for word in data.split()} - {keeper})


def reap() -> bool:
    """Collect children that have ended; whether any are left."""
    try:
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
    except ChildProcessError:
        return False
    return True


def read(path: str) -> bytes:
    parts = []
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return b""
    try:
        while part := os.read(fd, READ_BYTES):
            parts.append(part)
    except OSError:
        return b""
    finally:
        os.close(fd)
    return b"".join(parts)


if __name__ == "__main__":
    sys.exit(main())
