"""`make demo`: the whole of hetuflow on this machine in under a minute, followed live, with a verdict.

It starts its own PostgreSQL, server and agent on free ports, then does over the REST API what a user would: the guide's
hello-world job on a two-second interval, a job that fails and is retried, and one that is cancelled while it runs.
Exit status 0 only if all of that happened.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import click
import trio

from hetuflow.cli import events, output, render, tasks
from hetuflow.cli.client import Client, open_client
from hetuflow.cli.cluster import ClusterError, Layout, free_port, open_cluster
from hetuflow.cli.dev import stop_on_signal
from hetuflow.cli.unwrap import lone
from hetuflow.domain.enums import TaskStatus

DATA_DIR = Path(".hetuflow") / "demo"
DEADLINE_SECONDS = 50.0
POLL_SECONDS = 0.1
Task = Mapping[str, Any]


class DemoFailed(Exception):
    """What should have happened did not; the message says which."""


def main() -> None:
    layout = Layout(data_dir=DATA_DIR.resolve(), http_port=free_port(), websocket_port=free_port(), slots=4)
    try:
        with lone(DemoFailed, ClusterError, click.ClickException, KeyboardInterrupt):
            trio.run(_main, layout)
    except KeyboardInterrupt:
        click.echo("interrupted", err=True)
        sys.exit(130)
    except (DemoFailed, ClusterError, click.ClickException) as exc:
        click.secho(f"the demo failed: {exc}", fg="red", err=True)
        click.echo(f"the logs are in {layout.data_dir / 'logs'}", err=True)
        sys.exit(1)


async def _main(layout: Layout) -> None:
    began = trio.current_time()
    _say("starting PostgreSQL, a server and an agent ...")
    running = trio.CancelScope()
    async with trio.open_nursery() as signals:
        await signals.start(stop_on_signal, running)
        with running:
            await _tell(layout, began)
        signals.cancel_scope.cancel()
    if running.cancelled_caught:
        raise KeyboardInterrupt
    _say("everything is stopped; the data stay")
    click.echo(_what_next(layout))


async def _tell(layout: Layout, began: float) -> None:
    async with open_cluster(layout) as cluster, trio.open_nursery() as nursery:
        nursery.start_soon(_fail_with, cluster.failed, lambda: cluster.failure)
        _say(f"everything runs after {trio.current_time() - began:.1f} s: REST API on {layout.http_url}")
        with open_client(layout.http_url) as client:
            with trio.move_on_after(DEADLINE_SECONDS) as deadline:
                story = Story(client)
                await story.tell()
            if deadline.cancelled_caught:
                raise DemoFailed(f"not done within {DEADLINE_SECONDS:.0f} s: {story.missing()}")
            story.epilogue()
        nursery.cancel_scope.cancel()


async def _fail_with(failed: trio.Event, why: Callable[[], str]) -> None:
    await failed.wait()
    raise ClusterError(why())


class Story:
    """What the demo does, and what it has seen of it."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._position = 0
        self._jobs: dict[str, str] = {}
        self._schedule = ""
        self._slow_task = ""
        self._seen: list[Task] = []

    async def tell(self) -> None:
        self._position = (await self._call(self._client.get, "/system/info"))["position"]
        await self._until(self._agent_is_online)
        await self._create()
        await self._until(self._everything_happened)

    async def _create(self) -> None:
        post = self._client.post
        self._jobs["hello"] = (
            await self._call(
                post,
                "/jobs/item",
                {
                    "namespace_id": "default",
                    "name": "hello-world-job",
                    "description": "Hello World 示例任务",
                    "environment": {"MESSAGE": "Hello from hetuflow!"},
                    "config": {
                        "timeout": 300,
                        "max_retries": 2,
                        "retry_interval": 30,
                        "cmd": "bash",
                        "args": ["-c", "echo $MESSAGE"],
                        "capture_output": True,
                        "max_output_size": 1024000,
                    },
                },
            )
        )["id"]
        self._schedule = (
            await self._call(
                post,
                "/schedules/item",
                {"job_id": self._jobs["hello"], "name": "every-two-seconds", "kind": "interval", "interval_seconds": 2},
            )
        )["id"]
        self._jobs["fails"] = (
            await self._call(
                post,
                "/jobs/item",
                {
                    "name": "fails-and-is-retried",
                    "config": {
                        "args": ["-c", "echo trying; exit 3"],
                        "max_retries": 1,
                        "retry_interval": 1,
                    },
                },
            )
        )["id"]
        self._jobs["slow"] = (
            await self._call(post, "/jobs/item", {"name": "is-cancelled", "config": {"args": ["-c", "sleep 600"]}})
        )["id"]
        _say("created three jobs and a two-second schedule over the REST API; the events, as they happen:")
        await self._call(post, f"/jobs/item/{self._jobs['fails']}/run")
        self._slow_task = (await self._call(post, f"/jobs/item/{self._jobs['slow']}/run"))["id"]

    async def _agent_is_online(self) -> bool:
        found: bool = (await self._call(self._client.get, "/gateway/status"))["online_agents"] > 0
        return found

    async def _everything_happened(self) -> bool:
        await self._show_new_events()
        found = await self._tasks()
        slow = [task for task in found if task["id"] == self._slow_task]
        if slow and slow[0]["status"] == TaskStatus.RUNNING and slow[0]["cancel_requested_at"] is None:
            await self._call(
                self._client.post, f"/tasks/{self._slow_task}/cancel", {"reason": "the demo shows a cancel"}
            )
        self._seen = found
        return not self.missing()

    def missing(self) -> str:
        """What has not happened yet, in words; empty when all has."""
        found: list[str] = []
        seen = self._seen

        def count(job: str, status: TaskStatus, retries: int = 0) -> int:
            return sum(
                1
                for task in seen
                if task["job_id"] == self._jobs.get(job) and task["status"] == status and task["retry_count"] >= retries
            )

        if (done := count("hello", TaskStatus.SUCCEEDED)) < 3:
            found.append(f"{done} of 3 hello-world tasks have succeeded")
        if not count("fails", TaskStatus.FAILED, retries=1):
            found.append("the failing job has not failed after its retry")
        if not count("slow", TaskStatus.CANCELLED):
            found.append("the slow task is not cancelled")
        return "; ".join(found)

    async def _tasks(self) -> list[Task]:
        where = {"job_id": {"$in": list(self._jobs.values())}}
        rows: list[Task] = list(
            await trio.to_thread.run_sync(lambda: self._client.rows("tasks", where=where, limit=1000))
        )
        return rows

    async def _show_new_events(self) -> None:
        page = await self._call(self._client.get, "/events", after=self._position, limit=1000)
        if page["result"]:
            events.echo(page["result"], json_=False)
            self._position = page["result"][-1]["position"]

    async def _until(self, condition: Callable[[], Any]) -> None:
        while not await condition():
            await trio.sleep(POLL_SECONDS)

    async def _call(self, method: Callable[..., Any], *args: Any, **query: Any) -> Any:
        return await trio.to_thread.run_sync(lambda: method(*args, **query))

    def epilogue(self) -> None:
        """Stop the schedule, then show the tasks, one task's history and its output."""
        self._client.post(f"/schedules/item/{self._schedule}/disable")
        rows = self._client.rows("tasks", where={"job_id": {"$in": list(self._jobs.values())}}, limit=100)
        _say("the task table:")
        render.table(rows, tasks.COLUMNS, empty="")
        failed = next(task for task in rows if task["job_id"] == self._jobs["fails"])
        _say(f"the history of the task that failed and was retried (task-{failed['id']}):")
        events.echo(self._client.get("/events", stream=f"task-{failed['id']}", limit=1000)["result"], json_=False)
        hello = next(
            task for task in rows if task["job_id"] == self._jobs["hello"] and task["status"] == TaskStatus.SUCCEEDED
        )
        chunks, _ = output.read_output(self._client, hello["instance_id"], None)
        written = "".join(chunk["text"] for chunk in chunks)
        if written != "Hello from hetuflow!\n":
            raise DemoFailed(f"a hello-world task wrote {written!r}")
        _say(f"what a hello-world task wrote: {written.strip()}")


def _say(text: str) -> None:
    click.secho(f"\n{text}", bold=True)


def _what_next(layout: Layout) -> str:
    shown = DATA_DIR
    return f"""
  data         {shown}/postgres   the event log and the tables people query
  logs         {shown}/logs
  agent        {shown}/agent-01 (journal), {shown}/agent-01-work (work directories)

  next:
    .venv/bin/hetuflow dev --data-dir {shown}     the same again, to stay; then in another terminal:
    .venv/bin/hetuflow task list
    .venv/bin/hetuflow job run hello-world-job --wait
    .venv/bin/hetuflow --help
"""


if __name__ == "__main__":
    main()
