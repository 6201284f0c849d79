"""Real disks that are full: what was to be replaced stays as it was, and nothing is left beside it."""

from __future__ import annotations

import os
import resource
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from agent.keeper.disk import KeeperDisk
from hetuflow.ports.disk import DiskError
from hetuflow.ports.real import SystemDisk


@pytest.fixture
def full(tmp_path: Path) -> Iterator[Path]:
    """Files here can have 1000 bytes: a full disk, as far as a write can tell."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, before[1]))
    try:
        yield tmp_path
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)


@pytest.mark.parametrize("disk", [KeeperDisk(), SystemDisk()], ids=["keeper", "agent"])
def test_a_file_that_cannot_be_replaced_stays_and_leaves_nothing_beside_it(
    full: Path, disk: KeeperDisk | SystemDisk
) -> None:
    path = str(full / "log")
    disk.replace(path, b"before")
    with pytest.raises(DiskError, match="cannot write"):
        disk.replace(path, b"x" * 5000)
    assert os.listdir(full) == ["log"] and disk.read(path) == b"before"
    disk.replace(path, b"after")
    assert disk.read(path) == b"after"
