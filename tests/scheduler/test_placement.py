"""place(): best first, never more than the slots, least loaded agent; held against a model that looks at everything."""

from __future__ import annotations

from fractions import Fraction

from attrs import define
from hypothesis import given
from hypothesis import strategies as st

from hetuflow.domain.decider import Offer
from hetuflow.domain.lines import Labels, Requirement
from hetuflow.domain.placement import Slots, place
from hetuflow.domain.waiting import Waiting, rank
from tests.scheduler.builders import an_offer

LABELS = st.lists(st.sampled_from([("gpu", "yes"), ("zone", "a"), ("zone", "b")]), unique_by=lambda pair: pair[0]).map(
    lambda pairs: tuple(sorted(pairs))
)
AGENT_IDS = ["a1", "a2", "a3"]


@define
class ModelAgent:
    agent_id: str
    labels: Labels
    slots: int
    used: int

    @property
    def order(self) -> tuple[Fraction, str]:
        return (Fraction(self.used, self.slots), self.agent_id)


def model(offers: list[Offer], agents: dict[str, ModelAgent], most: int) -> list[tuple[str, str]]:
    placed = []
    for offer in sorted(offers, key=rank):
        fitting = [
            agent
            for agent in agents.values()
            if agent.used < agent.slots
            and set(offer.labels) <= set(agent.labels)
            and offer.agent_id in (None, agent.agent_id)
        ]
        if fitting and len(placed) < most:
            chosen = min(fitting, key=lambda agent: (agent.agent_id in offer.avoid, *agent.order))
            chosen.used += 1
            placed.append((offer.task_id, chosen.agent_id))
    return placed


OFFERS = st.builds(
    lambda n, priority, seconds, labels, pin, avoid: an_offer(
        f"t{n:02}", priority=priority, seconds=seconds, labels=labels, agent_id=pin, avoid=avoid
    ),
    st.integers(0, 30),
    st.integers(-1, 2),
    st.integers(0, 3),
    LABELS,
    st.sampled_from([None, None, None, *AGENT_IDS]),
    st.sampled_from([(), (), ("a1",), ("a2", "a3"), ("a9",)]),
)
STEPS = st.lists(
    st.one_of(
        OFFERS,
        st.tuples(st.just("discard"), st.integers(0, 30)),
        st.tuples(st.just("agent"), st.sampled_from(AGENT_IDS), LABELS, st.integers(1, 4), st.integers(0, 3)),
        st.tuples(st.just("remove"), st.sampled_from(AGENT_IDS)),
        st.tuples(st.just("place"), st.integers(0, 5)),
    ),
    max_size=60,
)


@given(STEPS)
def test_placing_equals_a_model_that_looks_at_everything(steps) -> None:
    waiting, slots = Waiting(), Slots()
    offers: dict[str, Offer] = {}
    agents: dict[str, ModelAgent] = {}
    for step in [*steps, ("place", 100)]:
        match step:
            case Offer():
                waiting.push(step)
                offers[step.task_id] = step
            case ("discard", n):
                waiting.discard(f"t{n:02}")
                offers.pop(f"t{n:02}", None)
            case ("agent", agent_id, labels, count, used):
                slots.put(agent_id, labels, count, used)
                agents[agent_id] = ModelAgent(agent_id, labels, count, used)
            case ("remove", agent_id):
                slots.remove(agent_id)
                agents.pop(agent_id, None)
            case ("place", most):
                expected = model(list(offers.values()), agents, most)
                placed = place(waiting, slots, most)
                assert [(offer.task_id, agent_id) for offer, agent_id in placed] == expected
                for offer, _ in placed:
                    del offers[offer.task_id]
        assert len(waiting) == len(offers)
        assert slots.free == sum(max(0, agent.slots - agent.used) for agent in agents.values())


def test_slots_are_never_exceeded_and_the_best_go_first() -> None:
    waiting, slots = Waiting(), Slots()
    slots.put("a", (), 2, 1)
    slots.put("b", (), 2, 0)
    for n in range(5):
        waiting.push(an_offer(f"t{n}", priority=n % 2, seconds=-n))
    assert [(o.task_id, a) for o, a in place(waiting, slots, 100)] == [("t3", "b"), ("t1", "a"), ("t4", "b")]
    assert (slots.free, len(waiting)) == (0, 2)


def test_a_class_that_no_free_agent_fits_does_not_hold_up_the_others() -> None:
    waiting, slots = Waiting(), Slots()
    slots.put("a", (("zone", "a"),), 1, 0)
    for n in range(1000):
        waiting.push(an_offer(f"gpu{n}", priority=9, labels=(("gpu", "yes"),)))
    waiting.push(an_offer("plain"))
    assert [(o.task_id, a) for o, a in place(waiting, slots, 10)] == [("plain", "a")]


def test_an_agent_to_be_avoided_is_taken_when_no_other_has_a_free_slot() -> None:
    waiting, slots = Waiting(), Slots()
    slots.put("a", (), 4, 0)
    slots.put("b", (), 2, 1)
    for n in range(3):
        waiting.push(an_offer(f"t{n}", seconds=n, avoid=("a",)))
    assert [(o.task_id, a) for o, a in place(waiting, slots, 10)] == [("t0", "b"), ("t1", "a"), ("t2", "a")]
    assert slots.choice("a", Requirement((), None, ("a",))).avoided == ("a",)


def test_dead_heap_entries_stay_bounded() -> None:
    waiting, slots = Waiting(), Slots()
    waiting.push(an_offer("keeper", priority=9))
    for n in range(10_000):
        waiting.push(an_offer("edited", seconds=n))
        slots.put("a", (), 100, n % 100)
    requirement = Requirement((), None)
    line = waiting._lines[requirement]
    assert len(line._heap) < 200 and len(line.first()._heap) < 200
    assert len(slots._groups[()].heap) < 200
    assert (waiting.first(requirement)[1].task_id, len(waiting)) == ("keeper", 2)
    assert slots.least_loaded(requirement) == "a"
