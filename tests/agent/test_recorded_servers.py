"""Servers of earlier versions, as they were recorded, speak with this agent: it understands them, and they it."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
import pytest
import trio

from hetuflow.ports.network import ConnectionLost, MessageStream
from tests.agent.gateway import serve_gateway
from tests.protocol import recorded
from tests.protocol.recorded import Frame, Said, Vocabulary

ROOT = Path(__file__).parents[2]
PATIENCE_SECONDS = 60
REPORTS = (recorded.STARTED, recorded.ENDED, recorded.OBSERVED)


class RecordedServer:
    """Says what the server said, when the agent has said again what it said then."""

    def __init__(self, sessions: Sequence[Sequence[Frame]], vocabulary: Vocabulary, place: Path) -> None:
        self._sessions, self._vocabulary = list(sessions), vocabulary
        self._watched = place / "watched"
        self._watched.mkdir()
        self._waiting: list[Said] = []
        self.unacked: set[int] = set()
        self._reports: dict[int, int] = {}
        """Number of a report then -> now."""
        self.said: list[Said] = []
        self.misunderstood: list[str] = []
        self.is_over = trio.Event()

    async def handle(self, stream: MessageStream) -> None:
        """Play the next connection; the server ends it where it ended then."""
        self._waiting.clear()
        for frame in self._sessions.pop(0) if self._sessions else ():
            if frame.sender == "agent":
                for tag, then in frame.says:
                    await self._expect(stream, tag, then)
            else:
                await self._say(stream, frame)
        await stream.aclose(1001, "the server is stopping")
        if not self._sessions:
            self.is_over.set()

    async def _expect(self, stream: MessageStream, tag: int, then: dict[str, Any]) -> None:
        """The agent says the like: of the same instance, where it is about one."""
        if then.get("type") == "file.created":
            (self._watched / "a.txt").write_text("")
        while True:
            for at, (said, now) in enumerate(self._waiting):
                if said == tag and now.get("instance_id") == then.get("instance_id"):
                    del self._waiting[at]
                    if tag in REPORTS:
                        self._reports[then["sequence"]] = now["sequence"]
                    return
            await self._hear(stream)

    async def _hear(self, stream: MessageStream) -> None:
        frame = await stream.receive()
        self.misunderstood += self._vocabulary.misunderstood(frame)
        for tag, now in recorded.said_in(frame):
            self.said.append((tag, now))
            self._waiting.append((tag, now))
            if tag in REPORTS:
                self.unacked.add(now["sequence"])
            if tag == recorded.HEARTBEAT:  # then and now they need not come at the same moments
                await stream.send(msgspec.msgpack.encode([[recorded.BEAT_ACK, {"sequence": now["sequence"]}]]))

    async def _say(self, stream: MessageStream, frame: Frame) -> None:
        says: list[Said] = []
        for tag, then in frame.says:
            body = dict(then)
            if tag == recorded.BEAT_ACK:
                continue
            if tag == recorded.ACK:
                body["sequences"] = [self._reports[number] for number in then["sequences"]]
                self.unacked.difference_update(body["sequences"])
            if tag == recorded.WATCH:
                body["watches"] = [{**watch, "glob": f"{self._watched}/*.txt"} for watch in then["watches"]]
            says.append((tag, body))
        if says:
            await stream.send(msgspec.msgpack.encode(says))


@pytest.mark.parametrize("name", recorded.NAMES)
async def test_this_agent_works_with_a_server_of_an_earlier_version(tmp_path: Path, name: str) -> None:
    sessions = recorded.connections(name)
    server = RecordedServer(sessions, Vocabulary.of(name), tmp_path)

    async def handle(stream: MessageStream) -> None:
        try:
            await server.handle(stream)
        except ConnectionLost:
            pass

    server_like: Any = type("Handler", (), {"handle": staticmethod(handle)})
    async with serve_gateway(server_like) as url:
        command = [
            *(sys.executable, "-m", "agent", "--server-url", url, "--id", "recorded", "--slots", "4"),
            *("--state-dir", str(tmp_path / "state"), "--work-dir", str(tmp_path / "work")),
        ]
        process = await trio.lowlevel.open_process(command, cwd=ROOT)
        try:
            with trio.fail_after(PATIENCE_SECONDS):
                await server.is_over.wait()
        finally:
            process.terminate()
            with trio.CancelScope(shield=True, deadline=trio.current_time() + PATIENCE_SECONDS):
                await process.wait()
    assert server.misunderstood == [] and not server.unacked
    then = [body for frames in sessions for frame in frames if frame.sender == "agent" for body in frame.says]
    assert outcomes(server.said) == outcomes(then)


def outcomes(said: Sequence[Said]) -> dict[str, tuple[Any, ...]]:
    """How each instance ended: the same, however often and in whichever order it was said."""
    return {
        body["instance_id"]: (body["reason"], body["exit_code"], body["output"]["stdout"]["sha256"])
        for tag, body in said
        if tag == recorded.ENDED
    }
