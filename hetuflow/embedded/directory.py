"""Whose data directory is it, and does a server run on it?"""

from __future__ import annotations

import fcntl
import os
import subprocess
from pathlib import Path

from hetuflow.embedded.errors import DataDirInUse, DataDirOfOtherOwner, DataDirOfOtherVersion
from hetuflow.embedded.installation import Account, Installation


def lock_directory(data_dir: Path) -> int:
    """Return the descriptor that holds the lock beside `data_dir`: close it to let go.

    Raises:
      DataDirInUse: another live process holds it; DataDirOfOtherOwner: nothing can be written there.
    """
    path = data_dir.with_name(data_dir.name + ".lock")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        lock = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    except OSError as exc:
        raise DataDirOfOtherOwner(
            f"{path.parent} cannot be written ({exc.strerror}): choose another --data-dir"
        ) from exc
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        holder = os.pread(lock, 20, 0).decode(errors="replace").strip()
        os.close(lock)
        raise DataDirInUse(f"{data_dir} is used by process {holder}: stop it, or choose another --data-dir") from None
    os.ftruncate(lock, 0)
    os.pwrite(lock, str(os.getpid()).encode(), 0)
    return lock


def check_directory(data_dir: Path, installation: Installation, runner: Account) -> None:
    """Raise a `StartError` unless `data_dir` is missing, empty, or a database of this version and owner."""
    if not data_dir.exists():
        return
    owner = data_dir.stat().st_uid
    if owner != runner.uid and (runner.name is None or (data_dir / "PG_VERSION").exists()):
        raise DataDirOfOtherOwner(
            f"{data_dir} belongs to user {owner}, not to {runner.uid}: start hetuflow as its owner, "
            "or choose another --data-dir"
        )
    version_file = data_dir / "PG_VERSION"
    if version_file.exists():
        major = version_file.read_text().strip()
        if major != str(installation.major):
            raise DataDirOfOtherVersion(
                f"{data_dir} was made by PostgreSQL {major}, this one is {installation.major}: "
                "dump it with the old version and restore it, or choose another --data-dir"
            )
    elif any(data_dir.iterdir()):
        raise DataDirInUse(f"{data_dir} holds other files: choose another --data-dir")


def is_postmaster(pid: int, data_dir: Path) -> bool:
    """Does `pid` run, and may it be a server on that directory? (A postmaster's working directory is its data directory.)"""
    process = Path(f"/proc/{pid}")
    if not Path("/proc/self/stat").exists():  # macOS
        answer = subprocess.run(["ps", "-p", str(pid), "-o", "command="], capture_output=True, text=True, check=False)
        return "postgres" in answer.stdout
    try:
        state = (process / "stat").read_text().rpartition(")")[2].split()[0]
        program = (process / "cmdline").read_bytes().partition(b"\0")[0]
    except OSError:
        return False
    if state == "Z" or not program.rpartition(b"/")[2].startswith((b"postgres", b"postmaster")):
        return False
    try:
        return (process / "cwd").samefile(data_dir)
    except OSError:
        return True  # somebody else's process: it cannot be ruled out
