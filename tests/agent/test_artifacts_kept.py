"""Files that a program left reach the server although its agent is killed, and its connection lost, in between."""

from __future__ import annotations

import os
import signal
from collections.abc import AsyncIterator
from hashlib import sha256
from pathlib import Path

import pytest
import trio

from hetuflow.ports.network import MessageStream
from hetuflow.protocol.messages import ArtifactPart, ArtifactStored, ArtifactWanted, Ended, Message
from hetuflow.protocol.session import Session
from tests.agent.gateway import Gateway, an_order, serve_gateway
from tests.agent.machine import Machine

BYTES = 5_000_000


class Shelf(Gateway):
    """Keeps artifacts, as far as `room_bytes` go: what is beyond is neither stored nor acknowledged."""

    def __init__(self) -> None:
        super().__init__()
        self.room_bytes = 10**9
        self.kept: dict[tuple[str, str], bytearray] = {}
        self.parts = 0

    def _hear(self, message: Message, stream: MessageStream, session: Session) -> list[Message]:
        if not isinstance(message, ArtifactPart):
            return super()._hear(message, stream, session)
        self.parts += 1
        data = self.kept.setdefault((message.instance_id, message.path), bytearray())
        if message.offset + len(message.data) > self.room_bytes:
            return []
        if message.offset <= len(data):
            data += message.data[len(data) - message.offset :]
        return [
            ArtifactStored(
                instance_id=message.instance_id, epoch=message.epoch, path=message.path, offset_end=len(data)
            )
        ]


@pytest.fixture
async def machine(tmp_path: Path) -> AsyncIterator[tuple[Machine, Shelf]]:
    shelf = Shelf()
    async with serve_gateway(shelf) as url, trio.open_nursery() as nursery:
        found = Machine(nursery, shelf, url, tmp_path)
        yield found, shelf
        nursery.cancel_scope.cancel()
    found.end_keepers()


async def an_instance_that_leaves(shelf: Shelf, script: str, *globs: str) -> Ended:
    order = an_order("bash", "-c", script, artifacts=tuple(ArtifactWanted(glob=glob) for glob in globs))
    await shelf.send(order)
    return await shelf.until_ended(order.instance_id)


async def test_another_life_of_the_agent_goes_on_where_the_server_is(machine: tuple[Machine, Shelf]) -> None:
    place, shelf = machine
    agent = await place.start_agent()
    shelf.room_bytes = 1_000_000
    ended = await an_instance_that_leaves(shelf, f"head -c {BYTES} /dev/urandom > big; echo x > small", "*")
    assert ended.reason is None and [each["path"] for each in ended.artifacts] == ["big", "small"]
    key = (ended.instance_id, "big")
    await shelf.until(lambda: len(shelf.kept.get(key, b"")) > 500_000)
    kept_at = place.root / "work" / "agent-1" / f"{ended.instance_id}.1.artifacts"
    assert os.listdir(kept_at)
    agent.send_signal(signal.SIGKILL)
    await agent.wait()
    shelf.room_bytes, before = 10**9, shelf.parts
    await place.start_agent()
    await shelf.until(lambda: len(shelf.kept[key]) == BYTES and (ended.instance_id, "small") in shelf.kept)
    assert (shelf.parts - before) * 128 * 1024 < BYTES + 1_500_000  # not all of it again
    assert [sha256(shelf.kept[ended.instance_id, each["path"]]).hexdigest() for each in ended.artifacts] == [
        each["sha256"] for each in ended.artifacts
    ]
    with trio.fail_after(30):
        while os.path.lexists(kept_at):  # noqa: ASYNC110, ASYNC240 - another process removes it
            await trio.sleep(0.02)


async def test_a_connection_that_is_cut_over_and_over_loses_nothing(machine: tuple[Machine, Shelf]) -> None:
    place, shelf = machine
    await place.start_agent()
    ended = await an_instance_that_leaves(shelf, f"head -c {BYTES} /dev/urandom > big", "big")
    key = (ended.instance_id, "big")
    for share in (0.1, 0.4, 0.7):
        await shelf.until(lambda share=share: len(shelf.kept.get(key, b"")) >= BYTES * share)
        if shelf.connected:
            await shelf.cut()
        await shelf.until_connected()
    await shelf.until(lambda: len(shelf.kept[key]) == BYTES)


async def test_a_full_disk_takes_nothing_in_and_says_why(machine: tuple[Machine, Shelf]) -> None:
    place, shelf = machine
    config = place.root / "agent.toml"
    config.write_text('[executor]\ndisk_free_min = "99.99%"\n')
    await place.start_agent("--config", str(config))
    ended = await shelf.run("true")
    assert ended.reason == "rejected" and str(ended.error_message).startswith("disk: ")
    assert "executor.disk_free_min is 99.99%" in str(ended.error_message)
