"""`hetuflow-agent executors`: what tasks can be run with on this machine. Asks no server."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping

import click
from attrs import asdict, frozen

from agent.executors import wasm
from agent.executors.features import packages, python3
from agent.programs import COMMON, find_program
from hetuflow.ports.processes import StartError


@frozen(slots=True)
class Row:
    kind: str
    """program, python, wasm or executor."""
    name: str
    available: bool
    detail: str


def rows(environment: Mapping[str, str]) -> Iterator[Row]:
    for name in COMMON:
        try:
            yield Row("program", name, True, find_program(name, environment, "/"))
        except StartError:
            yield Row("program", name, False, "not on the PATH")
    interpreter = python3(environment)
    yield Row("python", "python", interpreter is not None, interpreter or "there is no python3 on the PATH")
    version = wasm.extism_version()
    yield Row("wasm", "wasm", version is not None, f"Extism {version}" if version else f"not installed: {wasm.INSTALL}")
    for name, package, target in packages():
        yield Row("executor", name, True, f"{package}: {target}")


def show(environment: Mapping[str, str], *, json_: bool) -> None:
    """Print them, one a line, or as one JSON array."""
    found = list(rows(environment))
    if json_:
        click.echo(json.dumps([asdict(row) for row in found], indent=2, ensure_ascii=False))
        return
    width = max(len(row.name) for row in found)
    for row in found:
        click.echo(f"{row.kind:<8}  {row.name:<{width}}  {'yes' if row.available else 'no':<3}  {row.detail}")
