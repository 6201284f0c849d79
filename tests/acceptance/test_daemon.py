"""A daemon of real processes: its program is killed, its agent is killed, its server is killed, its job is edited.

The programs say themselves when they start, in a file of the test's: the verdict does not rest on our log alone.
"""

from __future__ import annotations

import os
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest
import trio
from attrs import define

from hetuflow.cli.cluster import Cluster, Layout, free_port, start_agent, start_server, stop_children
from tests.support.postgres import query

pytestmark = [pytest.mark.postgres, pytest.mark.slow]

DEADLINE_SECONDS = 240.0
INSTANCES = 3
ENVIRON = {
    **os.environ,
    "HETUFLOW_AGENT__LOST_AFTER_SECONDS": "8",
    "HETUFLOW_AGENT__HEARTBEAT_INTERVAL": "2",
    "HETUFLOW_SCHEDULER__SERVER_LOST_AFTER": "4s",
}

PROGRAM = """
import os, sys, time
line = " ".join([os.environ["HETUFLOW_SEAT"], str(os.getpid()), os.environ.get("VERSION", "1")])
with open(sys.argv[1], "a") as lines:
    lines.write(line + "\\n")
while True:
    time.sleep(60)
"""


@define
class Rig:
    cluster: Cluster
    nursery: trio.Nursery
    lines: Path
    database: str
    job_id: str = ""
    schedule_id: str = ""

    def client(self) -> httpx.AsyncClient:
        return httpx.AsyncClient(base_url=f"{self.cluster.http_url}/api/v1", timeout=30)

    def programs(self) -> list[tuple[int, psutil.Process, str]]:
        """(seat, process, version) of those that live."""
        found = []
        for line in self.lines.read_text().splitlines():
            seat, pid, version = line.split()
            try:
                process = psutil.Process(int(pid))
                if process.status() != psutil.STATUS_ZOMBIE and str(self.lines) in process.cmdline():
                    found.append((int(seat), process, version))
            except psutil.NoSuchProcess:
                continue
        return found

    async def kill(self, pid: int) -> None:
        """kill -9 of a program; returns when it is gone."""
        os.kill(pid, signal.SIGKILL)
        while pid in {process.pid for _, process, _ in self.programs()}:  # noqa: ASYNC110
            await trio.sleep(0.01)

    async def seats(self) -> dict[str, Any]:
        async with self.client() as http:
            answer: dict[str, Any] = (await http.get(f"/schedules/item/{self.schedule_id}/seats")).json()
            return answer

    async def until_running(self, version: str = "1") -> dict[int, int]:
        """Until each seat has one living program of that version; never more than one. Seat -> pid."""
        while True:
            found = self.programs()
            seats = [seat for seat, _, _ in found]
            assert len(seats) == len(set(seats)), f"two programs in one seat: {found}"
            if len(found) == INSTANCES and {each for _, _, each in found} == {version}:
                return {seat: process.pid for seat, process, _ in found}
            await trio.sleep(0.1)


@asynccontextmanager
async def a_rig(database: str, tmp_path: Path) -> AsyncIterator[Rig]:
    layout = Layout(data_dir=tmp_path, http_port=free_port(), websocket_port=free_port(), agents=2, slots=INSTANCES)
    layout.log("x").parent.mkdir(parents=True)
    lines = tmp_path / "lines"
    lines.touch()
    async with trio.open_nursery() as nursery:
        cluster = Cluster(layout, database)
        try:
            await start_server(cluster, nursery, ENVIRON)
            for number in (1, 2):
                await start_agent(cluster, nursery, number, ENVIRON)
            yield Rig(cluster, nursery, lines, database)
        finally:
            with trio.CancelScope(shield=True):
                await stop_children(cluster)
            nursery.cancel_scope.cancel()


async def a_daemon(rig: Rig) -> None:
    async with rig.client() as http:
        config = {"cmd": "python3", "args": ["-c", PROGRAM, str(rig.lines)], "retry_interval": 1}
        job = await http.post("/jobs/item", json={"name": "web", "config": config})
        rig.job_id = job.json()["id"]
        body = {
            "job_id": rig.job_id,
            "kind": "daemon",
            "daemon": {"instances": INSTANCES, "ready_after_seconds": 1, "healthy_after_seconds": 5},
        }
        made = await http.post("/schedules/item", json=body)
        assert made.status_code == 200, made.text
        rig.schedule_id = made.json()["id"]


async def test_a_daemon_is_kept_running_moved_and_replaced(fresh_database: str, tmp_path: Path) -> None:
    with trio.fail_after(DEADLINE_SECONDS):
        async with a_rig(fresh_database, tmp_path) as rig:
            await a_daemon(rig)
            first = await rig.until_running()

            await rig.kill(first[1])
            second = await rig.until_running()
            assert second[1] != first[1] and second[0] == first[0] and second[2] == first[2]

            await an_agent_is_killed(rig)
            third = await rig.until_running()
            assert {seat for seat in third if third[seat] != second[seat]}, "those of the agent have moved"

            await the_job_is_edited(rig)
            await rig.until_running("2")

            await the_server_is_killed_and_a_program_with_it(rig)
            await rig.until_running("2")

            async with rig.client() as http:
                await http.post(f"/schedules/item/{rig.schedule_id}/disable")
            while rig.programs():  # noqa: ASYNC110 - what is awaited is other processes' doing
                await trio.sleep(0.1)
            while (await rig.seats())["running"]:  # noqa: ASYNC110
                await trio.sleep(0.1)
            assert (await rig.seats())["summary"] == "Not running: the schedule is disabled."
        await check(rig)


async def an_agent_is_killed(rig: Rig) -> None:
    """One that has a seat: its programs end with it, and what they were is lost when its lease has run out."""
    agents = {seat["agent_id"] for seat in (await rig.seats())["result"]}
    name = min(agents)
    child = rig.cluster.children[name]
    child.stopping = True
    before = {process.pid for _, process, _ in rig.programs()}
    child.process.kill()
    while {process.pid for _, process, _ in rig.programs()} >= before:  # noqa: ASYNC110
        await trio.sleep(0.1)
    other = 3
    await start_agent(rig.cluster, rig.nursery, other, ENVIRON)


async def the_job_is_edited(rig: Rig) -> None:
    """While it is rolled out no more than one is missing at a time."""
    while (await rig.seats())["available"] < INSTANCES:  # noqa: ASYNC110
        await trio.sleep(0.1)
    async with rig.client() as http:
        answer = await http.put(f"/jobs/item/{rig.job_id}", json={"environment": {"VERSION": "2"}})
        assert answer.status_code == 200, answer.text


async def the_server_is_killed_and_a_program_with_it(rig: Rig) -> None:
    server = rig.cluster.children["server"]
    server.stopping = True
    server.process.kill()
    server.process.wait()
    _, victim, _ = rig.programs()[0]
    await rig.kill(victim.pid)
    await start_server(rig.cluster, rig.nursery, ENVIRON)


async def check(rig: Rig) -> None:
    """At most one open task in each seat, at every position of the log; the edit went one by one."""
    rows = await query(
        rig.database,
        "select type, data::text from events where stream_id = $1 order by version",
        f"schedule-{rig.schedule_id}",
    )
    kinds = [kind for kind, _ in rows]
    assert kinds.count("SeatStarted") == kinds.count("SeatEnded") >= 2 * INSTANCES + 3
    assert kinds[-1] == "DaemonStopped"
    [[edits]] = await query(
        rig.database,
        "select coalesce(max(jsonb_array_length(data->'seats')), 0) from events"
        " where stream_id = $1 and type = 'SeatsStopping' and data->>'cause' = 'edited'",
        f"schedule-{rig.schedule_id}",
    )
    assert edits == 1
    reasons = await query(
        rig.database,
        "select distinct data->>'why' from events where stream_id = $1 and type = 'SeatStarted' order by 1",
        f"schedule-{rig.schedule_id}",
    )
    assert [each for [each] in reasons] == ["edited", "moved", "restarted", "started"]
