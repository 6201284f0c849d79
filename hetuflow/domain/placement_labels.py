"""The labels by which tasks find their agent. Pure."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

JSON = Mapping[str, Any]

FOUND_BY_ITSELF = "sys."
"""Names of labels that begin so are the agent's own word."""


def placement_labels(labels: JSON, reported: JSON, protected: Collection[str]) -> JSON:
    """The labels that placement goes by: `labels`, those set or declared, and over them what only the agent can say."""
    own = {name: value for name, value in reported.items() if name.startswith(FOUND_BY_ITSELF) or name in protected}
    if not own and not any(name.startswith(FOUND_BY_ITSELF) for name in labels):
        return labels
    return {**{name: value for name, value in labels.items() if not name.startswith(FOUND_BY_ITSELF)}, **own}
