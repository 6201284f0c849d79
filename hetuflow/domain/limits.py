"""`config.limits`: how many tasks of a job, or of all jobs that name a key, run at once, and how often a job starts.

They are part of the task's own config, as its labels are: a later edit of the job leaves the tasks alone that exist. A
limit is known by its kind and name; of different numbers for the same one, the smallest that any task names holds, while
that task runs or waits for a slot.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from hetuflow.domain.decider import Bound, Rate

JSON = Mapping[str, Any]

JOB, KEY, NAMESPACE = "job", "key", "namespace"
"""Kinds of limits. The one of a namespace is a setting of the servers."""

CONCURRENCY_MAX = 1_000_000
KEYS_MAX = 16
KEY_NAME = re.compile(r"(?!\.{1,2}$)[A-Za-z0-9._-]{1,64}")
KEY_NAME_RULE = 'must be 1-64 characters of A-Z a-z 0-9 . _ -, not "." or ".."'
RATE_COUNT_MAX = 1_000
"""So many starts of a job are remembered at most."""
RATE_SECONDS_MAX = 86_400

MEMBERS = ("concurrency", "keys", "rate")


def bounds_of(config: JSON, job_id: str) -> tuple[Bound, ...]:
    """The limits of concurrency that a task of that job with this config counts for, in a fixed order."""
    limits = config.get("limits")
    if not limits:
        return ()
    own = limits.get("concurrency")
    bounds = [] if own is None else [Bound(JOB, job_id, own)]
    bounds += [Bound(KEY, name, most) for name, most in sorted(keys_of(limits.get("keys") or ()))]
    return tuple(bounds)


def keys_of(keys: Sequence[Any]) -> list[tuple[str, int]]:
    """Names and numbers; a bare name is a mutex."""
    return [(each, 1) if isinstance(each, str) else (each["name"], each.get("concurrency") or 1) for each in keys]


def rate_of(config: JSON) -> Rate | None:
    limits = config.get("limits")
    rate = limits.get("rate") if limits else None
    return None if rate is None else Rate(rate["count"], rate["per_seconds"])


# --- bounds --------------------------------------------------------------------------------------------------------


def problems(limits: Any, path: str) -> list[tuple[str, str]]:
    """Return (path, message) of every member of an object that is not allowed. None is "not given"."""
    if not isinstance(limits, Mapping):
        return []
    found = [(f"{path}.{name}", _not_known(MEMBERS)) for name in limits if name not in MEMBERS]
    if (own := limits.get("concurrency")) is not None and not _is_count(own, CONCURRENCY_MAX):
        found.append((f"{path}.concurrency", f"must be an integer 1-{CONCURRENCY_MAX}, got {own!r}"))
    if (keys := limits.get("keys")) is not None:
        found += _problems_of_keys(keys, f"{path}.keys")
    if (rate := limits.get("rate")) is not None:
        found += _problems_of_rate(rate, f"{path}.rate")
    return found


def _problems_of_keys(keys: Any, path: str) -> list[tuple[str, str]]:
    if not isinstance(keys, list | tuple):
        return [(path, "must be an array of names or of objects with name and concurrency")]
    if len(keys) > KEYS_MAX:
        return [(path, f"must have at most {KEYS_MAX} elements, got {len(keys)}")]
    found: list[tuple[str, str]] = []
    seen: set[str] = set()
    for n, key in enumerate(keys):
        where = f"{path}[{n}]"
        name = key.get("name") if isinstance(key, Mapping) else key
        if not isinstance(name, str) or not KEY_NAME.fullmatch(name):
            found.append((f"{where}.name" if isinstance(key, Mapping) else where, f"{KEY_NAME_RULE}, got {name!r}"))
        elif name in seen:
            found.append((where, f"names the key {name!r} a second time"))
        else:
            seen.add(name)
        if isinstance(key, Mapping):
            known = ("name", "concurrency")
            found += [(f"{where}.{member}", _not_known(known)) for member in key if member not in known]
            if (most := key.get("concurrency")) is not None and not _is_count(most, CONCURRENCY_MAX):
                found.append((f"{where}.concurrency", f"must be an integer 1-{CONCURRENCY_MAX}, got {most!r}"))
    return found


def _problems_of_rate(rate: Any, path: str) -> list[tuple[str, str]]:
    if not isinstance(rate, Mapping):
        return [(path, "must be an object with count and per_seconds")]
    most = {"count": RATE_COUNT_MAX, "per_seconds": RATE_SECONDS_MAX}
    found = [(f"{path}.{name}", _not_known(tuple(most))) for name in rate if name not in most]
    return found + [
        (f"{path}.{name}", f"must be an integer 1-{largest}, got {rate.get(name)!r}")
        for name, largest in most.items()
        if not _is_count(rate.get(name), largest)
    ]


def _is_count(value: Any, most: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= most


def _not_known(known: Sequence[str]) -> str:
    return f"is not known; known are {', '.join(known)}"
