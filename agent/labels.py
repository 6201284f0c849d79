"""Labels of an agent: those it sets itself (`sys.*`) and those its owner gives it. The server's part: `domain/agent.py`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

SYSTEM_PREFIX: Final = "sys."
"""Begins the names of labels that the agent finds out itself; nobody else gives such names."""


def declared(own: Mapping[str, str], found: Mapping[str, str]) -> dict[str, str]:
    """What the agent tells the server: its owner's labels and what it found out (`sys.*`)."""
    return {**own, **found}
