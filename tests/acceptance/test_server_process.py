"""The server as a process: it stops in order, starts again where it was, and says in one line what it cannot."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import httpx
import pytest
import trio

from hetuflow.cli.cluster import Cluster, Layout, free_port, start_agent, start_server, stop_children
from tests.support.postgres import Server, query

pytestmark = pytest.mark.postgres

DEADLINE_SECONDS = 120.0


def arguments(layout: Layout, database: str) -> list[str]:
    return [
        *(sys.executable, "-m", "hetuflow.cli.main", "server", "--database-url", database),
        *("--http-port", str(layout.http_port), "--websocket-port", str(layout.websocket_port)),
        *("--state-dir", str(layout.data_dir / "server")),
    ]


def a_layout(tmp_path: Path) -> Layout:
    layout = Layout(data_dir=tmp_path, http_port=free_port(), websocket_port=free_port(), slots=4)
    layout.log("x").parent.mkdir(parents=True)
    return layout


async def refused(layout: Layout, database: str, environ: Mapping[str, str] | None = None) -> str:
    """What a server says that cannot start, on standard error; its exit status is 2."""
    ended = await trio.run_process(
        arguments(layout, database), capture_stdout=True, capture_stderr=True, check=False, env=environ
    )
    assert ended.returncode == 2, ended.stderr.decode()
    return ended.stderr.decode()


def is_one_line(said: str) -> bool:
    return said.startswith("Error: ") and said.count("\n") == 1


async def test_a_stop_is_recorded_and_running_work_goes_on(fresh_database: str, tmp_path: Path) -> None:
    layout = a_layout(tmp_path)
    go_on = tmp_path / "go-on"
    with trio.fail_after(DEADLINE_SECONDS):
        async with trio.open_nursery() as nursery:
            cluster = Cluster(layout, fresh_database)
            try:
                server = await start_server(cluster, nursery)
                await start_agent(cluster, nursery, 1)
                task_id = await a_running_task(cluster, f"until test -e {go_on}; do sleep 0.05; done")
                await server.stop()
                assert server.process.returncode == 0
                await check_goodbye(fresh_database)
                await start_server(cluster, nursery)
                go_on.touch()
                await until_status(cluster, task_id, 100)
                [[tries]] = await query(
                    fresh_database, "select count(*) from events where type in ('TaskDispatched', 'InstanceStarted')"
                )
                assert tries == 2, "one dispatch, one start"
            finally:
                with trio.CancelScope(shield=True):
                    await stop_children(cluster)
                nursery.cancel_scope.cancel()


async def a_running_task(cluster: Cluster, script: str) -> str:
    async with httpx.AsyncClient(base_url=f"{cluster.http_url}/api/v1", timeout=30) as http:
        config = {"cmd": "bash", "args": ["-c", script]}
        job = (await http.post("/jobs/item", json={"name": "waits", "config": config})).json()["id"]
        task_id = str((await http.post(f"/jobs/item/{job}/run")).json()["id"])
    await until_status(cluster, task_id, 10)
    return task_id


async def until_status(cluster: Cluster, task_id: str, status: int) -> None:
    async with httpx.AsyncClient(base_url=f"{cluster.http_url}/api/v1", timeout=30) as http:
        while True:
            if (await http.get(f"/tasks/{task_id}")).json()["status"] == status:
                return
            await trio.sleep(0.05)


async def check_goodbye(database: str) -> None:
    rows = await query(
        database,
        "select type, data->>'reason', count(*) from events"
        " where type in ('AgentDisconnected', 'LeaseReleased', 'ServerStopped') group by 1, 2 order by 1",
    )
    assert [tuple(row) for row in rows] == [
        ("AgentDisconnected", "the server is stopping", 1),
        ("LeaseReleased", None, 64),
        ("ServerStopped", None, 1),
    ]


async def test_a_port_in_use_is_one_line(fresh_database: str, tmp_path: Path) -> None:
    layout = a_layout(tmp_path)
    for port, setting in ((layout.http_port, "server.http_port"), (layout.websocket_port, "server.websocket_port")):
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", port))
            taken.listen()
            said = await refused(layout, fresh_database)
        assert is_one_line(said) and f"port {port} on 127.0.0.1 is in use" in said and setting in said


async def test_a_database_that_cannot_be_used_is_one_line(postgres_server: Server, tmp_path: Path) -> None:
    layout = a_layout(tmp_path)
    said = await refused(layout, f"postgresql://postgres@127.0.0.1:{free_port()}/hetuflow")
    assert is_one_line(said)
    said = await refused(layout, postgres_server.url_of("no_such_database"))
    assert is_one_line(said)
    empty = await trio.to_thread.run_sync(postgres_server.empty_database)
    said = await refused(layout, empty)
    assert is_one_line(said) and "hetuflow migrate" in said
    await trio.to_thread.run_sync(postgres_server.drop, empty)


async def test_a_state_directory_that_others_can_enter_is_one_line(fresh_database: str, tmp_path: Path) -> None:
    layout = a_layout(tmp_path)
    open_dir = layout.data_dir / "server"
    open_dir.mkdir()
    os.chmod(open_dir, 0o755)
    said = await refused(layout, fresh_database)
    assert is_one_line(said) and f"chmod 700 {open_dir}" in said


async def test_a_second_signal_ends_it_at_once(fresh_database: str, tmp_path: Path) -> None:
    layout = a_layout(tmp_path)
    with trio.fail_after(DEADLINE_SECONDS):
        async with trio.open_nursery() as nursery:
            cluster = Cluster(layout, fresh_database)
            server = await start_server(cluster, nursery)
            server.stopping = True
            async with await trio.open_tcp_stream("127.0.0.1", layout.http_port) as client:
                await client.send_all(
                    b"POST /api/v1/jobs/item HTTP/1.1\r\nHost: localhost\r\nContent-Length: 10\r\n\r\n"
                )
                server.process.send_signal(signal.SIGTERM)  # the request under way holds the stop up
                while b"stopping" not in layout.log("server").read_bytes():  # noqa: ASYNC110 - another process writes it
                    await trio.sleep(0.01)
                server.process.send_signal(signal.SIGTERM)
                await server.ended.wait()
            assert server.process.returncode == -signal.SIGTERM
            nursery.cancel_scope.cancel()


def test_without_a_database_it_says_how_to_name_one(tmp_path: Path) -> None:
    environ = {name: value for name, value in os.environ.items() if name != "DATABASE_URL"}
    ended = subprocess.run(
        [sys.executable, "-m", "hetuflow.cli.main", "server", "--state-dir", str(tmp_path / "s")],
        capture_output=True,
        text=True,
        env=environ,
        check=False,
        timeout=60,
    )
    assert ended.returncode == 2
    assert "DATABASE_URL" in ended.stderr and "Traceback" not in ended.stderr
