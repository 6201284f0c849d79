"""`hetuflow files …`: files that are kept for instances to read, by their digest."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import click

from hetuflow.cli import render
from hetuflow.cli.client import Client
from hetuflow.cli.downloading import copy, download
from hetuflow.cli.options import Group, NotThere, confirm, talks_to_server, yes_option


@click.group(cls=Group, name="files")
def files() -> None:
    """Files: kept on the server for instances to read. FILE_ID is a file's digest, or its beginning."""


@files.command(name="put")
@click.argument("paths", nargs=-1, required=True, metavar="PATH...", type=click.Path(exists=True, dir_okay=False))
@talks_to_server
def put(client: Client, paths: tuple[str, ...], json_: bool) -> None:
    """Upload files; print the url by which a job's `files` name each. The same bytes are kept once.

    \b
    Example:
      url=$(hetuflow files put model.bin)
      hetuflow job create score --file "model.bin=@$url" -- ./score model.bin
    """
    kept = []
    for path in paths:
        kept.append({"path": path, **client.upload("/files", Path(path).read_bytes())})
    if json_:
        render.as_json(kept)
        return
    for each in kept:
        click.echo(each["url"])


COLUMNS = [
    render.Column("ID", lambda row: row["id"][:16]),
    render.Column("SIZE", lambda row: render.size(row["bytes"]), right=True),
    render.Column("KEPT", lambda row: render.At(row["created_at"])),
    render.Column("URL", lambda row: row["url"], drop=1),
]


@files.command(name="list")
@talks_to_server
def list_(client: Client, json_: bool) -> None:
    """List the newest 1000 files that are kept."""
    rows = client.get("/files")
    render.as_json(rows) if json_ else render.table(rows, COLUMNS, empty="no files are kept")


@files.command(name="get")
@click.argument("file_id", metavar="FILE_ID")
@click.option("-o", "--output", metavar="PATH", help="[default: standard output]")
@talks_to_server
def get(client: Client, file_id: str, output: str | None, json_: bool) -> None:
    """Download a file."""
    row = _found(client, file_id)
    if output is None:
        copy(client, f"/files/{row['id']}", sys.stdout.buffer, row["bytes"], row["sha256"], row["id"])
        return
    download(client, f"/files/{row['id']}", Path(output), row["bytes"], row["sha256"])
    if json_:
        render.as_json({**row, "path": output})


@files.command(name="delete")
@click.argument("file_id", metavar="FILE_ID")
@yes_option
@talks_to_server
def delete(client: Client, file_id: str, yes: bool, json_: bool) -> None:
    """Remove a file from the server: a job that names it cannot start any more."""
    row = _found(client, file_id)
    confirm(f"remove file {row['id']} ({render.size(row['bytes'])})?", yes)
    client.delete(f"/files/{row['id']}")
    render.deleted(row["id"], f"removed file {row['id']}", json_=json_)


def _found(client: Client, file_id: str) -> Any:
    found = [row for row in client.get("/files") if row["id"].startswith(file_id.lower())]
    if len(found) == 1:
        return found[0]
    raise NotThere(f"{'no file' if not found else f'{len(found)} files'} with an id that begins with {file_id!r}")
