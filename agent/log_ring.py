"""The agent's own log, for those who ask for it from afar: the last lines in memory, and on disk over restarts.

Both are bounded. A line never holds a password of an address, nor the value of a variable or key that is named like a
secret; the log as a whole never has environments, arguments or output of programs. A disk that is full loses lines
here, never the agent.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Mapping, MutableMapping, Sequence
from typing import Any, Final

from hetuflow.configuration import without_password
from hetuflow.ports.disk import AppendFile, Disk, DiskError

LINES_MAX: Final = 1000
LINE_CHARACTERS_MAX: Final = 2000
FILE_BYTES_MAX: Final = 256 * 1024
FILES_MAX: Final = 2
ANSWER_BYTES_MAX: Final = 128 * 1024
"""Of one answer: half a frame."""
LINES_AFTER_FAILURE: Final = 100
"""Not written to a disk that has refused one: each try begins a file, and the oldest goes."""
MASKED_CHARACTERS_MAX: Final = 8000
HIDDEN: Final = "***"

_PREFIX: Final = "agent-log-"
_SECRET = re.compile(
    r"(?i)\b([A-Z0-9_.-]*(?:password|passwd|secret|token|api_?key|private_?key|credential)[A-Z0-9_.-]*)(\s*[=:]\s*)(\"[^\"]*\"|'[^']*'|\S+)"
)
_SECRET_NAME = re.compile(r"(?i)password|passwd|secret|token|api_?key|private_?key|credential")


def masked(text: str) -> str:
    """The text without passwords of addresses, and without values of what is named like a secret."""
    text = text[:MASKED_CHARACTERS_MAX]
    return _SECRET.sub(rf"\1\2{HIDDEN}", without_password(text) if "://" in text else text)


def mask(logger: Any, method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """The processor of structlog that does it to every value, whatever it is."""
    for name, value in event.items():
        if _SECRET_NAME.search(name):
            event[name] = HIDDEN
        elif isinstance(value, str):
            event[name] = masked(value)
        elif not isinstance(value, (int, float, bool, type(None))):
            event[name] = masked(str(value))
    return event


def rendered(event: Mapping[str, Any]) -> str:
    """A line as people read it: time, level, what happened, and its values."""
    rest = {name: value for name, value in event.items() if name not in ("timestamp", "level", "event", "exception")}
    parts = [str(event.get("timestamp", "")), f"{event.get('level', ''):<7}", str(event.get("event", ""))]
    parts += [
        f"{name}={value!r}" if isinstance(value, str) and " " in value else f"{name}={value}"
        for name, value in rest.items()
    ]
    line = " ".join(parts)
    if event.get("exception"):
        line += "\n" + str(event["exception"])
    return line[:LINE_CHARACTERS_MAX].replace("\0", "\ufffd")


class LogRing:
    """The last lines, numbered. `keep_in` loads those of earlier lives."""

    def __init__(self) -> None:
        self._lines: deque[str] = deque(maxlen=LINES_MAX)
        self._next = 1
        self._files: _LogFiles | None = None

    def __call__(self, logger: Any, method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
        """A processor of structlog that only listens."""
        self.add(rendered(event))
        return event

    def add(self, line: str) -> None:
        self._lines.append(line)
        self._next += 1
        if self._files is not None:
            self._files.write(self._next - 1, line)

    def keep_in(self, disk: Disk, directory: str) -> None:
        """From now on the lines are also on disk; what earlier lives have left there comes before this one's."""
        files = _LogFiles(disk, directory)
        earlier = files.read()
        mine = list(self._lines)
        first = earlier[-1][0] + 1 if earlier else 1
        self._lines.clear()
        self._lines.extend(line for _, line in earlier)
        self._lines.extend(mine)
        self._next = first + len(mine)
        self._files = files
        for number, line in enumerate(mine, first):
            files.write(number, line)

    def after(self, number: int, lines_max: int) -> tuple[int, Sequence[str]]:
        """The number of the first, and the last lines, at most so many, that come after that number."""
        oldest = self._next - len(self._lines)
        skipped = max(0, number + 1 - oldest, len(self._lines) - max(0, lines_max))
        found: list[str] = []
        size = 0
        for line in reversed(list(self._lines)[skipped:]):
            size += len(line.encode(errors="replace")) + 5
            if size > ANSWER_BYTES_MAX:
                break
            found.append(line)
        return self._next - len(found), found[::-1]


class _LogFiles:
    """Files of lines `<number> <line>`; when one is full the next begins, and the oldest goes."""

    def __init__(self, disk: Disk, directory: str) -> None:
        self._disk, self._directory = disk, directory
        self._file: AppendFile | None = None
        self._size = 0
        self._generation = max(self._generations(), default=0)
        self._passed_over = 0

    def read(self) -> list[tuple[int, str]]:
        found: list[tuple[int, str]] = []
        for generation in self._generations():
            try:
                data = self._disk.read(self._path(generation)) or b""
            except DiskError:
                continue
            for text in data.decode(errors="replace").split("\n"):
                number, _, line = text.partition(" ")
                if number.isdecimal() and len(number) < 16:
                    found.append((int(number), line.replace("\\n", "\n")))
        return found[-LINES_MAX:]

    def write(self, number: int, line: str) -> None:
        if self._passed_over:
            self._passed_over -= 1
            return
        escaped = line.replace("\n", "\\n")
        data = f"{number} {escaped}\n".encode(errors="replace")
        try:
            if self._file is None or self._size + len(data) > FILE_BYTES_MAX:
                self._turn_over()
            assert self._file is not None
            self._file.append(data)
            self._size += len(data)
        except DiskError:
            self._close()
            self._passed_over = LINES_AFTER_FAILURE

    def _turn_over(self) -> None:
        self._close()
        self._generation += 1
        for generation in self._generations()[: 1 - FILES_MAX or None]:
            self._disk.remove(self._path(generation))
        self._file, self._size = self._disk.open_append(self._path(self._generation)), 0

    def _close(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None

    def _generations(self) -> list[int]:
        try:
            names = self._disk.list(self._directory)
        except DiskError:
            return []
        numbers = (name.removeprefix(_PREFIX) for name in names if name.startswith(_PREFIX))
        return sorted(int(number) for number in numbers if number.isdecimal())

    def _path(self, generation: int) -> str:
        return f"{self._directory}/{_PREFIX}{generation}"
