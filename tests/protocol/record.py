"""Record what a real agent and a real server of one version say to each other, as fixtures for all later versions.

    git archive v0.1.0 | tar x -C /tmp/old
    python -m tests.protocol.record --tree /tmp/old --name protocol-1

A relay between both writes down every frame, by direction and connection, while the scenario below is played through the
server's API. Beside it goes the vocabulary of that version: which messages and members it knows, of which types. A
version is recorded when it is released, and its files are never edited afterwards.
"""

from __future__ import annotations

import argparse
import base64
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import msgspec
import trio
import trio_websocket
from attrs import Factory, define

from hetuflow.cli.cluster import free_port
from hetuflow.embedded.postgres import EmbeddedPostgres

SESSIONS = Path(__file__).parent / "sessions"
AGENT = "recorded"
LEASE_SECONDS = 8.0
WAIT_SECONDS_MAX = 60.0
HELLO = 1

VOCABULARY = """
import json, attrs
from hetuflow.protocol import messages
kinds = {name: kind for name, kind in vars(messages).items() if isinstance(kind, type) and attrs.has(kind)}
print(json.dumps({"numbers": {str(tag): kind.__name__ for tag, kind in messages.TAGS.items()}, "members": {name: {
    field.name: {"type": str(field.type), "required": field.default is attrs.NOTHING} for field in attrs.fields(kind)
} for name, kind in kinds.items()}}, indent=1))
"""


@define
class Tape:
    """`lines`: one per frame, in the order in which the relay saw them."""

    lines: list[dict[str, Any]] = Factory(list)
    heard: trio.Event = Factory(trio.Event)
    connections: int = 0

    def write(self, connection: int, who: str, frame: bytes) -> None:
        says = msgspec.msgpack.decode(frame)
        for tag, body in says:
            if tag == HELLO:  # whose machine it was is nobody's business
                body["host"], body["boot_id"], frame = "recorded-host", "recorded-boot", b""
        frame = frame or msgspec.msgpack.encode(says)
        self.lines.append(
            {
                "connection": connection,
                "from": who,
                "says": [tag for tag, _ in says],
                "frame": base64.b64encode(frame).decode(),
            }
        )
        self.heard.set()
        self.heard = trio.Event()

    def bodies(self, tag: int) -> list[dict[str, Any]]:
        frames = [msgspec.msgpack.decode(base64.b64decode(line["frame"])) for line in self.lines if tag in line["says"]]
        return [body for frame in frames for number, body in frame if number == tag]

    async def until(self, tag: int, count: int = 1, **members: Any) -> dict[str, Any]:
        """The last of so many messages of that number with these members."""
        with trio.fail_after(WAIT_SECONDS_MAX):
            while True:
                found = [body for body in self.bodies(tag) if members.items() <= body.items()]
                if len(found) >= count:
                    return found[count - 1]
                await self.heard.wait()


async def relay(tape: Tape, target: str, request: trio_websocket.WebSocketRequest) -> None:
    """One connection of the agent, through to the server."""
    inside = await request.accept()
    try:
        async with (
            trio_websocket.open_websocket_url(f"{target}{request.path}") as outside,
            trio.open_nursery() as nursery,
        ):
            tape.connections += 1
            number = tape.connections

            async def pump(source: Any, sink: Any, who: str) -> None:
                try:
                    while True:
                        frame = await source.get_message()
                        tape.write(number, who, frame)
                        await sink.send_message(frame)
                except trio_websocket.ConnectionClosed:
                    nursery.cancel_scope.cancel()

            nursery.start_soon(pump, inside, outside, "agent")
            nursery.start_soon(pump, outside, inside, "server")
    except (trio_websocket.HandshakeError, OSError):
        pass
    with trio.move_on_after(1):
        await inside.aclose()


@asynccontextmanager
async def process(tree: Path, log: Path, environ: Mapping[str, str], *command: str) -> AsyncIterator[trio.Process]:
    """A command of that tree's code, ended by SIGTERM."""
    with log.open("ab") as output:
        child = await trio.lowlevel.open_process(
            [sys.executable, "-m", *command],
            cwd=tree,
            env={**os.environ, **environ, "PYTHONPATH": str(tree)},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
        )
    try:
        yield child
    finally:
        with trio.CancelScope(shield=True, deadline=trio.current_time() + 30):
            child.terminate()
            await child.wait()


async def record(tree: Path, name: str, directory: Path) -> None:
    """Play the scenario on that version and write the files."""
    database = EmbeddedPostgres(directory / "pg")
    await trio.to_thread.run_sync(database.start)
    try:
        tape = Tape()
        async with trio.open_nursery() as nursery:
            try:
                await play(tree, directory, database.url, tape, nursery)
            except BaseException:
                print(*((directory / f"{log}.log").read_text()[-3000:] for log in ("agent", "server")), sep="\n---\n")
                raise
            nursery.cancel_scope.cancel()
    finally:
        await trio.to_thread.run_sync(database.stop)
    lines = "".join(json.dumps(line) + "\n" for line in tape.lines)
    (SESSIONS / f"{name}.jsonl").write_text(lines)
    said = await trio.run_process([sys.executable, "-c", VOCABULARY], capture_stdout=True, cwd=tree)
    (SESSIONS / f"{name}.vocabulary.json").write_bytes(said.stdout)
    print(f"{len(tape.lines)} frames on {tape.connections} connections, {len(lines)} bytes")


async def play(tree: Path, directory: Path, database: str, tape: Tape, nursery: trio.Nursery) -> None:
    http_port, websocket_port = free_port(), free_port()
    environ = {
        "DATABASE_URL": database,
        "HETUFLOW_SERVER__HTTP_PORT": str(http_port),
        "HETUFLOW_SERVER__WEBSOCKET_PORT": str(websocket_port),
        "HETUFLOW_SERVER__STATE_DIR": str(directory / "server"),
        "HETUFLOW_AGENT__LOST_AFTER_SECONDS": str(LEASE_SECONDS),
        "HETUFLOW_AGENT__HEARTBEAT_INTERVAL": str(LEASE_SECONDS / 4),
        "HETUFLOW_AGENT__TASK_CHECK_INTERVAL": "1",
    }
    serve = partial(relay, tape, f"ws://127.0.0.1:{websocket_port}")
    listener = await nursery.start(partial(trio_websocket.serve_websocket, serve, "127.0.0.1", 0, ssl_context=None))
    url = f"ws://127.0.0.1:{listener.port}"
    server_log, agent_log = directory / "server.log", directory / "agent.log"
    await trio.run_process(
        [sys.executable, "-m", "hetuflow.cli.main", "migrate"],
        cwd=tree,
        env={**os.environ, **environ, "PYTHONPATH": str(tree)},
    )
    arguments = ["--server-url", url, "--id", AGENT, "--slots", "4", "--state-dir", str(directory / "agent")]
    agent = process(tree, agent_log, environ, "agent", *arguments, "--work-dir", str(directory / "work"))
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{http_port}/api/v1", timeout=30) as http, agent as child:
        async with process(tree, server_log, environ, "hetuflow.cli.main", "server"):
            await first_connection(http, tape, directory)
        async with process(tree, server_log, environ, "hetuflow.cli.main", "server"):
            await tape.until(20, 2)
            await tape.until(27, 3)
            child.terminate()
            await child.wait()


async def first_connection(http: httpx.AsyncClient, tape: Tape, directory: Path) -> None:
    """One of each: an end, a failure, output, a cancel, what an operator says, a file, and a run that outlasts it."""
    await tape.until(20)

    async def run(config: Mapping[str, Any]) -> str:
        job = await http.post("/jobs/item", json={"name": f"job {config}"[:60], "config": config})
        task = await http.post(f"/jobs/item/{job.json()['id']}/run", json={})
        return str(task.json()["id"])

    await run({"cmd": "/bin/true"})
    await tape.until(5)
    await run({"cmd": "bash", "args": ["-c", "echo out; echo err >&2; exit 7"], "max_retries": 0})
    await tape.until(5, 2)
    await tape.until(27, 2)
    long = await run({"cmd": "sleep", "args": ["60"]})
    await tape.until(4, 3)
    await http.post(f"/tasks/{long}/cancel", json={"reason": "not needed"})
    await tape.until(5, 3)
    await http.post(f"/agents/{AGENT}/drain", json={"reason": "maintenance"})
    await tape.until(28)
    await http.post(f"/agents/{AGENT}/undrain")
    await tape.until(28, 2)
    watched = directory / "watched"
    watched.mkdir()
    job = await http.post("/jobs/item", json={"name": "of a file", "config": {"cmd": "/bin/true"}, "agent_id": AGENT})
    schedule = {"job_id": job.json()["id"], "name": "file", "kind": "event", "event_type": "file.created"}
    created = await http.post("/schedules/item", json={**schedule, "event_filter": {"path": f"{watched}/*.txt"}})
    created.raise_for_status()
    await tape.until(7, type="watch.started")
    (watched / "a.txt").write_text("")
    await tape.until(5, 4)
    await run({"cmd": "bash", "args": ["-c", "sleep 4; echo later"]})
    await tape.until(4, 5)
    await tape.until(22, 2)


def main() -> None:
    options = argparse.ArgumentParser(prog="python -m tests.protocol.record", description=__doc__)
    options.add_argument("--tree", type=Path, required=True, help="a checkout of the version")
    options.add_argument("--name", required=True, help="of the files")
    given = options.parse_args()
    with tempfile.TemporaryDirectory(prefix="hetuflow-record-") as directory:
        trio.run(record, given.tree.resolve(), given.name, Path(directory))


if __name__ == "__main__":
    main()
