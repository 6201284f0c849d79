"""Limits in the placement: never exceeded, no slot idle for a task that could have it, in order; against a model that
looks at everything. And what a change costs."""

from __future__ import annotations

from fractions import Fraction

from attrs import define
from hypothesis import given, settings
from hypothesis import strategies as st

from hetuflow.domain.decider import Bound, Offer, Rate
from hetuflow.domain.gates import Gates
from hetuflow.domain.lines import Labels
from hetuflow.domain.placement import Slots, place
from hetuflow.domain.starts import Starts
from hetuflow.domain.waiting import Waiting, rank
from tests.scheduler.builders import an_offer, at

AGENT_IDS = ["a1", "a2", "a3"]
LABELS = st.sampled_from([(), (), (("gpu", "yes"),), (("zone", "a"),)])
BOUNDS = st.lists(
    st.builds(Bound, st.just("key"), st.sampled_from(["k1", "k2", "k3"]), st.integers(1, 3)),
    unique_by=lambda bound: bound.name,
    max_size=3,
).map(lambda bounds: tuple(sorted(bounds, key=lambda bound: bound.name)))
NAMESPACES = {"small": 1, "*": 3}


@define
class ModelAgent:
    agent_id: str
    labels: Labels
    slots: int
    used: int = 0

    @property
    def order(self) -> tuple[Fraction, str]:
        return (Fraction(self.used, self.slots), self.agent_id)


class Model:
    """Every offer is looked at, every limit counted anew."""

    def __init__(self) -> None:
        self.gates = Gates(NAMESPACES)
        self.offers: dict[str, Offer] = {}
        self.running: dict[str, tuple[Offer, str]] = {}
        self.agents: dict[str, ModelAgent] = {}
        self.starts: list[float] = []

    def bounds(self, offer: Offer) -> tuple[Bound, ...]:
        return self.gates.bounds(offer.bounds, offer.namespace_id)

    def most(self, bound: Bound) -> int:
        everybody = [*self.offers.values(), *(offer for offer, _ in self.running.values())]
        named = [
            b.most for offer in everybody for b in self.bounds(offer) if (b.kind, b.name) == (bound.kind, bound.name)
        ]
        return min([bound.most, *named])

    def used(self, bound: Bound) -> int:
        return sum(
            (b.kind, b.name) == (bound.kind, bound.name)
            for offer, _ in self.running.values()
            for b in self.bounds(offer)
        )

    def admits(self, offer: Offer, now: float) -> bool:
        if any(self.used(bound) >= self.most(bound) for bound in self.bounds(offer)):
            return False
        if offer.rate is None:
            return True
        recent = [start for start in self.starts if start > now - offer.rate.per_seconds]
        return len(recent) < offer.rate.count

    def place(self, most: int, now: float) -> list[tuple[str, str]]:
        placed = []
        for offer in sorted(self.offers.values(), key=rank):
            fitting = [
                agent
                for agent in self.agents.values()
                if agent.used < agent.slots
                and set(offer.labels) <= set(agent.labels)
                and offer.agent_id in (None, agent.agent_id)
            ]
            if len(placed) < most and fitting and self.admits(offer, now):
                chosen = min(fitting, key=lambda agent: agent.order)
                chosen.used += 1
                placed.append((offer.task_id, chosen.agent_id))
                del self.offers[offer.task_id]
                self.running[offer.task_id] = offer, chosen.agent_id
                if offer.rate is not None:
                    self.starts.append(now)
        return placed


OFFERS = st.builds(
    lambda n, priority, seconds, labels, pin, bounds, namespace, rate: an_offer(
        f"t{n:02}",
        priority=priority,
        seconds=seconds,
        labels=labels,
        agent_id=pin,
        bounds=bounds,
        namespace_id=namespace,
        rate=rate,
    ),
    st.integers(0, 30),
    st.integers(-1, 2),
    st.integers(0, 3),
    LABELS,
    st.sampled_from([None, None, None, *AGENT_IDS]),
    BOUNDS,
    st.sampled_from(["small", "wide", "other"]),
    st.sampled_from([None, None, Rate(1, 5), Rate(2, 8)]),
)
STEPS = st.lists(
    st.one_of(
        OFFERS,
        OFFERS,
        st.tuples(st.just("discard"), st.integers(0, 30)),
        st.tuples(st.just("end"), st.integers(0, 30)),
        st.tuples(st.just("agent"), st.sampled_from(AGENT_IDS), LABELS, st.integers(1, 6)),
        st.tuples(st.just("remove"), st.sampled_from(AGENT_IDS)),
        st.tuples(st.just("place"), st.integers(0, 5)),
        st.tuples(st.just("sleep"), st.integers(1, 6)),
    ),
    max_size=80,
)


@given(STEPS)
@settings(max_examples=400, deadline=None)
def test_placing_under_limits_equals_a_model_that_looks_at_everything(steps) -> None:
    gates = Gates(NAMESPACES)
    waiting, slots, model, now = Waiting(gates, Starts()), Slots(), Model(), 10.0
    waiting.starts.known("job", [])
    for step in [*steps, ("place", 100)]:
        match step:
            case Offer():
                if step.task_id not in model.running:
                    waiting.push(step)
                    model.offers[step.task_id] = step
            case ("discard", n):
                waiting.discard(f"t{n:02}")
                model.offers.pop(f"t{n:02}", None)
            case ("end", n):
                ended = model.running.pop(f"t{n:02}", None)
                if ended is not None:
                    gates.release(model.bounds(ended[0]))
                    if (agent := model.agents.get(ended[1])) is not None:
                        agent.used -= 1
                        slots.put(agent.agent_id, agent.labels, agent.slots, agent.used)
            case ("agent", agent_id, labels, count):
                used = sum(each == agent_id for _, each in model.running.values())
                model.agents[agent_id] = ModelAgent(agent_id, labels, count, used)
                slots.put(agent_id, labels, count, used)
            case ("remove", agent_id):
                slots.remove(agent_id)
                model.agents.pop(agent_id, None)
            case ("sleep", seconds):
                now += seconds
            case ("place", most):
                waiting.ripen(at(now))
                expected = model.place(most, now)
                placed = place(waiting, slots, most)
                assert [(offer.task_id, agent_id) for offer, agent_id in placed] == expected
                for offer, _ in placed:
                    if offer.rate is not None:
                        waiting.starts.settled("job", at(now))
                        waiting.starts_changed("job")
        assert len(waiting) == len(model.offers)
    for task_id in list(model.offers):
        waiting.discard(task_id)
    for offer, _ in model.running.values():
        gates.release(model.bounds(offer))
    assert len(gates) == 0 and not waiting._groups, "nothing is remembered of what is over"


def test_a_hundred_thousand_tasks_of_a_job_at_its_limit_cost_nothing() -> None:
    gates = Gates()
    waiting, slots = Waiting(gates), Slots()
    slots.put("a", (), 1000, 0)
    limit = (Bound("job", "blocked", 1),)
    for n in range(100_000):
        waiting.push(an_offer(f"blocked{n:06}", bounds=limit, priority=9))
    assert [offer.task_id for offer, _ in place(waiting, slots, 500)] == ["blocked000000"]
    before = waiting.steps
    for n in range(1000):
        waiting.push(an_offer(f"free{n}"))
        assert [offer.task_id for offer, _ in place(waiting, slots, 500)] == [f"free{n}"]
        slots.put("a", (), 1000, 1)
    assert waiting.steps - before <= 3000, "one look per placement or so, however many are held back"
    before = waiting.steps
    for n in range(1, 1001):
        gates.release(limit)
        assert [offer.task_id for offer, _ in place(waiting, slots, 500)] == [f"blocked{n:06}"]
        slots.put("a", (), 1000, 1)
    assert waiting.steps - before <= 4000, "the limit frees one place: one task is looked at, not all"


def test_ten_thousand_jobs_before_one_key_are_not_all_looked_at_when_it_frees() -> None:
    gates = Gates()
    waiting, slots = Waiting(gates), Slots()
    slots.put("a", (), 10, 0)
    key = Bound("key", "db", 1)
    for n in range(10_000):
        waiting.push(an_offer(f"t{n:05}", job_id=f"job{n}", bounds=(Bound("job", f"job{n}", 1), key)))
    assert [offer.task_id for offer, _ in place(waiting, slots, 500)] == ["t00000"]
    before = waiting.steps
    for n in range(1, 500):
        gates.release((Bound("job", f"job{n - 1}", 1), key))
        assert [offer.task_id for offer, _ in place(waiting, slots, 500)] == [f"t{n:05}"]
        slots.put("a", (), 10, 0)
    assert waiting.steps - before <= 5 * 500


def test_of_different_numbers_for_one_key_the_smallest_holds_while_it_waits_or_runs() -> None:
    gates = Gates()
    waiting, slots = Waiting(gates), Slots()
    slots.put("a", (), 10, 0)
    wide, mutex = (Bound("key", "db", 3),), (Bound("key", "db", 1),)
    for n in range(6):
        waiting.push(an_offer(f"wide{n}", seconds=n, bounds=wide))
    assert len(place(waiting, slots, 10)) == 3
    waiting.push(an_offer("mutex", seconds=3.5, bounds=mutex))
    gates.release(wide)
    gates.release(wide)
    assert place(waiting, slots, 10) == [], "one still runs, and one waits that wants to be alone"
    gates.release(wide)
    served = []
    for bounds in (wide, mutex, wide):
        served.append([offer.task_id for offer, _ in place(waiting, slots, 10)])
        gates.release(bounds)
    assert served == [["wide3"], ["mutex"], ["wide4", "wide5"]], "in order, alone while the mutex waits or runs"


@given(st.lists(st.tuples(st.integers(0, 9), st.integers(-3, 3)), min_size=1, max_size=30), st.integers(1, 400))
def test_ageing_is_worth_what_it_says(tasks, ageing) -> None:
    offers = [an_offer(f"t{n:02}", seconds=100 * seconds, priority=p) for n, (seconds, p) in enumerate(tasks)]
    for a in offers:
        for b in offers:
            worth = (b.not_before_at - a.not_before_at).total_seconds() + ageing * (a.priority - b.priority)
            if worth > 0:
                assert rank(a, ageing) < rank(b, ageing)
            elif worth == 0 and a is not b:
                order = (a.not_before_at, a.task_id) < (b.not_before_at, b.task_id)
                assert (rank(a, ageing) < rank(b, ageing)) == order


def test_a_task_does_not_wait_before_it_was_made() -> None:
    old, new = an_offer("old", seconds=-100_000, made=50), an_offer("new", seconds=0, priority=1, made=0)
    assert rank(new, 300) < rank(old, 300)
    assert rank(new) < rank(old)


KEYS = ("k1", "k2", "k3")


@given(st.integers(1, 3), st.booleans(), st.integers(0, 3), st.integers(-3, 3), st.randoms(use_true_random=False))
@settings(max_examples=60, deadline=None)
def test_nothing_starves(keys, with_rare_agent, more_seconds, priority, random) -> None:
    """One task needs several limits, perhaps on an agent of one slot; without end come tasks that need one of these, and
    they are never free in the same moment."""
    ageing = 10
    gates, slots = Gates(), Slots()
    waiting = Waiting(gates, Starts(), ageing)
    waiting.is_usable = slots.fits_any
    gpu = (("gpu", "yes"),)
    agents = {"rare": (gpu, 1), "many": ((), 10)}
    used = dict.fromkeys(agents, 0)
    for agent_id, (labels, count) in agents.items():
        slots.put(agent_id, labels, count, 0)
    things = [*KEYS[:keys], *(["gpu"] if with_rare_agent else [])]
    lasts = len(things) + more_seconds
    needy = tuple(Bound("key", name, 1) for name in KEYS[:keys])
    running: list[tuple[int, Offer, str]] = []
    for now in range(600):
        waiting.ripen(at(now))
        if now == 2 * lasts:
            waiting.push(
                an_offer("needy", seconds=now, bounds=needy, labels=gpu if with_rare_agent else (), priority=priority)
            )
        for n, thing in enumerate(things):
            if now >= n:  # one after the other, so that they end one after the other
                bounds = () if thing == "gpu" else (Bound("key", thing, 1),)
                other = 3 if random.random() < 0.9 else -3
                waiting.push(
                    an_offer(
                        f"{now}-{n}", seconds=now, bounds=bounds, labels=gpu if thing == "gpu" else (), priority=other
                    )
                )
        for end, offer, agent_id in [each for each in running if each[0] <= now]:
            running.remove((end, offer, agent_id))
            gates.release(offer.bounds)
            used[agent_id] -= 1
            slots.put(agent_id, *agents[agent_id], used[agent_id])
        for offer, agent_id in place(waiting, slots, 100):
            if offer.task_id == "needy":
                return
            used[agent_id] += 1
            running.append((now + lasts, offer, agent_id))
    raise AssertionError("overtaken for ever")


def test_no_place_is_kept_for_a_task_that_no_agent_is_there_for() -> None:
    gates, slots = Gates(), Slots()
    waiting = Waiting(gates, Starts(), 10)
    waiting.is_usable = slots.fits_any
    slots.put("gpu", (("gpu", "yes"),), 1, 0)
    slots.put("a", (), 5, 0)
    k1, k2 = Bound("key", "k1", 1), Bound("key", "k2", 1)
    gates.hold((k2,))
    waiting.push(an_offer("both", bounds=(k1, k2), labels=(("gpu", "yes"),)))
    waiting.ripen(at(60))
    assert place(waiting, slots, 10) == []
    waiting.push(an_offer("one", seconds=50, bounds=(k1,)))
    assert place(waiting, slots, 10) == [], "kept for the one that has waited long"
    slots.remove("gpu")
    waiting.agents_changed()
    assert [offer.task_id for offer, _ in place(waiting, slots, 10)] == ["one"]
