"""A `hetuflow dev` of its own for tests that use hetuflow from outside, as a person would."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
from attrs import frozen

from hetuflow.cli.cluster import free_port

READY_SECONDS = 90
PORT_ATTEMPTS = 3


@frozen
class Dev:
    """A running `hetuflow dev`."""

    process: subprocess.Popen[bytes]
    data_dir: Path
    http_port: int
    websocket_port: int
    database_port: int | None
    """None: that of an earlier run with the same directory."""
    log: Path

    @property
    def database_url(self) -> str:
        return f"postgresql://postgres@127.0.0.1:{self.database_port}/hetuflow"

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.http_port}"

    def stop(self) -> int:
        """Ctrl-C, and the exit status."""
        self.process.send_signal(signal.SIGINT)
        return self.process.wait(60)


@contextmanager
def running_dev(
    data_dir: Path, *arguments: str, same_database: bool = False, agents: int | None = None
) -> Iterator[Dev]:
    """Start it, wait until the server is healthy and its agents are online, stop it at the end.

    `same_database`: PostgreSQL may still run from before, on its port of then. `agents`: None = as it does by itself.
    """
    if agents is not None:
        arguments = ("--agents", str(agents), *arguments)
    for _ in range(PORT_ATTEMPTS):
        dev = _started(data_dir, arguments, same_database)
        if not _found_its_port_taken(dev):
            break
    process = dev.process
    try:
        _until_ready(dev, 1 if agents is None else agents)
        yield dev
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGINT)
            try:
                process.wait(60)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _started(data_dir: Path, arguments: tuple[str, ...], same_database: bool) -> Dev:
    database_port = None if same_database else free_port()
    if database_port is not None:
        arguments = ("--database-port", str(database_port), *arguments)
    http_port, websocket_port = free_port(), free_port()
    log = data_dir.parent / f"{data_dir.name}.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [
                *(sys.executable, "-m", "hetuflow.cli.main", "dev", "--data-dir", str(data_dir)),
                *("--http-port", str(http_port), "--websocket-port", str(websocket_port)),
                *arguments,
            ],
            stdout=output,
            stderr=output,
            stdin=subprocess.DEVNULL,
            start_new_session=True,
            env=os.environ | {"COLUMNS": "200"},
        )
    return Dev(process, data_dir, http_port, websocket_port, database_port, log)


def _found_its_port_taken(dev: Dev) -> bool:
    """Somebody else took a port between our look and its start: seen when many tests run beside each other."""
    deadline = time.monotonic() + READY_SECONDS
    while dev.process.poll() is None:
        if time.monotonic() > deadline:
            return False
        try:
            httpx.get(f"{dev.url}/api/v1/system/health", timeout=5)
        except httpx.TransportError:
            time.sleep(0.05)
        else:
            return False
    return "is in use" in dev.log.read_text(errors="replace")


def _until_ready(dev: Dev, agents: int) -> None:
    deadline = time.monotonic() + READY_SECONDS
    while time.monotonic() < deadline:
        if dev.process.poll() is not None:
            raise AssertionError(f"hetuflow dev ended: {dev.log.read_text(errors='replace')}")
        try:
            health = httpx.get(f"{dev.url}/api/v1/system/health", timeout=5).json()
            if health["status"] == "healthy" and health["agents"]["online"] >= agents:
                return
        except (httpx.TransportError, ValueError):
            pass
        time.sleep(0.05)
    raise AssertionError(f"hetuflow dev was not ready: {dev.log.read_text(errors='replace')}")
