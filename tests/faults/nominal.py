"""The nominal times of the harness's own schedules, worked out anew: nothing of hetuflow's cron or trigger code is used."""

from __future__ import annotations

from datetime import datetime, timedelta

from attrs import frozen

from tests.faults.verdict import Slot


@frozen(kw_only=True)
class Schedule:
    """`every` seconds from `start` to `end`, both included; or, as cron, at each second that `every` divides."""

    job: str
    name: str
    every: int
    start: datetime
    end: datetime
    is_cron: bool = False

    @property
    def cron(self) -> str:
        return f"*/{self.every} * * * * ?"

    def slots(self) -> list[Slot]:
        slots, at = [], self.start
        while at <= self.end:
            if not self.is_cron or at.second % self.every == 0:
                slots.append(Slot(job=self.job, schedule=self.name, nominal=at))
            at += timedelta(seconds=1 if self.is_cron else self.every)
        return slots
