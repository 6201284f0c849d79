"""The agent alone, against a gateway that only welcomes and acknowledges: what starting and reporting a process costs.

`python -m tests.benchmarks.spawn` prints the figures. Baselines of the same run: `xargs` (the shell's way of running
things side by side) and `subprocess` one after the other.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from statistics import quantiles

import psutil
import trio

from hetuflow.protocol.messages import Started
from tests.agent.gateway import Gateway, an_order, serve_gateway

ROOT = Path(__file__).parents[2]
SLOTS = 16


async def measure(tasks: int = 2000, samples: int = 200) -> dict[str, float]:
    """Figures by name; rates per second, times in milliseconds, sizes in MiB."""
    gateway = Gateway()
    figures: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as root:
        async with serve_gateway(gateway) as url, trio.open_nursery() as nursery:
            command = [
                *(sys.executable, "-m", "agent", "--server-url", url, "--id", "bench", "--slots", str(SLOTS)),
                *("--state-dir", f"{root}/state", "--work-dir", f"{root}/work", "--log-level", "error"),
            ]
            agent: trio.Process = await nursery.start(_process, command)
            await gateway.until_connected()
            process = psutil.Process(agent.pid)
            figures["agent_rss_mib_idle"] = round(process.memory_info().rss / 2**20, 1)
            await _many(gateway, 200)
            figures.update(await _throughput(gateway, process, tasks))
            figures.update(await _latency(gateway, samples))
            figures["agent_rss_mib_after"] = round(process.memory_info().rss / 2**20, 1)
            figures["agent_idle_cpu_percent"] = await _idle(process)
            agent.terminate()
            await agent.wait()
            nursery.cancel_scope.cancel()
    figures["subprocess_per_s"] = _rate(tasks // 4, lambda: _one_by_one(tasks // 4))
    for parallel in (4, SLOTS):
        figures[f"xargs_p{parallel}_per_s"] = _rate(tasks, lambda parallel=parallel: _xargs(tasks, parallel))  # type: ignore[misc]
    figures["ratio_to_xargs_p4"] = round(figures["tasks_per_s"] / figures["xargs_p4_per_s"], 2)
    return figures


async def _process(command: list[str], task_status: trio.TaskStatus[trio.Process]) -> None:
    await trio.run_process(command, cwd=ROOT, task_status=task_status, check=False)


async def _many(gateway: Gateway, count: int) -> None:
    """`count` instances, always as many at once as there are slots."""
    first, sent = gateway.ended_count, 0
    while (done := gateway.ended_count - first) < count:
        orders = [an_order("/bin/true") for _ in range(min(SLOTS - (sent - done), count - sent))]
        sent += len(orders)
        if orders:
            await gateway.send(*orders)
        await gateway.until(lambda done=done: gateway.ended_count - first > done)  # type: ignore[misc]


async def _throughput(gateway: Gateway, process: psutil.Process, count: int) -> dict[str, float]:
    cpu, began, frames = sum(process.cpu_times()[:2]), time.perf_counter(), gateway.frames
    await _many(gateway, count)
    seconds = time.perf_counter() - began
    return {
        "tasks_per_s": round(count / seconds),
        "agent_cpu_ms_per_task": round((sum(process.cpu_times()[:2]) - cpu) / count * 1000, 3),
        "messages_per_frame": round(2 * count / (gateway.frames - frames), 1),
    }


async def _latency(gateway: Gateway, samples: int) -> dict[str, float]:
    """One at a time: dispatch sent -> process spawned (the agent's clock), and -> end heard."""
    spawned, ended = [], []
    for _ in range(samples):
        order = an_order("/bin/true")
        at, began = datetime.now(UTC), time.perf_counter()
        await gateway.send(order)
        await gateway.until_ended(order.instance_id)
        ended.append((time.perf_counter() - began) * 1000)
        started = next(m for m in gateway.heard[::-1] if isinstance(m, Started))
        spawned.append((datetime.fromisoformat(started.started_at) - at).total_seconds() * 1000)
    return {
        **{f"dispatch_to_spawn_ms_{name}": value for name, value in _percentiles(spawned).items()},
        **{f"dispatch_to_ended_ms_{name}": value for name, value in _percentiles(ended).items()},
    }


async def _idle(process: psutil.Process) -> float:
    before, began = sum(process.cpu_times()[:2]), time.perf_counter()
    await trio.sleep(3)
    return round((sum(process.cpu_times()[:2]) - before) / (time.perf_counter() - began) * 100, 2)


def _percentiles(values: list[float]) -> dict[str, float]:
    cuts = quantiles(values, n=100)
    return {"p50": round(cuts[49], 2), "p95": round(cuts[94], 2), "p99": round(cuts[98], 2)}


def _rate(count: int, run: Callable[[], None]) -> float:
    began = time.perf_counter()
    run()
    return round(count / (time.perf_counter() - began))


def _one_by_one(count: int) -> None:
    for _ in range(count):
        subprocess.run(["/bin/true"], check=True)


def _xargs(count: int, parallel: int) -> None:
    numbers = "\n".join(map(str, range(count))).encode()
    subprocess.run(["xargs", f"-P{parallel}", "-n1", "/bin/true"], input=numbers, check=True)


if __name__ == "__main__":
    for name, value in trio.run(measure).items():
        print(f"{name:28} {value:g}")
