"""Settlements in the background: each instance's, whatever is put while another one of it waits for its next try."""

from __future__ import annotations

from typing import Any

import trio

from eventstore.errors import StoreUnavailable
from hetuflow.domain.commands import RequeueInstance
from hetuflow.domain.decider import Occupy
from hetuflow.scheduler.settling import Settling
from tests.support.simulate import run


class Occupied:
    """An agenda that knows who holds a slot."""

    def __init__(self) -> None:
        self.held: set[Occupy] = set()

    def is_occupying(self, occupy: Occupy) -> bool:
        return occupy in self.held


class Flaky:
    """The first question fails; what is asked then frees the slot."""

    def __init__(self, agenda: Occupied) -> None:
        self._agenda, self.asked = agenda, 0

    async def ask(self, address: object, command: Any, context: object) -> None:
        await trio.sleep(0.001)
        self.asked += 1
        if self.asked == 1:
            raise StoreUnavailable
        self._agenda.held = {each for each in self._agenda.held if each.epoch != command.epoch}


def an_occupy(epoch: int) -> Occupy:
    return Occupy(agent_id="a", task_id="t", job_id="j", instance_id="i", epoch=epoch)


def test_a_newer_dispatch_is_put_while_the_older_waits_for_its_next_try() -> None:
    """Seed 27 of the simulation: the older one's next try found nothing, and took the scheduler down."""

    async def main() -> int:
        agenda = Occupied()
        system = Flaky(agenda)
        settling = Settling(system, agenda)  # type: ignore[arg-type]
        async with trio.open_nursery() as nursery:
            await nursery.start(settling.run)
            for epoch in (1, 2):
                occupy = an_occupy(epoch)
                agenda.held = {occupy}
                settling.put(occupy, RequeueInstance(instance_id="i", epoch=epoch, reason="test"))
                await trio.sleep(0.05)  # shorter than the pause before the next try
            await trio.sleep(60)
            nursery.cancel_scope.cancel()
        assert len(settling) == 0
        return system.asked

    assert run(1, main) == 2
