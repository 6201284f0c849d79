"""The seeds that ever failed, and what each found."""

from __future__ import annotations

import tomllib
from pathlib import Path

from attrs import frozen

FILE = Path(__file__).with_name("corpus.toml")


@frozen(slots=True)
class Entry:
    seed: int
    invariant: str
    found: str


def corpus() -> list[Entry]:
    """All entries, in the order of the file. Raises `ValueError` when one is incomplete or a seed stands twice."""
    entries = [Entry(**entry) for entry in tomllib.loads(FILE.read_text())["seed"]]
    seeds = [entry.seed for entry in entries]
    if len(set(seeds)) != len(seeds):
        raise ValueError(f"{FILE.name} has a seed twice")
    return entries
