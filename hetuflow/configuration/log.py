"""The table `[logging]`, which the server and the agent have in common."""

from __future__ import annotations

from attrs import frozen

from hetuflow.configuration.kinds import Kind
from hetuflow.configuration.schema import Setting


@frozen(slots=True)
class LoggingSettings:
    """`level` is debug, info, warn or error; `format` json or text."""

    level: str
    format: str


_LEVELS = ("debug", "info", "warn", "error")
_FORMATS = ("json", "text")

LOGGING_SETTINGS = (
    Setting("logging", "level", Kind.CHOICE, "info", "least severe message that is logged", choices=_LEVELS),
    Setting(
        "logging", "format", Kind.CHOICE, "text", "JSON, one object per line, or text for people", choices=_FORMATS
    ),
)
