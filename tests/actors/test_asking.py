"""What a command leads to: the answer, the log, the metadata."""

from __future__ import annotations

import msgspec
import pytest
import trio

from hetuflow.actors import Context, GuardLost, SystemStopped, UnknownCategory
from hetuflow.domain.decider import Address, Guard
from hetuflow.domain.rejection import Rejected
from tests.actors.tally import Add, AddOnce, Deliver, Open, Order, Refuse, State, a_world, running, tally


async def test_the_answer_names_position_version_decision_and_state(autojump_clock: object) -> None:
    world = a_world()
    async with running(world):
        await world.system.ask(tally("other"), Add())
        answer = await world.system.ask(tally("a"), Add(5))
        assert (answer.position, answer.version, answer.state) == (2, 1, State(total=5))
        assert len(answer.decision.events) == 1
        again = await world.system.ask(tally("a"), Add(2))
        assert (again.position, again.version, again.state.total) == (3, 2, 7)


async def test_an_answer_without_change_names_the_last_event_it_was_read_from(autojump_clock: object) -> None:
    world = a_world()
    async with running(world):
        first = await world.system.ask(tally("a"), AddOnce("k"))
        await world.system.ask(tally("b"), Add())
        again = await world.system.ask(tally("a"), AddOnce("k"))
        assert not again.decision
        assert (again.position, again.version, again.state) == (first.position, 1, first.state)
        nobody = await world.system.ask(tally("nobody"), Refuse(0))
        assert (nobody.position, nobody.version) == (0, 0)
        assert len(world.log.events) == 2


async def test_a_rejection_is_an_answer_and_nothing_happens(autojump_clock: object) -> None:
    world = a_world()
    async with running(world):
        with pytest.raises(Rejected) as caught:
            await world.system.ask(tally("a"), Refuse(3))
        assert caught.value.detail == {"total": 0}
        assert world.log.events == []
        assert world.system.statistics().crashes == 0


async def test_events_carry_who_asked_and_why(autojump_clock: object) -> None:
    world = a_world()
    context = Context("root", "conversation", "cause", "command", "request", {"idempotency_hash": "x"})
    async with running(world):
        await world.system.ask(tally("a"), Open([tally("b")]), context)
        assert [msgspec.json.decode(event.metadata) for event in world.log.events] == 3 * [
            {
                "principal": "root",
                "correlation_id": "conversation",
                "causation_id": "cause",
                "command_id": "command",
                "request_id": "request",
                "idempotency_hash": "x",
            }
        ]


async def test_a_command_nobody_numbered_begins_a_conversation(autojump_clock: object) -> None:
    world = a_world()
    async with running(world):
        await world.system.ask(tally("a"), Add())
        await world.system.ask(tally("a"), Add())
    first, second = (msgspec.json.decode(event.metadata) for event in world.log.events)
    assert first["principal"] == "system"
    assert first["command_id"] == first["correlation_id"] != second["command_id"]
    assert len({event.event_id for event in world.log.events}) == 2


async def test_a_decision_opens_other_streams_in_the_same_append(autojump_clock: object) -> None:
    world = a_world()
    async with running(world):
        answer = await world.system.ask(tally("a"), Open([tally("b"), tally("c")]))
        assert [(e.stream_id, e.version) for e in world.log.events] == [
            ("tally-a", 1),
            ("tally-b", 1),
            ("tally-b", 2),
            ("tally-c", 1),
            ("tally-c", 2),
        ]
        assert (answer.position, answer.version) == (5, 1)
        assert world.ledger.standing[tally("b")] == {Deliver(7)}
        opened = await world.system.read(tally("b"))
        assert (opened.version, opened.position, opened.state.total) == (2, 3, 1)
        assert world.system.statistics().activations == 1  # only the opener was read from the log
        assert (await world.system.ask(tally("b"), Add())).version == 3


async def test_a_decision_may_only_open_streams_and_then_guards_its_own(autojump_clock: object) -> None:
    world = a_world()
    async with running(world):
        await world.system.ask(tally("a"), Add(4))
        answer = await world.system.ask(tally("a"), Open([tally("b")], amount=0))
        assert (answer.position, answer.version, answer.state.total) == (3, 1, 4)


async def test_a_guard_that_holds_lets_the_append_through(autojump_clock: object) -> None:
    world = a_world()
    async with running(world):
        await world.system.ask(tally("job"), Add())
        guard = Guard("tally-job", 1)
        answer = await world.system.ask(tally("a"), Open([], (guard, guard)))
        assert answer.version == 1


async def test_a_lost_guard_is_told_once_and_what_was_known_of_it_is_forgotten(autojump_clock: object) -> None:
    log = a_world().log
    here, there = a_world(log=log), a_world(log=log, seed=1)
    async with running(here, there):
        await here.system.ask(tally("job"), Add())
        await there.system.ask(tally("job"), Add())
        assert (await here.system.read(tally("job"))).version == 1  # warm, and behind
        with pytest.raises(GuardLost) as caught:
            await here.system.ask(tally("a"), Open([], [Guard("tally-job", 1)]))
        assert (caught.value.stream_id, caught.value.expected, caught.value.actual) == ("tally-job", 1, 2)
        assert here.system.statistics().guards_lost == 1
        job = await here.system.read(tally("job"))
        assert job.version == 2
        assert (await here.system.ask(tally("a"), Open([], [Guard("tally-job", job.version)]))).version == 1


async def test_two_guards_that_contradict_each_other_are_lost_without_an_append(autojump_clock: object) -> None:
    world = a_world()
    async with running(world):
        with pytest.raises(GuardLost):
            await world.system.ask(tally("a"), Open([], [Guard("tally-job", 0), Guard("tally-job", 1)]))
        assert world.log.events == []


async def test_reading_folds_without_a_command(autojump_clock: object) -> None:
    world, later = (first := a_world()), a_world(log=first.log)
    async with running(world):
        await world.system.ask(tally("a"), Add(3))
        await world.system.ask(tally("a"), Order(1))
    async with running(later):
        reading = await later.system.read(tally("a"))
        assert (reading.version, reading.position, reading.state.total) == (2, 2, 3)
        assert later.ledger.standing[tally("a")] == {Deliver(1)}
        nobody = await later.system.read(tally("nobody"))
        assert (nobody.version, nobody.position, nobody.state) == (0, 0, State())


async def test_reading_many_takes_one_read_per_chunk_of_cold_actors(autojump_clock: object) -> None:
    world, later = (first := a_world()), a_world(log=first.log)
    async with running(world):
        for i in range(450):
            await world.system.ask(tally(i), Add(i))
    reads: list[str] = []

    class Watch:
        async def before_read(self, what: str) -> None:
            reads.append(what)

        async def before_commit(self, claims: object) -> None: ...

        async def after_commit(self, claims: object, appended: object) -> None: ...

    later.store.hooks = Watch()
    async with running(later):
        await later.system.ask(tally(0), Add())
        reads.clear()
        found = await later.system.read_many([tally(i) for i in (*range(450), 0, "nobody")])
        assert reads == 3 * ["read_streams"]
        assert {int(address.id): found[address].state.total for address in found if address.id != "nobody"} == {
            i: i if i else 1 for i in range(450)
        }
        assert found[tally("nobody")].version == 0


async def test_two_who_read_a_cold_actor_at_once_fold_it_once(autojump_clock: object) -> None:
    world, later = (first := a_world()), a_world(log=first.log)
    async with running(world):
        await world.system.ask(tally("a"), Add())
    async with running(later), trio.open_nursery() as nursery:
        nursery.start_soon(later.system.read, tally("a"))
        nursery.start_soon(later.system.read_many, [tally("a"), tally("b")])
        nursery.start_soon(later.system.ask, tally("a"), Add())
    assert later.system.statistics().activations == 2
    assert later.log.version("tally-a") == 2


async def test_an_unknown_category_and_a_stopped_system_say_so(autojump_clock: object) -> None:
    world = a_world()
    with pytest.raises(SystemStopped):
        await world.system.ask(tally("a"), Add())
    async with running(world):
        with pytest.raises(UnknownCategory):
            await world.system.ask(Address("nothing", "1"), Add())
    with pytest.raises(SystemStopped):
        await world.system.ask(tally("a"), Add())
