"""Many schedules due in one instant are one question: what befalls one of them is no other's trouble."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import pytest
import trio

from eventstore.errors import StoreUnavailable
from eventstore.event import Claim
from eventstore.memory import NoFaults
from hetuflow.domain.commands import DisableJob, DisableSchedule, UpdateJob
from hetuflow.domain.decider import Address
from hetuflow.history.replay import Replay
from tests.gateway.scripted import ScriptedAgent
from tests.scheduler.harness import Server, a_server, data, nominal, seconds
from tests.scheduler.hooks import LostAnswers, Outage, types_of

COUNT = 130
"""More than are decided before others have a turn."""


async def many(server: Server) -> None:
    job = await server.job()
    for n in range(COUNT):
        await server.schedule(job, f"s{n}", interval_secs=10)


def fires(server: Server) -> Counter[float]:
    """How many schedules fired for each nominal time; no two fires of a schedule are for the same one."""
    events = server.events("ScheduleFired")
    assert len({(event.stream_id, nominal(event)) for event in events}) == len(events)
    return Counter(nominal(event) for event in events)


async def test_all_are_decided_at_the_instant_under_one_guard_each(autojump_clock) -> None:
    async with a_server() as server:
        await many(server)
        appends: list[Sequence[Claim]] = []

        class Watching(NoFaults):
            async def before_commit(self, claims: Sequence[Claim]) -> None:
                if "ScheduleFired" in types_of(claims):
                    appends.append(claims)

        server.store.hooks = Watching()
        await trio.sleep(20.5)
        assert fires(server) == {10: COUNT, 20: COUNT}
        assert set(seconds(server.events("ScheduleFired"))) == {10, 20}
        assert len(appends) == 2 * COUNT  # none was tried twice, each alone answers for its schedule
        guards = [{claim.stream_id.partition("-")[0] for claim in each if not claim.events} for each in appends]
        assert all(each == {"job", "lease"} for each in guards)


@pytest.mark.parametrize("lost", [1, 7, 2 * COUNT])
async def test_answers_that_are_lost_fire_nothing_twice(autojump_clock, lost: int) -> None:
    async with a_server() as server:
        await many(server)
        server.store.hooks = LostAnswers(lost, "ScheduleFired")
        await trio.sleep(30.5)
        assert fires(server) == {10: COUNT, 20: COUNT, 30: COUNT}


async def test_an_outage_delays_all_and_loses_none(autojump_clock) -> None:
    async with a_server() as server:
        await many(server)
        server.store.hooks = Outage(until=trio.current_time() + 15)
        await trio.sleep(30.5)
        assert fires(server) == {10: COUNT, 20: COUNT, 30: COUNT}


async def test_one_whose_append_fails_is_asked_again_and_the_others_are_on_time(autojump_clock) -> None:
    async with a_server() as server:
        await many(server)

        class Unlucky(NoFaults):
            async def before_commit(self, claims: Sequence[Claim]) -> None:
                if claims[0].stream_id == "schedule-s7" and trio.current_time() < until:
                    raise StoreUnavailable

        until = trio.current_time() + 14
        server.store.hooks = Unlucky()
        await trio.sleep(19.5)
        assert fires(server) == {10: COUNT}
        late = {event.stream_id for event in server.events("ScheduleFired") if seconds([event]) != [10]}
        assert late == {"schedule-s7"}


async def test_a_job_that_is_edited_between_the_read_and_the_commit(autojump_clock, monkeypatch) -> None:
    async with a_server() as server:
        await many(server)
        surroundings = server.core.scheduler._ticker._surroundings
        read, edits = surroundings.read, [UpdateJob(changes={"name": "other"}), DisableJob()]

        async def read_and_edit(schedule_ids: Sequence[str]) -> object:
            found = await read(schedule_ids)
            if len(schedule_ids) > 1 and edits and server.clock.now().second % 10 == 0:
                await server.ask(Address("job", "job-1"), edits.pop(0))
            return found

        monkeypatch.setattr(surroundings, "read", read_and_edit)
        await trio.sleep(20.5)
        assert not edits
        covered = len(server.events("ScheduleFired")) + len(server.events("ScheduleSkipped"))
        assert covered == 2 * COUNT
        created = Counter(data(event)["job_version"] for event in server.events("TaskCreated"))
        assert 1 not in created  # nothing was made of the job as it no longer was


async def test_one_that_is_busy_or_paused_is_decided_for_itself(autojump_clock) -> None:
    async with a_server() as server:
        await many(server)
        await trio.sleep(9.5)

        class PauseMeanwhile(NoFaults):
            async def before_commit(self, claims: Sequence[Claim]) -> None:
                if "ScheduleDisabled" in types_of(claims):
                    await trio.sleep(2)

        server.store.hooks = PauseMeanwhile()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(server.ask, Address("schedule", "s3"), DisableSchedule())
            await trio.sleep(10)
        assert fires(server) == {10: COUNT - 1}
        assert "schedule-s3" not in {event.stream_id for event in server.events("ScheduleFired")}


async def test_slots_in_hand_are_used_and_the_rest_waits(autojump_clock) -> None:
    async with a_server() as server, trio.open_nursery() as nursery:
        agent = ScriptedAgent(server.core.gateway.serve_connection, nursery)
        await agent.connect(slots=5)
        await many(server)
        await trio.sleep(10.5)
        agenda = server.core.scheduler.status().agenda
        assert (agenda.reserved, agenda.instances, agenda.slots_free) == (0, 5, 0)
        assert fires(server) == {10: COUNT}
        nursery.cancel_scope.cancel()


async def test_the_recorded_commands_lead_to_the_same_decisions(autojump_clock) -> None:
    async with a_server() as server:
        await many(server)
        await trio.sleep(10.5)
        events = list(server.store.log.events)

    async def load(stream_id: str, position: int) -> Sequence[object]:
        return [event for event in events if event.stream_id == stream_id and event.position <= position]

    replay = Replay(load, states_max=2)  # type: ignore[arg-type]
    await replay.check(events)
    assert replay.tally.differences == [] and replay.tally.same > COUNT
