"""Start and stop a PostgreSQL server of our own on a data directory.

The directory belongs to one process at a time: a lock on a file beside it says whose it is, and vanishes with the
process however that ends. A server found running on a directory nobody holds was left by a process that was killed:
it is taken over as it is. The server runs in a session of its own, so that Ctrl-C reaches us and not it: we stop it
last, when everything that wrote to it has been flushed.

Beside the data directory `pg` lie `pg.lock` and `pg.log`.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

import trio

from hetuflow.embedded.directory import check_directory, is_postmaster, lock_directory
from hetuflow.embedded.errors import DataDirInUse, PortInUse, PostgresFailed
from hetuflow.embedded.installation import (
    Account,
    Installation,
    account,
    environment,
    find_installation,
    let_execute,
    let_pass,
    run,
)

HOST = "127.0.0.1"
PORT_FIRST, PORTS_TRIED = 5432, 100
DATABASE = "hetuflow"

START_SECONDS_MAX = 60.0
"""A start after a crash replays the log since the last checkpoint: at most some tens of seconds with our settings."""

STOP_SECONDS_MAX = 20.0
"""For a fast shutdown with its checkpoint; after that the server is stopped immediately and recovers at its next start."""

LOG_BYTES_MAX = 10 * 1024 * 1024
"""A longer log is set aside (`.log.1`) at the next start."""

SETTINGS: Mapping[str, str] = {
    "listen_addresses": HOST,
    "unix_socket_directories": "",  # their paths are too short for our directories, and TCP is what people are told
    "fsync": "on",
    "synchronous_commit": "on",
    "full_page_writes": "on",
    "shared_buffers": "128MB",
    "max_wal_size": "2GB",
    "checkpoint_timeout": "15min",
    "jit": "off",  # compiling costs more than our statements take
    "log_destination": "stderr",
    "logging_collector": "off",
    "timezone": "UTC",
    "log_timezone": "UTC",
}


class EmbeddedPostgres:
    """A running server. `url` is what clients are given; `pid` is the postmaster's."""

    def __init__(
        self,
        data_dir: Path,
        *,
        port: int | None = None,
        binaries: Path | None = None,
        settings: Mapping[str, str] | None = None,
    ) -> None:
        self.data_dir = data_dir.absolute()
        self.port = 0
        self.pid = 0
        self._wanted_port = port
        self._binaries = binaries
        self._settings = {**SETTINGS, **(settings or {})}
        self._process: subprocess.Popen[bytes] | None = None
        self._lock = -1

    def __repr__(self) -> str:
        return f"<EmbeddedPostgres {self.url} pid {self.pid} in {self.data_dir}>"

    @property
    def url(self) -> str:
        return self.url_of(DATABASE)

    @property
    def log(self) -> Path:
        return self.data_dir.with_name(self.data_dir.name + ".log")

    def url_of(self, database: str) -> str:
        return f"postgresql://postgres@{HOST}:{self.port}/{database}"

    def start(self) -> None:
        """Return when the server answers and the database exists; blocks for seconds.

        Raises:
          StartError: it cannot; nothing was left running.
        """
        installation, runner = find_installation(self._binaries), account(self.data_dir)
        self._lock = lock_directory(self.data_dir)
        try:
            check_directory(self.data_dir, installation, runner)
            if not self._adopt():
                self._check_port()
                if not (self.data_dir / "PG_VERSION").exists():
                    self._initialise(installation, runner)
                self._launch(installation, runner)
            self._create_database(installation)
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """Return when the server has ended, at the latest after some `STOP_SECONDS_MAX`; idempotent."""
        try:
            for number in (signal.SIGINT, signal.SIGQUIT, signal.SIGKILL):
                if not self._alive():
                    break
                with contextlib.suppress(ProcessLookupError):
                    os.kill(self.pid, number)
                self._await_end(STOP_SECONDS_MAX if number == signal.SIGINT else 5.0)
        finally:
            self._process = None
            if self._lock >= 0:
                os.close(self._lock)
                self._lock = -1

    def _check_port(self) -> None:
        if self._wanted_port is not None and not _is_free(self._wanted_port):
            raise PortInUse(f"port {self._wanted_port} is in use: stop what listens there, or pass another port")

    def _initialise(self, installation: Installation, runner: Account) -> None:
        """Beside its final place, then renamed: an interrupted initdb leaves nothing that looks like a database."""
        draft = self.data_dir.with_name(self.data_dir.name + ".new")
        shutil.rmtree(draft, ignore_errors=True)
        draft.mkdir(mode=0o700)
        if runner.name is not None:
            let_execute(installation)
            let_pass(draft)
            os.chown(draft, runner.uid, runner.gid)
        durable = [] if self._settings["fsync"] == "on" else ["--no-sync"]
        answer = run(
            [
                installation.command("initdb"),
                *("--pgdata", str(draft), "--username=postgres", "--auth=trust", "--encoding=UTF8", "--locale=C"),
                *("--data-checksums", "--no-instructions", *durable),
            ],
            runner,
        )
        if answer.returncode != 0:
            shutil.rmtree(draft, ignore_errors=True)
            raise PostgresFailed(f"initdb failed: {_last_line(answer.stdout)}")
        if self.data_dir.exists():
            self.data_dir.rmdir()
        draft.rename(self.data_dir)

    def _adopt(self) -> bool:
        """Take over a server that runs on the directory already; remove the traces of one that does not."""
        pidfile = self.data_dir / "postmaster.pid"
        try:
            lines = pidfile.read_text().splitlines()
            pid = int(lines[0])
        except (OSError, ValueError, IndexError):
            return False
        if not is_postmaster(pid, self.data_dir):
            # After a restart of the machine or the container the number may be any process, and PostgreSQL would
            # refuse to start. Never removed while a server might run there: that file is what protects the directory.
            pidfile.unlink(missing_ok=True)
            return False
        port = int(lines[3]) if len(lines) > 3 and lines[3].isdigit() else 0
        if self._wanted_port not in (None, port):
            raise DataDirInUse(
                f"a server (pid {pid}) already runs on {self.data_dir}, on port {port} and not {self._wanted_port}: stop it"
            )
        self.pid, self.port = pid, port
        deadline = time.monotonic() + START_SECONDS_MAX
        while not self._is_ready():
            if not self._alive():
                self.pid = 0
                return self._adopt()
            self._tick(deadline)
        return True

    def _launch(self, installation: Installation, runner: Account) -> None:
        if runner.name is not None:
            let_execute(installation)
            let_pass(self.data_dir)
        wanted = self._wanted_port
        ports = range(PORT_FIRST, PORT_FIRST + PORTS_TRIED) if wanted is None else [wanted]
        self._rotate_log()
        deadline = time.monotonic() + START_SECONDS_MAX
        for port in ports:
            if not _is_free(port):
                continue
            while True:
                trouble = self._try_port(installation, runner, port, deadline)
                if trouble is None:
                    return
                if "could not create any TCP/IP sockets" in trouble:
                    break  # somebody was faster: the next port
                if "pre-existing shared memory block" not in trouble:
                    raise PostgresFailed(f"PostgreSQL did not start: {_reason(trouble)} (log: {self.log})")
                self._tick(deadline)  # the backends of a killed server are still ending
        if wanted is None:
            raise PortInUse(f"no free port from {ports[0]} to {ports[-1]}: pass another port")
        self._check_port()
        raise PostgresFailed(f"PostgreSQL cannot listen on port {wanted} (log: {self.log})")

    def _try_port(self, installation: Installation, runner: Account, port: int, deadline: float) -> str | None:
        """Start the server on `port`; return what it said when it ended instead of getting ready."""
        settings = [part for name, value in self._settings.items() for part in ("-c", f"{name}={value}")]
        descriptor = os.open(self.log, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o644)
        begin = os.fstat(descriptor).st_size
        try:
            self._process = subprocess.Popen(
                [installation.command("postgres"), "-D", str(self.data_dir), "-p", str(port), *settings],
                stdin=subprocess.DEVNULL,
                stdout=descriptor,
                stderr=descriptor,
                start_new_session=True,
                cwd="/",
                env=environment(),
                **runner.arguments(),  # type: ignore[call-overload]
            )
        finally:
            os.close(descriptor)
        assert self._process is not None
        self.pid, self.port = self._process.pid, port
        while not self._is_ready():
            if not self._alive():
                return self.log.read_bytes()[begin:].decode(errors="replace")
            self._tick(deadline)
        return None

    def _is_ready(self) -> bool:
        """The postmaster writes "ready" into the eighth line of its pid file when it accepts connections."""
        try:
            lines = (self.data_dir / "postmaster.pid").read_text().splitlines()
        except OSError:
            return False
        return len(lines) > 7 and lines[0] == str(self.pid) and lines[7].strip() == "ready"

    def _create_database(self, installation: Installation) -> None:
        target = ["-h", HOST, "-p", str(self.port), "-U", "postgres"]
        ourselves = Account(os.geteuid(), os.getegid())
        query = f"select 1 from pg_database where datname = '{DATABASE}'"
        known = run([installation.command("psql"), *target, "-d", "postgres", "-XAtc", query], ourselves)
        if known.returncode == 0 and known.stdout.strip() == "1":
            return
        made = run([installation.command("createdb"), *target, "--maintenance-db=postgres", DATABASE], ourselves)
        if made.returncode != 0:
            raise PostgresFailed(f"the database {DATABASE} cannot be created: {_last_line(made.stdout)}")

    def _alive(self) -> bool:
        if self._process is not None:
            return self._process.poll() is None
        return self.pid > 0 and is_postmaster(self.pid, self.data_dir)

    def _await_end(self, seconds: float) -> None:
        deadline = time.monotonic() + seconds
        while self._alive() and time.monotonic() < deadline:
            time.sleep(0.01)

    def _tick(self, deadline: float) -> None:
        if time.monotonic() > deadline:
            raise PostgresFailed(f"PostgreSQL was not ready after {START_SECONDS_MAX:.0f} s (log: {self.log})")
        time.sleep(0.02)

    def _rotate_log(self) -> None:
        with contextlib.suppress(OSError):
            if self.log.stat().st_size > LOG_BYTES_MAX:
                self.log.replace(self.log.with_name(self.log.name + ".1"))


@contextmanager
def embedded_postgres(
    data_dir: Path,
    *,
    port: int | None = None,
    binaries: Path | None = None,
    settings: Mapping[str, str] | None = None,
) -> Iterator[EmbeddedPostgres]:
    """As `open_embedded_postgres`, for code without trio."""
    server = EmbeddedPostgres(data_dir, port=port, binaries=binaries, settings=settings)
    server.start()
    try:
        yield server
    finally:
        server.stop()


@asynccontextmanager
async def open_embedded_postgres(
    data_dir: Path,
    *,
    port: int | None = None,
    binaries: Path | None = None,
    settings: Mapping[str, str] | None = None,
) -> AsyncIterator[EmbeddedPostgres]:
    """Run a PostgreSQL server on `data_dir` (made when missing) for the duration of the block.

    Args:
      data_dir: becomes PostgreSQL's own directory; durable settings, UTF-8, locale C, checksums.
      port: TCP port on 127.0.0.1; None = 5432 or the next free one.
      binaries: another directory with `postgres` and `initdb` than the wheel's.
      settings: over `SETTINGS`, for tests.
    Raises:
      StartError: one line that says what to do.
    Stopping is shielded from cancellation and bounded: a fast shutdown, then an immediate one, then SIGKILL.
    """
    server = EmbeddedPostgres(data_dir, port=port, binaries=binaries, settings=settings)
    await trio.to_thread.run_sync(server.start)
    try:
        yield server
    finally:
        with trio.CancelScope(shield=True):
            await trio.to_thread.run_sync(server.stop)


def _is_free(port: int) -> bool:
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError:
            return False
    return True


def _reason(log: str) -> str:
    lines = [line for line in log.splitlines() if "FATAL:" in line or "PANIC:" in line or "ERROR:" in line]
    return lines[0].partition(":  ")[2] or lines[0] if lines else _last_line(log)


def _last_line(text: str) -> str:
    lines = text.strip().splitlines()
    return lines[-1].strip() if lines else "it said nothing"
