"""The log: appending to it, and folding it anew. On an embedded PostgreSQL of its own."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from hetuflow.cli.cluster import free_port
from hetuflow.embedded.postgres import open_embedded_postgres
from tests.benchmarks import append, rebuild
from tests.benchmarks.harness import Figure


@asynccontextmanager
async def _database() -> AsyncIterator[str]:
    directory = Path(tempfile.mkdtemp(prefix="hetuflow-bench-"))
    try:
        async with open_embedded_postgres(directory / "postgres", port=free_port()) as postgres:
            yield postgres.url
    finally:
        shutil.rmtree(directory, ignore_errors=True)


async def append_rates() -> list[Figure]:
    async with _database() as url:
        found = await append.measure(url)
    bare = f"bare INSERT: {found['bare_events_per_second']:.0f}"
    return [
        Figure(
            "append: events/s, batches of 500",
            f"{found['batch_events_per_second']:.0f}",
            bare,
            found["batch_ratio"],
            "≥ 40000",
            found["batch_events_per_second"] >= 40_000,
        ),
        Figure(
            "append: one event alone, p50/p95",
            f"{found['lone_p50_ms']:.1f} / {found['lone_p95_ms']:.1f} ms",
            f"bare INSERT: {found['bare_lone_p50_ms']:.1f} ms",
            found["lone_p50_ms"] / found["bare_lone_p50_ms"],
            "p50 ≤ 3 ms",
            found["lone_p50_ms"] <= 3,
        ),
    ]


async def rebuild_rate(events: int) -> list[Figure]:
    async with _database() as url:
        found = await rebuild.measure(url, events=events)
    return [
        Figure(
            f"rebuild: events/s, tasks and instances, {events} events",
            f"{found['events_per_second']:.0f}",
            f"one SQL GROUP BY: {found['baseline_events_per_second']:.0f}",
            found["events_per_second"] / found["baseline_events_per_second"],
            "≥ 100000, aim 150000",
            found["events_per_second"] >= 100_000,
        )
    ]
