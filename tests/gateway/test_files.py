"""Artifacts come in and are acknowledged when they are stored; what an agent asks for goes out, or why it cannot."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime

import pytest
import trio

from hetuflow.api.endings import InstanceEnd
from hetuflow.domain.file_urls import ArtifactUrl, KeptFileUrl, parse_file_url
from hetuflow.file_room import StoredFiles
from hetuflow.gateway.files import FETCHED_BYTES_MAX, WANTED_MAX
from hetuflow.gateway.intake import StorageUnavailable
from hetuflow.protocol.messages import ArtifactPart, ArtifactStored, FetchPart, FilePart, Heartbeat, HeartbeatAck
from projections.artifacts import MemoryArtifacts
from projections.kept_files import MemoryFiles
from tests.gateway.test_connection import an_agent
from tests.projections.test_artifacts import ONE, parts
from tests.scheduler.harness import a_server

DATA = bytes(range(256)) * 3


class Room:
    """In memory; instance `ONE` has ended and said to have left `coming`."""

    def __init__(self) -> None:
        self.artifacts, self.files = MemoryArtifacts(), MemoryFiles()
        self._room = StoredFiles(self.artifacts, self.files, self._end_of)
        self.away_until = -1.0

    async def _end_of(self, instance_id: str) -> InstanceEnd | None:
        said = {"path": "coming", "bytes": 5, "sha256": "ab" * 32}
        ended_at = datetime(2026, 1, 1, tzinfo=UTC)
        return InstanceEnd(ended_at=ended_at, artifacts=[said]) if instance_id == ONE else None

    async def keep(self, parts: Sequence[ArtifactPart]) -> Sequence[ArtifactStored]:
        if trio.current_time() < self.away_until:
            raise StorageUnavailable("away")
        return await self._room.keep(parts)

    async def part(self, url: str, offset: int, length: int) -> FilePart:
        return await self._room.part(url, offset, length)


async def test_artifacts_are_acknowledged_as_far_as_they_are_stored(autojump_clock) -> None:
    room = Room()
    async with a_server(files=room) as server, trio.open_nursery() as nursery:
        agent = an_agent(server, nursery)
        await agent.connect()
        sent = parts(DATA, 300)
        await agent.say(sent[0], sent[2])
        told = await agent.expect(ArtifactStored)
        assert (told.instance_id, told.epoch, told.path, told.offset_end, told.problem) == (
            ONE,
            1,
            "out/a.bin",
            300,
            "",
        )
        await agent.say(*sent[1:])
        assert (await agent.expect(ArtifactStored)).offset_end == 768
        (kept,) = await room.artifacts.of(ONE)
        assert kept.is_complete
        nursery.cancel_scope.cancel()


async def test_what_can_never_be_kept_is_refused_alone(autojump_clock) -> None:
    room = Room()
    async with a_server(files=room) as server, trio.open_nursery() as nursery:
        agent = an_agent(server, nursery)
        await agent.connect()
        await agent.say(*parts(b"good", path="good"), *parts(b"bad", path="../bad"))
        told = {each.path: each for each in (await agent.expect(ArtifactStored), await agent.expect(ArtifactStored))}
        assert told["good"].offset_end == 4 and "is not relative" in told["../bad"].problem
        nursery.cancel_scope.cancel()


async def test_a_server_without_room_says_so(autojump_clock) -> None:
    async with a_server() as server, trio.open_nursery() as nursery:
        agent = an_agent(server, nursery)
        await agent.connect()
        await agent.say(*parts(b"x"), FetchPart(token=1, instance_id=ONE, url="/api/v1/files/x"))
        assert "keeps no artifacts" in (await agent.expect(ArtifactStored)).problem
        assert "keeps no files" in (await agent.expect(FilePart)).problem
        nursery.cancel_scope.cancel()


async def test_artifacts_wait_for_their_store_and_heartbeats_go_on(autojump_clock) -> None:
    room = Room()
    async with a_server(files=room) as server, trio.open_nursery() as nursery:
        agent = an_agent(server, nursery)
        await agent.connect()
        room.away_until = trio.current_time() + 10
        await agent.say(*parts(b"x"), Heartbeat(sequence=1))
        await agent.expect(HeartbeatAck)
        assert trio.current_time() < room.away_until
        await agent.expect(ArtifactStored)
        assert trio.current_time() >= room.away_until
        nursery.cancel_scope.cancel()


async def test_a_file_is_fetched_piece_by_piece(autojump_clock) -> None:
    room = Room()
    kept, _ = await room.files.keep(b"k" * (FETCHED_BYTES_MAX + 5))
    await room.artifacts.store(parts(DATA, 300, "a b"))
    artifact = f"/api/v1/task-instances/item/{ONE}/artifacts/a%20b"
    async with a_server(files=room) as server, trio.open_nursery() as nursery:
        agent = an_agent(server, nursery)
        await agent.connect()
        url = f"/api/v1/files/{kept.sha256}"
        for wanted, size, total, data in (
            (FetchPart(token=1, instance_id=ONE, url=url, offset=0, length=10**9), None, None, None),
            (FetchPart(token=2, instance_id=ONE, url=url, offset=FETCHED_BYTES_MAX, length=10**9), 5, None, b"kkkkk"),
            (FetchPart(token=3, instance_id=ONE, url=artifact, offset=299, length=3), 3, 768, DATA[299:302]),
            (FetchPart(token=4, instance_id=ONE, url=artifact, offset=768), 0, 768, b""),
        ):
            await agent.say(wanted)
            part = await agent.expect(FilePart)
            assert (part.token, part.offset, part.problem) == (wanted.token, wanted.offset, "")
            assert len(part.data) == (FETCHED_BYTES_MAX if size is None else size)
            assert part.bytes_total == (kept.bytes_total if total is None else total)
            assert data is None or part.data == data
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize(
    ("path", "said", "is_coming"),
    [
        (f"/api/v1/task-instances/item/{ONE}/artifacts/coming", "yet", True),
        (f"/api/v1/task-instances/item/{ONE}/artifacts/half", "300 of 768 bytes", True),
        (f"/api/v1/task-instances/item/{ONE}/artifacts/never", "has no artifact 'never'", False),
        (f"/api/v1/task-instances/item/{ONE[:-1]}9/artifacts/x", "has not ended, or does not exist", False),
        ("/api/v1/files/" + "0" * 64, "there is no file", False),
        ("/etc/passwd", "is no file of the server", False),
    ],
)
async def test_why_a_file_cannot_be_fetched(path: str, said: str, is_coming: bool) -> None:
    room = Room()
    await room.artifacts.store(parts(DATA, 300, "half")[:1])
    part = await room.part(path, 300, 10)
    assert said in part.problem and part.is_coming is is_coming and part.data == b""


async def test_what_has_arrived_of_a_file_is_given_already() -> None:
    room = Room()
    await room.artifacts.store(parts(DATA, 300, "half")[:1])
    part = await room.part(f"/api/v1/task-instances/item/{ONE}/artifacts/half", 100, 1000)
    assert (part.data, part.bytes_total, part.problem) == (DATA[100:300], 768, "")


async def test_an_agent_that_asks_for_too_much_at_once_is_told_to_come_later(autojump_clock) -> None:
    room = Room()
    kept, _ = await room.files.keep(b"k")
    async with a_server(files=room) as server, trio.open_nursery() as nursery:
        agent = an_agent(server, nursery)
        await agent.connect()
        url = f"/api/v1/files/{kept.sha256}"
        await agent.say(*(FetchPart(token=n, instance_id=ONE, url=url) for n in range(WANTED_MAX + 2)))
        answers = [await agent.expect(FilePart) for _ in range(WANTED_MAX + 2)]
        assert {each.token for each in answers} == set(range(WANTED_MAX + 2))
        assert sum(each.is_coming for each in answers) == 2
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize(
    ("url", "named"),
    [
        ("/api/v1/files/" + "ab" * 32, KeptFileUrl("ab" * 32)),
        (f"/api/v1/task-instances/item/{ONE.upper()}/artifacts/a/b%20c", ArtifactUrl(ONE, "a/b c")),
        ("/api/v1/files/" + "AB" * 32, None),
        ("/api/v1/files/", None),
        (f"/api/v1/task-instances/item/{ONE}/artifacts/", None),
        (f"/api/v1/task-instances/item/{ONE}/artifacts/%FF", None),
        (f"/api/v1/task-instances/item/{ONE}/logs", None),
        ("https://example.org/x", None),
    ],
)
def test_paths_of_files(url: str, named: object) -> None:
    assert parse_file_url(url) == named
    if named is not None:
        assert parse_file_url(str(named)) == named
