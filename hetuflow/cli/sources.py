"""Where a log is read from: a server, a database, or a file that was exported."""

from __future__ import annotations

import json
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar
from uuid import UUID

import click
import trio

from hetuflow.cli.options import NotThere
from hetuflow.cli.unwrap import lone

if TYPE_CHECKING:
    from eventstore.event import RecordedEvent
    from eventstore.store import EventStore
    from hetuflow.cli.client import Client

T = TypeVar("T")
F = TypeVar("F", bound=Callable[..., Any])

PIECE_BYTES = 1 << 20
PAGE = 1000


def log_options(command: F) -> F:
    """`--database-url`, `--config`, `--from-export`: a log that is read without a server."""
    command = click.option(
        "--from-export",
        "export_file",
        type=click.Path(exists=True, dir_okay=False, path_type=Path),
        help="Read a file that `hetuflow events export` wrote.",
    )(command)
    command = click.option("--database-url", metavar="URL", help="Read the database itself [env: DATABASE_URL].")(
        command
    )
    return click.option("--config", "config_file", type=click.Path(path_type=Path), help="config.toml.")(command)


def pieces(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        while piece := file.read(PIECE_BYTES):
            yield piece


def with_log(
    config_file: Path | None,
    database_url: str | None,
    export_file: Path | None,
    work: Callable[[EventStore], Awaitable[T]],
) -> T:
    """Run `work` on the log; what is wrong with it is one line."""
    from eventstore.errors import EventStoreError
    from hetuflow.cli.projections import with_store
    from hetuflow.history.archive import ArchiveError

    if export_file is None:
        return with_store(config_file, database_url, work)

    async def main() -> T:
        async with _loaded(export_file) as store:
            return await work(store)

    try:
        with lone(EventStoreError, ArchiveError):
            return trio.run(main)
    except (EventStoreError, ArchiveError) as exc:
        raise click.ClickException(f"{export_file}: {exc}") from exc


@asynccontextmanager
async def _loaded(path: Path) -> AsyncIterator[EventStore]:
    """The file's log in memory."""
    from eventstore.memory import MemoryLog, MemoryStore
    from hetuflow.history.archive import read

    log = MemoryLog()
    for event in read(pieces(path)):
        log.events.append(event)
        log.streams.setdefault(event.stream_id, []).append(event)
    store = MemoryStore(lambda: datetime.now(UTC), log=log)
    try:
        yield store
    finally:
        store.close()


def stream_name(text: str) -> str:
    """A stream id; a bare UUID is taken for a task."""
    try:
        return f"task-{UUID(text)}"
    except ValueError:
        return text


def stream_over_http(client: Client, stream: str, until: int | None) -> Sequence[RecordedEvent]:
    """The events of a stream, as a server tells them.

    Raises:
      NotThere.
    """
    found: list[RecordedEvent] = []
    after = 0
    while True:
        answer = client.get(
            "/events", stream=stream, after=after, before=None if until is None else until + 1, limit=PAGE
        )
        found += [recorded(record) for record in answer["result"]]
        if not answer["page"]["has_more"]:
            break
        after = answer["page"]["next"]
    if not found:
        raise no_stream(stream, until)
    return found


def no_stream(stream: str, until: int | None = None) -> NotThere:
    if until is not None:
        return NotThere(
            f"stream {stream!r} has no event up to position {until}; leave --until out, or give a later one"
        )
    return NotThere(f"there is no stream {stream!r}; `hetuflow events tail` shows the newest")


def recorded(record: Mapping[str, Any]) -> RecordedEvent:
    """An EventRecord of the API as the event that it shows."""
    from eventstore.event import RecordedEvent

    return RecordedEvent(
        position=record["position"],
        recorded_at=datetime.fromisoformat(record["recorded_at"]),
        version=record["version"],
        schema=record["schema"],
        event_id=UUID(record["event_id"]),
        stream_id=record["stream_id"],
        type=record["type"],
        data=json.dumps(record["data"]),
        metadata=json.dumps(record["metadata"]),
    )


def is_interactive() -> bool:
    return sys.stdin.isatty() and sys.stdout.isatty()
