"""Log lines: on standard error, as text for people or one JSON object per line."""

from __future__ import annotations

import sys
from typing import Any, Final

import structlog

from agent.log_ring import LogRing, mask

_LEVELS: Final = {"debug": 10, "info": 20, "warn": 30, "error": 40}


def configure_logging(level: str, form: str) -> LogRing:
    """`level`: debug, info, warn, error. `form`: text, json. Returns the ring that has the last lines."""
    ring = LogRing()
    shared: list[Any] = [
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.format_exc_info,
        mask,
        ring,
    ]
    if form == "json":
        shared.append(structlog.processors.JSONRenderer())
    else:
        shared.append(structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty(), pad_event_to=0))
    structlog.configure(
        processors=shared,
        wrapper_class=structlog.make_filtering_bound_logger(_LEVELS[level]),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        cache_logger_on_first_use=True,
    )
    return ring
