"""Exit statuses: one table, for `--help`, the reference page and the code. Part of the interface: scripts rely on it."""

from __future__ import annotations

from collections.abc import Mapping

OK = 0
FAILED = 1
USAGE = 2
NOT_FOUND = 3
REFUSED = 4
UNREACHABLE = 5
INTERRUPTED = 130

MEANING: Mapping[int, str] = {
    OK: "done; what was waited for succeeded",
    FAILED: "what was waited for failed or was cancelled, or a check found a difference",
    USAGE: "the command, a value, a file or a setting is wrong",
    NOT_FOUND: "there is no such thing",
    REFUSED: "the server refused: the state does not allow it, or you declined",
    UNREACHABLE: "no server answers, or it cannot answer now: repeat it later",
    INTERRUPTED: "interrupted (Ctrl-C)",
}

OF_HTTP: Mapping[int, int] = {
    400: USAGE,
    401: REFUSED,
    403: REFUSED,
    404: NOT_FOUND,
    408: UNREACHABLE,
    409: REFUSED,
    410: NOT_FOUND,
    413: USAGE,
    415: USAGE,
    416: USAGE,
    422: USAGE,
    429: UNREACHABLE,
    431: USAGE,
    501: REFUSED,
    503: UNREACHABLE,
    504: UNREACHABLE,
}
"""What an answer of the server means here; any other error is FAILED."""


def of_http(status: int) -> int:
    return OF_HTTP.get(status, FAILED)


def epilog() -> str:
    """The table as the last lines of `hetuflow --help`."""
    lines = [f"  {code:>3}  {meaning}" for code, meaning in MEANING.items()]
    return "\b\nExit status:\n" + "\n".join(lines)
