"""Files of the server to this machine: whole or not at all, checked by their digest, with progress for long ones."""

from __future__ import annotations

import hashlib
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import click

from hetuflow.cli.client import Client

PROGRESS_BYTES_MIN = 4 * 1024 * 1024
"""Below it a download is over before anybody reads how far it is."""


class Damaged(click.ClickException):
    """The bytes are not those that the server told of."""


def download(client: Client, path: str, target: Path, total: int, sha256: str) -> None:
    """Write what is at this path of the API to a file, which is there only when it is whole."""
    unfinished = target.with_name(f"{target.name}.part")
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        with unfinished.open("wb") as out:
            copy(client, path, out, total, sha256, target.name)
        os.replace(unfinished, target)
    finally:
        unfinished.unlink(missing_ok=True)


def copy(client: Client, path: str, out: IO[bytes], total: int, sha256: str, name: str) -> None:
    """Write what is at this path of the API.

    Raises:
      Damaged: it is not what was told.
    """
    digest = hashlib.sha256()
    with client.content(path) as pieces, _progress(name, total) as advance:
        for piece in pieces:
            digest.update(piece)
            out.write(piece)
            advance(len(piece))
    if digest.hexdigest() != sha256:
        raise Damaged(f"{name} arrived damaged: its digest is {digest.hexdigest()}, not {sha256}")


@contextmanager
def _progress(name: str, total: int) -> Iterator[Any]:
    if total < PROGRESS_BYTES_MIN or not sys.stderr.isatty():
        yield lambda count: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    with Progress(*columns, TimeRemainingColumn(), console=Console(stderr=True), transient=True) as bar:
        shown = bar.add_task(name, total=total)
        yield lambda count: bar.advance(shown, count)


def place_of(directory: Path, path: str) -> Path:
    """Where a file of this path goes below the directory. Raises `click.ClickException` for one that leads out of it."""
    parts = path.split("/")
    if any(part in ("", ".", "..") or "\0" in part for part in parts):
        raise click.ClickException(f"{path!r} is no path below {directory}")
    return directory.joinpath(*parts)
