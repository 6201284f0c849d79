"""E1: events from outside. (`source`, `id`) names one for ever."""

from __future__ import annotations

import json
from typing import Any

from eventstore.event import RecordedEvent
from eventstore.store import EventFilter
from hetuflow.api.call import RACES_MAX, Call, Reply
from hetuflow.api.errors import conflict
from hetuflow.api.idempotency import Key, is_first_answer, keeping
from hetuflow.api.jsontext import json_digest
from hetuflow.api.kinds import Integer, Schema
from hetuflow.api.problems import Problems
from hetuflow.api.routing import Endpoint
from hetuflow.api.schemas.event import EXTERNAL_EVENT, RESERVED_PREFIXES
from hetuflow.domain.commands import ReceiveEvent
from hetuflow.domain.decider import Address
from hetuflow.domain.identity import external_event_id
from hetuflow.domain.rejection import Rejected


class Received:
    phrase = "an answer"

    def parse(self, value: Any, path: str, problems: Problems) -> Any:
        raise NotImplementedError("an answer is not read")

    def schema(self) -> Schema:
        return {
            "type": "object",
            "properties": {
                "id": {"type": "string"},
                "position": Integer().schema(),
                "duplicate": {"type": "boolean", "description": "it had been received before"},
            },
            "required": ["id", "position", "duplicate"],
            "additionalProperties": False,
        }


async def receive(call: Call) -> Reply:
    problems = Problems()
    members = call.read(EXTERNAL_EVENT, problems).members
    if str(members.get("type", "")).startswith(RESERVED_PREFIXES):
        problems.add("type", f"must not start with {', '.join(RESERVED_PREFIXES)}: these are hetuflow's own")
    call.refuse(problems)
    content = {"type": members["type"], "data": members.get("data", {})}
    if (time := members.get("time")) is not None:
        content["time"] = time.isoformat()
    with keeping(call) as key:
        event_id = members.get("id") or (key.id_of(0) if key is not None else str(call.rooms.ids.uuid7()))
        command = ReceiveEvent(
            id=event_id,
            source=members.get("source", "default"),
            type=members["type"],
            data=members.get("data", {}),
            time=time or call.rooms.clock.now(),
            digest=json_digest(content),
        )
        return await _receive(call, command, key)


async def _receive(call: Call, command: ReceiveEvent, key: Key | None) -> Reply:
    """Look it up, record it when it is new, and look again when others were faster."""
    source = Address("external", command.source)
    context = call.context if key is None else key.context(call)
    for _ in range(RACES_MAX):
        known_until = (await call.rooms.system.read(source)).version
        if (first := await _recorded(call, command)) is not None:
            return _again(call, command, first, key)
        try:
            asked = ReceiveEvent(
                id=command.id,
                source=command.source,
                type=command.type,
                data=command.data,
                time=command.time,
                digest=command.digest,
                known_until=known_until,
            )
            position = (await call.ask("external", command.source, asked, context)).position
        except Rejected as refused:
            if refused.code not in ("known", "look_again"):
                raise
            continue
        return call.written(position, {"id": command.id, "position": position, "duplicate": False})
    raise conflict("version_conflict", "too many events of this source at the same time; nothing was done, try again")


async def _recorded(call: Call, command: ReceiveEvent) -> RecordedEvent | None:
    where = EventFilter(external_id=external_event_id(command.source, command.id))
    found = await call.rooms.store.read_all(limit=1, where=where)
    return found[0] if found else None


def _again(call: Call, command: ReceiveEvent, first: RecordedEvent, key: Key | None) -> Reply:
    is_replay = key is not None and is_first_answer(first.metadata, key)
    if json.loads(first.data)["digest"] != command.digest:
        raise conflict(
            "event_id_reused",
            f"event {command.id} of source {command.source} was received with another content",
            id=command.id,
            position=first.position,
        )
    value = {"id": command.id, "position": first.position, "duplicate": not is_replay}
    return call.written(first.position, value, replayed=is_replay)


ENDPOINTS = (
    Endpoint(
        number="E1",
        method="POST",
        path="/api/v1/events",
        handler=receive,
        body=EXTERNAL_EVENT,
        reply=Received(),
        summary="Tell of an event outside; the same one again has no second effect",
        tag="events",
        also=(409,),
        is_keyed=True,
        example={"type": "file.created", "id": "a.csv-1", "source": "importer", "data": {"path": "/data/input/a.csv"}},
    ),
)
