"""Log lines of the server: on standard error, as text for people or one JSON object per line.

The rooms log through the standard library; structlog renders, so that third-party lines look the same.
"""

from __future__ import annotations

import logging
import sys
from typing import Any, Final

import structlog

_LEVELS: Final = {"debug": logging.DEBUG, "info": logging.INFO, "warn": logging.WARNING, "error": logging.ERROR}

_QUIET: Final = ("hypercorn", "quart", "httpx", "asyncio", "trio-websocket")
"""Libraries that report at info what we report ourselves, or every connection that ends."""


def configure_logging(level: str, form: str) -> None:
    """`level`: debug, info, warn, error. `form`: text, json. Replaces what was configured before."""
    shared: list[Any] = [
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    if form == "json":
        rendering: list[Any] = [structlog.processors.format_exc_info, structlog.processors.JSONRenderer()]
    else:
        rendering = [
            structlog.dev.ConsoleRenderer(
                colors=sys.stderr.isatty(), pad_event_to=0, exception_formatter=structlog.dev.plain_traceback
            )
        ]
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *rendering],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(_LEVELS[level])
    for name in _QUIET:
        logging.getLogger(name).setLevel(max(logging.WARNING, _LEVELS[level]))
