"""Who asks and why: it becomes the metadata of every event that the command causes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from attrs import Factory, frozen

from hetuflow.ports.ids import Ids


@frozen(slots=True)
class Context:
    """`extra` members are added to the metadata as they are (e.g. the hash of a request with an idempotency key)."""

    principal: str = "system"
    correlation_id: str | None = None
    causation_id: str | None = None
    command_id: str | None = None
    request_id: str | None = None
    extra: Mapping[str, Any] = Factory(dict)


SYSTEM = Context()


def metadata_of(context: Context, ids: Ids) -> dict[str, Any]:
    """The metadata of a command's events. A command that nobody numbered begins a conversation: both ids are new."""
    command_id = context.command_id or str(ids.uuid7())
    return {
        "correlation_id": context.correlation_id or command_id,
        "causation_id": context.causation_id,
        "command_id": command_id,
        "principal": context.principal,
        "request_id": context.request_id,
        **context.extra,
    }
