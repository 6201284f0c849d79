"""C10, C11: when a schedule fires next, stored or not."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from attrs import evolve, frozen

from hetuflow.api.call import Call, Reply
from hetuflow.api.excluding import check_calendars, exclusion_of
from hetuflow.api.kinds import Array, Boolean, Integer, NameId, Text, Time, Uuid
from hetuflow.api.problems import Problems
from hetuflow.api.reads import require_exists
from hetuflow.api.routing import Endpoint, Parameter, PathId, boolean_text, integer_text, time_text
from hetuflow.api.schemas.schedule import SCHEDULE, check_schedule
from hetuflow.api.shapes import Member, Shape
from hetuflow.domain.commands import CreateSchedule
from hetuflow.domain.decider import Address
from hetuflow.domain.enums import ScheduleKind
from hetuflow.domain.preview import preview

COUNT = Integer(1, 1000)
COUNT_DEFAULT = 10

EXCLUDED = "list also what calendars exclude, with their ids in `excluded_by`"

UPCOMING = Shape(
    title="UpcomingFire",
    is_sparse=True,
    members=[
        Member(name="at", kind=Time()),
        Member(name="local", kind=Text(), doc="the same in the schedule's zone, with its offset"),
        Member(
            name="note",
            kind=Text(),
            nullable=True,
            doc="`gap`: stands for a local time that the clocks skip; `repeated`: its local time comes twice",
        ),
        Member(
            name="excluded_by",
            kind=Array(NameId()),
            doc="the calendars that exclude it, so that it does not fire; only where `excluded` was asked for",
        ),
    ],
)

PREVIEW = Shape(
    title="SchedulePreview",
    members=[
        Member(name="schedule_id", kind=Uuid(), nullable=True),
        Member(name="kind", kind=Text()),
        Member(name="schedule_kind", kind=Integer()),
        Member(name="timezone", kind=Text()),
        Member(name="ends", kind=Boolean(), doc="no fire follows the last one listed"),
        Member(name="result", kind=Array(UPCOMING)),
    ],
)

PREVIEW_REQUEST = Shape(
    title="SchedulePreviewRequest",
    members=[
        *(evolve(member, write="C") if member.name == "job_id" else member for member in SCHEDULE.create.members),
        Member(name="count", kind=COUNT, write="C", default=COUNT_DEFAULT),
        Member(name="after", kind=Time(), write="C", doc="default: now"),
        Member(name="excluded", kind=Boolean(), write="C", default=False, doc=EXCLUDED),
    ],
)


async def next_fires(call: Call) -> Reply:
    """C10: as if it were enabled."""
    reading = await call.rooms.system.read(Address("schedule", call.id))
    state = reading.state
    require_exists(state.exists, "schedule", call.id)
    wanted = _Wanted(call.query.get("count", COUNT_DEFAULT), call.query.get("after"), bool(call.query.get("excluded")))
    shown = await _shown(call, call.id, state, state.anchor_at, state.fires_left, wanted)
    return Reply(shown, reading.position)


async def preview_unsaved(call: Call) -> Reply:
    """C11: of what would be created now. Nothing is stored."""
    problems = Problems()
    given = call.read(PREVIEW_REQUEST, problems)
    members = given.members
    wanted = _Wanted(
        members.pop("count", COUNT_DEFAULT), members.pop("after", None), bool(members.pop("excluded", False))
    )
    members.setdefault("timezone", call.rooms.identity.timezone)
    check_schedule(given, problems, {}, call.rooms.identity.timezone)
    await check_calendars(call, given, problems)
    call.refuse(problems)
    schedule_id, job_id = members.pop("id", None), members.pop("job_id", "")
    command = CreateSchedule(schedule_id=schedule_id or "", job_id=job_id, **members)
    return Reply(await _shown(call, schedule_id, command, call.rooms.clock.now(), command.max_count, wanted))


@frozen(slots=True)
class _Wanted:
    count: int
    after: datetime | None
    with_excluded: bool


async def _shown(
    call: Call,
    schedule_id: str | None,
    timing: Any,
    anchor_at: datetime,
    fires_left: int | None,
    wanted: _Wanted,
) -> dict[str, Any]:
    now = call.rooms.clock.now()
    found = preview(
        timing,
        anchor_at,
        now=now,
        after=wanted.after or now,
        count=wanted.count,
        fires_left=fires_left,
        exclusion=await exclusion_of(call, timing.exclude_calendars),
        with_excluded=wanted.with_excluded,
    )
    return {
        "schedule_id": schedule_id,
        "kind": ScheduleKind(timing.schedule_kind).name.lower(),
        "schedule_kind": int(timing.schedule_kind),
        "timezone": timing.timezone,
        "ends": found.ends,
        "result": [
            {
                "at": each.at,
                "local": each.local.isoformat(),
                "note": each.note,
                **({"excluded_by": list(each.excluded_by)} if wanted.with_excluded else {}),
            }
            for each in found.fires
        ],
    }


ENDPOINTS = (
    Endpoint(
        number="C10",
        method="GET",
        path="/api/v1/schedules/item/{id}/next",
        path_id=PathId.UUID,
        handler=next_fires,
        parameters=(
            Parameter(name="count", kind=COUNT, from_text=integer_text, doc="default 10"),
            Parameter(name="after", kind=Time(), from_text=time_text, doc="default: now"),
            Parameter(name="excluded", kind=Boolean(), from_text=boolean_text, doc=EXCLUDED),
        ),
        reply=PREVIEW,
        summary="The next fires of a schedule, as if it were enabled",
        tag="schedules",
    ),
    Endpoint(
        number="C11",
        method="POST",
        path="/api/v1/schedules/preview",
        handler=preview_unsaved,
        body=PREVIEW_REQUEST,
        reply=PREVIEW,
        summary="When a schedule would fire, without storing it",
        tag="schedules",
        example={"kind": "cron", "cron_expression": "0 0 12 * * ?", "timezone": "Asia/Shanghai", "count": 3},
    ),
)
