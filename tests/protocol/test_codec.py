"""Frames: what is written can be read, for ever, and what cannot be read closes the connection and nothing else."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hetuflow.protocol.codec import FRAME_BYTES_MAX, decode_frame, encode_frames
from hetuflow.protocol.errors import CloseCode, LocalProtocolError, RemoteProtocolError
from hetuflow.protocol.messages import TAGS, Ack, Heartbeat, Message, Output, Ping, Started
from tests.protocol.builders import SAMPLES, SAMPLES_2, any_message

GOLDEN = Path(__file__).parent / "golden"
"""One frame per message type and release, never rewritten: a new release adds files."""


def test_every_message_has_a_sample() -> None:
    assert {type(message) for message in (*SAMPLES.values(), *SAMPLES_2.values())} == set(TAGS.values())


@pytest.mark.parametrize("path", sorted(GOLDEN.glob("*.msgpack")), ids=lambda path: path.stem)
def test_frames_of_every_release_are_read_for_ever(path: Path) -> None:
    name, _, protocol = path.stem.rpartition("-")
    assert decode_frame(path.read_bytes()) == ([{"1": SAMPLES, "2": SAMPLES_2}[protocol][name]], 0)


def test_this_release_is_in_the_corpus() -> None:
    here = {f"{name}-1" for name in SAMPLES} | {f"{name}-2" for name in SAMPLES_2}
    assert {path.stem for path in GOLDEN.glob("*.msgpack")} == here


@given(st.lists(any_message, max_size=20))
def test_round_trip(messages: list[Message]) -> None:
    decoded: list[Message] = []
    for frame in encode_frames(messages):
        heard, skipped = decode_frame(frame)
        assert skipped == 0
        decoded += heard
    assert decoded == messages


@given(any_message)
def test_another_msgpack_implementation_reads_the_same(message: Message) -> None:
    [frame] = encode_frames([message])
    [[tag, body]] = msgpack.unpackb(frame, strict_map_key=False)
    assert TAGS[tag] is type(message)
    assert list(body) == sorted(body) and len(body) == len(message.__attrs_attrs__)  # type: ignore[attr-defined]


def test_many_messages_go_into_few_frames_in_order() -> None:
    chunk = Output(instance_id="i", task_id="t", epoch=1, stream="stdout", offset=0, seq=0, at="", data=b"x" * 60_000)
    messages: list[Message] = [Ping(token=str(number)) if number % 2 else chunk for number in range(40)]
    frames = encode_frames(messages)
    assert len(frames) == 5
    assert all(len(frame) <= FRAME_BYTES_MAX for frame in frames)
    assert [message for frame in frames for message in decode_frame(frame)[0]] == messages


def test_nothing_to_say_is_no_frame() -> None:
    assert encode_frames([]) == []


@pytest.mark.parametrize("count", [1, 15, 16, 65_535, 65_536, 70_000])
def test_array_headers_of_every_size(count: int) -> None:
    frames = encode_frames([Ack(sequences=())] * count)
    assert sum(len(decode_frame(frame)[0]) for frame in frames) == count


def test_a_message_larger_than_a_frame_is_our_fault() -> None:
    with pytest.raises(LocalProtocolError) as caught:
        encode_frames([Ping(token="x" * FRAME_BYTES_MAX)])
    assert caught.value.code is CloseCode.FRAME_TOO_LARGE
    assert "Ping takes 262" in caught.value.reason


def test_what_msgpack_cannot_carry_is_our_fault() -> None:
    with pytest.raises(LocalProtocolError):
        encode_frames([Ack(sequences=(2**64,))])
    with pytest.raises(LocalProtocolError):
        encode_frames([Ping(token="\ud800")])


def test_an_unknown_message_is_skipped_and_counted_and_its_body_never_parsed() -> None:
    unparsable = b"\x92\xcd\x03\xe7" + msgpack.packb({"x": [1, {"y": b"z"}]})
    frame = b"\x93" + encode_frames([Ping(token="a")])[0][1:] + unparsable + encode_frames([Ping(token="b")])[0][1:]
    assert decode_frame(frame) == ([Ping(token="a"), Ping(token="b")], 1)


def test_fields_of_a_newer_peer_are_ignored_and_missing_ones_have_defaults() -> None:
    body: dict[str, Any] = {"sequence": 3, "something_new": {"a": [1, 2]}}
    frame = msgpack.packb([[3, body]])
    assert decode_frame(frame) == ([Heartbeat(sequence=3)], 0)


@pytest.mark.parametrize(
    ("frame", "reason"),
    [
        (b"", "not an array of messages: Input data was truncated"),
        (b"hello", "not an array of messages"),
        (msgpack.packb({"a": 1}), "Expected `array`, got `object`"),
        (msgpack.packb([1]), "Expected `array`, got `int`"),
        (msgpack.packb([[1]]), "length 2"),
        (msgpack.packb([["3", {}]]), "Expected `int`, got `str`"),
        (msgpack.packb([[3, {}]]), "Heartbeat: Object missing required field `sequence`"),
        (msgpack.packb([[3, {"sequence": "1"}]]), "Heartbeat: Expected `int`, got `str` - at `$.sequence`"),
        (msgpack.packb([[3, [1]]]), "Heartbeat: Expected `object`, got `array`"),
        (b"\x91" * 200_000, "not an array of messages"),
        (b"\x91\x92\x03\x81\xa1x" + b"\x91" * 100_000, "recursion"),
        (b"\xdd\xff\xff\xff\xff", "truncated"),
        (b"\x91\x92\x03\xdf\xff\xff\xff\xff", "truncated"),
        (encode_frames([Ping(token="x")])[0] + b"\0", "trailing"),
        (b"\x91\x92\x28\x81\xa5token\xa2\xff\xfe", "utf-8"),
    ],
)
def test_garbage_is_the_peers_fault_with_a_reason(frame: bytes, reason: str) -> None:
    with pytest.raises(RemoteProtocolError) as caught:
        decode_frame(frame)
    assert caught.value.code is CloseCode.MALFORMED
    assert reason.lower() in caught.value.reason.lower()
    assert len(caught.value.close_reason.encode()) <= 123


def test_size_is_bounded_before_anything_is_parsed() -> None:
    with pytest.raises(RemoteProtocolError) as caught:
        decode_frame(b"\xc1" * (FRAME_BYTES_MAX + 1))
    assert caught.value.code is CloseCode.FRAME_TOO_LARGE


@given(st.binary(max_size=300))
def test_any_bytes_are_messages_or_a_protocol_error(data: bytes) -> None:
    try:
        decode_frame(data)
    except RemoteProtocolError:
        pass


@given(st.lists(any_message, min_size=1, max_size=3), st.data())
def test_a_damaged_frame_is_messages_or_a_protocol_error(messages: list[Message], data: st.DataObject) -> None:
    frame = bytearray(encode_frames(messages)[0])
    for _ in range(data.draw(st.integers(1, 4))):
        frame[data.draw(st.integers(0, len(frame) - 1))] = data.draw(st.integers(0, 255))
    cut = data.draw(st.integers(0, len(frame)))
    try:
        decode_frame(bytes(frame[:cut]))
    except RemoteProtocolError:
        pass


@given(st.lists(any_message, max_size=8))
def test_however_messages_are_split_into_frames_the_same_is_heard(messages: list[Message]) -> None:
    one_by_one = [frame for message in messages for frame in encode_frames([message])]
    together = encode_frames(messages)

    def heard(frames: list[bytes]) -> list[Message]:
        return [message for frame in frames for message in decode_frame(frame)[0]]

    assert heard(one_by_one) == heard(together)


def test_started_takes_little_room() -> None:
    """A regression guard: reports are the bulk of the traffic."""
    ids = dict.fromkeys(("event_id", "task_id", "instance_id"), "01983d8e-7b3a-7000-8000-000000000000")
    started = Started(
        sequence=1, epoch=1, started_at="2026-01-05T08:00:00.000001Z", pid=4711, isolation="session", **ids
    )
    assert len(encode_frames([started])[0]) < 260
