"""Short runs for deliberate bugs that a whole run seldom shows: two servers, two agents, and just what the bug is about."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import timedelta

import trio

from hetuflow.domain.commands import CreateCalendar, UpdateAgent, UpdateCalendar, UpdateTask
from hetuflow.domain.decider import Address
from hetuflow.domain.enums import ScheduleKind
from tests.simulation.backfills import backfill
from tests.simulation.checkers import Verdict, check_safety, evidence_of
from tests.simulation.cluster import Cluster
from tests.simulation.lines import watched
from tests.simulation.operators import Operators
from tests.simulation.outsiders import Outsiders
from tests.simulation.shape import QUICK, Shape
from tests.simulation.states import check_states
from tests.support.simulate import run

Script = Callable[[Operators], Awaitable[None]]
"""What happens in such a run."""

CONNECTED_SECONDS = 5.0

EVERY_FIVE_SECONDS = {"schedule_kind": int(ScheduleKind.INTERVAL), "interval_secs": 5}


def played(seed: int, script: Script) -> Verdict:
    """The judges' verdict on the script; nothing goes wrong in it but what it does itself."""
    return run(seed, _play, seed, script)


async def _play(seed: int, script: Script) -> Verdict:
    shape = Shape(seed=seed, servers=2, agents=2, scale=QUICK, day="a Monday morning")
    cluster, verdict = Cluster(shape, tasks_max=0), Verdict()
    operators = Operators(cluster)
    operators.loss_rate = 0.0
    with watched(cluster.observed):
        await _played(cluster, script, operators, verdict)
    return verdict


async def _played(cluster: Cluster, script: Script, operators: Operators, verdict: Verdict) -> None:
    async with trio.open_nursery() as nursery:
        cluster.nursery = nursery
        await cluster.start()
        await trio.sleep(CONNECTED_SECONDS)
        await script(operators)
        await check_states(cluster, verdict)
        check_safety(evidence_of(cluster, has_settled=False), verdict)
        nursery.cancel_scope.cancel()


async def fires_in_calm(operators: Operators) -> None:
    """A schedule with short tasks, for five minutes, while all is well."""
    operators.cluster.observed.became_calm()
    job_id = await operators.create_job("quick", "seconds=0.2")
    kind = int(ScheduleKind.INTERVAL)
    await operators.create_schedule(job_id, schedule_kind=kind, interval_secs=7, misfire_grace_seconds=3)
    await trio.sleep(300)
    operators.cluster.observed.ended_calm()


async def an_agent_that_is_cut_off(operators: Operators) -> None:
    """An agent with a long task is away from the servers until the task runs elsewhere, and a lease longer."""
    cluster = operators.cluster
    lease = cluster.scale.lease
    job_id = await operators.create_job("slow", "seconds=300", "ignore_term", max_retries=3, retry_interval=1)
    await operators.run_now(job_id)
    await trio.sleep(1)
    busy = next(host for host in cluster.hosts.values() if host.machine.living())
    cluster.network.cut(busy.name)
    with trio.move_on_after(4 * lease):
        while not _runs_again(cluster):  # noqa: ASYNC110 - the log rings no bell
            await trio.sleep(1)
    await trio.sleep(lease)
    cluster.network.heal(busy.name)
    await trio.sleep(lease)


async def an_agent_stopped_with_its_keeper(operators: Operators) -> None:
    """Both are stopped while a long task runs, until it runs elsewhere, and a lease longer."""
    cluster = operators.cluster
    lease = cluster.scale.lease
    job_id = await operators.create_job("slow", "seconds=300", "ignore_term", max_retries=3, retry_interval=1)
    await operators.run_now(job_id)
    await trio.sleep(1)
    busy = next(host for host in cluster.hosts.values() if host.machine.living())
    node = busy.node
    node.pause()
    go_on = busy.pause_keeper()
    with trio.move_on_after(4 * lease):
        while not _runs_again(cluster):  # noqa: ASYNC110 - the log rings no bell
            await trio.sleep(1)
    await trio.sleep(lease)
    go_on()
    node.resume()
    await trio.sleep(lease)


async def orders_at_a_stopped_agent(operators: Operators) -> None:
    """An agent is stopped before it has read its orders, then its server, so that nobody closes the connection. It is
    continued when its tasks run elsewhere."""
    cluster = operators.cluster
    lease, host, server = cluster.scale.lease, cluster.hosts["agent-1"], cluster.servers["server-1"]
    job_id = await operators.create_job("slow", "seconds=90", max_retries=3, retry_interval=1)
    host.node.pause()
    for _ in range(2):
        await operators.run_now(job_id)
    await trio.sleep(1)
    assert server.life is not None
    server.life.node.pause()
    with trio.move_on_after(6 * lease):
        while not _runs_again(cluster):  # noqa: ASYNC110 - the log rings no bell
            await trio.sleep(1)
    host.node.resume()
    await trio.sleep(lease)
    server.life.node.resume()
    await trio.sleep(lease)


async def relabelled_against_its_owner(operators: Operators) -> None:
    """Owners protect the zones of their machines; an operator sets another one, and tasks ask for that."""
    for host in operators.cluster.hosts.values():
        host.kill()
        await host.ended.wait()
        host.protected = ("zone",)
        host.start()
    await trio.sleep(CONNECTED_SECONDS)
    wanted = operators.cluster.hosts["agent-2"].labels
    await operators.insist("edit agent", Address("agent", "agent-1"), UpdateAgent(changes={"labels": dict(wanted)}))
    job_id = await operators.create_job("picky", "seconds=5", labels=dict(wanted))
    for _ in range(4):
        await operators.run_now(job_id)
    await trio.sleep(60)


def _runs_again(cluster: Cluster) -> bool:
    return any(event.type == "InstanceStarted" and '"epoch":2' in event.data for event in cluster.log.events)


def overlapping(policy: str) -> Script:
    """A schedule whose tasks take longer than its interval."""

    async def script(operators: Operators) -> None:
        operators.cluster.observed.became_calm()
        job_id = await operators.create_job("slow", "seconds=60", max_retries=0)
        await operators.create_schedule(job_id, **EVERY_FIVE_SECONDS, overlap_policy=policy)
        await trio.sleep(100)
        operators.cluster.observed.ended_calm()

    return script


async def fires_under_skip(operators: Operators) -> None:
    """A schedule with short tasks that skips overlaps, of which there are none."""
    job_id = await operators.create_job("quick", "seconds=0.2")
    await operators.create_schedule(job_id, **{**EVERY_FIVE_SECONDS, "interval_secs": 50}, overlap_policy="skip")
    await trio.sleep(300)


def failing(*program: str, **config: object) -> Script:
    """A task of a job with such a program and config, until it gives up."""

    async def script(operators: Operators) -> None:
        job_id = await operators.create_job("failing", "seconds=0.2", *program, **config)
        for _ in range(3):
            await operators.run_now(job_id)
        await trio.sleep(60)

    return script


async def away_for_a_while(operators: Operators) -> None:
    """All servers are killed, and come back after many nominal times of a schedule that fires none but the newest ones."""
    cluster = operators.cluster
    job_id = await operators.create_job("quick", "seconds=0.2")
    bounds = {"misfire_policy": "fire_all", "misfire_grace_seconds": 0, "max_age_seconds": 12}
    await operators.create_schedule(job_id, **EVERY_FIVE_SECONDS, **bounds)
    await trio.sleep(20)
    for server in cluster.servers.values():
        await server.kill()
    await trio.sleep(60)
    for server in cluster.servers.values():
        server.start()
    await trio.sleep(60)


async def with_jitter(operators: Operators) -> None:
    """A jitter that is longer than the interval."""
    job_id = await operators.create_job("quick", "seconds=0.2")
    await operators.create_schedule(job_id, **EVERY_FIVE_SECONDS, jitter_seconds=60)
    await trio.sleep(100)


async def later_than_wanted(operators: Operators) -> None:
    """All slots are taken for longer than a task may wait for its start."""
    cluster = operators.cluster
    busy = await operators.create_job("busy", "seconds=20")
    hasty = await operators.create_job("hasty", "seconds=1", start_deadline_seconds=3)
    for _ in range(sum(host.slots for host in cluster.hosts.values())):
        await operators.run_now(busy)
    await operators.run_now(hasty)
    await trio.sleep(60)


async def edited_to_wait(operators: Operators) -> None:
    """A task is told, while it waits for its time, that it also waits for another one."""
    slow = await operators.run_now(await operators.create_job("slow", "seconds=40"))
    busy = await operators.create_job("busy", "seconds=10")
    for _ in range(sum(host.slots for host in operators.cluster.hosts.values()) - 1):
        await operators.run_now(busy)
    second = await operators.run_now(await operators.create_job("quick", "seconds=1"))
    change = UpdateTask(changes={"dependencies": {"task_ids": [slow], "on_failure": "run"}})
    await operators.insist("edit task", Address("task", second), change)
    await trio.sleep(90)


def crowded(**config: object) -> Script:
    """Five tasks at once, in as many slots, of a job with such limits."""

    async def script(operators: Operators) -> None:
        job_id = await operators.create_job("crowded", "seconds=4", **config)
        for _ in range(5):
            await operators.run_now(job_id)
        await trio.sleep(60)

    return script


async def failing_in_a_row(operators: Operators) -> None:
    """A schedule whose tasks fail, all of them, and that is to pause after three."""
    operators.cluster.observed.became_calm()
    job_id = await operators.create_job("failing", "seconds=0.2", "exit=3", max_retries=0)
    await operators.create_schedule(job_id, **EVERY_FIVE_SECONDS, pause_on_failures=3)
    await trio.sleep(100)
    operators.cluster.observed.ended_calm()


async def after_a_delay(operators: Operators) -> None:
    """A schedule with a fixed delay, and tasks that take a while."""
    operators.cluster.observed.became_calm()
    job_id = await operators.create_job("steady", "seconds=3")
    await operators.create_schedule(job_id, **EVERY_FIVE_SECONDS, interval_mode="fixed_delay", overlap_policy="skip")
    await trio.sleep(120)
    operators.cluster.observed.ended_calm()


async def a_daemon(operators: Operators) -> None:
    """Two seats whose program ends again and again."""
    operators.cluster.observed.became_calm()
    job_id = await operators.create_job("steady", "seconds=4")
    daemon = {"instances": 2, "backoff_initial_seconds": 1, "backoff_max_seconds": 2}
    await operators.create_schedule(job_id, schedule_kind=int(ScheduleKind.DAEMON), daemon=daemon)
    await trio.sleep(120)
    operators.cluster.observed.ended_calm()


async def events_in_calm(operators: Operators) -> None:
    """A schedule that waits for events, of which some come."""
    operators.cluster.observed.became_calm()
    job_id = await operators.create_job("quick", "seconds=0.2")
    await operators.create_schedule(job_id, schedule_kind=int(ScheduleKind.EVENT), event_type="thing.*")
    outsiders = Outsiders(operators)
    for _ in range(8):
        await outsiders.send_event()
        await trio.sleep(2)
    await trio.sleep(80)
    operators.cluster.observed.ended_calm()


async def with_a_calendar(operators: Operators) -> None:
    """A schedule that is not to fire for half a minute, which is then moved."""
    operators.cluster.observed.became_calm()
    calendar = Address("calendar", "works")
    command = CreateCalendar(calendar_id=calendar.id, periods=[_from_now(operators, 20, 50)])
    await operators.insist("create calendar", calendar, command)
    job_id = await operators.create_job("quick", "seconds=0.2")
    await operators.create_schedule(job_id, **EVERY_FIVE_SECONDS, exclude_calendars=(calendar.id,))
    await trio.sleep(60)
    moved = UpdateCalendar(changes={"periods": [_from_now(operators, 10, 30)]})
    await operators.insist("edit calendar", calendar, moved)
    await trio.sleep(60)
    operators.cluster.observed.ended_calm()


def _from_now(operators: Operators, begin: float, end: float) -> dict[str, str]:
    now = operators.cluster.clock.now().replace(microsecond=0)
    return {
        "from": (now + timedelta(seconds=begin)).isoformat(),
        "to": (now + timedelta(seconds=end)).isoformat(),
    }


async def backfilled(operators: Operators) -> None:
    """A schedule that was paused from its beginning, and whose past is run, two tasks at once."""
    job_id = await operators.create_job("steady", "seconds=2")
    schedule_id = await operators.create_schedule(job_id, **EVERY_FIVE_SECONDS)
    await operators.disable(schedule_id)
    await trio.sleep(50)
    await backfill(operators, schedule_id, 50, max_concurrent=2)
    await trio.sleep(60)


async def paused_for_a_while(operators: Operators) -> None:
    """A schedule that misses some of its nominal times, because it is paused."""
    job_id = await operators.create_job("quick", "seconds=0.2")
    schedule_id = await operators.create_schedule(job_id, **EVERY_FIVE_SECONDS)
    await trio.sleep(20)
    await operators.disable(schedule_id)
    await trio.sleep(30)
    await operators.enable(schedule_id)
    await trio.sleep(30)
