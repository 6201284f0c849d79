"""The log lines of a run, all servers and agents together, looked through for the secret. Nothing is printed by it."""

from __future__ import annotations

import logging
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import structlog

from tests.simulation.observed import Observed

ROOMS = ("hetuflow", "eventstore", "projections")
"""Loggers of the standard library that servers write to; agents use structlog."""


class Watcher(logging.Handler):
    """Reads each line as a person would who has the log, tracebacks included."""

    def __init__(self, observed: Observed) -> None:
        super().__init__(logging.INFO)
        self._observed = observed
        self.setFormatter(logging.Formatter("%(message)s"))

    def emit(self, record: logging.LogRecord) -> None:
        self._observed.line(record.name, self.format(record))


@contextmanager
def watched(observed: Observed) -> Iterator[None]:
    """While it is open, every line from level info on is looked at. The other tests of this process look at lines too:
    all is put back as it was."""
    before = structlog.get_config()
    watcher = Watcher(observed)
    is_shown = logging.getLogger().isEnabledFor(logging.INFO)
    loggers = [logging.getLogger(name) for name in ROOMS]
    levels = [(each.level, each.propagate) for each in loggers]

    def look(_: Any, __: str, members: Any) -> Any:
        text = traceback.format_exc() if members.get("exc_info") else ""
        observed.line("agent", f"{members!r} {text}")
        raise structlog.DropEvent

    structlog.configure(processors=[look], wrapper_class=structlog.make_filtering_bound_logger(logging.INFO))
    for each in loggers:
        each.setLevel(logging.INFO)
        each.propagate = each.propagate and is_shown
        each.addHandler(watcher)
    try:
        yield
    finally:
        structlog.configure(**before)
        for each, (level, propagate) in zip(loggers, levels, strict=True):
            each.removeHandler(watcher)
            each.setLevel(level)
            each.propagate = propagate
