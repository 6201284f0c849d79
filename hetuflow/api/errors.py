"""Every answer outside 2xx: one body, one table from error types to statuses.

What is not in the table is a defect: 500, logged with its request id, no internals in the text.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from eventstore.errors import (
    InvalidEvent,
    StoreClosed,
    StoreTimeout,
    StoreUnavailable,
    WrongExpectedVersion,
)
from hetuflow.actors import GuardLost, MailboxFull, Quarantined, SystemStopped
from hetuflow.api.jsontext import MalformedJson
from hetuflow.api.problems import Problem
from hetuflow.domain.rejection import Rejected

CODES: Mapping[int, str] = {
    400: "BAD_REQUEST",
    401: "UNAUTHORIZED",
    403: "FORBIDDEN",
    404: "NOT_FOUND",
    405: "METHOD_NOT_ALLOWED",
    408: "REQUEST_TIMEOUT",
    409: "CONFLICT",
    410: "GONE",
    413: "PAYLOAD_TOO_LARGE",
    415: "UNSUPPORTED_MEDIA_TYPE",
    416: "RANGE_NOT_SATISFIABLE",
    422: "VALIDATION_ERROR",
    426: "UPGRADE_REQUIRED",
    429: "TOO_MANY_REQUESTS",
    431: "HEADERS_TOO_LARGE",
    500: "INTERNAL_ERROR",
    501: "NOT_IMPLEMENTED",
    503: "SERVICE_UNAVAILABLE",
    504: "TIMEOUT",
}

RETRY_AFTER_SECONDS = 1


class ApiError(Exception):
    """An answer outside 2xx. `detail` is an array of field problems, an object, or None."""

    def __init__(
        self,
        status: int,
        message: str,
        detail: Any = None,
        *,
        code: str | None = None,
        headers: Sequence[tuple[bytes, bytes]] = (),
    ) -> None:
        self.status, self.message, self.detail = status, message, detail
        self.code = code or CODES[status]
        self.headers = tuple(headers)
        if status in (429, 503):
            self.headers += ((b"retry-after", str(RETRY_AFTER_SECONDS).encode()),)
        super().__init__(message)

    def body(self, request_id: str) -> dict[str, Any]:
        return {
            "err_code": self.status,
            "err_msg": self.message,
            "message": self.message,
            "code": self.code,
            "detail": self.detail,
            "details": self.detail,
            "request_id": request_id,
        }


def invalid(problems: Sequence[Problem]) -> ApiError:
    """400 when every problem is one of a page or query value, else 422. `problems` is not empty."""
    status = 400 if all(problem.status == 400 for problem in problems) else 422
    first = problems[0]
    more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
    message = f"{first.path}: {first.message}{more}"
    return ApiError(status, message, [problem.as_json() for problem in problems])


def not_found(kind: str, entity_id: str, path: str | None = None) -> ApiError:
    """`path`: the member of the body that referred to it."""
    detail = {"kind": kind, "id": entity_id}
    if path is not None:
        detail["path"] = path
    where = f" ({path})" if path else ""
    return ApiError(404, f"there is no {kind.replace('_', ' ')} {entity_id}{where}", detail)


def gone(first_position: int) -> ApiError:
    """`first_position`: of the oldest event that is left."""
    return ApiError(
        410,
        f"events before position {first_position} were dropped by retention, and this needs them",
        {"first_position": first_position},
    )


def dropped(what: str, before: datetime) -> ApiError:
    """`before`: everything older is gone."""
    return ApiError(
        410,
        f"{what} was dropped by retention: nothing from before {before.isoformat()} is kept",
        {"dropped_before": before},
    )


def conflict(reason: str, message: str, **detail: Any) -> ApiError:
    return ApiError(409, message, {"reason": reason, **detail})


def behind(projection: str, required: int, reached: int) -> ApiError:
    return ApiError(
        503,
        f"projection {projection} has reached position {reached}, {required} is needed; try again",
        {"projection": projection, "required": required, "reached": reached},
        code="PROJECTION_BEHIND",
    )


def _rejected(error: Rejected) -> ApiError:
    if error.code == "not_found":
        detail = error.detail
        path = detail.get("path")
        return not_found(str(detail.get("kind", "entity")), str(detail.get("id", "")), path)
    if error.code == "invalid":
        if problems := error.detail.get("problems"):
            return invalid([Problem(**each) for each in problems])
        path = str(error.detail.get("path", "body"))
        return invalid([Problem(path, error.message.removeprefix(path).lstrip(": "))])
    return ApiError(409, error.message, {"reason": error.code, **error.detail})


def _malformed(error: MalformedJson) -> ApiError:
    return ApiError(400, str(error), {"line": error.line, "column": error.column})


def _lost_race(error: WrongExpectedVersion | GuardLost) -> ApiError:
    return conflict(
        "version_conflict",
        "others kept changing this at the same time; nothing was done, try again",
        stream=error.stream_id,
    )


def _timeout(_error: StoreTimeout) -> ApiError:
    return ApiError(504, "the deadline passed and the effect is unknown: repeat with the same id or Idempotency-Key")


def _unavailable(error: Exception) -> ApiError:
    return ApiError(503, f"nothing was done, try again: {error}")


def _unstorable(error: InvalidEvent) -> ApiError:
    return invalid([Problem("body", f"cannot be stored: {error}")])


_TABLE: Mapping[type[Exception], Any] = {
    Rejected: _rejected,
    MalformedJson: _malformed,
    WrongExpectedVersion: _lost_race,
    GuardLost: _lost_race,
    StoreTimeout: _timeout,
    StoreUnavailable: _unavailable,
    StoreClosed: _unavailable,
    MailboxFull: _unavailable,
    Quarantined: _unavailable,
    SystemStopped: _unavailable,
    InvalidEvent: _unstorable,
}


def as_api_error(error: Exception) -> ApiError | None:
    """The answer for an expected error; None for a defect."""
    if isinstance(error, ApiError):
        return error
    for kind in type(error).__mro__:
        if kind in _TABLE:
            answer: ApiError = _TABLE[kind](error)
            return answer
    return None


def internal() -> ApiError:
    return ApiError(500, "a defect of the server; the request id finds it in the log")
