"""Users of flows: jobs that follow each other, runs of them, cancelled and run again, also by single tasks."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, Final

import msgspec
import trio
from attrs import define, field

from hetuflow.actors import Answer
from hetuflow.core import Core
from hetuflow.domain.commands import CancelFlow, CancelTask, RetryFlow, RetryTask, UpdateJob
from hetuflow.domain.decider import Address
from hetuflow.domain.enums import ScheduleKind
from hetuflow.domain.flow import to_run_again
from hetuflow.domain.flow_plan import FlowWishes, started
from hetuflow.domain.rejection import Rejected
from hetuflow.scheduler.flow_graphs import find_flow
from hetuflow.scheduler.flows import ends_of
from tests.simulation.operators import Operators

PROGRAMS: Final[Sequence[tuple[tuple[str, ...], Mapping[str, Any]]]] = (
    (("seconds=0.3",), {}),
    (("seconds=1",), {}),
    (("seconds=0.3", "exit=3"), {"max_retries": 0}),
    (("exit_below_epoch=2",), {"max_retries": 1, "retry_interval": 1}),
)
"""Arguments of a program, and members of its job's config: what does well, what fails, what does well at last."""

CONDITIONS: Final = ("succeeded", "succeeded", "succeeded", "failed", "finished")


@define(slots=True, eq=False)
class FlowUsers:
    """`roots`: jobs that follow nothing. `follows`: job -> those that it follows; circles are the API's to refuse, so an
    edit changes conditions only."""

    operators: Operators
    roots: list[str] = field(factory=list)
    follows: dict[str, list[str]] = field(factory=dict)
    _run_of: dict[str, str] = field(factory=dict)
    _tasks_of: dict[str, list[str]] = field(factory=dict)
    _read: int = 0
    _retries: dict[str, list[bool]] = field(factory=dict)
    """Run -> the retries asked for since ever, whether each has its answer."""

    @property
    def _draw(self):  # type: ignore[no-untyped-def]
        return self.operators.cluster.rng

    def _look(self) -> None:
        """What a user sees in the list of runs."""
        events = self.operators.cluster.log.events
        for event in events[self._read :]:
            if event.type == "FlowStarted":
                data = msgspec.json.decode(event.data)
                run, tasks = data["flow_run_id"], [node["task_id"] for node in data["graph"]["nodes"]]
                self._tasks_of[run] = tasks
                self._run_of.update(dict.fromkeys(tasks, run))
                self.operators.tasks.append(self._draw.choice(tasks))  # looked at, cancelled, run again like any other
        self._read = len(events)

    def run_of(self, task_id: str) -> str | None:
        """The flow run that this task belongs to."""
        self._look()
        return self._run_of.get(task_id)

    # --- jobs --------------------------------------------------------------------------------------------------------

    async def create_flow(self) -> None:
        """Three to six jobs, each after the first following one or two that are there."""
        draw, jobs = self._draw, list[str]()
        for number in range(draw.randint(3, 6)):
            args, config = draw.choice(PROGRAMS)
            follows = draw.sample(jobs, min(len(jobs), draw.choice([1, 1, 2])))
            upstream = self._upstream(follows) if follows else None
            jobs.append(await self.operators.create_job(f"step {number}", *args, upstream=upstream, **config))
            self.follows[jobs[-1]] = follows
        self.roots.append(jobs[0])

    def _upstream(self, follows: Sequence[str]) -> dict[str, Any]:
        draw = self._draw
        edges = [{"job_id": job_id, "on": draw.choice(CONDITIONS)} for job_id in follows]
        return {"jobs": edges, "match": draw.choice(["all", "all", "any"])}

    async def edit(self) -> None:
        """Other conditions: runs that are there keep theirs."""
        job_id = self._draw.choice([each for each, follows in self.follows.items() if follows])
        changes = {"upstream": self._upstream(self.follows[job_id])}
        await self.operators.insist("edit upstream", Address("job", job_id), UpdateJob(changes=changes))

    async def create_schedule(self, **timing: object) -> str:
        """One that runs a flow at times. Runs may overlap."""
        draw, interval = self._draw, self.operators.cluster.scale.interval
        members = {"schedule_kind": int(ScheduleKind.INTERVAL), "interval_secs": interval * draw.choice([3, 5, 9])}
        return await self.operators.create_schedule(
            draw.choice(self.roots),
            **{**members, **timing},
            run_flow=True,
            misfire_policy=draw.choice(["skip", "fire_once", "fire_all"]),
            misfire_grace_seconds=draw.choice([0, 3, interval]),
        )

    # --- runs --------------------------------------------------------------------------------------------------------

    async def run(self) -> str | None:
        """Run a flow as it is now; its id, None when that is refused."""
        operators, root = self.operators, self._draw.choice(self.roots)
        flow_run_id = str(operators.ids.uuid7())
        address = Address("flow", flow_run_id)

        async def ask(core: Core) -> Answer:
            graph = await find_flow(core.system, operators.cluster.tables.followers_of, [root])
            if graph is None:
                raise Rejected("not_found", "there is no such job")
            return await core.system.ask(address, started(flow_run_id, graph, FlowWishes()))

        accepted = await operators.insist_on("run flow", address, ask)
        operators.cluster.observed.answered(
            f"run flow {flow_run_id}", "created" if accepted else "refused", address.stream_id
        )
        return flow_run_id if accepted else None

    async def change(self) -> None:
        """Cancel a run, or run again what failed of it, or one task of it."""
        self._look()
        if not self._tasks_of:
            return
        run = self._draw.choice(list(self._tasks_of)[-6:])
        changes: list[Callable[[str], Awaitable[None]]] = [self.cancel, self.retry, self.retry, self.retry_one]
        await self._draw.choice(changes)(run)

    async def cancel(self, run: str) -> None:
        """As the API does it: the wish, and then each task, the last first."""
        self._look()
        tasks, before = self._tasks_of[run], list(self._retries.get(run, ()))

        async def ask(core: Core) -> Answer:
            answer = await core.system.ask(Address("flow", run), CancelFlow(reason="enough"))
            readings = await core.system.read_many([Address("task", each) for each in tasks])
            for task_id in reversed(tasks):
                reading = readings.get(Address("task", task_id))
                if reading is not None and not reading.state.is_terminal:
                    await _ask_unless_too_late(core, task_id, CancelTask(cause="flow", reason="enough"))
            return answer

        accepted = await self.operators.insist_on("cancel flow", Address("flow", run), ask)
        if accepted and all(before) and self._retries.get(run, []) == before:  # else one may have come after it
            for task_id in tasks:
                self.operators.cancelled.setdefault(task_id, trio.current_time())

    async def retry(self, run: str) -> None:
        """What failed or was cancelled, and what was skipped because of it."""
        await self._again("retry flow", run, None)

    async def retry_one(self, run: str) -> None:
        self._look()
        await self._again("retry task of flow", run, [self._draw.choice(self._tasks_of[run])])

    async def retry_task(self, task_id: str, run: str) -> None:
        await self._again("retry task of flow", run, [task_id])

    async def _again(self, what: str, run: str, only: Sequence[str] | None) -> None:
        self._look()
        for task_id in self._tasks_of[run]:
            self.operators.cancelled.pop(task_id, None)  # before asking: the answer may be lost
        asked = self._retries.setdefault(run, [])
        place = len(asked)
        asked.append(False)

        async def ask(core: Core) -> Answer:
            state = (await core.system.read(Address("flow", run))).state
            if not state.exists:
                raise Rejected("not_found", "there is no such run")
            ends = ends_of(await core.system.read_many([Address("task", each) for each in state.task_ids]))
            tasks = to_run_again(state.spec.graph, ends, only)
            if only is not None and not set(only) <= tasks.keys():
                raise Rejected("not_retryable", "it succeeded, or is open")
            forced = tuple(only or ())
            answer = await core.system.ask(Address("flow", run), RetryFlow(tasks=tasks, forced=forced))
            for task_id, attempt in tasks.items():
                command = RetryTask(attempt=attempt, is_whole=True)
                if task_id in forced:
                    command = RetryTask(attempt=attempt, waits_for=await _still_open(core, task_id))
                await _ask_unless_too_late(core, task_id, command)
            return answer

        await self.operators.insist_on(what, Address("flow", run), ask)
        asked[place] = True


async def _ask_unless_too_late(core: Core, task_id: str, command: object) -> None:
    try:
        await core.system.ask(Address("task", task_id), command)
    except Rejected as no:
        if no.code not in ("already_terminal", "not_found", "not_retryable"):
            raise


async def _still_open(core: Core, task_id: str) -> tuple[str, ...]:
    spec = (await core.system.read(Address("task", task_id))).state.spec
    ids = (spec.dependencies or {}).get("task_ids") or ()
    readings = await core.system.read_many([Address("task", each) for each in ids])
    return tuple(each.id for each, found in readings.items() if found.state.exists and not found.state.is_terminal)
