"""What an idle cluster costs: CPU, queries, memory."""

from __future__ import annotations

import asyncpg
import psutil
import trio

from tests.benchmarks.harness import Figure, answer, bench_cluster, open_api, until_agent_online

SECONDS = 15.0


async def idle() -> list[Figure]:
    async with bench_cluster(agents=1) as cluster, open_api(cluster) as http:
        await until_agent_online(http)
        await answer(http, "GET", "/system/info")
        await trio.sleep(15)  # idle backends flush their counters of the start after ten seconds
        server = psutil.Process(cluster.children["server"].process.pid)
        agent = psutil.Process(cluster.children["agent-01"].process.pid)
        cpu, queries = _cpu(server), await trio.to_thread.run_sync(_queries, cluster.database_url)
        await trio.sleep(SECONDS)
        used = (_cpu(server) - cpu) / SECONDS
        asked = (await trio.to_thread.run_sync(_queries, cluster.database_url) - queries - 1) / SECONDS
        rss_server, rss_agent = server.memory_info().rss / 2**20, agent.memory_info().rss / 2**20
    return [
        Figure("idle: server CPU, % of a core", f"{used * 100:.2f}", budget="≤ 1", met=used <= 0.01),
        Figure("idle: transactions/s", f"{asked:.1f}", budget="≤ 5", met=asked <= 5),
        Figure("idle: server RSS, MiB", f"{rss_server:.0f}", budget="≤ 120", met=rss_server <= 120),
        Figure("idle: agent RSS, MiB", f"{rss_agent:.0f}", budget="≤ 40", met=rss_agent <= 40),
    ]


def _cpu(process: psutil.Process) -> float:
    times = process.cpu_times()
    return float(times.user + times.system)


def _queries(url: str) -> int:
    """Transactions of the database so far, as PostgreSQL counts them."""
    import asyncio

    async def ask() -> int:
        connection = await asyncpg.connect(url)
        try:
            return int(
                await connection.fetchval(
                    "SELECT xact_commit + xact_rollback FROM pg_stat_database WHERE datname = current_database()"
                )
            )
        finally:
            await connection.close()

    return asyncio.run(ask())
