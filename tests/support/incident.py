"""The night of docs/guide/what-happened-last-night.md, with real processes.

`python -m tests.support.incident` plays it and keeps the cluster up until Ctrl-C, so that the page can be tried as it is
written. With `--record` it runs the page's commands, writes their output into the page and draws docs/images.
"""

from __future__ import annotations

import os
import re
import sys
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, TypeVar

import trio
from attrs import Factory, define

from hetuflow.cli.client import Client, open_client
from hetuflow.cli.cluster import Cluster, Layout, free_port, open_cluster, start_server
from tests.support.terminal import hetuflow_command, terminal

DOCS = Path(__file__).parents[2] / "docs"
PAGE = DOCS / "guide" / "what-happened-last-night.md"
JOBS = DOCS / "guide" / "incident.yaml"
T = TypeVar("T")
PATIENCE_SECONDS = 90.0
COLUMNS = 100
LINES = 120
POSITION = "<position>"
BLOCK = re.compile(r"^```console\n(.*?)^```$", re.MULTILINE | re.DOTALL)


@asynccontextmanager
async def incident(directory: Path) -> AsyncIterator[Cluster]:
    """A cluster after that night: an agent lost, moments skipped, a task cancelled, one failed, one that waits."""
    layout = Layout(
        data_dir=directory, http_port=free_port(), websocket_port=free_port(), database_port=free_port(), agents=2
    )
    # an agent that is away for twenty seconds is given up, instead of two minutes: nobody waits that long for a page
    environ = os.environ | {"HETUFLOW_AGENT__LOST_AFTER_SECONDS": "20", "HETUFLOW_AGENT__HEARTBEAT_INTERVAL": "1"}
    async with trio.open_nursery() as nursery:
        async with open_cluster(layout, environ=environ) as cluster:
            night = Night(cluster)
            await night.begins()
            await night.agent_dies()
            await night.server_is_stopped(nursery, environ)
            await night.somebody_cancels()
            await night.until_quiet()
            yield cluster
        nursery.cancel_scope.cancel()


@define
class Night:
    cluster: Cluster

    async def begins(self) -> None:
        await self._run("apply", "-f", str(JOBS))
        await self._until("agents", {"status": {"$eq": "online"}}, count=2)
        await self._run("job", "run", "cleanup")
        await self._until("tasks", {"name": {"$eq": "cleanup"}, "status": {"$eq": "running"}})
        await self._run("job", "run", "sync")
        await self._run("job", "run", "train")
        await self._ask(self._schedule_backup)

    def _schedule_backup(self, client: Client) -> None:
        """Once a day from two seconds on; without a process in between, which may take as long to start."""
        [job] = client.rows("jobs", where={"name": {"$eq": "nightly-backup"}}, limit=1)
        start = (datetime.now(UTC) + timedelta(seconds=2)).isoformat()
        body = {"job_id": job["id"], "name": "nightly", "kind": "interval", "interval_secs": 86400, "start_time": start}
        client.post("/schedules/item", body)

    async def agent_dies(self) -> None:
        """With kill -9, in the middle of the backup."""
        backup = {"name": {"$eq": "nightly-backup"}}
        [task] = await self._until("tasks", {**backup, "status": {"$eq": "running"}})
        [row] = await self._until("task-instances", {"task_id": {"$eq": task["id"]}})
        child = self.cluster.children[row["agent_id"]]
        child.stopping = True  # so that its end is not the cluster's
        child.process.kill()
        await self._until("task-instances", {"task_id": {"$eq": task["id"]}, "reason": {"$eq": "lost"}})
        await self._until("tasks", {**backup, "status": {"$eq": "succeeded"}})

    async def server_is_stopped(self, nursery: trio.Nursery, environ: Mapping[str, str]) -> None:
        """For somebody's upgrade; two or more of the report's moments pass."""
        await self._until("tasks", {"name": {"$eq": "report"}, "status": {"$eq": "succeeded"}})
        await self.cluster.children["server"].stop()
        await trio.sleep(4)
        await start_server(self.cluster, nursery, environ)
        await self._until("agents", {"status": {"$eq": "online"}})
        with trio.fail_after(PATIENCE_SECONDS):
            while not (await self._ask(lambda client: client.get("/events", type="ScheduleSkipped")))["result"]:
                await trio.sleep(0.1)

    async def somebody_cancels(self) -> None:
        [row] = await self._until("tasks", {"name": {"$eq": "cleanup"}})
        await self._run("task", "cancel", row["id"], "--reason", "wrong disk, see ticket 4711")

    async def until_quiet(self) -> None:
        """The end of the night: nothing of it is under way, and the reports stop."""
        await self._until("tasks", {"name": {"$eq": "cleanup"}, "status": {"$eq": "cancelled"}})
        await self._until("tasks", {"name": {"$eq": "sync"}, "status": {"$eq": "failed"}})
        await self._run("schedule", "disable", "hourly")

    async def _until(self, collection: str, where: Mapping[str, Any], count: int = 1) -> Sequence[Mapping[str, Any]]:
        """The rows, when there are so many."""
        with trio.fail_after(PATIENCE_SECONDS):
            while True:
                found = await self._ask(lambda client: client.rows(collection, where=where, limit=count))
                if len(found) == count:
                    return found
                await trio.sleep(0.1)

    async def _ask(self, ask: Callable[[Client], T]) -> T:
        def asked() -> T:
            with open_client(self.cluster.http_url) as client:
                return ask(client)

        return await trio.to_thread.run_sync(asked)

    async def _run(self, *arguments: str) -> str:
        environ = os.environ | {"HETUFLOW_SERVER": self.cluster.http_url}
        command = hetuflow_command(*arguments)
        done = await trio.run_process(command, env=environ, capture_stdout=True, capture_stderr=True, check=False)
        if done.returncode:
            raise AssertionError(f"{arguments}: {done.stderr.decode()}")
        return done.stdout.decode()


# --- the page --------------------------------------------------------------------------------------------------------


@define
class Shown:
    """What a command of the page showed: the status it ended with, its lines, and the screen for a picture."""

    command: str
    status: int
    lines: list[str]
    pictures: list[Any] = Factory(list)


def page_commands(page: str) -> Iterator[tuple[str, list[str]]]:
    """Each command of the page's console blocks, and the lines that the page says it prints."""
    for block in BLOCK.findall(page):
        for part in re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]:
            command, _, output = part.partition("\n")
            yield command, output.splitlines()


def run_page(page: str, url: str, directory: Path) -> Iterator[Shown]:
    """The page's commands one after the other, in a terminal, as a reader would.

    `<position>` is what the reader takes from the first column of the output before.
    """
    position = ""
    for command, _ in page_commands(page):
        done = run_in_terminal(command.replace(POSITION, position), url, directory)
        if found := re.match(r"\s*(\d+) ", "\n".join(done.lines[-1:])):
            position = found[1]
        done.command = command
        yield done


def run_in_terminal(command: str, url: str, directory: Path) -> Shown:
    program = f'hetuflow() {{ "{sys.executable}" -m hetuflow.cli.main "$@"; }}\n{command}'
    environ = {"HETUFLOW_SERVER": url, "PYTHONPATH": str(DOCS.parent)}
    with terminal(["bash", "-c", program], columns=COLUMNS, lines=LINES, environ=environ, directory=directory) as shown:
        status = shown.until_end()
        lines = shown.lines
        while lines and not lines[-1]:
            lines.pop()
        return Shown(command, status, lines, shown.styled_lines()[: len(lines)])


def written_into(page: str, shown: list[Shown]) -> str:
    """The page with the output of its commands as it was now."""
    rest = iter(shown)

    def block(match: re.Match[str]) -> str:
        parts = []
        for _ in re.split(r"^\$ ", match[1], flags=re.MULTILINE)[1:]:
            one = next(rest)
            parts.append("\n".join([f"$ {one.command}", *one.lines, ""]))
        return "```console\n" + "\n".join(parts) + "```"

    return BLOCK.sub(block, page)


async def _main(*, record: bool) -> None:
    with tempfile.TemporaryDirectory(prefix="hetuflow-incident-") as directory:
        print("playing the night; this takes about half a minute ...", file=sys.stderr)
        async with incident(Path(directory) / "data") as cluster:
            if record:
                from tests.support.pictures import draw

                page = PAGE.read_text()
                shown = await trio.to_thread.run_sync(lambda: list(run_page(page, cluster.http_url, Path(directory))))
                PAGE.write_text(written_into(page, shown))
                await trio.to_thread.run_sync(lambda: draw(DOCS / "images", shown, cluster.http_url))
                return
            print(f"\nthe morning after:\n\n  export HETUFLOW_SERVER={cluster.http_url}\n\nCtrl-C ends it.")
            await trio.sleep_forever()


if __name__ == "__main__":
    try:
        trio.run(lambda: _main(record="--record" in sys.argv[1:]))
    except* KeyboardInterrupt:
        pass
