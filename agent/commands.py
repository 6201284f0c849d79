"""What an operator tells this agent through the server; each is obeyed once, while the connection lasts.

A cancel is not among them: the server sends the order to stop (`Stop`) with its own guarantees.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

import structlog
from attrs import frozen

from hetuflow.protocol.messages import Command

log = structlog.get_logger()

SHUTDOWN: Final = 1
UPDATE_CONFIG: Final = 2
CLEAR_CACHE: Final = 3
FETCH_METRICS: Final = 4
CANCEL_TASK: Final = 7
"""Source of the codes: the REST contract, "Enums", CommandKind."""

INTERVALS: Final = ("heartbeat_interval", "check_interval")
"""What `UPDATE_CONFIG` may change, seconds; until the next connection, which begins with the agent's own settings."""


@frozen(slots=True)
class Obeying:
    """What the agent can do; each returns at once."""

    stop: Callable[[], None]
    clear_cache: Callable[[], None]
    beat: Callable[[], None]
    set_interval: Callable[[str, float], None]

    def obey(self, command: Command) -> None:
        log.info("the server says", command=command.kind, id=command.id)
        match command.kind:
            case kind if kind == SHUTDOWN:
                self.stop()
            case kind if kind == UPDATE_CONFIG:
                self._update(command.payload)
            case kind if kind == CLEAR_CACHE:
                self.clear_cache()
            case kind if kind == FETCH_METRICS:
                self.beat()
            case kind if kind == CANCEL_TASK:
                pass
            case kind:
                log.warning("a command of a newer server is not obeyed", command=kind)

    def _update(self, payload: Mapping[str, Any]) -> None:
        for name, value in payload.items():
            is_number = isinstance(value, (int, float)) and not isinstance(value, bool) and value > 0
            if name in INTERVALS and is_number:
                self.set_interval(name, float(value))
            else:
                log.warning("not changed while the agent runs", setting=name, allowed=INTERVALS)
