"""Events that were released are read by every later program: a member renamed or a type removed fails here."""

from __future__ import annotations

import json
from collections import defaultdict
from typing import Any

import attrs
import pytest

from hetuflow.actors.catalogue import event_codec
from hetuflow.domain.decider import Address
from hetuflow.domain.deciders import DECIDERS
from hetuflow.domain.events import EVENT_TYPES
from tests.support.corpus import NAMES, corpus, corpus_of

CODEC = event_codec()


def test_every_released_type_is_in_the_corpus_and_every_type_of_the_corpus_is_known() -> None:
    assert sorted(kind.__name__ for kind in EVENT_TYPES) == NAMES == sorted(CODEC.registry)


@pytest.mark.parametrize("name", NAMES)
def test_what_was_stored_is_read_and_stored_again_as_the_same_value(name: str) -> None:
    """A member that an older program did not write comes back with its default, and nothing else comes or goes."""
    kind = CODEC.registry[name]
    defaults = {field.name: field.default for field in attrs.fields(kind.cls) if field.default is not attrs.NOTHING}
    for recorded in corpus_of(name):
        event = CODEC.decode(recorded)
        again = json.loads(CODEC.encode(event, recorded.event_id, {}).data)
        before = json.loads(recorded.data)
        if recorded.schema != kind.schema:
            continue  # lifted: it is another value, by intent; it is folded below
        added = {member: again.pop(member) for member in set(again) - set(before)}
        assert again == before
        assert added.keys() <= defaults.keys()
        for member in added:
            default = defaults[member]
            value = default.factory() if isinstance(default, attrs.Factory) else default  # type: ignore[arg-type]
            assert getattr(event, member) == value


@pytest.mark.parametrize("kind", EVENT_TYPES, ids=lambda kind: kind.__name__)
def test_every_member_is_there_in_each_of_its_forms(kind: type) -> None:
    """Null and given, absent and present, so that no form of it is lost unnoticed."""
    found: dict[str, list[Any]] = defaultdict(list)
    absent: set[str] = set()
    for recorded in corpus_of(kind.__name__):
        data = json.loads(recorded.data)
        for field in attrs.fields(kind):
            if field.name in data:
                found[field.name].append(data[field.name])
            else:
                absent.add(field.name)
    for field in attrs.fields(kind):
        values = found[field.name]
        assert any(value is not None for value in values), f"{field.name} is never given"
        if str(field.type).endswith("| None"):
            assert any(value is None for value in values) or field.name in absent, f"{field.name} is never null"
        assert (field.name in absent) == (field.default is not attrs.NOTHING), field.name


def test_the_streams_fold() -> None:
    states: dict[str, Any] = {}
    versions: dict[str, int] = defaultdict(int)
    for recorded in corpus():
        decider = DECIDERS[Address.of_stream(recorded.stream_id).category]
        versions[recorded.stream_id] += 1
        assert recorded.version == versions[recorded.stream_id]
        state = states.get(recorded.stream_id, decider.initial)
        states[recorded.stream_id] = decider.evolve(state, CODEC.decode(recorded))
        decider.intents(states[recorded.stream_id])
    assert {Address.of_stream(stream).category for stream in states} == set(DECIDERS)


def test_positions_are_those_of_one_log() -> None:
    assert [recorded.position for recorded in corpus()] == list(range(1, len(corpus()) + 1))
