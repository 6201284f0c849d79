"""What an earlier version could not read is found."""

from __future__ import annotations

import msgspec
import pytest

from hetuflow.protocol.codec import encode_frames
from tests.protocol import recorded
from tests.protocol.builders import SAMPLES
from tests.protocol.recorded import Vocabulary

VOCABULARY = Vocabulary.of("protocol-1")


def test_every_message_of_the_first_protocol_is_still_said_as_it_was() -> None:
    for sample in SAMPLES.values():
        [frame] = encode_frames([sample])
        [(tag, _)] = recorded.said_in(frame)
        if str(tag) in VOCABULARY.numbers:
            assert VOCABULARY.misunderstood(frame) == [], type(sample).__name__


@pytest.mark.parametrize(
    ("says", "problem"),
    [
        ([[99, {}]], "message 99 is not known"),
        ([[recorded.ACK, {}]], "Ack: sequences is missing"),
        ([[recorded.ACK, {"sequences": ["1"]}]], "Ack.sequences: '1' is no int"),
        (
            [[recorded.HEARTBEAT, {"sequence": 1, "known": [{"task_id": "t"}]}]],
            "Heartbeat.known: Known: instance_id is missing",
        ),
    ],
)
def test_what_it_could_not_read_is_told(says: list[object], problem: str) -> None:
    assert problem in VOCABULARY.misunderstood(msgspec.msgpack.encode(says))
