"""C13: how a daemon stands."""

from __future__ import annotations

from typing import Any

import attrs

from hetuflow.actors import Reading
from hetuflow.actors.catalogue import event_codec
from hetuflow.api.call import Call, Reply
from hetuflow.api.moments import Moment, moment_of
from hetuflow.api.reads import require_exists
from hetuflow.api.routing import AS_OF, Endpoint, PathId
from hetuflow.api.runs import snapshot
from hetuflow.api.schemas.daemon import DAEMON_STATUS
from hetuflow.domain.daemon_report import report
from hetuflow.domain.decider import Address
from hetuflow.domain.deciders import DECIDERS
from hetuflow.domain.schedule_state import ScheduleState

_CODEC = event_codec()


async def show(call: Call) -> Reply:
    moment = await moment_of(call)
    schedule: Reading[ScheduleState] = await reading_at(call, Address("schedule", call.id), moment)
    state = schedule.state
    require_exists(state.exists, "schedule", call.id)
    job = await reading_at(call, Address("job", state.job_id), moment)
    found = report(state, snapshot(state.job_id, job), call.rooms.clock.now() if moment is None else moment.at)
    value = {
        "schedule_id": call.id,
        "position": schedule.position,
        **attrs.asdict(found, recurse=False, filter=lambda field, _: field.name != "seats"),
        "result": [attrs.asdict(seat, recurse=False) for seat in found.seats],
    }
    return Reply(value, schedule.position)


async def reading_at(call: Call, address: Address, moment: Moment | None) -> Reading[Any]:
    """The state now, or as the stream had it then."""
    if moment is None:
        return await call.rooms.system.read(address)
    decider = DECIDERS[address.category]
    state, version, position = decider.initial, 0, 0
    for event in await call.rooms.store.read_stream(address.stream_id, until_position=moment.position):
        state, version, position = decider.evolve(state, _CODEC.decode(event)), event.version, event.position
    return Reading(state, version, position)


ENDPOINTS = (
    Endpoint(
        number="C13",
        method="GET",
        path="/api/v1/schedules/item/{id}/seats",
        path_id=PathId.UUID,
        handler=show,
        reply=DAEMON_STATUS,
        summary="Show the instances that a daemon keeps running",
        tag="schedules",
        parameters=(AS_OF,),
        also=(410,),
    ),
)
