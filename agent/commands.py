"""What an operator tells this agent through the server; each is obeyed once, while the connection lasts.

A cancel is not among them: the server sends the order to stop (`Stop`) with its own guarantees.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import structlog
from attrs import frozen

from agent.policy import Policy
from hetuflow.protocol.messages import Command, LogLines

log = structlog.get_logger()

SHUTDOWN: Final = 1
UPDATE_CONFIG: Final = 2
CLEAR_CACHE: Final = 3
FETCH_METRICS: Final = 4
CANCEL_TASK: Final = 7
FETCH_LOG: Final = 8
"""Source of the codes: the REST contract, "Enums", CommandKind."""

NAMES: Final = {
    SHUTDOWN: "shutdown",
    UPDATE_CONFIG: "update_config",
    CLEAR_CACHE: "clear_cache",
    FETCH_METRICS: "fetch_metrics",
    FETCH_LOG: "fetch_log",
}
"""As `policy.allowed_commands` calls those that the machine's owner may forbid."""

LOG_LINES: Final = 200

INTERVALS: Final = ("heartbeat_interval", "check_interval")
"""What `UPDATE_CONFIG` may change, seconds; until the next connection, which begins with the agent's own settings."""


@frozen(slots=True)
class Obeying:
    """What the agent can do; each returns at once."""

    stop: Callable[[], None]
    clear_cache: Callable[[], None]
    beat: Callable[[], None]
    set_interval: Callable[[str, float], None]
    log_after: Callable[[int, int], tuple[int, Sequence[str]]]
    """(number, lines at most) -> see `LogRing.after`."""
    reply: Callable[[LogLines], None]
    policy: Policy

    def obey(self, command: Command) -> None:
        name = NAMES.get(command.kind)
        if name is not None and not self.policy.allows_command(name):
            problem = f"refused by this agent's policy (policy.allowed_commands): {name} is not among them"
            log.warning("a command of the server is not obeyed", command=name, id=command.id, problem=problem)
            if command.kind == FETCH_LOG:
                self.reply(LogLines(id=command.id, problem=problem))
            return
        if command.kind == FETCH_LOG:
            self._send_log(command)
            return
        log.info("the server says", command=name or command.kind, id=command.id)
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

    def _send_log(self, command: Command) -> None:
        """Not logged: whoever follows the log would read of nothing else."""
        after, most = (
            _count(command.payload.get(name), default) for name, default in (("after", 0), ("lines", LOG_LINES))
        )
        first, lines = self.log_after(after, most)
        self.reply(LogLines(id=command.id, first=first, lines=tuple(lines)))

    def _update(self, payload: Mapping[str, Any]) -> None:
        for name, value in payload.items():
            is_number = isinstance(value, (int, float)) and not isinstance(value, bool) and value > 0
            if name in INTERVALS and is_number:
                self.set_interval(name, float(value))
            else:
                log.warning("not changed while the agent runs", setting=name, allowed=INTERVALS)


def _count(value: object, default: int) -> int:
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else default
