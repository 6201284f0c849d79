"""The schedules of a deleted job go too; a job whose reaction fails holds up no other, and ends nobody."""

from __future__ import annotations

from collections.abc import Sequence

import trio

from eventstore.errors import SqlError
from hetuflow.domain.commands import DeleteJob
from hetuflow.domain.decider import Address
from hetuflow.scheduler.reactions import ASKING_MAX
from tests.scheduler.harness import Server, a_server


async def a_deleted_job(server: Server, name: str) -> None:
    job = await server.job(name)
    await server.schedule(job, f"schedule-of-{name}", interval_secs=1_000_000)
    await server.ask(Address("job", name), DeleteJob())


def deleted(server: Server) -> list[str]:
    return [event.stream_id for event in server.events("ScheduleDeleted")]


async def test_an_error_of_sql_is_waited_out(autojump_clock) -> None:
    async with a_server() as server:
        look_up, errors = server.core.reactions._schedules_of, [SqlError("XX000", "could not open relation")] * 3

        async def schedules_of(source: Address, position: int) -> Sequence[str]:
            if errors:
                raise errors.pop()
            return await look_up(source, position)

        server.core.reactions._schedules_of = schedules_of
        await a_deleted_job(server, "job-1")
        await trio.sleep(10)
        assert deleted(server) == ["schedule-schedule-of-job-1"]


async def test_a_job_that_fails_for_ever_holds_up_no_other(autojump_clock) -> None:
    async with a_server() as server:
        look_up, tries = server.core.reactions._schedules_of, list[str]()

        async def schedules_of(source: Address, position: int) -> Sequence[str]:
            if source.id.startswith("bad"):
                tries.append(source.id)
                raise SqlError("22P02", "no uuid")
            return await look_up(source, position)

        server.core.reactions._schedules_of = schedules_of
        for number in range(ASKING_MAX + 1):
            await a_deleted_job(server, f"bad-{number}")
        await a_deleted_job(server, "good")
        await trio.sleep(1)
        assert deleted(server) == ["schedule-schedule-of-good"]
        await trio.sleep(10_000)
        made = len(tries)
        await trio.sleep(10_000)
        assert len(tries) == made, "in the end it is left to the schedule itself"
