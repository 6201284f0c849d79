"""A log to a file, and from a file into an empty database."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from hetuflow.cli import render
from hetuflow.cli.projections import with_store
from hetuflow.cli.sources import pieces
from hetuflow.cli.unwrap import lone

if TYPE_CHECKING:
    from eventstore.postgres import PostgresStore

READ_EVENTS = 5_000


def export(file: Path, form: str | None, config_file: Path | None, database_url: str | None, json_: bool) -> None:
    from hetuflow.history.archive import SUFFIXES, Writer, format_of

    chosen = form or format_of(file.name)
    if chosen is None:
        raise click.UsageError(f"{file.name}: give --format, or one of the suffixes {', '.join(SUFFIXES)}")
    began = time.perf_counter()
    partial = file.with_name(file.name + ".partial")

    async def work(store: PostgresStore) -> dict[str, Any]:
        head = await store.head()
        with partial.open("wb") as out, progress("exporting", head) as show:
            writer = Writer(out.write, chosen, exported_at=datetime.now(UTC))
            while writer.position < head:
                batch = await store.read_all(after=writer.position, before=head + 1, limit=READ_EVENTS)
                for event in batch:
                    writer.add(event)
                show(writer.position)
            digest = writer.finish()
            out.flush()
            os.fsync(out.fileno())
        return {"file": str(file), "events": writer.events, "last_position": writer.position, "sha256": digest}

    try:
        with lone(OSError):
            done = with_store(config_file, database_url, work)
        partial.replace(file)
    except OSError as exc:
        raise click.ClickException(f"{file} cannot be written: {exc.strerror}; name a file elsewhere") from exc
    finally:
        _remove(partial)
    seconds = time.perf_counter() - began
    if json_:
        render.as_json({**done, "seconds": seconds})
    else:
        size = file.stat().st_size
        click.echo(
            f"exported {done['events']} events to {file}, {size / 1e6:.1f} MB in {seconds:.1f} s"
            f" ({done['events'] / max(seconds, 1e-6):.0f} events/s), sha256 {done['sha256'][:16]}"
        )


def _remove(partial: Path) -> None:
    with suppress(OSError):  # where it could not be made, it need not be removed
        partial.unlink(missing_ok=True)


def import_(file: Path, config_file: Path | None, database_url: str | None, json_: bool) -> None:
    from eventstore.postgres.restore import restore
    from hetuflow.history.archive import ArchiveError, read

    began = time.perf_counter()

    async def work(store: PostgresStore) -> int | str:
        with progress("importing", None) as show:
            try:
                return await restore(store.database, read(pieces(file)), on_progress=show)
            except ArchiveError as exc:
                return str(exc)

    done = with_store(config_file, database_url, work)
    if isinstance(done, str):
        raise click.ClickException(f"{file}: {done}; nothing was imported")
    seconds = time.perf_counter() - began
    if json_:
        render.as_json({"file": str(file), "events": done, "seconds": seconds})
    else:
        click.echo(f"imported {done} events in {seconds:.1f} s ({done / max(seconds, 1e-6):.0f} events/s), verified")


@contextmanager
def progress(what: str, total: int | None, of: str = "events") -> Iterator[Any]:
    """A bar with rate and time left, on a terminal."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    bar = Progress(
        TextColumn(what),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]}"),
        TimeRemainingColumn(),
        console=Console(stderr=True),
        disable=not sys.stderr.isatty(),
        transient=True,
    )
    began = time.perf_counter()
    with bar:
        task = bar.add_task("", total=total, rate="")
        yield lambda count: bar.update(
            task, completed=count, rate=f"{count / max(1e-6, time.perf_counter() - began):.0f} {of}/s"
        )
