"""What follows something goes on over a restart of the server, and says each thing once."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import IO

import pytest
import trio
from attrs import frozen

from hetuflow.cli.cluster import Cluster, Layout, free_port, open_cluster, start_server
from tests.cli.conftest import Shell


@frozen
class Follower:
    """A `hetuflow …` that runs; its output goes to files, so that nobody has to read in time."""

    process: subprocess.Popen[bytes]
    out: Path
    err: Path

    async def until(self, text: str) -> None:
        while text not in self.out.read_text() + self.err.read_text():
            assert self.process.poll() is None, self.err.read_text()
            await trio.sleep(0.05)

    async def ended(self) -> int:
        return await trio.to_thread.run_sync(lambda: self.process.wait(60))


@contextmanager
def following(directory: Path, name: str, url: str, *arguments: str) -> Iterator[Follower]:
    def opened(suffix: str) -> IO[bytes]:
        return (directory / f"{name}.{suffix}").open("wb")

    with opened("out") as out, opened("err") as err:
        process = subprocess.Popen(
            [sys.executable, "-u", "-m", "hetuflow.cli.main", *arguments],
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=err,
            env=os.environ | {"HETUFLOW_SERVER": url},
        )
    try:
        yield Follower(process, directory / f"{name}.out", directory / f"{name}.err")
    finally:
        if process.poll() is None:
            process.kill()
        process.wait()


@asynccontextmanager
async def restartable(directory: Path) -> AsyncIterator[tuple[Cluster, trio.Nursery]]:
    layout = Layout(
        data_dir=directory, http_port=free_port(), websocket_port=free_port(), database_port=free_port(), agents=1
    )
    async with trio.open_nursery() as nursery:
        async with open_cluster(layout) as cluster:
            yield cluster, nursery
        nursery.cancel_scope.cancel()


@pytest.mark.slow
async def test_followers_go_on_over_a_restart_of_the_server(tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    script = f"echo first; echo to-stderr >&2; while [ ! -e {gate} ]; do sleep 0.05; done; echo second; exit 3"
    with trio.fail_after(150):
        async with restartable(tmp_path / "data") as (cluster, nursery):
            hetuflow = Shell(cluster.http_url)

            async def run(*arguments: str) -> str:
                return await trio.to_thread.run_sync(lambda: hetuflow(*arguments))

            await run("job", "create", "gated", "--max-retries", "0", "--", "bash", "-c", script)
            task = json.loads(await run("job", "run", "gated", "--json"))["id"]
            url = cluster.http_url
            with (
                following(tmp_path, "logs", url, "task", "logs", "-f", task) as logs,
                following(tmp_path, "tail", url, "events", "tail", "--json", "--after", "0") as tail,
                following(tmp_path, "wait", url, "job", "run", "gated", "--wait") as waiting,
                following(tmp_path, "follow", url, "job", "run", "gated", "--follow") as follow,
            ):
                await logs.until("first")
                await follow.until("first")
                while len(json.loads(await run("events", "list", "--type", "InstanceStarted", "--json"))) < 3:
                    await trio.sleep(0.1)  # all three runs are under way, however slowly the followers start
                await cluster.children["server"].stop()
                await logs.until("connection lost")
                await start_server(cluster, nursery)
                await logs.until("connected again")
                await follow.until("connected again")
                gate.touch()
                assert await logs.ended() == 0
                assert await waiting.ended() == 1
                assert await follow.ended() == 1
                assert logs.out.read_text() == follow.out.read_text() == waiting.out.read_text() == "first\nsecond\n"
                assert "to-stderr" in logs.err.read_text() and "exit" in waiting.err.read_text().splitlines()[-1]
                last = json.loads(await run("events", "list", "--reverse", "-n", "1", "--json"))[0]["position"]
                await tail.until(f'"position": {last},')
                positions = [json.loads(line)["position"] for line in tail.out.read_text().splitlines()]
                assert positions == list(range(1, len(positions) + 1))
