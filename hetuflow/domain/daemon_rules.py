"""How a daemon is kept running: the `daemon` member of a schedule, its defaults and bounds, and the back-off."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from attrs import frozen

from hetuflow.domain.rejection import Rejected

JSON = Mapping[str, Any]

INSTANCES_MAX = 1000
"""Instances of one daemon: its state, which every change copies, stays below 200 KB."""
RESTART_LIMIT_MAX = 1000
SECONDS_MAX = 366 * 86_400
FACTOR_MAX = 10.0

START_SPACING_SECONDS = 1
"""A seat is started at most once a second, whatever the back-off says: a program that ends at once must not fill the log."""

DEFAULTS: JSON = MappingProxyType(
    {
        "instances": 1,
        "backoff_initial_seconds": None,
        "backoff_factor": 2.0,
        "backoff_max_seconds": 300,
        "healthy_after_seconds": 60,
        "restart_limit": None,
        "restart_window_seconds": 3600,
        "ready_after_seconds": 10,
        "max_unavailable": 1,
        "timeout_seconds": 0,
        "spread": True,
    }
)
"""The members and the value each has when it is not given."""

_BOUNDS: Mapping[str, tuple[type, float, float]] = {
    "instances": (int, 0, INSTANCES_MAX),
    "backoff_initial_seconds": (int, 0, SECONDS_MAX),
    "backoff_factor": (float, 1, FACTOR_MAX),
    "backoff_max_seconds": (int, 0, SECONDS_MAX),
    "healthy_after_seconds": (int, 0, SECONDS_MAX),
    "restart_limit": (int, 0, RESTART_LIMIT_MAX),
    "restart_window_seconds": (int, 1, SECONDS_MAX),
    "ready_after_seconds": (int, 0, SECONDS_MAX),
    "max_unavailable": (int, 1, INSTANCES_MAX),
    "timeout_seconds": (int, 0, SECONDS_MAX),
}
NULLABLE = frozenset(name for name, value in DEFAULTS.items() if value is None)


def bounds_of(name: str) -> tuple[float, float]:
    """The least and the largest value of a member."""
    _, least, most = _BOUNDS[name]
    return least, most


def effective(given: JSON | None) -> dict[str, Any]:
    """Return every member: those given, else their defaults."""
    return {**DEFAULTS, **{name: value for name, value in (given or {}).items() if value is not None}}


def problems(given: JSON, path: str = "daemon") -> list[tuple[str, str]]:
    """Return (path, message) of every member that is not known, out of its bounds, or contradicts another."""
    found = [(f"{path}.{name}", "is not known") for name in given if name not in DEFAULTS]
    for name, (kind, least, most) in _BOUNDS.items():
        value = given.get(name)
        if value is None:
            continue
        is_number = isinstance(value, int | float) and not isinstance(value, bool)
        if not is_number or (kind is int and not isinstance(value, int)) or not least <= value <= most:
            what = "an integer" if kind is int else "a number"
            found.append((f"{path}.{name}", f"must be {what} from {least:g} to {most:g}, got {value!r}"))
    if not isinstance(given.get("spread", True), bool | None):
        found.append((f"{path}.spread", f"must be true or false, got {given['spread']!r}"))
    if not found:
        found += _contradictions(given, path)
    return found


def _contradictions(given: JSON, path: str) -> list[tuple[str, str]]:
    initial, most = given.get("backoff_initial_seconds"), effective(given)["backoff_max_seconds"]
    if initial is not None and given.get("backoff_max_seconds") is not None and initial > most:
        where = f"{path}.backoff_max_seconds"
        return [(where, f"must not be below backoff_initial_seconds ({initial}), got {most}")]
    return []


def checked(given: JSON | None) -> JSON | None:
    """Return `given`.

    Raises:
      Rejected: `invalid`, naming the first member that does not fit.
    """
    found = problems(given) if given is not None else []
    if found:
        where, message = found[0]
        raise Rejected("invalid", f"{where} {message}", {"path": where})
    return given


@frozen(slots=True)
class DaemonRules:
    """The members, typed. Seconds; `restart_limit` None = no limit; `timeout_seconds` 0 = no limit."""

    instances: int
    backoff_initial_seconds: int | None
    backoff_factor: float
    backoff_max_seconds: int
    healthy_after_seconds: int
    restart_limit: int | None
    restart_window_seconds: int
    ready_after_seconds: int
    max_unavailable: int
    timeout_seconds: int
    spread: bool

    @classmethod
    def of(cls, given: JSON | None) -> DaemonRules:
        members = effective(given)
        return cls(**{name: members[name] for name in DEFAULTS})

    def backoff_seconds(self, failures: int, retry_interval: int) -> float:
        """How long a seat waits after its end.

        Args:
          failures: ends in a row that were failures of a run that did not live `healthy_after_seconds`; 0 after any other.
          retry_interval: of the job, the first delay when none of its own is given.
        """
        first = retry_interval if self.backoff_initial_seconds is None else self.backoff_initial_seconds
        grown = first * self.backoff_factor ** min(max(failures - 1, 0), 100)
        return max(first, min(grown, self.backoff_max_seconds))
