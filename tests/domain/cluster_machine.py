"""Several deciders at once, drawn: fires, dispatches under guards, reports lost and doubled, and operators all the while.

Whatever the order, the judge of `small_cluster.py` holds T2, T3, T4, T6, F1, F2, F3 and that nothing out of date gets in;
and when everything heals, all work ends.
"""

from __future__ import annotations

from random import Random
from typing import Any

from attrs import evolve
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from hetuflow.domain.commands import (
    CancelFlow,
    CancelTask,
    ConnectAgent,
    CreateJob,
    CreateTask,
    CreateTasks,
    DeleteJob,
    DeleteTask,
    DisableJob,
    DisableSchedule,
    DisconnectAgent,
    DispatchTask,
    DrainAgent,
    EnableJob,
    EnableSchedule,
    FinishFlow,
    FireSchedule,
    LeftBehind,
    LoseAgent,
    LoseInstance,
    RemoveAgent,
    Report,
    RequeueInstance,
    RetryFlow,
    RetryTask,
    SealJob,
    SettleDependencies,
    TakeLease,
    UndrainAgent,
    UpdateInstance,
    UpdateJob,
    UpdateSchedule,
)
from hetuflow.domain.decider import Address, Await, Due, Guard, Occupy, Offer, Tend
from hetuflow.domain.deciders import DECIDERS
from hetuflow.domain.enums import InstanceStatus
from hetuflow.domain.events import TaskDispatched
from hetuflow.domain.flow import to_run_again
from hetuflow.domain.flow_graph import graph_of
from hetuflow.domain.flow_plan import FlowWishes, started
from hetuflow.domain.job import snapshot
from hetuflow.domain.rejection import Rejected
from hetuflow.scheduler.flows import task_end
from tests.domain.small_cluster import INTERVAL, SLOTS, InFlight, SmallCluster
from tests.domain.small_judge import MAX_RETRIES, Key
from tests.support.schedules import a_minutely

SERVERS = ["server-1", "server-2"]
AGENTS = ["agent-1", "agent-2"]
JOBS = ["job-1", "job-2"]
LEASE = Address("lease", "0")
REASONS = st.sampled_from([None, None, "exit_code"])
EDITS: list[dict[str, Any]] = [
    *({"interval_secs": seconds} for seconds in (20, 30, 45)),
    *({"misfire_policy": policy} for policy in ("skip", "fire_once", "fire_all")),
    {"priority": 3},
]
ROUNDS_MAX = 400

ACTS = """
arrive 14, dispatch 8, order 6, end 6, report 6, run 4, fire 4, time 3, tell 4, batch 1, task 5, drive 1.5, stop 2,
job 0.8, flow 0.7, tend 2, change flow 1,
drain 0.4, connect 4, lost 0.5, lease 0.5, seal 0.4, delete job 0.03, switch 2, edit 1, remove 0.5
"""
WEIGHTS = {name: float(often) for name, often in (each.strip().rsplit(maxsplit=1) for each in ACTS.split(","))}
"""What is done, and how often in proportion."""

servers, agents, jobs, numbers = (
    st.sampled_from(SERVERS),
    st.sampled_from(AGENTS),
    st.sampled_from(JOBS),
    st.integers(0),
)


class ClusterMachine(RuleBasedStateMachine):
    @initialize(policy=st.sampled_from(["skip", "fire_once", "fire_all"]))
    def begin(self, policy: str) -> None:
        self.c = SmallCluster()
        self.seals: dict[str, Any] = {}
        for job_id in JOBS:
            schedule = a_minutely(
                schedule_id=f"schedule-of-{job_id}", job_id=job_id, interval_secs=30, misfire_policy=policy
            )
            config = {"cmd": "x", "max_retries": MAX_RETRIES if job_id == JOBS[0] else 0, "retry_interval": 5}
            self.now(Address("job", job_id), CreateJob(job_id=job_id, name=job_id, config=config, schedule=schedule))
        for server in SERVERS:
            self.take_the_lease(server)
        for agent in AGENTS:
            self.connect(agent, SERVERS[0])

    # --- asking ------------------------------------------------------------------------------------------------------

    def now(self, address: Address, command: Any) -> bool:
        """Decided and committed at once; False when it is refused."""
        try:
            return self.c.commit(self.c.decide(address, command))
        except Rejected:
            return False

    def later(self, address: Address, command: Any, server: str | None = None, agents: tuple[str, ...] = ()) -> None:
        """Decided now, committed when `arrive` says so."""
        try:
            flight = self.c.decide(address, command, server, agents)
        except Rejected:
            return
        if flight.decision:
            self.c.in_flight.append(flight)

    def job(self, job_id: str) -> Any:
        address = Address("job", job_id)
        return snapshot(self.c.state(address), len(self.c.streams[address]))

    def task(self, number: int) -> str | None:
        tasks = list(self.c.of("task"))
        return tasks[number % len(tasks)] if tasks else None

    # --- servers -----------------------------------------------------------------------------------------------------

    @rule(seconds=st.sampled_from([1, 5, 29, 30, 100]))
    def time_passes(self, seconds: int) -> None:
        self.c.now += INTERVAL * seconds / 30

    @rule(server=servers)
    def take_the_lease(self, server: str) -> None:
        assert self.now(LEASE, TakeLease(slot=0, server_id=server))
        self.c.lease[server] = Guard("lease-0", len(self.c.streams[LEASE]))

    @rule(server=servers)
    def kill_a_server(self, server: str) -> None:
        """What it has on its way may arrive all the same; what it kept for it is forgotten."""
        for flight in self.c.in_flight:
            if flight.server == server:
                flight.agents = ()
        self.take_the_lease(server)

    @rule(server=servers, job_id=jobs, with_slot=st.booleans())
    def fire(self, server: str, job_id: str, with_slot: bool) -> None:
        slot = self.c.slot(server) if with_slot else None
        command = FireSchedule(job=self.job(job_id), placements=[slot] if slot else [], guards=(self.c.lease[server],))
        address = Address("schedule", f"schedule-of-{job_id}")
        self.later(address, command, server, (slot.agent_id,) if slot else ())

    @rule(server=servers, number=numbers)
    def dispatch(self, server: str, number: int) -> None:
        offers = [offer for offer in self.c.wanted(Offer) if offer.not_before_at <= self.c.now]
        slot = self.c.slot(server)
        if offers and slot is not None:
            offer = offers[number % len(offers)]
            command = DispatchTask(instance_id=offer.instance_id, placement=slot)
            self.later(Address("task", offer.task_id), command, server, (slot.agent_id,))

    @rule(number=numbers)
    def tell_what_has_ended(self, number: int) -> None:
        waits = self.c.wanted(Await)
        if waits:
            wish = waits[number % len(waits)]
            found = {each: self.c.state(Address("task", each)) for each in wish.task_ids}
            settled = {each: int(state.status) for each, state in found.items() if state.is_terminal}
            self.later(Address("task", wish.task_id), SettleDependencies(settled=settled))

    # --- flows -------------------------------------------------------------------------------------------------------

    @rule(on=st.sampled_from(["succeeded", "failed", "finished"]))
    def run_a_flow(self, on: str) -> None:
        """The second job follows the first."""
        jobs = {job_id: self.job(job_id) for job_id in JOBS}
        upstream = {"jobs": [{"job_id": JOBS[0], "on": on}], "match": "all"}
        jobs[JOBS[1]] = evolve(jobs[JOBS[1]], upstream=upstream)
        run = self.c.new_id()
        self.later(Address("flow", run), started(run, graph_of(JOBS[:1], jobs), FlowWishes()))

    @rule(number=numbers)
    def tend_a_flow(self, number: int) -> None:
        """What a server does that follows the run: each wish is asked once, its end is decided now and committed later."""
        wishes = self.c.wanted(Tend)
        if not wishes:
            return
        wish = wishes[number % len(wishes)]
        for reopening in wish.reopens:
            waits_for = () if reopening.is_whole else self._still_open(reopening.task_id)
            command = RetryTask(attempt=reopening.attempt, is_whole=reopening.is_whole, waits_for=waits_for)
            self.now(Address("task", reopening.task_id), command)
        if wish.is_cancelled:
            for task_id in reversed(wish.task_ids):
                self.now(Address("task", task_id), CancelTask(cause="flow"))
        tasks = {each: Address("task", each) for each in wish.task_ids}
        ends = {each: task_end(self.c.state(task)) for each, task in tasks.items() if self.c.state(task).is_terminal}
        at = Address("flow", wish.flow_run_id)
        if len(ends) == len(tasks) and not any(flight.address == at for flight in self.c.in_flight):
            guards = [Guard(task.stream_id, len(self.c.streams[task])) for task in tasks.values()]
            self.later(at, FinishFlow(ends=ends, guards=guards))

    @rule(number=numbers, what=st.sampled_from(["cancel", "retry", "one"]))
    def change_a_flow(self, number: int, what: str) -> None:
        """Cancelled, or run again, all of it or one task."""
        runs = list(self.c.of("flow").items())
        if not runs:
            return
        run, state = runs[number % len(runs)]
        if what == "cancel":
            self.later(Address("flow", run), CancelFlow())
            return
        states = {each: self.c.state(Address("task", each)) for each in state.task_ids}
        ends = {each: task_end(found) for each, found in states.items() if found.is_terminal}
        only = (state.task_ids[number % len(state.task_ids)],) if what == "one" else None
        tasks = to_run_again(state.spec.graph, ends, only)
        self.later(
            Address("flow", run), RetryFlow(tasks=tasks, forced=tuple(each for each in only or () if each in tasks))
        )

    def _still_open(self, task_id: str) -> tuple[str, ...]:
        spec = self.c.state(Address("task", task_id)).spec
        others = (spec.dependencies or {}).get("task_ids", ())
        return tuple(each for each in others if not self.c.state(Address("task", each)).is_terminal)

    @precondition(lambda self: self.c.in_flight)
    @rule(number=numbers, is_answer_lost=st.booleans())
    def arrive(self, number: int, is_answer_lost: bool) -> None:
        flight = self.c.in_flight.pop(number % len(self.c.in_flight))
        is_done = self.c.commit(flight)
        if is_answer_lost:
            self._again(flight, is_done)

    def _again(self, flight: InFlight, is_done: bool) -> None:
        """Who does not know whether it is done asks once more: the same, but for slots, which a fire reserves anew."""
        tasks = len(self.c.of("task"))
        dispatches = len(self.c.judge.dispatched)
        is_fire = type(flight.command) is FireSchedule
        self.now(flight.address, evolve(flight.command, placements=()) if is_fire else flight.command)
        if is_done and type(flight.command) in (CreateTask, CreateTasks):
            assert len(self.c.of("task")) == tasks, "made twice"
        if is_done and type(flight.decision.events[-1]) is TaskDispatched:
            assert len(self.c.judge.dispatched) == dispatches, "dispatched twice"

    # --- agents ------------------------------------------------------------------------------------------------------

    @rule(agent=agents, server=servers, at_once=st.booleans())
    def connect(self, agent: str, server: str, at_once: bool = True) -> None:
        """A new session; what was dispatched to it and never came is taken back."""
        machine = self.c.agents[agent]
        machine.session = f"s{len(self.c.streams[Address('agent', agent)])}"
        machine.sent.clear()
        hello = ConnectAgent(
            agent_id=agent,
            server_id=server,
            session=machine.session,
            address="10.0.0.1:5",
            name=agent,
            incarnation=1,
            labels={},
            metadata={},
            max_concurrent_tasks=SLOTS,
            version="0.1",
            host="box",
            lease_seconds=20.0,
            takeover=True,
        )
        self._greet(agent, hello, at_once)
        for occupy in self.c.held()[agent]:
            if (occupy.instance_id, occupy.epoch) not in machine.known:
                command = RequeueInstance(instance_id=occupy.instance_id, epoch=occupy.epoch, reason="unknown")
                self.now(Address("task", occupy.task_id), command)

    def _greet(self, agent: str, hello: ConnectAgent, at_once: bool) -> None:
        """One that was removed is counted from what it has left; what is declared lost meanwhile is not left any more."""
        address = Address("agent", agent)
        while True:
            left = self._left(agent) if self.c.state(address).was_removed else None
            flight = self.c.decide(address, evolve(hello, left=left))
            for occupy in () if at_once else self.c.held()[agent][:1]:
                self.c.agents[agent].known.add((occupy.instance_id, occupy.epoch))
                lost = LoseInstance(instance_id=occupy.instance_id, epoch=occupy.epoch, message="silence")
                self._end_what_is_lost(agent, (occupy.instance_id, occupy.epoch))
                self.now(Address("task", occupy.task_id), lost)
            at_once = True
            if self.c.commit(flight):
                return

    def _left(self, agent: str) -> LeftBehind:
        tasks = [Address("task", occupy.task_id) for occupy in self.c.held()[agent]]
        guards = tuple(Guard(task.stream_id, len(self.c.streams[task])) for task in tasks)
        started = sum(self.c.state(task).instance.status is InstanceStatus.RUNNING for task in tasks)
        return LeftBehind(running=len(tasks), started=started, guards=guards)

    @rule(agent=agents, has_looked=st.booleans())
    def remove_an_agent(self, agent: str, has_looked: bool) -> None:
        """Asked for while it holds nothing; after the look, and until it is committed, it may get something."""
        if not has_looked or not self.c.held()[agent]:
            self.later(Address("agent", agent), RemoveAgent())

    @rule(agent=agents)
    def disconnect(self, agent: str) -> None:
        machine = self.c.agents[agent]
        if machine.session is not None:
            self.now(Address("agent", agent), DisconnectAgent(session=machine.session, reason="closed"))
            machine.session = None

    @rule(agent=agents)
    def lease_runs_out(self, agent: str) -> None:
        """The agent has ended its work by itself before; then it is declared lost with all that it held."""
        machine, state = self.c.agents[agent], self.c.state(Address("agent", agent))
        for key in list(machine.running):
            self._end_what_is_lost(agent, key)
        machine.session = None
        if state.exists:
            self.now(Address("agent", agent), LoseAgent(session=state.session))
        for occupy in self.c.held()[agent]:
            machine.known.add((occupy.instance_id, occupy.epoch))  # an order older than the lease is not started
            command = LoseInstance(instance_id=occupy.instance_id, epoch=occupy.epoch, message="silence")
            self.now(Address("task", occupy.task_id), command)

    def _end_what_is_lost(self, agent: str, key: Key) -> None:
        """By the agent, which ends its work before the lease does."""
        machine = self.c.agents[agent]
        if key in machine.running:
            machine.ends(key, machine.running[key].order.task_id, "lost", self.c.now)

    @rule(number=numbers, is_twice=st.booleans())
    def deliver_an_order(self, number: int, is_twice: bool) -> None:
        orders = self.c.orders()
        if orders:
            send = orders[number % len(orders)]
            for _ in range(1 + is_twice):
                self.c.agents[send.agent_id].receives(send, self.c)

    @rule(agent=agents, number=numbers)
    def an_old_order_comes_again(self, agent: str, number: int) -> None:
        machine = self.c.agents[agent]
        if machine.sent and machine.session is not None:
            machine.receives(machine.sent[number % len(machine.sent)], self.c)

    @rule(agent=agents, number=numbers, reason=REASONS)
    def a_process_ends(self, agent: str, number: int, reason: str | None) -> None:
        running = list(self.c.agents[agent].running.items())
        if running:
            key, send = running[number % len(running)]
            self.c.agents[agent].ends(key, send.order.task_id, reason, self.c.now)

    @rule(agent=agents, is_answer_lost=st.booleans(), is_out_of_turn=st.booleans())
    def report(self, agent: str, is_answer_lost: bool, is_out_of_turn: bool) -> None:
        machine = self.c.agents[agent]
        if machine.session is None or not machine.journal:
            return
        at = len(machine.journal) - 1 if is_out_of_turn else 0
        task_id, said = machine.journal[at]
        self.now(Address("task", task_id), Report(reports=(said,)))
        if not is_answer_lost:
            del machine.journal[at]

    @rule(number=numbers)
    def stop(self, number: int) -> None:
        stops = self.c.stops()
        if stops:
            wish = stops[number % len(stops)]
            machine, key = self.c.agents[wish.agent_id], (wish.instance_id, wish.epoch)
            if key in machine.running or key not in machine.known:
                machine.known.add(key)
                machine.ends(key, wish.task_id, "cancelled", self.c.now)

    # --- operators ---------------------------------------------------------------------------------------------------

    @rule(
        server=servers,
        job_id=jobs,
        with_slot=st.booleans(),
        other=numbers,
        how=st.sampled_from([None, "cancel", "run"]),
    )
    def run(self, server: str, job_id: str, with_slot: bool, other: int, how: str | None) -> None:
        slot = self.c.slot(server) if with_slot else None
        before = self.task(other) if how else None
        command = CreateTask(
            task_id=self.c.new_id(),
            job=self.job(job_id),
            trigger="run",
            placement=slot,
            dependencies={"task_ids": [before], "on_failure": how} if before else None,
        )
        self.later(Address("task", command.task_id), command, server, (slot.agent_id,) if slot else ())

    @rule(how=st.sampled_from(["cancel", "run"]))
    def run_a_batch(self, how: str) -> None:
        ids = [self.c.new_id() for _ in range(3)]
        waits = [[], ids[:1], ids[:2]]
        tasks = [
            CreateTask(
                task_id=each,
                job=self.job(JOBS[number % 2]),
                trigger="api",
                dependencies={"task_ids": waits[number], "on_failure": how} if number else None,
            )
            for number, each in enumerate(ids)
        ]
        self.later(Address("task", ids[0]), CreateTasks(tasks=tasks))

    @rule(number=numbers, what=st.sampled_from(["cancel", "retry", "delete", "delete"]))
    def change_a_task(self, number: int, what: str) -> None:
        task_id = self.task(number)
        if task_id is None:
            return
        if what == "retry" and self.c.state(Address("task", task_id)).spec.flow_run_id is not None:
            return  # that is its run's
        still = self._still_open(task_id)
        commands = {"cancel": CancelTask(), "retry": RetryTask(waits_for=still), "delete": DeleteTask(cascade=True)}
        self.later(Address("task", task_id), commands[what])

    @rule(number=numbers, status=st.sampled_from([5, 10, 30, 90, 100]))
    def drive(self, number: int, status: int) -> None:
        task_id = self.task(number)
        if task_id is not None:
            instance_id = self.c.state(Address("task", task_id)).instance.instance_id
            changes = {"status": InstanceStatus(status)}
            self.later(Address("task", task_id), UpdateInstance(instance_id=instance_id, changes=changes))

    @rule(job_id=jobs, is_on=st.booleans())
    def switch_a_schedule(self, job_id: str, is_on: bool) -> None:
        self.later(Address("schedule", f"schedule-of-{job_id}"), EnableSchedule() if is_on else DisableSchedule())

    @rule(job_id=jobs, change=st.sampled_from(EDITS))
    def edit_a_schedule(self, job_id: str, change: dict[str, Any]) -> None:
        self.later(Address("schedule", f"schedule-of-{job_id}"), UpdateSchedule(changes=change))

    @rule(agent=agents, is_on=st.booleans())
    def drain(self, agent: str, is_on: bool) -> None:
        self.now(Address("agent", agent), DrainAgent(reason="x") if is_on else UndrainAgent())

    @rule(job_id=jobs, what=st.sampled_from(["on", "off", "edit"]), config=st.sampled_from(["x", "y"]))
    def change_a_job(self, job_id: str, what: str, config: str) -> None:
        commands = {"on": EnableJob(), "off": DisableJob(), "edit": UpdateJob(changes={"command": config})}
        self.now(Address("job", job_id), commands[what])

    @rule(job_id=jobs)
    def seal_a_job(self, job_id: str) -> None:
        """The first half of a delete without cascade: from now on its tasks can be counted."""
        if self.now(Address("job", job_id), SealJob()):
            tasks = {each for each, s in self.c.of("task").items() if s.spec.job_id == job_id}
            self.seals[job_id] = (self.c.now, tasks)

    @precondition(lambda self: self.seals)
    @rule(number=numbers)
    def delete_a_job(self, number: int) -> None:
        """The second half: under a seal that holds, it has no other tasks than were counted."""
        job_id = list(self.seals)[number % len(self.seals)]
        sealed_at, counted = self.seals.pop(job_id)
        if self.now(Address("job", job_id), DeleteJob(sealed_at=sealed_at)):
            tasks = {each for each, s in self.c.of("task").items() if s.spec.job_id == job_id}
            assert tasks == counted, "a task was made between the count and the delete"

    @rule(seed=st.integers(0, 2**32))
    def a_while(self, seed: int) -> None:
        """Some acts in a row: drawn one by one, most lives would be too short for a task to be made, run and reported."""
        self.live_on(Random(seed), 25)

    def live_on(self, draw: Random, acts: int) -> None:
        for _ in range(acts):
            self._act(draw.choices(list(WEIGHTS), list(WEIGHTS.values()))[0], draw)
            self.slots_held_are_live_instances_and_no_more_than_there_are()

    def _act(self, name: str, draw: Random) -> None:
        server, agent, job_id = draw.choice(SERVERS), draw.choice(AGENTS), draw.choice(JOBS)
        number, yes = draw.randrange(10**6), draw.random() < 0.5
        match name:
            case "time":
                self.time_passes(draw.choice([1, 5, 29, 30, 100]))
            case "lease":
                (self.take_the_lease if yes else self.kill_a_server)(server)
            case "fire":
                self.fire(server, job_id, yes)
            case "dispatch":
                self.dispatch(server, number)
            case "tell":
                self.tell_what_has_ended(number)
            case "arrive" if self.c.in_flight:
                self.arrive(number, yes)
            case "connect":
                self.connect(agent, server, number % 2 == 0) if yes else self.disconnect(agent)
            case "lost":
                self.lease_runs_out(agent)
            case "order":
                self.deliver_an_order(number, yes)
                self.an_old_order_comes_again(agent, number)
            case "end":
                self.a_process_ends(agent, number, draw.choice([None, "exit_code", "exit_code"]))
            case "report":
                self.report(agent, yes, draw.random() < 0.2)
            case "stop":
                self.stop(number)
            case "run":
                self.run(server, job_id, yes, number, draw.choice([None, "cancel", "run"]))
            case "batch":
                self.run_a_batch(draw.choice(["cancel", "run"]))
            case "flow":
                self.run_a_flow(draw.choice(["succeeded", "failed", "finished"]))
            case "tend":
                self.tend_a_flow(number)
            case "change flow":
                self.change_a_flow(number, draw.choice(["cancel", "retry", "retry", "one"]))
            case "task":
                self.change_a_task(number, draw.choice(["cancel", "retry", "retry", "delete"]))
            case "drive":
                self.drive(number, draw.choice([5, 10, 30, 90, 100]))
            case "drain":
                self.drain(agent, yes)
            case "job":
                self.change_a_job(job_id, draw.choice(["on", "on", "off", "edit"]), draw.choice(["x", "y"]))
            case "switch":
                self.switch_a_schedule(job_id, yes)
            case "edit":
                self.edit_a_schedule(job_id, draw.choice(EDITS))
            case "remove":
                self.remove_an_agent(agent, yes)
            case "seal":
                self.seal_a_job(job_id)
            case "delete job" if self.seals:
                self.delete_a_job(number)

    # --- what always holds -------------------------------------------------------------------------------------------

    @invariant()
    def slots_held_are_live_instances_and_no_more_than_there_are(self) -> None:
        if not hasattr(self, "c"):
            return
        held = {(o.task_id, (o.agent_id, (o.instance_id, o.epoch))) for o in self.c.wanted(Occupy)}
        assert held == set(self.c.judge.live.items()), "T6"
        assert all(len(occupied) <= SLOTS for occupied in self.c.held().values()), "T6: more than there are"
        for agent in self.c.agents.values():
            live = {key for name, key in self.c.judge.live.values() if name == agent.name}
            assert set(agent.running) <= live, "a process runs that holds no slot"

    # --- the end -----------------------------------------------------------------------------------------------------

    def teardown(self) -> None:
        """Everything heals: what is due fires and ends, and what is stored is what was shown."""
        if not hasattr(self, "c"):
            return
        self.c.in_flight.clear()
        self.take_the_lease(SERVERS[0])
        for agent in AGENTS:
            self.drain(agent, False)
            self.connect(agent, SERVERS[0])
        rounds = 0
        while not self._is_quiet():
            rounds += 1
            assert rounds < ROUNDS_MAX, f"V1: left are {[t for t, is_open in self.c.judge.is_open.items() if is_open]}"
            self._work()
        for job_id in JOBS:
            if job_id not in self.c.judge.jobs_gone:
                self.c.judge.times[f"schedule-of-{job_id}"].ends_at(self.c.now)
        assert self.c.judge.task_of_fire <= set(self.c.of("task")), "a fire without its task"
        for address, events in self.c.streams.items():
            state = DECIDERS[address.category].initial
            for event in events:
                state = DECIDERS[address.category].evolve(state, event)
            assert state == self.c.state(address)

    def _is_quiet(self) -> bool:
        due = [each for each in self.c.wanted(Due) if each.at <= self.c.now]
        return (
            not due
            and not self.c.wanted(Tend)
            and not any(self.c.judge.is_open.values())
            and not any(self.c.processes())
        )

    def _work(self) -> None:
        """Each of those that act does what there is to do, once; somebody outside ends what is driven there."""
        for job_id in JOBS:
            self.fire(SERVERS[0], job_id, False)
        for number in range(len(self.c.wanted(Await))):
            self.tell_what_has_ended(number)
        for number in range(len(self.c.wanted(Tend))):
            self.tend_a_flow(number)
        for _ in range(2 * SLOTS):
            self.dispatch(SERVERS[0], 0)
            while self.c.in_flight:
                self.arrive(0, False)
        for agent in AGENTS:
            for send in self.c.orders():
                if send.agent_id == agent:
                    self.c.agents[agent].receives(send, self.c)
            for _ in range(SLOTS):
                self.a_process_ends(agent, 0, None)
            while self.c.agents[agent].journal:
                self.report(agent, False, False)
        for number in range(len(self.c.stops())):
            self.stop(number)
        for task_id, state in self.c.of("task").items():
            if state.instance.is_external and not state.is_terminal:
                said = {"status": InstanceStatus.SUCCEEDED}
                self.now(Address("task", task_id), UpdateInstance(instance_id=state.instance.instance_id, changes=said))
        if not any(state.retry_at is None for state in self.c.of("task").values() if not state.is_terminal):
            self.c.now += INTERVAL / 6  # what waits for its retry
        for task_id, is_open in self.c.judge.is_open.items():
            if is_open and self.c.state(Address("task", task_id)).not_before_at > self.c.now:
                self.c.now = self.c.state(Address("task", task_id)).not_before_at
