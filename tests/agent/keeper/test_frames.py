"""Bytes between agent and keeper, of today's version, of a later one, and of nobody."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from agent.keeper.frames import FRAME_BYTES_MAX, Unframer, framed
from agent.keeper.messages import (
    KEEPER_MESSAGES,
    Attach,
    End,
    Finished,
    Grew,
    Held,
    Holding,
    KeeperMessage,
    Launch,
    Launched,
    Lease,
    Leased,
    Leave,
    Limits,
    Manners,
    Probe,
    Probed,
    Sample,
    Settled,
)
from hetuflow.protocol.errors import LocalProtocolError, RemoteProtocolError

RECORDED = Path(__file__).parent / "golden" / "session-1.bin"
"""Every message, as the first version of the protocol wrote it. Never written again: a keeper outlives its agent's version."""

_LAUNCHED = Launched(
    task_id="t",
    instance_id="i",
    epoch=2,
    pid=17,
    identity="4711",
    started_at="2026-01-01T00:00:00Z",
    isolation="cgroup2",
)
_FINISHED = Finished(
    instance_id="i",
    epoch=2,
    completed_at="2026-01-01T00:00:01Z",
    duration_seconds=1.5,
    reason="exit_code",
    message="ended with exit code 3",
    exit_code=3,
    metrics={"cpu_time": 0.25},
    output={"stdout": {"bytes": 3, "kept": 3, "shipped": 3, "sha256": "ab"}, "dropped": 0},
)
SESSION: tuple[KeeperMessage, ...] = (
    Attach(agent_id="a", incarnation=3, version="1.0", protocol=1),
    Launch(
        task_id="t",
        instance_id="i",
        epoch=2,
        argv=("/bin/echo", "ü"),
        environment={"A": "b"},
        directory="/d",
        spool_path="/d/i.2.out",
        capture_output=True,
        output_bytes_max=100,
        timeout_seconds=5.0,
        lease_seconds=60.0,
        kill_grace_seconds=2.5,
        stdin=b"\x00in",
        limits=Limits(memory_bytes=1, cpu_cores=0.5, processes=7),
        manners=Manners(run_as="nobody", umask=0o27, nice=3, ionice="idle", no_new_privs=False),
    ),
    End(instance_id="i", epoch=2, reason="cancelled", message="by ann", grace_seconds=1.0),
    Lease(renewed_at=12.5),
    Settled(ended=(("i", 2), ("j", 1))),
    Leave(),
    Probe(token=9),
    Holding(
        pid=5,
        version="1.0",
        instances=(
            Held(launched=_LAUNCHED, small=b"\xff", spool_bytes=1, finished=_FINISHED),
            Held(launched=_LAUNCHED),
        ),
        more=True,
        isolation="session",
        limits=("memory:sampled",),
        protocol=1,
    ),
    _LAUNCHED,
    Grew(instance_id="i", epoch=2, spool_bytes=10, data=b"\x01\x02"),
    _FINISHED,
    Sample(instance_id="i", epoch=2, values={"cpu_seconds": 1.0}),
    Probed(token=9),
)


SINCE: tuple[KeeperMessage, ...] = (Leased(instance_id="i", epoch=2, lease_seconds=20.0),)
"""Messages that came later."""


def read(data: bytes) -> list[KeeperMessage]:
    unframer = Unframer()
    unframer.feed(data)
    return list(unframer.messages())


def test_what_the_first_version_wrote_is_understood_for_ever() -> None:
    assert tuple(read(RECORDED.read_bytes())) == SESSION
    assert tuple(read(RECORDED.with_name("session-2.bin").read_bytes())) == SINCE


def test_messages_arrive_whole_however_they_are_cut() -> None:
    data = b"".join(map(framed, SESSION))
    for size in (1, 2, 3, 7, 1000):
        unframer, found = Unframer(), []
        for at in range(0, len(data), size):
            unframer.feed(data[at : at + size])
            found += unframer.messages()
        assert tuple(found) == SESSION


def _raw(number: int, body: dict[str, object]) -> bytes:
    data = msgspec.msgpack.encode((number, body))
    return len(data).to_bytes(4, "big") + data


def test_what_a_later_version_adds_is_ignored() -> None:
    later = (
        _raw(99, {"unheard": "of"})
        + _raw(7, {"token": 4, "urgency": "high"})
        + _raw(22, {"instance_id": "i", "epoch": 1, "spool_bytes": 3})
    )
    assert read(later) == [Probe(token=4), Grew(instance_id="i", epoch=1, spool_bytes=3, data=b"")]


@pytest.mark.parametrize(
    "data", [b"\x00\x00\x00\x01\xc1", _raw(7, {"token": "text"}), (FRAME_BYTES_MAX + 1).to_bytes(4, "big")]
)
def test_what_is_no_message_ends_the_conversation(data: bytes) -> None:
    with pytest.raises(RemoteProtocolError):
        read(data)


def test_what_the_other_side_would_not_read_is_not_sent() -> None:
    with pytest.raises(LocalProtocolError, match="Grew takes"):
        framed(Grew(instance_id="i", epoch=1, spool_bytes=1, data=bytes(FRAME_BYTES_MAX)))


def test_every_message_is_in_the_recorded_session() -> None:
    everything = [*SESSION, *SINCE]
    recorded = {type(message) for message in everything}
    assert {
        type(message) for message in map(KEEPER_MESSAGES.decode, map(KEEPER_MESSAGES.encode, everything))
    } == recorded
    assert len(recorded) == 14
