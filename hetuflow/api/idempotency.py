"""`Idempotency-Key`: the same request twice has one effect, because the ids it makes are derived from the key.

The store itself refuses the second effect; the hash of the request, kept in the metadata of the first event, tells the
same request from another one under the same key. Nothing else is kept, so that it holds across servers and restarts.
"""

from __future__ import annotations

import json
import re
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any
from uuid import UUID, uuid5

from attrs import define, field, frozen

from eventstore.errors import WrongExpectedVersion
from hetuflow.actors import Context
from hetuflow.api.errors import conflict, invalid
from hetuflow.api.jsontext import json_digest
from hetuflow.api.problems import Problem
from hetuflow.domain.rejection import Rejected

if TYPE_CHECKING:
    from hetuflow.api.call import Call, Reply

NAMESPACE = UUID("6f2f3a52-9d5c-5c7e-8a94-5f6b0c1f7d10")
_VISIBLE = re.compile(r"[!-~]{1,255}")
REMEMBERED_MAX = 10_000

HASH = "idempotency_hash"
SCOPE = "idempotency_scope"


@frozen(slots=True)
class Key:
    """A key in its scope: method and path."""

    scope: str
    digest: str
    """Of the request's JSON."""

    @property
    def id(self) -> str:
        """The id of what the request makes."""
        return str(uuid5(NAMESPACE, self.scope))


@define(slots=True)
class Keys:
    """Keys in use in this process, and the latest digests by scope (for requests that chose their own ids)."""

    running: set[str] = field(factory=set)
    seen: OrderedDict[str, str] = field(factory=OrderedDict)

    def remember(self, key: Key) -> None:
        self.seen[key.scope] = key.digest
        self.seen.move_to_end(key.scope)
        while len(self.seen) > REMEMBERED_MAX:
            self.seen.popitem(last=False)


def key_of(call: Call) -> Key | None:
    """The request's key, if it has one.

    Raises:
      ApiError: 400, malformed.
    """
    text = call.head.text(b"idempotency-key")
    if text is None:
        return None
    if _VISIBLE.fullmatch(text) is None:
        raise invalid([Problem("header.Idempotency-Key", "must be 1-255 visible ASCII characters", status=400)])
    return Key(f"{call.head.method} {call.head.path}\n{text}", json_digest(call.members))


Perform = Callable[[str, Context], Awaitable[int]]
"""Makes the entity of that id under that context; returns the position of its last event."""


async def once(call: Call, category: str, chosen_id: str | None, perform: Perform) -> Reply:
    """Make one entity, at most once per key, and answer with its id."""
    key = key_of(call)
    if key is None:
        entity_id = chosen_id or str(call.rooms.ids.uuid7())
        return call.written(await perform(entity_id, call.context), {"id": entity_id})
    if key.scope in call.memory.keys.running:
        raise conflict("idempotency_in_progress", "the first call with this Idempotency-Key is still running")
    if call.memory.keys.seen.get(key.scope, key.digest) != key.digest:
        raise _reused()
    entity_id = chosen_id or key.id
    call.memory.keys.running.add(key.scope)
    try:
        if (replay := await _replay(call, category, entity_id, key)) is not None:
            return replay
        context = call.keyed(**{HASH: key.digest, SCOPE: key.scope})
        try:
            position = await perform(entity_id, context)
        except (Rejected, WrongExpectedVersion) as error:
            if isinstance(error, Rejected) and error.code != "already_exists":
                raise
            if (replay := await _replay(call, category, entity_id, key)) is not None:
                return replay
            raise
        call.memory.keys.remember(key)
        return call.written(position, {"id": entity_id})
    finally:
        call.memory.keys.running.discard(key.scope)


async def _replay(call: Call, category: str, entity_id: str, key: Key) -> Reply | None:
    """The first answer again, when the log has it.

    Raises:
      ApiError: 409, the key was used for another request.
    """
    events = await call.rooms.store.read_stream(f"{category}-{entity_id}")
    if not events:
        return None
    metadata: dict[str, Any] = json.loads(events[0].metadata)
    if metadata.get(SCOPE) != key.scope:
        return None
    if metadata.get(HASH) != key.digest:
        raise _reused()
    first = [event for event in events if json.loads(event.metadata).get(SCOPE) == key.scope]
    return call.written(first[-1].position, {"id": entity_id}, replayed=True)


def _reused() -> Exception:
    return conflict("idempotency_key_reused", "this Idempotency-Key was used for another request")
