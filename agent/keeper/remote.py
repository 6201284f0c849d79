"""Whether what a start looks into is there at all: a file server that is gone lets whoever asks it wait, for ever perhaps.

The keeper waits for nobody: all programs would pay for that with their lives, since a keeper that does not answer is killed.
So what lies on a file server is looked into by a child first, which can be left behind. What lies there is told by the table of
mounts and by the links on the way, without touching it. A machine without such mounts pays nothing for this, the others a fork
(0.5 ms) for each program that needs one.
"""

from __future__ import annotations

import os
import select
from collections.abc import Callable, Iterator, Mapping
from typing import Final

from agent.containment.mounts import plain
from agent.keeper.launching import NoAnswer, answers
from agent.programs import searched_directories

SILENT_SECONDS: Final = 30.0
"""So long nobody asks again where nobody has answered: each question costs the keeper some seconds."""
ANSWERED_SECONDS: Final = 1.0
"""So long it is believed that somebody is there."""
LINKS_MAX: Final = 40
"""On one path; as in Linux."""
_OF_NETWORKS: Final = frozenset({"afs", "ceph", "cifs", "coda", "ncpfs", "nfs", "nfs4", "smb3", "smbfs"})
_OF_CLUSTERS: Final = frozenset({"beegfs", "gfs2", "glusterfs", "gpfs", "lustre", "ocfs2", "orangefs"})
_OF_HOSTS: Final = frozenset({"9p", "autofs", "vboxsf", "virtiofs"})
_KINDS: Final = _OF_NETWORKS | _OF_CLUSTERS | _OF_HOSTS
"""Of file systems that somebody else answers for; and those of FUSE, whatever they are called."""


class RemoteMounts:
    """The table of mounts, read again when it has changed."""

    def __init__(self, path: str = "/proc/self/mountinfo") -> None:
        self._poll = select.poll()
        self._points: frozenset[str] = frozenset()
        try:
            self._fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        except OSError:  # no Linux
            self._fd = -1
            return
        self._poll.register(self._fd, select.POLLPRI)
        self._read()

    def __bool__(self) -> bool:
        """Whether there are any."""
        if self._fd >= 0 and any(events & (select.POLLPRI | select.POLLERR) for _, events in self._poll.poll(0)):
            self._read()
        return bool(self._points)

    def holding(self, path: str) -> str | None:
        """Where the mount begins on which this absolute path lies, or a link on its way; None: it is this machine's own."""
        at, rest, links = "/", path.split("/")[::-1], 0
        while rest:
            name = rest.pop()
            if name in ("", "."):
                continue
            if name == "..":
                at = os.path.dirname(at)
                continue
            here = os.path.join(at, name)
            if here in self._points:
                return here
            try:
                target = os.readlink(here) if links < LINKS_MAX else ""
            except OSError:  # no link
                target = ""
            if target:
                links += 1
                rest += target.split("/")[::-1]
                at = "/" if target.startswith("/") else at
            else:
                at = here
        return None

    def close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def _read(self) -> None:
        os.lseek(self._fd, 0, os.SEEK_SET)
        parts = []
        while part := os.read(self._fd, 256 * 1024):
            parts.append(part)
        self._points = remote_points(b"".join(parts).decode(errors="surrogateescape"))


def remote_points(mountinfo: str) -> frozenset[str]:
    """Where file systems are mounted that somebody else answers for. Not the root: who has lost that is lost."""
    found = set()
    for line in mountinfo.splitlines():
        before, _, after = line.partition(" - ")
        fields, kind = before.split(" "), after.partition(" ")[0]
        if len(fields) > 4 and (kind in _KINDS or kind == "fuse" or kind.startswith("fuse.")):
            found.add(plain(fields[4]))
    return frozenset(found - {"/"})


class Reach:
    """What can be reached, as far as is known."""

    def __init__(
        self,
        clock: Callable[[], float],
        mounts: RemoteMounts,
        does_answer: Callable[[str, str], bool] = lambda point, path: answers(path),
    ) -> None:
        """`clock`: seconds. `does_answer`: asks whoever holds this mount about this path, and gives up in time."""
        self._clock, self._mounts, self._does_answer = clock, mounts, does_answer
        self._silent_until: dict[str, float] = {}
        self._believed_until: dict[str, float] = {}

    def check(self, name: str, environment: Mapping[str, str], directory: str) -> tuple[str, ...]:
        """The mounts that are needed to start this program there; they answer. Raises `NoAnswer`."""
        needed = self.needed(name, environment, directory)
        for point, path in needed.items():
            self.ask(point, path)
        return tuple(needed)

    def needed(self, name: str, environment: Mapping[str, str], directory: str) -> Mapping[str, str]:
        """The mounts that are needed for that, and of each a path there. Asks nobody."""
        needed: dict[str, str] = {}
        if self._mounts:
            for path in self._touched(name, environment, directory):
                point = self._mounts.holding(path)
                if point is not None:
                    needed.setdefault(point, path)
        return needed

    def holding(self, path: str) -> Mapping[str, str]:
        """The same for a path."""
        point = self._mounts.holding(path) if self._mounts else None
        return {} if point is None else {point: path}

    def note_silent(self, points: tuple[str, ...]) -> None:
        """One of these has not answered."""
        for point in points:
            self._silent_until[point] = self._clock() + SILENT_SECONDS
            self._believed_until.pop(point, None)

    def close(self) -> None:
        self._mounts.close()

    def _touched(self, name: str, environment: Mapping[str, str], directory: str) -> Iterator[str]:
        """What `find_program` and the start will look at, in order."""
        yield directory
        if "/" in name:
            yield os.path.join(directory, name)
            return
        for searched in searched_directories(environment):
            path = os.path.join(directory, searched, name)
            yield path
            if self._mounts.holding(path) is None and os.access(path, os.X_OK) and not os.path.isdir(path):
                return

    def ask(self, point: str, path: str) -> None:
        """Raises `NoAnswer`, at once while it is known that nobody is there."""
        now = self._clock()
        if self._believed_until.get(point, now) > now:
            return
        if self._silent_until.get(point, now) <= now and self._does_answer(point, path):
            self._believed_until[point] = now + ANSWERED_SECONDS
            return
        if self._silent_until.get(point, now) <= now:
            self.note_silent((point,))
        raise NoAnswer(f"{path} does not answer (the file system that is mounted at {point})")
