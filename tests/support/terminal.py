"""A terminal in memory: what a person would see of a program that runs in it, and the keys they press."""

from __future__ import annotations

import fcntl
import os
import select
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyte
from attrs import Factory, define
from rich.text import Text


@define
class Terminal:
    """A running program and its screen. `raw` is every byte it wrote."""

    process: subprocess.Popen[bytes]
    master: int
    screen: pyte.HistoryScreen
    stream: pyte.ByteStream
    raw: bytearray = Factory(bytearray)

    @property
    def lines(self) -> list[str]:
        return [line.rstrip() for line in self.screen.display]

    @property
    def text(self) -> str:
        return "\n".join(self.lines)

    def styled_lines(self) -> list[Text]:
        """The screen with its colours."""
        return [
            Text.assemble(
                *((cell.data, _style(cell)) for cell in (row[column] for column in range(self.screen.columns)))
            )
            for row in (self.screen.buffer[number] for number in range(self.screen.lines))
        ]

    def press(self, keys: str) -> None:
        os.write(self.master, keys.encode())

    def until(self, condition: Callable[[str], bool], seconds: float = 60) -> str:
        """Read until the screen is so. Raises AssertionError with the screen when it never is."""
        deadline = time.monotonic() + seconds
        while not condition(self.text):
            assert time.monotonic() < deadline and self._read(1.0) is not None, self.text
        return self.text

    def until_end(self, seconds: float = 60) -> int:
        """Read to the end; the exit status."""
        deadline = time.monotonic() + seconds
        while self._read(1.0) is not None:
            assert time.monotonic() < deadline, self.text
        return self.process.wait(10)

    def _read(self, seconds: float) -> bytes | None:
        """What it wrote within that time; None at the end."""
        ready, _, _ = select.select([self.master], [], [], seconds)
        if not ready:
            return b""
        try:
            data = os.read(self.master, 65536)
        except OSError:  # Linux: nobody has the other side open
            return None
        self.raw += data
        self.stream.feed(data)
        return data or None


def _style(cell: Any) -> str:
    colour = {"default": "", "brown": "yellow"}.get(cell.fg, cell.fg if cell.fg.isalpha() else f"#{cell.fg}")
    return " ".join(part for part in ("bold" if cell.bold else "", colour) if part)


@contextmanager
def terminal(
    arguments: Sequence[str],
    *,
    columns: int = 80,
    lines: int = 24,
    environ: Mapping[str, str] | None = None,
    directory: Path | None = None,
) -> Iterator[Terminal]:
    """Run a program in a terminal of that size; it is killed at the end if it still runs."""
    master, slave = os.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))
    kept = {name: value for name, value in os.environ.items() if name not in ("COLUMNS", "LINES", "NO_COLOR")}
    try:
        process = subprocess.Popen(
            list(arguments),
            stdin=slave,
            stdout=slave,
            stderr=slave,
            start_new_session=True,
            cwd=directory,
            env=kept | {"TERM": "xterm-256color"} | dict(environ or {}),
        )
    finally:
        os.close(slave)
    screen = pyte.HistoryScreen(columns, lines, history=10_000)
    shown = Terminal(process, master, screen, pyte.ByteStream(screen))
    try:
        yield shown
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()
        os.close(master)


def hetuflow_command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "hetuflow.cli.main", *arguments]
