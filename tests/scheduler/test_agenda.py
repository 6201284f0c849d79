"""The agenda: what is wanted comes out once, comes back when it is still wanted, and never costs more than it should."""

from __future__ import annotations

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from hetuflow.domain.decider import Choice
from hetuflow.domain.need import Need
from hetuflow.scheduler.agenda import Agenda
from tests.scheduler.builders import HERE, agent, an_agent, an_occupant, an_offer, at, due, schedule, task

FAR = at(10**6)


def an_agenda(*agents, tasks_max: int = 0) -> Agenda:
    agenda = Agenda(HERE, tasks_max=tasks_max)
    for each in agents:
        agenda.add(agent(each.agent_id), each)
        agenda.open_session(each.agent_id, each.session)
    return agenda


def placements(agenda: Agenda, now=FAR) -> list[tuple[str, str]]:
    return [(match.offer.task_id, match.agent.agent_id) for match in agenda.take_placements(now, 100)]


def test_due_schedules_come_out_once_earliest_first() -> None:
    agenda = an_agenda()
    agenda.add(schedule("late"), due(2))
    agenda.add(schedule("soon"), due(1))
    agenda.add(schedule("later"), due(30))
    assert agenda.next_due_at() == at(1)
    assert agenda.take_due(at(0.9), 10) == []
    assert agenda.take_due(at(2), 10) == ["soon", "late"]
    assert agenda.take_due(at(2), 10) == []
    assert agenda.next_due_at() == at(30)


def test_a_schedule_that_still_wants_its_moment_is_due_again_after_the_pause() -> None:
    agenda = an_agenda()
    agenda.add(schedule("s"), due(1))
    assert agenda.take_due(at(1), 10) == ["s"]
    agenda.settle_due("s", at(5))
    assert agenda.next_due_at() == at(5)


def test_a_moment_that_changed_while_in_hand_is_armed_when_settled() -> None:
    agenda = an_agenda()
    agenda.add(schedule("s"), due(1))
    agenda.take_due(at(1), 10)
    agenda.remove(schedule("s"), due(1))
    agenda.add(schedule("s"), due(61))
    assert agenda.next_due_at() is None
    agenda.settle_due("s")
    assert agenda.next_due_at() == at(61)


def test_withdrawing_an_older_moment_keeps_the_newer() -> None:
    agenda = an_agenda()
    agenda.add(schedule("s"), due(1))
    agenda.add(schedule("s"), due(7))
    agenda.remove(schedule("s"), due(1))
    assert agenda.next_due_at() == at(7)
    agenda.remove(schedule("s"), due(7))
    assert agenda.next_due_at() is None


def test_a_task_waits_for_its_time_and_then_for_a_slot() -> None:
    agenda = an_agenda(an_agent("a"))
    agenda.add(task("t"), an_offer("t", seconds=10))
    assert placements(agenda, at(9.999)) == []
    assert agenda.next_offer_at() == at(10)
    assert placements(agenda, at(10)) == [("t", "a")]
    assert placements(agenda, at(10)) == []


def test_only_agents_with_an_open_session_on_this_server_get_work() -> None:
    agenda = Agenda(HERE)
    agenda.add(task("t"), an_offer("t"))
    agenda.add(agent("elsewhere"), an_agent("elsewhere", server_id="server-2"))
    agenda.open_session("elsewhere", "s")
    agenda.add(agent("draining"), an_agent("draining", draining=True))
    agenda.open_session("draining", "s")
    agenda.add(agent("stale"), an_agent("stale", session="old"))
    agenda.open_session("stale", "new")
    agenda.add(agent("a"), an_agent("a"))
    assert placements(agenda) == []
    agenda.open_session("a", "s")
    assert placements(agenda) == [("t", "a")]


def test_closing_an_older_session_keeps_the_newer() -> None:
    agenda = an_agenda(an_agent("a", session="new"))
    agenda.close_session("a", "old")
    assert agenda.session_of("a") == "new"
    agenda.close_session("a", "new")
    assert agenda.status().slots_total == 0


def test_a_dispatched_task_moves_its_slot_from_held_to_occupied() -> None:
    agenda = an_agenda(an_agent("a", slots=2))
    agenda.add(task("t"), an_offer("t"))
    assert placements(agenda) == [("t", "a")]
    agenda.remove(task("t"), an_offer("t"))
    agenda.add(task("t"), an_occupant("a", "t-1"))
    agenda.settle_offer("t")
    agenda.release("a")
    assert (agenda.status().instances, agenda.status().reserved, agenda.status().slots_free) == (1, 0, 1)
    agenda.remove(task("t"), an_occupant("a", "t-1"))
    assert agenda.status().slots_free == 2


def test_a_failed_dispatch_gives_slot_and_task_back_after_the_pause() -> None:
    agenda = an_agenda(an_agent("a"))
    agenda.add(task("t"), an_offer("t"))
    assert placements(agenda) == [("t", "a")]
    agenda.settle_offer("t", at(100))
    agenda.release("a")
    assert placements(agenda, at(99)) == []
    assert placements(agenda, at(100)) == [("t", "a")]


def test_the_cluster_wide_limit_counts_occupied_and_held_slots() -> None:
    agenda = an_agenda(an_agent("a", slots=10), tasks_max=3)
    agenda.add(task("elsewhere"), an_occupant("another", "i"))
    for n in range(5):
        agenda.add(task(f"t{n}"), an_offer(f"t{n}"))
    assert placements(agenda) == [("t0", "a"), ("t1", "a")]
    assert agenda.reserve(Need("job"), FAR) is None
    agenda.release("a")
    assert placements(agenda) == [("t2", "a")]


def test_a_slot_is_not_reserved_over_the_head_of_a_waiting_task() -> None:
    agenda = an_agenda(an_agent("a", labels=(("gpu", "yes"),)), an_agent("b"))
    agenda.add(task("t"), an_offer("t", labels=(("gpu", "yes"),)))
    assert agenda.reserve(Need("job", (("gpu", "yes"),)), FAR) is None
    held = agenda.reserve(Need("job", (), "b"), FAR)
    assert held is not None and held[0].agent_id == "b"
    assert held[1] == Choice(fitting=1, used=0, slots=held[0].slots)
    assert placements(agenda) == [("t", "a")]


def test_releasing_a_slot_that_is_not_held_is_an_error() -> None:
    agenda = an_agenda(an_agent("a"))
    with pytest.raises(ValueError, match="no slot of agent a"):
        agenda.release("a")


def test_an_edit_of_a_waiting_task_moves_it() -> None:
    agenda = an_agenda(an_agent("a", slots=2))
    agenda.add(task("t1"), an_offer("t1"))
    agenda.add(task("t2"), an_offer("t2"))
    assert agenda.reserve(Need("job"), at(-1)) is not None  # nothing is ripe: one slot goes
    agenda.remove(task("t2"), an_offer("t2"))
    agenda.add(task("t2"), an_offer("t2", priority=5))
    assert placements(agenda) == [("t2", "a")]


def test_a_requeued_instance_keeps_its_newer_occupation() -> None:
    agenda = an_agenda(an_agent("a", slots=2))
    agenda.add(task("t"), an_occupant("a", "i", epoch=2))
    agenda.remove(task("t"), an_occupant("a", "i", epoch=1))
    assert [o.epoch for o in agenda.occupants("a").values()] == [2]


class AgendaAgainstModel(RuleBasedStateMachine):
    """Slots are never exceeded; nothing wanted is forgotten; whatever fits is placed."""

    def __init__(self) -> None:
        super().__init__()
        self.agenda = an_agenda(an_agent("a1", slots=2), an_agent("a2", slots=1, labels=(("gpu", "yes"),)))
        self.slots = {"a1": 2, "a2": 1}
        self.offers: dict[str, object] = {}
        self.in_hand: dict[str, str] = {}
        self.running: dict[str, str] = {}

    @rule(n=st.integers(0, 12), gpu=st.booleans(), priority=st.integers(0, 2))
    def offer(self, n, gpu, priority) -> None:
        task_id = f"t{n}"
        if task_id in self.in_hand or task_id in self.running:
            return
        if task_id in self.offers:
            self.agenda.remove(task(task_id), self.offers[task_id])
        offer = an_offer(task_id, priority=priority, labels=(("gpu", "yes"),) if gpu else ())
        self.offers[task_id] = offer
        self.agenda.add(task(task_id), offer)

    @rule()
    def take(self) -> None:
        for match in self.agenda.take_placements(FAR, 100):
            assert match.offer is self.offers[match.offer.task_id]
            self.in_hand[match.offer.task_id] = match.agent.agent_id
        waiting = [offer for task_id, offer in self.offers.items() if task_id not in self.in_hand]
        if waiting and self.used("a2") < 1:
            raise AssertionError("a2 fits everything, is free, and something waits")

    @rule(n=st.integers(0, 12), committed=st.booleans())
    def answer(self, n, committed) -> None:
        task_id = f"t{n}"
        agent_id = self.in_hand.pop(task_id, None)
        if agent_id is None:
            return
        if committed:
            self.agenda.remove(task(task_id), self.offers.pop(task_id))
            self.agenda.add(task(task_id), an_occupant(agent_id, task_id))
            self.running[task_id] = agent_id
        self.agenda.settle_offer(task_id)
        self.agenda.release(agent_id)

    @rule(n=st.integers(0, 12))
    def end(self, n) -> None:
        agent_id = self.running.pop(f"t{n}", None)
        if agent_id is not None:
            self.agenda.remove(task(f"t{n}"), an_occupant(agent_id, f"t{n}"))

    def used(self, agent_id: str) -> int:
        return sum(a == agent_id for a in self.in_hand.values()) + sum(a == agent_id for a in self.running.values())

    @invariant()
    def slots_are_never_exceeded(self) -> None:
        for agent_id, slots in self.slots.items():
            assert self.used(agent_id) <= slots
        status = self.agenda.status()
        assert status.slots_free == 3 - len(self.in_hand) - len(self.running)
        assert (status.reserved, status.instances) == (len(self.in_hand), len(self.running))
        assert status.tasks_waiting + status.tasks_later + len(self.in_hand) == len(self.offers)


AgendaAgainstModel.TestCase.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
TestAgendaAgainstModel = AgendaAgainstModel.TestCase
