"""A cluster for the benchmarks, and the arithmetic they share."""

from __future__ import annotations

import math
import shutil
import tempfile
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import trio
from attrs import frozen

from hetuflow.cli.cluster import Cluster, Layout, free_port, open_cluster


@frozen
class Figure:
    """One line of the table. `ratio` is to the baseline named, measured in the same run; `met` is None without a budget."""

    name: str
    value: str
    baseline: str = ""
    ratio: float | None = None
    budget: str = ""
    met: bool | None = None


@asynccontextmanager
async def bench_cluster(*, agents: int = 1, slots: int = 5) -> AsyncIterator[Cluster]:
    """A cluster with a data directory of its own, removed at the end."""
    directory = Path(tempfile.mkdtemp(prefix="hetuflow-bench-"))
    layout = Layout(
        data_dir=directory,
        http_port=free_port(),
        websocket_port=free_port(),
        database_port=free_port(),
        agents=agents,
        slots=slots,
    )
    try:
        async with open_cluster(layout) as cluster:
            yield cluster
    finally:
        shutil.rmtree(directory, ignore_errors=True)


@asynccontextmanager
async def open_api(cluster: Cluster) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(base_url=f"{cluster.http_url}/api/v1", timeout=60) as http:
        yield http


async def answer(http: httpx.AsyncClient, method: str, path: str, body: object = None) -> object:
    response = await http.request(method, path, json=body)
    if response.status_code != 200:
        raise AssertionError(f"{method} {path}: {response.status_code} {response.text}")
    return response.json()


async def until_agent_online(http: httpx.AsyncClient, count: int = 1) -> None:
    while (await answer(http, "GET", "/gateway/status"))["online_agents"] < count:  # type: ignore[index]
        await trio.sleep(0.02)


def quantile(values: Sequence[float], q: float) -> float:
    """Nearest-rank quantile, `q` in (0, 1]."""
    ordered = sorted(values)
    return ordered[max(0, math.ceil(q * len(ordered)) - 1)]


def quantiles_ms(values: Sequence[float]) -> str:
    return " / ".join(f"{quantile(values, q) * 1000:.1f}" for q in (0.5, 0.95, 0.99)) + " ms"
