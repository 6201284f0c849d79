"""What the codec has written and checked is not looked at again; what comes from elsewhere is."""

from __future__ import annotations

from uuid import UUID

import pytest
from attrs import evolve, frozen

from eventstore.codec import EventCodec
from eventstore.errors import InvalidEvent
from eventstore.event import EVENT_BYTES_MAX, Claim, NewEvent
from eventstore.version import check_append, check_event


@frozen
class Named:
    name: str


CODEC = EventCodec({"Named": Named})


def test_the_codec_says_how_many_bytes_there_are() -> None:
    event = CODEC.encode(Named("schön"), UUID(int=1), {"by": "née"})
    assert event.checked_bytes == len(event.data.encode()) + len(event.metadata.encode()) == check_event(event)
    assert check_append([Claim("named-1", 0, (event, event))]) == 2 * event.checked_bytes


def test_common_metadata_are_those_that_an_event_alone_would_have() -> None:
    metadata = {"by": "née", "n": 7}
    alone = CODEC.encode(Named("a"), UUID(int=1), metadata)
    common = CODEC.encode(Named("a"), UUID(int=1), CODEC.metadata(metadata))
    assert common == alone and common.checked_bytes == alone.checked_bytes
    assert CODEC.encode(Named("a"), UUID(int=1), {}).metadata == "{}"


def test_what_was_not_checked_is() -> None:
    with pytest.raises(InvalidEvent, match="not a JSON object"):
        check_event(NewEvent(event_id=UUID(int=1), type="Named", data="[1]"))


def test_together_they_may_not_be_too_large() -> None:
    half = "x" * (EVENT_BYTES_MAX // 2)
    with pytest.raises(InvalidEvent, match="allowed are"):
        CODEC.encode(Named(half), UUID(int=1), CODEC.metadata({"half": half}))


def test_a_changed_event_is_no_longer_checked_by_the_codec() -> None:
    """Nobody changes events on their way; where a test does, it says so."""
    event = CODEC.encode(Named("a"), UUID(int=1), {})
    with pytest.raises(InvalidEvent):
        check_event(evolve(event, data="{", checked_bytes=0))
