"""Agents of earlier versions, as they were recorded, speak with this gateway: it understands them, and they it."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
import trio

from eventstore.memory import MemoryLog
from hetuflow.domain.commands import CancelTask, DrainAgent, UndrainAgent
from hetuflow.domain.decider import Address
from hetuflow.gateway.gateway import Gateway
from hetuflow.ports.network import ConnectionLost
from tests.gateway.scripted import a_connection
from tests.protocol import recorded
from tests.protocol.recorded import Frame, Said, Vocabulary
from tests.scheduler.harness import Server, a_server, data

AGENT = "recorded"


class Replay:
    """Says what the agent said, and has the server say again what it said then. `ids`: then -> now, of one length."""

    def __init__(self, server: Server, vocabulary: Vocabulary, ids: dict[str, str]) -> None:
        self.server, self.vocabulary, self.ids = server, vocabulary, ids
        self.stream, self.far = a_connection(f"agent_id={AGENT}")
        self.heard: list[Said] = []
        self.misunderstood: list[str] = []

    async def play(self, frames: Sequence[Frame]) -> None:
        for frame in frames:
            if frame.sender == "agent":
                await self.stream.send(self._renamed(frame.data))
                continue
            for tag, body in frame.says:
                await self._have_said(tag, body)
                await self._expect(tag, body)

    async def _have_said(self, tag: int, then: dict[str, object]) -> None:
        """What people did then that made the server say this."""
        match tag:
            case recorded.DISPATCH:
                number = len(self.ids)
                task_id = f"00000000-0000-7000-8000-{number:012}"
                self.ids[str(then["task_id"])] = task_id
                job = await self.server.job(f"job-{number}", cmd=then["cmd"], args=then["args"], max_retries=0)
                await self.server.task(job, task_id)
            case recorded.STOP:
                instance_id = self.ids[str(then["instance_id"])]
                [event] = [it for it in self.server.events("TaskDispatched") if data(it)["instance_id"] == instance_id]
                await self.server.ask(Address("task", data(event)["task_id"]), CancelTask(reason="not needed"))
            case recorded.STANDING:
                command = DrainAgent(reason="maintenance") if then["draining"] else UndrainAgent()
                await self.server.ask(Address("agent", AGENT), command)
            case recorded.WATCH:
                watches = tuple((watch["glob"], tuple(watch["types"])) for watch in then["watches"])  # type: ignore[attr-defined]
                self.gateway.watch(AGENT, self.gateway._connections[AGENT].session, watches)
            case recorded.SHUTDOWN:
                self.gateway.stop_accepting()

    @property
    def gateway(self) -> Gateway:
        return self.server.core.gateway

    async def _expect(self, tag: int, then: dict[str, object]) -> None:
        """Wait until it is said; acknowledgements may come in other portions."""
        wanted = set(then["sequences"]) if tag == recorded.ACK else set()  # type: ignore[call-overload]
        with trio.fail_after(60):
            while True:
                for at, (said, now) in enumerate(self.heard):
                    if said == tag:
                        del self.heard[at]
                        if tag == recorded.DISPATCH:
                            self.ids[str(then["instance_id"])] = now["instance_id"]
                        wanted -= set(now["sequences"]) if tag == recorded.ACK else set()
                        if not wanted:
                            return
                        break
                else:
                    frame = await self.stream.receive()
                    self.misunderstood += self.vocabulary.misunderstood(frame)
                    self.heard += recorded.said_in(frame)

    def _renamed(self, frame: bytes) -> bytes:
        for then, now in self.ids.items():
            assert len(then) == len(now)
            frame = frame.replace(then.encode(), now.encode())
        return frame


@pytest.mark.parametrize("name", recorded.NAMES)
async def test_an_agent_of_an_earlier_version_works_with_this_server(autojump_clock, name: str) -> None:
    log, ids = MemoryLog(), dict[str, str]()
    sessions = recorded.connections(name)
    for life, frames in enumerate(sessions):
        async with a_server(log=log, seed=life) as server, trio.open_nursery() as nursery:
            replay = Replay(server, Vocabulary.of(name), ids)
            nursery.start_soon(server.core.gateway.serve_connection, replay.far)
            await replay.play(frames)
            assert replay.misunderstood == []
            assert not [tag for tag, _ in replay.heard if tag == recorded.DISPATCH], "sent more than was asked for"
            await replay.stream.aclose()
            with pytest.raises(ConnectionLost):
                await replay.stream.receive()
            nursery.cancel_scope.cancel()
    said = [body for frames in sessions for frame in frames if frame.sender == "agent" for body in frame.says]
    for tag, ended in said:
        if tag == recorded.ENDED:
            history = server.history(ids[ended["task_id"]])
            outcome = {None: "TaskSucceeded", "cancelled": "TaskCancelled"}.get(ended["reason"], "TaskFailed")
            assert history[-1] == outcome and history.count("InstanceStarted") == 1, history
    observed = {body["event_id"] for tag, body in said if tag == recorded.OBSERVED}
    assert {data(event)["id"] for event in server.events("ExternalEventReceived")} == observed
    assert server.core.scheduler.status().agenda.instances == 0
