"""What the servers share: the log's faults, the store of output, and what only tables know, folded as the log grows."""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

import trio

from eventstore.errors import StoreFull, StoreTimeout, StoreUnavailable
from eventstore.event import Appended, Claim
from eventstore.memory import MemoryLog
from hetuflow.domain.decider import Address
from hetuflow.domain.flow_graph import upstream_ids
from hetuflow.protocol.messages import Output
from projections.definition import Table
from projections.fold import Tables
from projections.jobs import JOBS
from projections.open_work import OPEN_WORK
from projections.schedules import SCHEDULES
from tests.support.schedules import belongs

SLOW_SECONDS_MAX = 5.0


class StoreFaults:
    """Faults of the store by chance, one set per database. Off while the rates are 0."""

    def __init__(self, rng: random.Random) -> None:
        self._random = rng
        self.before_rate = self.after_rate = self.drop_rate = self.read_rate = self.slow_rate = 0.0
        self.is_full = False
        self.seen: dict[str, int] = defaultdict(int)

    KINDS = ("full", "refused", "answer lost", "connection dropped", "read refused", "slow")

    def draw(self) -> None:
        """Which of them are on in this run, and how often they strike (per call)."""
        draw = self._random
        self.before_rate = draw.choice([0, 0.01, 0.05, 0.1])
        self.after_rate = draw.choice([0, 0.01, 0.05, 0.1])
        self.drop_rate = draw.choice([0, 0, 0.01, 0.05])
        self.read_rate = draw.choice([0, 0, 0.02, 0.1])
        self.slow_rate = draw.choice([0, 0, 0.01, 0.05])

    def heal(self) -> None:
        self.before_rate = self.after_rate = self.drop_rate = self.read_rate = self.slow_rate = 0.0
        self.is_full = False

    async def before_commit(self, claims: Sequence[Claim]) -> None:
        await trio.sleep(0.0005 + 0.0025 * self._random.random())
        if self._strikes("slow", self.slow_rate):
            await trio.sleep(self._random.uniform(0, SLOW_SECONDS_MAX))
        if self.is_full:
            self.seen["full"] += 1
            raise StoreFull
        if self._strikes("refused", self.before_rate):
            raise StoreUnavailable
        if self._strikes("connection dropped", self.drop_rate):
            raise StoreTimeout  # it never arrived, and nobody knows that

    async def after_commit(self, claims: Sequence[Claim], appended: Appended) -> None:
        await trio.sleep(0.001 * self._random.random())
        if self._strikes("answer lost", self.after_rate):
            raise StoreTimeout

    async def before_read(self, what: str) -> None:
        await trio.sleep(0.0002 + 0.0018 * self._random.random())
        if self._strikes("slow", self.slow_rate):
            await trio.sleep(self._random.uniform(0, SLOW_SECONDS_MAX))
        if self._strikes("read refused", self.read_rate):
            raise StoreUnavailable

    def _strikes(self, kind: str, rate: float) -> bool:
        if not rate or self._random.random() >= rate:
            return False
        self.seen[kind] += 1
        return True


class MemoryOutput:
    """The gateway's output store: bytes by (instance, stream) and offset."""

    def __init__(self) -> None:
        self.chunks: dict[tuple[str, str], dict[int, bytes]] = defaultdict(dict)
        self.contradictions: list[Output] = []

    async def store(self, chunks: Sequence[Output]) -> None:
        await trio.sleep(0.001)
        for chunk in chunks:
            kept = self.chunks[chunk.instance_id, chunk.stream].setdefault(chunk.offset, bytes(chunk.data))
            if kept != bytes(chunk.data):
                self.contradictions.append(chunk)

    def text(self, instance_id: str, stream: str) -> bytes:
        chunks = self.chunks.get((instance_id, stream), {})
        return b"".join(chunks[offset] for offset in sorted(chunks))


class KnownByTables:
    """The two questions that a server puts to its tables, answered by the same definitions folded in Python."""

    def __init__(self, log: MemoryLog, faults: StoreFaults) -> None:
        self._log, self._faults = log, faults
        self._tables = Tables({"open_work": OPEN_WORK, "schedules": SCHEDULES, "jobs": JOBS})
        self._folded = 0

    async def find_open(self, position: int) -> Sequence[Address]:
        await self._faults.before_read("open work")
        return [Address.of_stream(str(name)) for name in self._rows("open_work")]

    async def schedules_of(self, source: Address, position: int) -> Sequence[str]:
        await self._faults.before_read(f"schedules of a {source.category}")
        return [str(key) for key, row in self._rows("schedules").items() if belongs(row, source)]

    async def followers_of(self, job_ids: Sequence[str]) -> Sequence[str]:
        await self._faults.before_read("jobs that follow others")
        return [
            str(key) for key, row in self._rows("jobs").items() if set(upstream_ids(row["upstream"])) & set(job_ids)
        ]

    def _rows(self, table: str) -> Mapping[str, Mapping[str, Any]]:
        self._tables.apply(self._log.events[self._folded :])
        self._folded = len(self._log.events)
        return self._tables.folds[table].rows()


def tables_of(log: MemoryLog, definitions: Mapping[str, Table]) -> Tables:
    """These tables, folded from the whole log."""
    tables = Tables(definitions)
    tables.apply(log.events)
    return tables
