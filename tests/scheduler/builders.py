"""Builders of intents for the scheduler's tests."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from hetuflow.domain.decider import Address, Available, Bound, Due, Occupy, Offer, Rate

START = datetime(2026, 1, 1, tzinfo=UTC)
HERE = "server-1"


def at(seconds: float) -> datetime:
    return START + timedelta(seconds=seconds)


def an_offer(
    task_id: str,
    *,
    priority: int = 0,
    seconds: float = 0,
    labels: tuple[tuple[str, str], ...] = (),
    agent_id: str | None = None,
    avoid: tuple[str, ...] = (),
    job_id: str = "job",
    namespace_id: str = "default",
    bounds: tuple[Bound, ...] = (),
    rate: Rate | None = None,
    made: float | None = None,
) -> Offer:
    return Offer(
        task_id=task_id,
        job_id=job_id,
        priority=priority,
        not_before_at=at(seconds),
        labels=labels,
        agent_id=agent_id,
        instance_id=f"{task_id}-1",
        avoid=avoid,
        namespace_id=namespace_id,
        bounds=bounds,
        rate=rate,
        made_at=None if made is None else at(made),
    )


def an_agent(
    agent_id: str,
    *,
    slots: int = 1,
    labels: tuple[tuple[str, str], ...] = (),
    draining: bool = False,
    session: str = "s",
    server_id: str = HERE,
) -> Available:
    return Available(
        agent_id=agent_id, server_id=server_id, session=session, slots=slots, labels=labels, draining=draining
    )


def an_occupant(
    agent_id: str,
    instance_id: str,
    epoch: int = 1,
    *,
    namespace_id: str = "default",
    bounds: tuple[Bound, ...] = (),
) -> Occupy:
    return Occupy(agent_id, instance_id, epoch, instance_id, "job", namespace_id, bounds)


def due(seconds: float) -> Due:
    return Due(at(seconds))


def task(task_id: str) -> Address:
    return Address("task", task_id)


def agent(agent_id: str) -> Address:
    return Address("agent", agent_id)


def schedule(schedule_id: str) -> Address:
    return Address("schedule", schedule_id)
