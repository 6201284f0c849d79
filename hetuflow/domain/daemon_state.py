"""The seats of a daemon: each of its instances has a number and, one after another, the tasks that fill it."""

from __future__ import annotations

import json
from bisect import bisect_left
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from hashlib import sha256
from typing import Any, Protocol

from attrs import frozen

from hetuflow.domain import config
from hetuflow.domain.daemon_rules import DaemonRules

JSON = Mapping[str, Any]


@frozen(slots=True)
class Seat:
    """One instance of a daemon, and the newest of its tasks: the `incarnation`-th.

    `made_of`: digest of what the task was made of, see `digest_of`. `running_since`: when this server heard that its
    process runs. `stopping`: why it is being stopped. `ended_at`: None while the task is open. `due_at`: when the next
    one starts; None after the end of one that was not wanted any more. `failures`: ends in a row by a failure of a run
    that was not healthy. `reason`: how it ended.
    """

    number: int
    incarnation: int
    task_id: str
    made_of: str
    started_at: datetime
    running_since: datetime | None = None
    agent_id: str | None = None
    is_ready: bool = False
    stopping: str | None = None
    ended_at: datetime | None = None
    due_at: datetime | None = None
    failures: int = 0
    reason: str | None = None

    @property
    def is_open(self) -> bool:
        return self.ended_at is None

    def is_available(self, rules: DaemonRules) -> bool:
        """Whether it runs, has run as long as asked, and is not about to be stopped."""
        is_running = self.is_open and self.running_since is not None and self.stopping is None
        return is_running and (self.is_ready or rules.ready_after_seconds == 0)


class Seated(Protocol):
    """A schedule's state, as far as a daemon is concerned."""

    @property
    def daemon(self) -> JSON | None: ...
    @property
    def seats(self) -> tuple[Seat, ...]: ...
    @property
    def start_time(self) -> datetime | None: ...
    @property
    def end_time(self) -> datetime | None: ...


def seat_of(state: Seated, number: int) -> Seat | None:
    at = bisect_left(state.seats, number, key=lambda seat: seat.number)
    return state.seats[at] if at < len(state.seats) and state.seats[at].number == number else None


def open_seats(state: Seated) -> Sequence[Seat]:
    return [seat for seat in state.seats if seat.is_open]


def next_start_at(state: Seated, now: datetime) -> datetime | None:
    """When the next seat of an enabled daemon is to be filled; None when all are, or its time is over."""
    rules = DaemonRules.of(state.daemon)
    if state.end_time is not None and state.end_time <= now:
        return None
    numbered = {seat.number: seat for seat in state.seats}
    earliest = now if state.start_time is None else max(now, state.start_time)
    found: list[datetime] = []
    for number in range(rules.instances):
        seat = numbered.get(number)
        if seat is None or (not seat.is_open and seat.due_at is None):
            found.append(earliest)
        elif seat.due_at is not None and not seat.is_open:
            found.append(seat.due_at)
    return min(found, default=None)


def wake_at(state: Seated, next_run_at: datetime | None) -> datetime | None:
    """When an enabled daemon wants to be looked at: something is due, has run long enough, or its time is over."""
    rules = DaemonRules.of(state.daemon)
    found = [at for at in (next_run_at, state.end_time) if at is not None]
    if rules.ready_after_seconds:
        after = timedelta(seconds=rules.ready_after_seconds)
        found += [
            seat.running_since + after
            for seat in state.seats
            if seat.is_open and seat.running_since is not None and not seat.is_ready and seat.stopping is None
        ]
    return min(found, default=None)


def digest_of(
    environment: JSON | None, job_config: JSON, agent_id: str | None, parameters: JSON | None, timeout_seconds: int
) -> str:
    """Names what a task is made of, as far as its program could tell: a seat with another digest is out of date.

    Members that have their default do not count, so that a member that a later program adds changes none.
    """
    given = {
        name: list(value) if isinstance(value, tuple) else value
        for name, value in job_config.items()
        if name not in _OF_NO_CONCERN and _plain(value) != _plain(config.DEFAULTS.get(name))
    }
    made_of = [environment or {}, given, agent_id or "", parameters or {}, timeout_seconds]
    return sha256(json.dumps(made_of, sort_keys=True).encode()).hexdigest()[:16]


_OF_NO_CONCERN = frozenset(
    {"timeout", "max_retries", "retry_interval", "retry", "limits", "start_deadline_seconds", "managed_by"}
)
"""Members of the job's config that a daemon's tasks do not have from it, or that are not theirs."""


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value
