"""The labels by which tasks find their agent. Pure."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from functools import lru_cache
from typing import Any, Final

from hetuflow.glob import Glob

JSON = Mapping[str, Any]

FOUND_BY_ITSELF: Final = "sys."
"""Names of labels that begin so are the agent's own word."""

_glob = lru_cache(maxsize=1024)(Glob)


def is_agents_own(name: str, protected: Collection[str]) -> bool:
    """Whether only the agent can say what this label is. `protected`: names and patterns."""
    return name.startswith(FOUND_BY_ITSELF) or any(_glob(pattern).matches(name) for pattern in protected)


def placement_labels(labels: JSON, reported: JSON, protected: Collection[str]) -> JSON:
    """The labels that placement goes by: `labels`, those set or declared, but for what only the agent can say.

    A label of that kind that the agent does not declare cannot be given to it.
    """
    own = {name: value for name, value in reported.items() if is_agents_own(name, protected)}
    if not own and not any(is_agents_own(name, protected) for name in labels):
        return labels
    return {**{name: value for name, value in labels.items() if not is_agents_own(name, protected)}, **own}


def overruled(labels: JSON, reported: JSON, protected: Collection[str]) -> JSON:
    """Those of `labels`, set over the API, that do not count."""
    counted = placement_labels(labels, reported, protected)
    return {name: value for name, value in labels.items() if counted.get(name) != value}
