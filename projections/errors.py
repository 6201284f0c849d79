"""Errors of the projections. The class docstring is the default message."""

from __future__ import annotations

from eventstore.errors import StoreUnavailable


class ProjectionError(Exception):
    """A projection failed."""

    def __init__(self, message: str | None = None) -> None:
        super().__init__(message or (type(self).__doc__ or "").strip())


class ProjectionStalled(ProjectionError):
    """The projection met an event that it cannot fold."""

    def __init__(self, projection: str, position: int, error: str) -> None:
        self.projection, self.position, self.error = projection, position, error
        super().__init__(f"{projection} cannot fold the event after position {position}: {error}")


class CheckpointHeld(StoreUnavailable):
    """Another server folds this range, or stands still while it does: nothing happened here."""


class RebuildRefused(ProjectionError):
    """The table cannot be rebuilt as it is; the message says what to do."""


class RebuildRunning(ProjectionError):
    """A rebuild of the table is running already."""
