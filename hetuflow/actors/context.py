"""Who asks and why: it becomes the metadata of every event that the command causes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any

from attrs import Factory, frozen

from hetuflow.ports.ids import Ids

COMMAND = "command"
"""The member of an event's metadata that holds what was asked, where somebody records it."""

Record = Callable[[object, datetime], Mapping[str, Any]]
"""(command, the time that the decider was given) -> a JSON value to keep."""


@frozen(slots=True)
class Context:
    """`extra` members are added to the metadata as they are (e.g. the hash of a request with an idempotency key).

    `continues`: what follows belongs to the conversation that brought the actor where it is, and was caused by its last
    event; a person's command, or a clock's tick, begins one of its own.
    """

    principal: str = "system"
    correlation_id: str | None = None
    causation_id: str | None = None
    command_id: str | None = None
    request_id: str | None = None
    extra: Mapping[str, Any] = Factory(dict)
    continues: bool = False


SYSTEM = Context()
FOLLOWING = Context(continues=True)
"""The system itself goes on with what was begun."""


@frozen(slots=True)
class Conversation:
    """What an actor's last event belongs to. `event_id`: of that event."""

    correlation_id: str | None
    event_id: str


def metadata_of(context: Context, ids: Ids, last: Conversation | None = None) -> dict[str, Any]:
    """The metadata of a command's events. A command that nobody numbered begins a conversation: both ids are new.

    `last`: what the actor's last event belongs to; None when there is no event or it is not known.
    """
    command_id = context.command_id or str(ids.uuid7())
    correlation_id, causation_id = context.correlation_id, context.causation_id
    if context.continues and last is not None:
        correlation_id = correlation_id or last.correlation_id
        causation_id = causation_id or last.event_id
    return {
        "correlation_id": correlation_id or command_id,
        "causation_id": causation_id,
        "command_id": command_id,
        "principal": context.principal,
        "request_id": context.request_id,
        **context.extra,
    }
