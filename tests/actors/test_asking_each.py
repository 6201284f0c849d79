"""Many actors asked at once: each is decided and committed for itself, and who cannot be is left to be asked alone."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from eventstore.errors import StoreTimeout, StoreUnavailable
from eventstore.event import Appended, Claim
from eventstore.memory import NoFaults
from hetuflow.actors import Answer, Limits, Question, SystemStopped
from hetuflow.domain.decider import Guard
from tests.actors.tally import (
    Add,
    AddOnce,
    Deliver,
    Explode,
    Gate,
    Open,
    Order,
    Refuse,
    a_world,
    running,
    tally,
)


class Counting(NoFaults):
    """Counts reads, and raises what it is told for the append to a stream."""

    def __init__(self) -> None:
        self.reads: list[str] = []
        self.before: dict[str, Exception] = {}
        self.after: dict[str, Exception] = {}

    async def before_commit(self, claims: Sequence[Claim]) -> None:
        if problem := self.before.pop(claims[0].stream_id, None):
            raise problem

    async def after_commit(self, claims: Sequence[Claim], appended: Appended) -> None:
        if problem := self.after.pop(claims[0].stream_id, None):
            raise problem

    async def before_read(self, what: str) -> None:
        self.reads.append(what)


@pytest.mark.parametrize("hooks", [None, Counting()], ids=["at once", "one by one"])
async def test_each_is_carried_out_with_its_effects(autojump_clock: object, hooks: Counting | None) -> None:
    world = a_world(hooks=hooks)
    async with running(world):
        await world.system.ask(tally(1), Add(5))
        answers = await world.system.ask_each(
            [Question(tally(1), Add(1)), Question(tally(2), Order(3)), Question(tally(3), Open([tally("new")]))]
        )
        assert {address: answer.version for address, answer in answers.items() if isinstance(answer, Answer)} == {
            tally(1): 2,
            tally(2): 1,
            tally(3): 1,
        }
        assert (await world.system.read(tally(1))).state.total == 6
        assert world.ledger.standing == {tally(2): {Deliver(3)}, tally("new"): {Deliver(7)}}
        assert world.log.version("tally-new") == 2
        assert world.system.statistics().commands == 4 and world.system.statistics().busy == 0


async def test_the_cold_ones_are_folded_with_one_read(autojump_clock: object) -> None:
    hooks = Counting()
    world = a_world(hooks=hooks)
    before = a_world(log=world.log, seed="before")
    async with running(before, world):
        for name in range(50):
            await before.system.ask(tally(name), Add(name))
        answers = await world.system.ask_each([Question(tally(name), Add(1)) for name in range(50)])
        assert [answer.state.total for answer in answers.values() if isinstance(answer, Answer)] == list(range(1, 51))
        assert hooks.reads == ["read_streams"]


async def test_who_says_no_changes_nothing_crashes_or_lost_is_left_out_and_nobody_else(autojump_clock: object) -> None:
    world, other = a_world(), None
    other = a_world(log=world.log, seed="other")
    async with running(world, other):
        for name in ("stale", "known", "guard"):
            await world.system.ask(tally(name), AddOnce("key"))
        await other.system.ask(tally("stale"), Add(10))
        questions = [
            Question(tally("no"), Refuse(1)),
            Question(tally("known"), AddOnce("key")),
            Question(tally("decide"), Explode("decide")),
            Question(tally("evolve"), Explode("evolve")),
            Question(tally("stale"), Add(1)),
            Question(tally("guarded"), Open([tally("unborn")], [Guard("tally-guard", 7)])),
            Question(tally("well"), Add(1)),
        ]
        answers = await world.system.ask_each(questions)
        assert list(answers) == [tally("well")]
        assert world.log.version("tally-unborn") == world.log.version("tally-guarded") == 0
        statistics = world.system.statistics()
        assert (statistics.crashes, statistics.conflicts, statistics.guards_lost) == (0, 1, 1)
        alone = await world.system.ask(tally("stale"), Add(1))  # decided anew, on what the other server wrote
        assert (alone.version, alone.state.total) == (3, 12)


async def test_who_is_at_work_on_something_else_is_left_alone(autojump_clock: object) -> None:
    gate = Gate()
    world = a_world(hooks=gate)
    async with running(world), trio.open_nursery() as nursery:
        nursery.start_soon(world.system.ask, tally("busy"), Add(1))
        await gate.reached.wait()
        answers = {}

        async def ask() -> None:
            answers.update(await world.system.ask_each([Question(tally("busy"), Add(1)), Question(tally(2), Add(1))]))

        nursery.start_soon(ask)
        await wait_all_tasks_blocked()
        nursery.start_soon(world.system.ask, tally(2), Add(5))  # comes while the chunk holds it: waits its turn
        await wait_all_tasks_blocked()
        gate.opened.set()
        await trio.sleep(1)
        assert list(answers) == [tally(2)] and answers[tally(2)].state.total == 1
        assert (await world.system.read(tally(2))).state.total == 6
        assert (await world.system.read(tally("busy"))).state.total == 1


async def test_an_unknown_outcome_is_told_and_its_effects_follow_the_log(autojump_clock: object) -> None:
    hooks = Counting()
    world = a_world(hooks=hooks)
    async with running(world):
        hooks.after["tally-1"] = StoreTimeout("lost")
        hooks.before["tally-2"] = StoreUnavailable("away")
        answers = await world.system.ask_each(
            [Question(tally(1), Open([tally("new")])), Question(tally(2), Order(4)), Question(tally(3), Order(5))]
        )
        assert isinstance(answers[tally(1)], StoreTimeout) and isinstance(answers[tally(2)], StoreUnavailable)
        assert isinstance(answers[tally(3)], Answer)
        await world.system.until_known()
        assert world.ledger.standing == {tally("new"): {Deliver(7)}, tally(3): {Deliver(5)}}
        assert world.log.version("tally-2") == 0


async def test_what_was_begun_is_finished_when_the_asker_is_cancelled(autojump_clock: object) -> None:
    gate = Gate()
    world = a_world(hooks=gate)
    async with running(world):
        with trio.move_on_after(1):
            await world.system.ask_each([Question(tally(1), Order(1)), Question(tally(2), Order(2))])
        gate.opened.set()
        await trio.sleep(1)
        assert world.ledger.standing == {tally(1): {Deliver(1)}, tally(2): {Deliver(2)}}


async def test_a_stop_answers_the_asker(autojump_clock: object) -> None:
    world = a_world(hooks=Gate(), limits=Limits(drain_seconds=1))
    with pytest.RaisesGroup(SystemStopped, flatten_subgroups=True):
        async with trio.open_nursery() as outer, running(world):
            outer.start_soon(world.system.ask_each, [Question(tally(1), Add(1))])
            await wait_all_tasks_blocked()
    with pytest.raises(SystemStopped):
        await world.system.ask_each([Question(tally(1), Add(1))])


async def test_a_chunk_larger_than_the_warm_cells(autojump_clock: object) -> None:
    world = a_world(limits=Limits(warm_cells=3))
    async with running(world):
        answers = await world.system.ask_each([Question(tally(n), Open([tally(f"new {n}")])) for n in range(120)])
        assert len(answers) == 120 and len(world.ledger.standing) == 120
        assert world.system.statistics().cells <= 3
