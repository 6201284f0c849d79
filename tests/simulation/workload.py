"""What the operators do all the time, drawn from the seed: jobs, schedules of every kind, tasks, agents."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from datetime import timedelta
from typing import Any, Final

import trio
from attrs import define, field

from hetuflow.domain.commands import (
    CreateCalendar,
    DeleteJob,
    DeleteSchedule,
    DeleteTask,
    DisableJob,
    DrainAgent,
    EnableJob,
    RemoveAgent,
    UndrainAgent,
    UpdateAgent,
    UpdateCalendar,
    UpdateJob,
    UpdateSchedule,
    UpdateTask,
)
from hetuflow.domain.decider import Address
from hetuflow.domain.enums import ScheduleKind
from tests.simulation.backfills import Backfilling
from tests.simulation.flow_users import FlowUsers
from tests.simulation.operators import Operators
from tests.simulation.outsiders import Outsiders

PROGRAMS: Final[Mapping[str, tuple[tuple[str, ...], Mapping[str, Any]]]] = {
    "quick": (("seconds=0.2", "output=400"), {}),
    "steady": (("seconds=3", "output=100"), {"max_retries": 5, "retry_interval": 1}),
    "failing": (("seconds=0.5", "exit=3"), {"max_retries": 2, "retry_interval": 2}),
    "flaky": (("exit_below_epoch=2",), {"max_retries": 3, "retry_interval": 1}),
    "slow": (("seconds=40", "ignore_term"), {"max_retries": 4, "retry_interval": 1}),
    "picky": (("seconds=1",), {"labels": {"zone": "b"}, "retry_interval": 1}),
    "late": (("seconds=30",), {"timeout": 4, "max_retries": 0}),
    "missing": ((), {"cmd": "nowhere", "max_retries": 1, "retry_interval": 1}),
    "loud": (("seconds=2", "output=300000"), {}),
    "forking": (("seconds=1", "fork=20"), {"max_retries": 1, "retry_interval": 1}),
    "hasty": (("seconds=2",), {"start_deadline_seconds": 3, "retry_interval": 1}),
    "patient": (
        ("seconds=0.3", "exit=3"),
        {
            "max_retries": 3,
            "retry_interval": 2,
            "retry": {"strategy": "exponential", "max_seconds": 6, "jitter": 0.5, "prefer_other_agent": True},
        },
    ),
    "choosy": (
        ("seconds=0.3", "exit=7"),
        {"max_retries": 2, "retry_interval": 1, "retry": {"strategy": "linear", "exit_codes": {"not": [7]}}},
    ),
    "one by one": (
        ("seconds=2",),
        {"limits": {"concurrency": 1, "keys": [{"name": "database", "concurrency": 2}]}, "retry_interval": 1},
    ),
    "throttled": (
        ("seconds=1.5",),
        {
            "limits": {"keys": [{"name": "database", "concurrency": 2}], "rate": {"count": 2, "per_seconds": 6}},
            "retry_interval": 1,
        },
    ),
    "narrow": (("seconds=3",), {"namespace_id": "narrow", "retry_interval": 1}),
    "hungry": (("seconds=1", "signal=9"), {"max_retries": 1, "retry_interval": 1}),
    "enduring": (
        ("seconds=35",),
        {"on_disconnect": "continue", "lost_after_seconds": 8, "max_retries": 3, "retry_interval": 1},
    ),
    "harmless": (
        ("seconds=30",),
        {
            "on_disconnect": "continue",
            "idempotent": True,
            "lost_after_seconds": 8,
            "max_retries": 6,
            "retry_interval": 1,
        },
    ),
    "touchy": (("seconds=12",), {"lost_after_seconds": 8, "max_retries": 6, "retry_interval": 1}),
    "relaxed": (("seconds=12",), {"lost_after_seconds": 60, "max_retries": 3, "retry_interval": 1}),
}
"""Job -> arguments of its program, and members of its config."""

LASTING: Final = ("quick", "steady")
"""Jobs that are never paused or deleted: their schedules fire to the end."""

LIMITED: Final = ("one by one", "throttled", "narrow")
"""Jobs of which only so many tasks run at once, or start in a while."""

ZONES: Final = ("UTC", "Europe/Berlin", "America/New_York", "Asia/Kolkata", "Australia/Lord_Howe", "Pacific/Apia")
OVERLAPS: Final = ("allow", "allow", "allow", "skip", "queue", "cancel_previous")
POLICIES: Final = ("skip", "fire_once", "fire_all")

CALENDARS: Final = ("nights", "works")

OPERATORS: Final = (1, 2, 3)
"""How many act at the same time."""


@define(slots=True, eq=False)
class Workload:
    """`work` sets up, then acts until cancelled."""

    operators: Operators
    outsiders: Outsiders = field(init=False)
    flows: FlowUsers = field(init=False)
    backfilling: Backfilling = field(init=False)
    weights: dict[str, float] = field(init=False)
    jobs: dict[str, str] = field(factory=dict)
    """Job id -> name of its program."""
    drained: set[str] = field(factory=set)
    others: dict[str, str] = field(factory=dict)
    """Schedules whose times are not known beforehand -> what they are."""

    def __attrs_post_init__(self) -> None:
        draw = self.operators.cluster.rng
        self.outsiders = Outsiders(self.operators)
        self.flows = FlowUsers(self.operators)
        self.backfilling = Backfilling(self.operators)
        self.weights = {name: often * draw.choice([0.3, 1, 1, 3]) for name, (often, _) in self.actions().items()}

    @classmethod
    def actions(cls) -> dict[str, tuple[float, Callable[[Workload], Awaitable[None]]]]:
        """What is done, and how often in proportion."""
        return {
            "run": (3, cls._run),
            "burst": (1, cls._burst),
            "cancel": (1, cls._cancel),
            "retry": (1, cls._retry),
            "edit task": (0.5, cls._edit_task),
            "plan and edit": (0.7, cls._plan_and_edit),
            "delete task": (0.5, cls._delete_task),
            "pause and resume": (1, cls._pause_and_resume),
            "create schedule": (0.7, cls._create_schedule),
            "edit schedule": (1, cls._edit_schedule),
            "edit calendar": (0.4, cls._edit_calendar),
            "create other schedule": (0.4, cls._create_other_schedule),
            "edit other schedule": (0.3, cls._edit_other_schedule),
            "delete schedule": (0.3, cls._delete_schedule),
            "create job": (0.3, cls._create_job),
            "edit job": (1, cls._edit_job),
            "pause and resume job": (0.4, cls._pause_and_resume_job),
            "delete job": (0.2, cls._delete_job),
            "drain and undrain": (0.4, cls._drain_and_undrain),
            "edit agent": (0.4, cls._edit_agent),
            "remove agent": (0.1, cls._remove_agent),
            "batch": (0.5, cls._batch),
            "drive an instance": (0.5, cls._drive),
            "record an instance": (0.3, lambda self: self.outsiders.record()),
            "run flow": (0.7, cls._run_flow),
            "change flow run": (0.9, lambda self: self.flows.change()),
            "edit upstream": (0.2, lambda self: self.flows.edit()),
            "schedule flow": (0.15, cls._schedule_flow),
            "send an event": (0.4, lambda self: self.outsiders.send_event()),
        }

    async def work(self) -> None:
        scale, draw = self._scale, self._draw
        for name in PROGRAMS:
            await self._add_job(name)
        for calendar_id in CALENDARS:
            members = {"calendar_id": calendar_id, "periods": self._periods()}
            await self.operators.insist("create calendar", Address("calendar", calendar_id), CreateCalendar(**members))
        for _ in range(draw.choice([1, 1, 2])):
            await self.flows.create_flow()
        await self.flows.run()
        by_name = {name: job_id for job_id, name in self.jobs.items()}
        await self.operators.create_schedule(
            by_name["quick"],
            schedule_kind=int(ScheduleKind.INTERVAL),
            interval_secs=scale.interval,
            misfire_grace_seconds=3,
        )
        await self.operators.create_schedule(
            by_name["steady"], schedule_kind=int(ScheduleKind.CRON), cron_expression=scale.cron, priority=5
        )
        for job_id in self.jobs:
            await self.operators.run_now(job_id)
        await self.operators.cancel(self.operators.tasks[4])  # one that ignores SIGTERM, very likely running
        number = draw.choice(OPERATORS)
        async with trio.open_nursery() as nursery:
            for _ in range(number):
                nursery.start_soon(self._act_forever, number * scale.pace_operators)
            if self.backfilling.is_drawn:
                nursery.start_soon(self.backfilling.act_forever)

    async def _act_forever(self, pace: float) -> None:
        actions, draw = self.actions(), self._draw
        names = list(actions)
        while True:
            await trio.sleep(draw.uniform(0.2, 1.8) * pace)
            name = draw.choices(names, [self.weights[each] for each in names])[0]
            await actions[name][1](self)

    async def undo(self) -> None:
        """What would keep due work from being done: drained agents, agents with other labels or fewer slots,
        instances that wait for somebody outside."""
        await self.outsiders.finish()
        await self.backfilling.finish()
        hosts = self.operators.cluster.hosts
        for name in sorted(hosts):
            address = Address("agent", hosts[name].agent_id)
            await self.operators.insist("undrain", address, UndrainAgent())
            changes = {"labels": None, "max_concurrent_tasks": hosts[name].slots}
            await self.operators.insist("edit agent", address, UpdateAgent(changes=changes))

    # --- drawing -----------------------------------------------------------------------------------------------------

    @property
    def _draw(self):  # type: ignore[no-untyped-def]
        return self.operators.cluster.rng

    @property
    def _scale(self):  # type: ignore[no-untyped-def]
        return self.operators.cluster.scale

    def _job(self) -> str:
        return self._draw.choice(list(self.jobs))

    def _passing_job(self) -> str | None:
        found = [job_id for job_id, name in self.jobs.items() if name not in LASTING]
        return self._draw.choice(found) if found else None

    def _agent(self) -> Address:
        return Address(
            "agent", self.operators.cluster.hosts[self._draw.choice(sorted(self.operators.cluster.hosts))].agent_id
        )

    def _timing(self) -> dict[str, Any]:
        """The members of a schedule that say when."""
        draw, scale = self._draw, self._scale
        now = self.operators.cluster.clock.now()
        kind = draw.choice(["interval", "interval", "cron", "cron", "once"])
        if kind == "once":
            start = now + timedelta(seconds=draw.uniform(-2, 10) * scale.interval)
            return {"schedule_kind": int(ScheduleKind.INTERVAL), "max_count": 1, "start_time": start}
        window: dict[str, Any] = {}
        if draw.random() < 0.3:
            window["start_time"] = now + timedelta(seconds=draw.uniform(-3, 6) * scale.interval)
        if draw.random() < 0.3:
            window["end_time"] = now + timedelta(seconds=draw.uniform(7, 30) * scale.interval)
        if draw.random() < 0.3:
            window["max_count"] = draw.randint(2, 6)
        if kind == "interval":
            seconds = scale.interval * draw.choice([1, 2, 3, 7])
            return {"schedule_kind": int(ScheduleKind.INTERVAL), "interval_secs": seconds, **window}
        expression = draw.choice([scale.cron, *scale.crons])
        zone = draw.choice(ZONES)
        return {"schedule_kind": int(ScheduleKind.CRON), "cron_expression": expression, "timezone": zone, **window}

    def _policy(self) -> dict[str, Any]:
        draw, scale = self._draw, self._scale
        return {
            "misfire_policy": draw.choice(POLICIES),
            "misfire_grace_seconds": draw.choice([0, 3, scale.interval, 60]),
            "priority": draw.randint(-5, 9),
            "exclude_calendars": draw.choice([(), (), (), CALENDARS[:1], CALENDARS]),
            "pause_on_failures": draw.choice([None, None, None, 1, 2]),
            "max_age_seconds": draw.choice([None, None, None, 2, scale.interval, 60]),
            "overlap_policy": draw.choice(OVERLAPS),
            "jitter_seconds": draw.choice([0, 0, 1, 2 * scale.interval]),
        }

    def _periods(self) -> list[dict[str, str]]:
        """Some that are over, some to come, each a few intervals long."""
        draw, interval = self._draw, self._scale.interval
        now = self.operators.cluster.clock.now().replace(microsecond=0)
        found = []
        for _ in range(draw.randint(1, 3)):
            begin = now + timedelta(seconds=draw.randint(-2 * interval, 12 * interval))
            end = begin + timedelta(seconds=draw.randint(interval // 2, 4 * interval))
            found.append({"from": begin.isoformat(), "to": end.isoformat()})
        return found

    async def _edit_calendar(self) -> None:
        address = Address("calendar", self._draw.choice(CALENDARS))
        await self.operators.insist("edit calendar", address, UpdateCalendar(changes={"periods": self._periods()}))

    # --- tasks -------------------------------------------------------------------------------------------------------

    async def _run(self) -> None:
        await self.operators.run_now(self._job())

    async def _burst(self) -> None:
        light = [job_id for job_id, name in self.jobs.items() if name in ("quick", "flaky", "picky", *LIMITED)]
        async with trio.open_nursery() as nursery:
            for _ in range(self._draw.randint(2, 8)):
                nursery.start_soon(self.operators.run_now, self._draw.choice(light))

    def _light_jobs(self) -> list[str]:
        return [
            job_id for job_id, name in self.jobs.items() if name in ("quick", "flaky", "picky", "failing", "patient")
        ]

    async def _batch(self) -> None:
        await self.outsiders.batch(self._light_jobs())

    async def _drive(self) -> None:
        await self.outsiders.drive(self._draw.choice(self._light_jobs()))

    async def _cancel(self) -> None:
        await self.operators.cancel(self._draw.choice(self.operators.tasks))

    async def _retry(self) -> None:
        task_id = self._draw.choice(self.operators.tasks)
        run = self.flows.run_of(task_id)
        await (self.operators.retry(task_id) if run is None else self.flows.retry_task(task_id, run))

    async def _run_flow(self) -> None:
        await self.flows.run()

    async def _schedule_flow(self) -> None:
        schedule_id = await self.flows.create_schedule()
        self.others[schedule_id] = "flow"

    async def _plan_and_edit(self) -> None:
        """For later; and then it is moved, or told what it also waits for: earlier tasks only, for the API refuses
        circles, and here it is not asked."""
        draw, interval = self._draw, self._scale.interval
        task_id = await self.outsiders.plan(draw.choice(self._light_jobs()), draw.uniform(1, 5) * interval)
        if task_id is None:
            return
        await trio.sleep(draw.uniform(0, 1) * interval)
        what = draw.choice(["time", "others"])
        changes: dict[str, Any] = {
            "scheduled_at": self.operators.cluster.clock.now() + timedelta(seconds=draw.uniform(-1, 4) * interval)
        }
        earlier = [each for each in self.operators.tasks if each < task_id]
        if what == "others" and earlier:
            others = draw.sample(earlier, min(len(earlier), draw.randint(1, 3)))
            changes = {"dependencies": {"task_ids": others, "on_failure": draw.choice(["cancel", "run"])}}
        await self.operators.insist(f"edit task ({what})", Address("task", task_id), UpdateTask(changes=changes))

    async def _edit_task(self) -> None:
        changes = {"priority": self._draw.randint(-5, 9)}
        address = Address("task", self._draw.choice(self.operators.tasks))
        await self.operators.insist("edit task", address, UpdateTask(changes=changes))

    async def _delete_task(self) -> None:
        task_id = self._draw.choice(self.operators.tasks)
        cascade = self._draw.random() < 0.7
        await self.operators.delete_task(task_id, DeleteTask(cascade=cascade))

    # --- schedules ---------------------------------------------------------------------------------------------------

    async def _pause_and_resume(self) -> None:
        schedule_id = self._draw.choice(self.operators.schedules)
        await self.operators.disable(schedule_id)
        await trio.sleep(self._draw.uniform(0.2, 4) * self._scale.interval)
        await self.operators.enable(schedule_id)

    async def _create_schedule(self) -> None:
        await self.operators.create_schedule(self._job(), **self._timing(), **self._policy())

    async def _create_other_schedule(self) -> None:
        """One whose times are not known beforehand: a fixed delay, a daemon, or one that waits for events."""
        draw, interval = self._draw, self._scale.interval
        kind = draw.choice(["delay", "daemon", "event"])
        job_id = draw.choice(self._light_jobs())
        members: dict[str, Any]
        if kind == "delay":
            members = {"schedule_kind": int(ScheduleKind.INTERVAL), "interval_mode": "fixed_delay"}
            members |= {"interval_secs": interval * draw.choice([1, 2]), "overlap_policy": "skip"}
        elif kind == "daemon":
            steady = [job_id for job_id, name in self.jobs.items() if name in ("steady", "failing", "forking")]
            job_id = draw.choice(steady)
            daemon = {**self._backoff(), "instances": draw.choice([1, 1, 2])}
            members = {"schedule_kind": int(ScheduleKind.DAEMON), "daemon": daemon}
        else:
            members = {
                "schedule_kind": int(ScheduleKind.EVENT),
                "event_type": draw.choice(["thing.happened", "thing.*"]),
            }
            members |= {"debounce_seconds": draw.choice([0, 0, 2]), "overlap_policy": draw.choice(["allow", "queue"])}
        schedule_id = await self.operators.create_schedule(job_id, **members, priority=draw.randint(-5, 9))
        self.others[schedule_id] = kind
        if kind == "event":
            for _ in range(draw.randint(1, 4)):
                await self.outsiders.send_event()

    def _backoff(self) -> dict[str, int]:
        """Of a daemon: as fast as the run's other schedules."""
        interval = self._scale.interval
        return {"backoff_initial_seconds": interval, "backoff_max_seconds": 2 * interval}

    async def _edit_other_schedule(self) -> None:
        draw = self._draw
        known = [each for each in self.others if each in self.operators.schedules]
        if not known:
            return
        schedule_id = draw.choice(known)
        changes: dict[str, Any] = {
            "delay": {"interval_secs": self._scale.interval * draw.choice([1, 2, 3])},
            "daemon": {"daemon": {**self._backoff(), "instances": draw.choice([0, 1, 2, 3])}},
            "event": {"debounce_seconds": draw.choice([0, 1, 3])},
            "flow": {"interval_secs": self._scale.interval * draw.choice([3, 5, 9]), "priority": draw.randint(-5, 9)},
        }[self.others[schedule_id]]
        await self.operators.insist(
            "edit other schedule", Address("schedule", schedule_id), UpdateSchedule(changes=changes)
        )

    async def _edit_schedule(self) -> None:
        changes = self._policy()
        if self._draw.random() < 0.6:
            nothing = {"interval_secs": None, "cron_expression": None, "max_count": None}
            changes |= {**nothing, "start_time": None, "end_time": None, "timezone": "UTC", **self._timing()}
        timed = [each for each in self.operators.schedules if each not in self.others]
        address = Address("schedule", self._draw.choice(timed))
        await self.operators.insist("edit schedule", address, UpdateSchedule(changes=changes))

    async def _delete_schedule(self) -> None:
        if len(self.operators.schedules) > 2:
            schedule_id = self._draw.choice(self.operators.schedules[2:])
            self.operators.schedules.remove(schedule_id)
            await self.operators.insist("delete schedule", Address("schedule", schedule_id), DeleteSchedule())

    # --- jobs --------------------------------------------------------------------------------------------------------

    async def _add_job(self, name: str) -> str:
        args, config = PROGRAMS[name]
        job_id = await self.operators.create_job(name, *args, **config)
        self.jobs[job_id] = name
        return job_id

    async def _create_job(self) -> None:
        job_id = await self._add_job(self._draw.choice(list(PROGRAMS)))
        await self.operators.create_schedule(job_id, **self._timing(), **self._policy())

    async def _edit_job(self) -> None:
        job_id, draw = self._job(), self._draw
        args, config = PROGRAMS[self.jobs[job_id]]
        config = {name: value for name, value in config.items() if name != "namespace_id"}
        changed = {"cmd": "program", "args": list(args), **config, "retry_interval": draw.choice([0, 1, 3])}
        address = Address("job", job_id)
        await self.operators.insist("edit job", address, UpdateJob(changes={"config": changed}))

    async def _pause_and_resume_job(self) -> None:
        job_id = self._passing_job()
        if job_id is not None:
            await self.operators.insist("pause job", Address("job", job_id), DisableJob())
            await trio.sleep(self._draw.uniform(0.2, 4) * self._scale.interval)
            await self.operators.insist("resume job", Address("job", job_id), EnableJob())

    async def _delete_job(self) -> None:
        job_id = self._passing_job()
        if job_id is not None and len(self.jobs) > len(PROGRAMS) - 2:
            del self.jobs[job_id]
            await self.operators.insist("delete job", Address("job", job_id), DeleteJob())

    # --- agents ------------------------------------------------------------------------------------------------------

    async def _drain_and_undrain(self) -> None:
        address = self._agent()
        await self.operators.insist("drain", address, DrainAgent(reason="maintenance"))
        await trio.sleep(self._draw.uniform(1, 6) * self._scale.interval)
        await self.operators.insist("undrain", address, UndrainAgent())

    async def _edit_agent(self) -> None:
        draw = self._draw
        labels = draw.choice([None, {"zone": "a"}, {"zone": "b"}])
        changes = {"labels": labels, "max_concurrent_tasks": draw.randint(1, 3)}
        await self.operators.insist("edit agent", self._agent(), UpdateAgent(changes=changes))

    async def _remove_agent(self) -> None:
        """It comes back by itself, as a new one."""
        await self.operators.insist("remove agent", self._agent(), RemoveAgent())
