"""Short runs of flows for deliberate bugs (`calm.py`)."""

from __future__ import annotations

import trio

from hetuflow.domain.enums import ScheduleKind
from tests.simulation.flow_users import FlowUsers
from tests.simulation.operators import Operators


async def a_flow(operators: Operators) -> None:
    """What fails, what follows that, what follows its success, what follows any of them, and what follows all of it; then
    all is run again, and cancelled, and run again."""
    operators.cluster.observed.became_calm()
    users = await _users(operators)
    run = await users.run()
    assert run is not None
    await trio.sleep(30)
    await users.retry(run)
    await trio.sleep(1)
    await users.cancel(run)
    await trio.sleep(30)
    await users.retry(run)
    await trio.sleep(100)
    operators.cluster.observed.ended_calm()


async def _users(operators: Operators) -> FlowUsers:
    users = FlowUsers(operators)
    first = await operators.create_job("first", "seconds=2", "exit_below_epoch=2", max_retries=0)
    fine = await operators.create_job("fine", "seconds=1", upstream=_after("all", (first, "succeeded")))
    alarm = await operators.create_job("alarm", "seconds=1", upstream=_after("all", (first, "failed")))
    either = await operators.create_job(
        "either", "seconds=1", upstream=_after("any", (fine, "succeeded"), (alarm, "succeeded"))
    )
    await operators.create_job("last", "seconds=1", upstream=_after("all", (either, "finished"), (fine, "finished")))
    users.roots.append(first)
    return users


def _after(match: str, *edges: tuple[str, str]) -> dict[str, object]:
    return {"jobs": [{"job_id": job_id, "on": on} for job_id, on in edges], "match": match}


async def a_schedule_of_a_flow(operators: Operators) -> None:
    """Some fires, each of which is a run."""
    operators.cluster.observed.became_calm()
    users = await _users(operators)
    await users.create_schedule(schedule_kind=int(ScheduleKind.INTERVAL), interval_secs=15)
    await trio.sleep(120)
    operators.cluster.observed.ended_calm()
