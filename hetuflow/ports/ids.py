"""New identifiers."""

from __future__ import annotations

from typing import Protocol
from uuid import UUID


class Ids(Protocol):
    def uuid7(self) -> UUID:
        """A new version-7 UUID (RFC 9562): time-ordered, monotonic within the process."""
        ...

    def token(self) -> str:
        """A short random name, e.g. of an agent's session: 16 lower-case hexadecimal characters."""
        ...
