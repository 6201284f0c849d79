"""Deletes that cancel what is open: whatever interrupts one, the same request goes on where it stopped."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest

from eventstore.errors import StoreUnavailable
from hetuflow.actors import ActorSystem
from hetuflow.domain.commands import DeleteJob, DeleteSchedule, SealJob
from hetuflow.domain.decider import Address
from tests.api.client import Answer, Client
from tests.api.memory_rooms import World, memory_world

BeforeDelete = Callable[[Callable[[], Awaitable[None]]], None]
"""Do this when the entity is about to be deleted, once."""


@pytest.fixture
async def world() -> AsyncIterator[World]:
    async with memory_world() as opened:
        yield opened


@pytest.fixture
def client(world: World) -> Client:
    return world.client


@pytest.fixture
async def job_id(client: Client) -> str:
    return await client.made("/jobs/item", {"name": "x"})


@pytest.fixture(params=["job", "schedule"])
async def entity(client: Client, job_id: str, request: pytest.FixtureRequest) -> tuple[str, str]:
    """The path of what is deleted, and the path that makes a task of it."""
    if request.param == "job":
        return f"/jobs/item/{job_id}", f"/jobs/item/{job_id}/run"
    sent = {"job_id": job_id, "kind": "interval", "interval_seconds": 3600}
    schedule_id = await client.made("/schedules/item", sent)
    return f"/schedules/item/{schedule_id}", f"/schedules/item/{schedule_id}/execute"


@pytest.fixture
def before_delete(monkeypatch: pytest.MonkeyPatch) -> BeforeDelete:
    waiting: list[Callable[[], Awaitable[None]]] = []
    ask = ActorSystem.ask

    async def watched(self: ActorSystem, address: Address, command: Any, *more: Any) -> Any:
        if isinstance(command, (DeleteJob, DeleteSchedule)) and waiting:
            await waiting.pop()()
        return await ask(self, address, command, *more)

    monkeypatch.setattr(ActorSystem, "ask", watched)
    return waiting.append


async def status_of(client: Client, task_id: str) -> int:
    return int((await client.get(f"/tasks/{task_id}")).json["status"])


async def test_a_delete_that_breaks_off_has_deleted_nothing_and_goes_on_when_repeated(
    client: Client, entity: tuple[str, str], before_delete: BeforeDelete
) -> None:
    path, run = entity
    task_id = await client.made(run, {})

    async def break_off() -> None:
        raise StoreUnavailable("gone")

    before_delete(break_off)
    assert (await client.delete(f"{path}?cascade=cancel")).status == 503
    assert (await client.get(path)).status == 200
    assert await status_of(client, task_id) == 99
    assert (await client.delete(f"{path}?cascade=cancel")).status == 200
    assert (await client.get(path)).status == 404
    events = (await client.get(f"/tasks/{task_id}/history")).json["result"]
    assert [event["data"]["cause"] for event in events if event["type"] == "TaskCancelled"] == ["cascade"]


async def test_a_task_that_began_in_between_is_cancelled_too(
    client: Client, entity: tuple[str, str], before_delete: BeforeDelete
) -> None:
    path, run = entity
    made: list[str] = []

    async def begin() -> None:
        made.append(await client.made(run, {}))

    before_delete(begin)
    answer = await client.delete(f"{path}?cascade=cancel")
    assert answer.status == 200
    task = (await client.get(f"/tasks/{made[0]}")).json
    assert (task["status"], task["completed_at"] is not None) == (99, True)
    last = (await client.get(f"/tasks/{made[0]}/history")).json["result"][-1]
    assert int(answer.headers["x-hetuflow-position"]) >= last["position"]


async def test_a_committed_delete_is_answered_as_one_and_what_remains_is_cancelled_when_repeated(
    world: World,
    entity: tuple[str, str],
    before_delete: BeforeDelete,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    client, (path, run) = world.client, entity
    made: list[str] = []

    async def behind(position: int, seconds: float) -> int:
        return 0

    async def begin() -> None:
        made.append(await client.made(run, {}))
        monkeypatch.setattr(world.rooms.rows, "reached", behind)

    reached = world.rooms.rows.reached
    before_delete(begin)
    assert (await client.delete(f"{path}?cascade=cancel")).status == 200
    assert f"open tasks of the deleted {path.split('/')[1][:-1]} {path.rpartition('/')[2]}" in caplog.text
    assert (await client.delete(f"{path}?cascade=cancel")).status == 503
    monkeypatch.setattr(world.rooms.rows, "reached", reached)
    assert await status_of(client, made[0]) == 1
    assert (await client.delete(path)).status == 404
    assert await status_of(client, made[0]) == 1
    assert (await client.delete(f"{path}?cascade=cancel")).status == 404
    assert await status_of(client, made[0]) == 99


async def test_a_run_of_the_same_instant_is_refused_or_refuses_the_delete(
    client: Client, job_id: str, monkeypatch: pytest.MonkeyPatch, world: World
) -> None:
    """Between the count and the delete nothing can begin: the job is sealed."""
    answers: list[Answer] = []
    ask = ActorSystem.ask

    async def watched(self: ActorSystem, address: Address, command: Any, *more: Any) -> Any:
        if isinstance(command, DeleteJob) or (isinstance(command, SealJob) and len(answers) == 1):
            answers.append(await client.post(f"/jobs/item/{job_id}/run", {}))
        return await ask(self, address, command, *more)

    monkeypatch.setattr(ActorSystem, "ask", watched)
    assert (await client.delete(f"/jobs/item/{job_id}")).status == 200
    assert [(answer.status, answer.reason) for answer in answers] == [(409, "version_conflict")]
    job_id = await client.made("/jobs/item", {"name": "y"})
    refused = await client.delete(f"/jobs/item/{job_id}")
    assert (refused.reason, refused.json["details"]["count"]) == ("has_open_tasks", 1)
    assert answers[1].status == 200
    types = [event.type for event in await world.store.read_stream(f"job-{job_id}")]
    assert types == ["JobCreated", "JobSealed", "JobUnsealed"]
    assert await client.made(f"/jobs/item/{job_id}/run", {})
