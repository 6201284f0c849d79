"""Kept files reach the server whole: over lost connections, lives of the agent, and servers that know more or less."""

from __future__ import annotations

import hashlib
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.artifact_shipping import PART_BYTES, WINDOW_BYTES_MAX, ArtifactShipping, KeptFile, KeptFiles
from hetuflow.ports.disk import DiskError
from hetuflow.protocol.messages import ArtifactPart, ArtifactStored


class Disk:
    """Only reads."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}

    def read_range(self, path: str, offset: int, length: int) -> bytes:
        if path not in self.files:
            raise DiskError(f"cannot read {path}: gone")
        return self.files[path][offset : offset + length]


class Server:
    """Stores in order, without gaps, as the real one."""

    def __init__(self) -> None:
        self.files: dict[tuple[str, str], bytearray] = {}

    def store(self, part: ArtifactPart) -> ArtifactStored:
        kept = self.files.setdefault((part.instance_id, part.path), bytearray())
        if part.offset <= len(kept):
            kept += part.data[len(kept) - part.offset :]
        return ArtifactStored(instance_id=part.instance_id, epoch=part.epoch, path=part.path, offset_end=len(kept))


class Place:
    def __init__(self) -> None:
        self.disk, self.settled = Disk(), list[str]()
        self.shipping = self.a_life()

    def a_life(self) -> ArtifactShipping:
        self.shipping = ArtifactShipping(self.disk, self.settled.append)  # type: ignore[arg-type]
        return self.shipping

    def kept(self, instance_id: str = "i", **contents: bytes) -> KeptFiles:
        for name, data in contents.items():
            self.disk.files[f"/{instance_id}/{name}"] = data
        return KeptFiles(
            directory=f"/{instance_id}",
            instance_id=instance_id,
            task_id="t",
            epoch=1,
            collected_at="2026-01-05T08:00:00Z",
            files=tuple(
                KeptFile(
                    path=name, size=len(data), sha256=hashlib.sha256(data).hexdigest(), place=f"/{instance_id}/{name}"
                )
                for name, data in contents.items()
            ),
        )


BIG = bytes(range(256)) * 4096 * 3  # 3 MiB


def run(shipping: ArtifactShipping, server: Server) -> int:
    """Until nothing is left to send; how many pieces."""
    count = 0
    while parts := shipping.take(10**9):
        for part in parts:
            shipping.heard(server.store(part))
            count += 1
    return count


def test_all_files_arrive_and_their_directory_may_go() -> None:
    place, server = Place(), Server()
    contents = {"big": BIG, "empty": b"", "small": b"x"}
    place.shipping.add(place.kept(**contents))
    assert list(place.shipping.directories()) == ["/i"]
    run(place.shipping, server)
    assert {path: bytes(data) for (_, path), data in server.files.items()} == contents
    assert place.settled == ["/i"] and len(place.shipping) == 0 and not list(place.shipping.directories())


def test_no_more_than_a_window_is_under_way() -> None:
    place, server = Place(), Server()
    place.shipping.add(place.kept(big=BIG))
    sent = place.shipping.take(10**9)
    assert sum(len(part.data) for part in sent) == WINDOW_BYTES_MAX and not place.shipping.has_more
    assert all(len(part.data) <= PART_BYTES for part in sent)
    place.shipping.heard(server.store(sent[0]))
    assert [part.offset for part in place.shipping.take(10**9)] == [WINDOW_BYTES_MAX]


def test_a_turn_takes_what_it_may() -> None:
    place = Place()
    place.shipping.add(place.kept(big=BIG))
    assert len(place.shipping.take(PART_BYTES + 1)) == 2


def test_a_new_connection_sends_what_is_not_stored() -> None:
    place, server = Place(), Server()
    place.shipping.add(place.kept(big=BIG))
    first, *_ = place.shipping.take(10**9)
    place.shipping.heard(server.store(first))
    place.shipping.restart()
    (second,) = place.shipping.take(1)
    assert second.offset == PART_BYTES
    place.shipping.heard(server.store(second))
    run(place.shipping, server)
    assert bytes(server.files["i", "big"]) == BIG


def test_another_life_goes_on_where_the_server_is() -> None:
    place, server = Place(), Server()
    place.shipping.add(place.kept(big=BIG))
    for _ in range(2):
        for part in place.shipping.take(WINDOW_BYTES_MAX):
            place.shipping.heard(server.store(part))
    life = place.a_life()
    life.add(place.kept(big=BIG))
    assert run(life, server) < len(BIG) // PART_BYTES
    assert bytes(server.files["i", "big"]) == BIG and place.settled == ["/i"]


def test_a_server_that_lost_what_it_had_is_given_it_again() -> None:
    place, server = Place(), Server()
    place.shipping.add(place.kept(big=BIG))
    for part in place.shipping.take(WINDOW_BYTES_MAX):
        place.shipping.heard(server.store(part))
    server.files.clear()
    run(place.shipping, server)
    assert bytes(server.files["i", "big"]) == BIG


@pytest.mark.parametrize("why", ["refused", "gone", "short"])
def test_what_can_never_arrive_is_given_up_and_the_rest_goes_on(why: str) -> None:
    place, server = Place(), Server()
    place.shipping.add(place.kept(bad=BIG, good=b"x"))
    if why == "refused":
        first = next(iter(place.shipping.take(1)))
        place.shipping.heard(
            ArtifactStored(instance_id="i", epoch=1, path=first.path, offset_end=0, problem="no such path")
        )
    elif why == "gone":
        del place.disk.files["/i/bad"]
    else:
        place.disk.files["/i/bad"] = BIG[:PART_BYTES]
    run(place.shipping, server)
    assert bytes(server.files["i", "good"]) == b"x" and place.settled == ["/i"]


def test_what_the_server_does_not_want_any_more_goes() -> None:
    place = Place()
    place.shipping.add(place.kept(big=BIG))
    place.shipping.add(place.kept("other", a=b"x"))
    sent = place.shipping.take(10**9)
    place.shipping.forget("i")
    assert place.settled == ["/i"] and list(place.shipping.directories()) == ["/other"]
    place.shipping.heard(ArtifactStored(instance_id="i", epoch=1, path="big", offset_end=len(sent)))
    assert [part.instance_id for part in place.shipping.take(10**9)] == ["other"]


def test_adding_twice_is_adding_once() -> None:
    place, server = Place(), Server()
    for _ in range(2):
        place.shipping.add(place.kept(a=b"x"))
    assert run(place.shipping, server) == 1


def test_nothing_kept_is_settled_at_once() -> None:
    place = Place()
    place.shipping.add(place.kept())
    assert place.settled == ["/i"]


@settings(max_examples=150)
@given(st.lists(st.integers(0, 5 * PART_BYTES), min_size=1, max_size=6), st.integers(0, 2**32), st.integers(2, 10))
def test_whatever_happens_everything_arrives(sizes: list[int], seed: int, trouble: int) -> None:
    """Connections lost, lives ended, answers lost, servers restored: the same bytes, and no count goes wrong."""
    chance, place, server = random.Random(seed), Place(), Server()
    kept = [place.kept(f"i{n}", a=bytes(chance.randbytes(size)), b=b"") for n, size in enumerate(sizes)]
    for each in kept:
        place.shipping.add(each)
    for _ in range(2000):
        if not len(place.shipping):
            break
        what = chance.randrange(trouble * 10)
        if what == 0:
            place.shipping.restart()
        elif what == 1:
            life = place.a_life()
            for each in kept:
                if each.directory not in place.settled:
                    life.add(each)
        elif what == 2:
            for data in server.files.values():
                del data[chance.randrange(len(data) + 1) :]
        parts = place.shipping.take(chance.choice([1, PART_BYTES, 10**9]))
        lost = chance.random() < 0.1
        for part in parts:
            told = server.store(part)
            if not lost:
                place.shipping.heard(told)
        if lost:
            place.shipping.restart()
    assert len(place.shipping) == 0 and set(place.settled) == {each.directory for each in kept}
    assert place.shipping._bytes == place.shipping._unanswered == 0 and not place.shipping._queue
