"""What a task made by hand must fulfil, alone (T3) or in a batch (T9)."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from hetuflow.api.call import Call
from hetuflow.api.errors import conflict
from hetuflow.api.problems import Problems
from hetuflow.api.reads import require_exists
from hetuflow.domain.decider import Address
from hetuflow.domain.enums import ScheduleKind, ScheduleStatus


async def require_schedule(call: Call, schedule_id: str, job_id: str, members: Mapping[str, Any]) -> None:
    """The schedule of a task made by hand: of the same job and kind, valid now, of a kind that does not fire itself."""
    state = (await call.rooms.system.read(Address("schedule", schedule_id))).state
    require_exists(state.exists, "schedule", schedule_id, "schedule_id")
    problems = Problems()
    if state.job_id != job_id:
        problems.add("schedule_id", f"is a schedule of job {state.job_id}, not of {job_id}")
    if members.get("schedule_kind", state.schedule_kind) != state.schedule_kind:
        problems.add("schedule_kind", f"must be the schedule's kind, {state.schedule_kind}")
    call.refuse(problems)
    if why := why_not_valid(state, call.rooms.clock.now()):
        raise conflict("schedule_not_valid", f"the schedule {why}", schedule_id=schedule_id)


def why_not_valid(schedule: Any, now: datetime) -> str | None:
    if schedule.status != ScheduleStatus.ENABLED:
        return "is not Enabled"
    if (schedule.start_time and now < schedule.start_time) or (schedule.end_time and now > schedule.end_time):
        return "is outside its window"
    if schedule.schedule_kind not in (ScheduleKind.EVENT, ScheduleKind.FLOW):
        return "makes its tasks itself: only kinds Event and Flow take tasks by hand"
    return None
