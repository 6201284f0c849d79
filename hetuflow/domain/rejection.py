"""The domain's "no": an answer, not a failure. Nothing happened."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


class Rejected(Exception):
    """The command is not allowed in this state.

    `code` is a stable word; the API maps it to a status: `not_found` 404, `invalid` 422, anything else 409 with this
    reason (`already_exists`, `already_terminal`, `not_retryable`, `already_started`, `transition_not_allowed`,
    `version_conflict`, `has_open_tasks`, `has_open_instances`, `held_by_agent`, `schedule_not_valid`, ...).
    `detail` names the entity and values concerned; for `invalid`, `{"path": ..., }` says which member.
    """

    def __init__(self, code: str, message: str, detail: Mapping[str, Any] | None = None) -> None:
        self.code, self.message, self.detail = code, message, dict(detail or {})
        super().__init__(message)
