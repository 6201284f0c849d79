"""The pure part of an actor: a stream folded into a state, a decision turned into one append.

Everything that can fail because of our own code fails here, before anything is written: the new states are folded and
their intents computed first, so that an event which cannot be folded never reaches the log.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Protocol, runtime_checkable

import msgspec
from attrs import frozen

from eventstore.codec import EventCodec, Metadata
from eventstore.errors import InvalidEvent
from eventstore.event import Appended, Claim, NewEvent, RecordedEvent
from hetuflow.actors.context import COMMAND, Conversation
from hetuflow.actors.errors import GuardLost, UnknownCategory
from hetuflow.domain.decider import Address, Decider, Decision, Guard, Intent
from hetuflow.ports.ids import Ids


@runtime_checkable
class Snapshotting(Protocol):
    """A decider whose state can be kept as text. `state_schema` grows whenever `evolve` or the state changes."""

    state_schema: int

    def dump_state(self, state: Any) -> str: ...

    def load_state(self, text: str) -> Any: ...


@frozen(slots=True)
class Fold:
    """A state and where it stands."""

    state: Any
    version: int
    position: int
    snapshot_version: int = 0
    conversation: Conversation | None = None


@frozen(slots=True)
class Outcome:
    """What an actor will be once the append is committed. `conversation`: of its last event."""

    address: Address
    state: Any
    version: int
    intents: frozenset[Intent]
    events: int
    conversation: Conversation | None = None


@frozen(slots=True)
class Plan:
    """An append and what follows from it. `outcomes` has one member per claim with events, in their order."""

    claims: Sequence[Claim]
    outcomes: Sequence[Outcome]

    def last_positions(self, appended: Appended) -> Iterable[tuple[Outcome, int]]:
        """Each outcome with the position of its last event."""
        for outcome, first in zip(self.outcomes, appended.positions, strict=True):
            yield outcome, first + outcome.events - 1


class Entities:
    """The deciders and the codec of their events."""

    def __init__(self, deciders: Mapping[str, Decider[Any]], codec: EventCodec, ids: Ids) -> None:
        self._deciders, self._codec, self._ids = dict(deciders), codec, ids
        self._snapshotting = {name: kind for name, kind in deciders.items() if isinstance(kind, Snapshotting)}

    def decider(self, category: str) -> Decider[Any]:
        try:
            return self._deciders[category]
        except KeyError:
            raise UnknownCategory(category) from None

    def knows(self, category: str) -> bool:
        return category in self._deciders

    def snapshotting(self, category: str) -> Snapshotting | None:
        """The decider of that category, if its state can be kept as a snapshot."""
        return self._snapshotting.get(category)

    def fold(self, decider: Decider[Any], events: Iterable[RecordedEvent], start: Fold | None = None) -> Fold:
        """Fold stored events onto `start`. Raises what the codec or `evolve` raise: the log must always fold."""
        state, version, position = (decider.initial, 0, 0) if start is None else (start.state, start.version, 0)
        decode, evolve = self._codec.decode, decider.evolve
        recorded = None
        for recorded in events:
            if recorded.version > version:  # the snapshot's own last event is read again for its position
                state, version = evolve(state, decode(recorded)), recorded.version
            position = recorded.position
        last = None if recorded is None else _conversation_of(recorded)
        return Fold(state, version, position, 0 if start is None else start.version, last)

    def plan(
        self,
        address: Address,
        state: Any,
        version: int,
        decision: Decision,
        metadata: Mapping[str, Any],
        command: Mapping[str, Any] | None = None,
    ) -> Plan:
        """The append that records `decision`, taken by the actor at `address` in `state` at `version`.

        `command`, what was asked, is kept with the first event; where that opens another stream, with the actor's own
        stream and version.

        The own stream always has a claim, the first: without events of its own it is a guard.
        Raises `GuardLost` when the decision contradicts itself about a stream, and what the deciders and codec raise.
        """
        own, outcomes, claims = address.stream_id, [], []
        if command is not None and not decision.events:
            command = {**command, "of": own, "version": version}
        writing = _Writing(self._codec, self._ids, metadata, command)
        claims.append(Claim(own, version, writing.encoded(decision.events)))
        if decision.events:
            outcomes.append(self._outcome(address, state, version, decision.events, writing.last))
        for opened, events in decision.opened.items():
            claims.append(Claim(opened.stream_id, 0, writing.encoded(events)))
            if events:
                initial = self.decider(opened.category).initial
                outcomes.append(self._outcome(opened, initial, 0, events, writing.last))
        claims.extend(_guards(claims, decision.guards))
        return Plan(claims, outcomes)

    def _outcome(
        self, address: Address, state: Any, version: int, events: Sequence[Any], last: Conversation | None
    ) -> Outcome:
        decider = self.decider(address.category)
        evolve = decider.evolve
        for event in events:
            state = evolve(state, event)
        return Outcome(address, state, version + len(events), decider.intents(state), len(events), last)


def _guards(claims: Sequence[Claim], guards: Sequence[Guard]) -> Iterable[Claim]:
    """The guards as claims, each stream once: placements of one fire carry the same lease."""
    named = {claim.stream_id: claim.expected_version for claim in claims}
    for guard in guards:
        known = named.setdefault(guard.stream_id, -1)
        if known == -1:
            named[guard.stream_id] = guard.version
            yield Claim(guard.stream_id, guard.version)
        elif known != guard.version:
            raise GuardLost(guard.stream_id, guard.version, known)


class _Writing:
    """Encodes the events of one append; their common metadata is encoded once. `last`: of the newest event."""

    __slots__ = ("_codec", "_command", "_ids", "_metadata", "_text", "last")

    def __init__(
        self, codec: EventCodec, ids: Ids, metadata: Mapping[str, Any], command: Mapping[str, Any] | None
    ) -> None:
        self._codec, self._ids, self._metadata, self._command = codec, ids, metadata, command
        self._text: Metadata | None = None
        self.last: Conversation | None = None

    def encoded(self, events: Sequence[Any]) -> Sequence[NewEvent]:
        found = [self._encoded(event) for event in events]
        if found:
            self.last = Conversation(self._metadata.get("correlation_id"), str(found[-1].event_id))
        return found

    def _encoded(self, event: Any) -> NewEvent:
        own_id = getattr(event, "recorded_id", None)  # what names itself is recorded under that id
        event_id = self._ids.uuid7() if own_id is None else own_id
        if self._command is not None:
            command, self._command = self._command, None
            try:
                return self._codec.encode(event, event_id, {**self._metadata, COMMAND: command})
            except InvalidEvent:  # too large with the command, or the command cannot be kept: the event may be fine
                pass
        if self._text is None:
            self._text = self._codec.metadata(self._metadata)
        return self._codec.encode(event, event_id, self._text)


class _Told(msgspec.Struct):
    correlation_id: str | None = None


_decode_told = msgspec.json.Decoder(_Told).decode


def _conversation_of(recorded: RecordedEvent) -> Conversation | None:
    try:
        return Conversation(_decode_told(recorded.metadata).correlation_id, str(recorded.event_id))
    except msgspec.MsgspecError:  # somebody else's idea of metadata
        return None
