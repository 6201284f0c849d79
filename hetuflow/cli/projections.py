"""`hetuflow projections …`: the tables computed from the log. Speaks to the database itself: it works without a server."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

import click

from hetuflow.cli import render
from hetuflow.cli.options import Group, json_option

T = TypeVar("T")

@click.group(cls=Group, name="projections")
def projections() -> None:
    """Projections: the tables computed from the log."""
