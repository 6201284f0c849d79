"""`Idempotency-Key`: the same request twice has one effect, because the ids it makes are derived from the key.

The store itself refuses the second effect; the hash of the request, kept in the metadata of the first event, tells the
same request from another one under the same key. Nothing else is kept, so that it holds across servers and restarts.
"""

from __future__ import annotations

import json
import re
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any
from uuid import UUID, uuid5

from attrs import define, field, frozen

from eventstore.errors import WrongExpectedVersion
from hetuflow.actors import Context
from hetuflow.api.errors import ApiError, conflict, invalid
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

    def id_of(self, index: int) -> str:
        """The id of what the request makes, or of the one at that place when it makes several."""
        return str(uuid5(NAMESPACE, f"{self.scope}\n{index}" if index else self.scope))

    def context(self, call: Call) -> Context:
        """That of the call, with what tells the same request again."""
        return call.keyed(**{HASH: self.digest, SCOPE: self.scope})


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


@contextmanager
def keeping(call: Call) -> Iterator[Key | None]:
    """The request's key while it is carried out, None without one; then it is remembered.

    Raises:
      ApiError: 409, it is being carried out, or the key was used for another request; 400, malformed.
    """
    key = key_of(call)
    if key is None:
        yield None
        return
    keys = call.memory.keys
    if key.scope in keys.running:
        raise conflict("idempotency_in_progress", "the first call with this Idempotency-Key is still running")
    if keys.seen.get(key.scope, key.digest) != key.digest:
        raise _reused()
    keys.running.add(key.scope)
    try:
        yield key
        keys.remember(key)
    finally:
        keys.running.discard(key.scope)


def is_first_answer(metadata: str, key: Key) -> bool:
    """Whether the event was recorded by a request under this key.

    Raises:
      ApiError: 409, by another one under the same key.
    """
    found = json.loads(metadata)
    if found.get(SCOPE) != key.scope:
        return False
    if found.get(HASH) != key.digest:
        raise _reused()
    return True


Perform = Callable[[str, Context], Awaitable[int]]
"""Makes the entity of that id under that context; returns the position of its last event."""

PerformEach = Callable[[Sequence[str], Context], Awaitable[int]]
"""The same for several at once."""


async def once(
    call: Call,
    category: str,
    chosen_id: str | None,
    perform: Perform,
    *,
    stream_id: str | None = None,
    bare: bool = False,
) -> Reply:
    """Make one entity, at most once per key, and answer with its id.

    Args:
      stream_id: of the stream that the entity is recorded in, where that is not its own.
      bare: the answer is the id itself.
    """

    def value(ids: Sequence[str]) -> Any:
        return ids[0] if bare else {"id": ids[0]}

    async def perform_each(ids: Sequence[str], context: Context) -> int:
        return await perform(ids[0], context)

    def recorded_in(ids: Sequence[str]) -> Sequence[str]:
        return [stream_id or f"{category}-{ids[0]}"]

    return await _once(call, [chosen_id], perform_each, recorded_in, value)


async def once_each(call: Call, chosen_ids: Sequence[str | None], perform: PerformEach) -> Reply:
    """Make several tasks in one append, at most once per key, and answer with their ids, in that order."""

    def value(ids: Sequence[str]) -> Any:
        return {"result": [{"id": each} for each in ids]}

    def recorded_in(ids: Sequence[str]) -> Sequence[str]:
        return [f"task-{ids[0]}", f"task-{ids[-1]}"]

    return await _once(call, chosen_ids, perform, recorded_in, value)


async def _once(
    call: Call,
    chosen_ids: Sequence[str | None],
    perform: PerformEach,
    recorded_in: Callable[[Sequence[str]], Sequence[str]],
    value: Callable[[Sequence[str]], Any],
) -> Reply:
    with keeping(call) as key:
        if key is None:
            ids = [chosen or str(call.rooms.ids.uuid7()) for chosen in chosen_ids]
            return call.written(await perform(ids, call.context), value(ids))
        ids = [chosen or key.id_of(index) for index, chosen in enumerate(chosen_ids)]
        if (position := await _first_position(call, recorded_in(ids), key)) is not None:
            return call.written(position, value(ids), replayed=True)
        try:
            position = await perform(ids, key.context(call))
        except (Rejected, WrongExpectedVersion, ApiError) as error:
            if not _says_that_it_exists(error):
                raise
            if (position := await _first_position(call, recorded_in(ids), key)) is not None:
                return call.written(position, value(ids), replayed=True)
            raise
        return call.written(position, value(ids))


def _says_that_it_exists(error: Exception) -> bool:
    if isinstance(error, Rejected):
        return error.code == "already_exists"
    if isinstance(error, ApiError):
        return isinstance(error.detail, dict) and error.detail.get("reason") == "already_exists"
    return True


async def _first_position(call: Call, stream_ids: Sequence[str], key: Key) -> int | None:
    """The position that the first answer told, when the log has what it made.

    Raises:
      ApiError: 409, the key was used for another request.
    """
    made: list[int] = []
    for stream_id in dict.fromkeys(stream_ids):
        for event in await call.rooms.store.read_stream(stream_id):
            metadata: dict[str, Any] = json.loads(event.metadata)
            if metadata.get(SCOPE) == key.scope:
                if metadata.get(HASH) != key.digest:
                    raise _reused()
                made.append(event.position)
    return max(made, default=None)


def _reused() -> Exception:
    return conflict("idempotency_key_reused", "this Idempotency-Key was used for another request")
