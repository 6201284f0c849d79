"""What all events have in common."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

JSON = Mapping[str, Any]


class Event:
    """Base of all events, for typing only."""

    __slots__ = ()
