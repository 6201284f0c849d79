"""A log through the current code: every decision is taken again, on the recorded command and the state of then.

An append is the events of one command, which stand together. Before it, each of its streams is folded to the version it
had; the decider is asked again, and what it says is compared with what was written, as JSON, after both were lifted to the
schema of today. Nothing is written, and nothing outside is touched.
"""

from __future__ import annotations

import json
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from typing import Any
from uuid import UUID

from attrs import define, field, frozen

from eventstore.codec import EventCodec
from eventstore.event import RecordedEvent
from hetuflow.actors.catalogue import event_codec
from hetuflow.actors.context import COMMAND
from hetuflow.domain.calendar import snapshot as calendar_snapshot
from hetuflow.domain.commands import CalendarSnapshot, JobSnapshot
from hetuflow.domain.decider import Address, Decider, Decision
from hetuflow.domain.deciders import DECIDERS
from hetuflow.domain.job import snapshot
from hetuflow.domain.rejection import Rejected
from hetuflow.history.recorded_commands import CommandUnknown, RecordedCommand, calendars_of, jobs_of, read

_NO_ID = UUID(int=0)

STATES_MAX = 100_000
"""Folded states kept; one that is needed again afterwards is folded from its stream."""

DIFFERENCES_MAX = 1_000

Load = Callable[[str, int], Awaitable[Sequence[RecordedEvent]]]
"""(stream, position) -> its events up to that position."""

Written = tuple[str, str, Any]
"""(stream, event type, data as JSON)."""


@frozen(slots=True)
class Known:
    """A stream folded to a version."""

    state: Any
    version: int


@frozen(slots=True, kw_only=True)
class Difference:
    """A decision that would not be taken like this today. `position`: of its first event."""

    position: int
    stream_id: str
    command: str
    message: str
    recorded: Sequence[Written] = ()
    today: Sequence[Written] = ()


@frozen(slots=True, kw_only=True)
class Question:
    """What a decider was asked, and what was written because of it."""

    stream_id: str
    version: int
    state: Any
    command: RecordedCommand
    recorded: Sequence[Written]
    position: int

    @property
    def decider(self) -> Decider[Any]:
        return DECIDERS[Address.of_stream(self.stream_id).category]

    def decide(self) -> Decision:
        """Ask again. Raises what the decider raises."""
        return self.decider.decide(self.command.command, self.state, self.command.decided_at)


@define(slots=True)
class Tally:
    """What a check found. `unrecorded`: decisions whose command the log does not hold."""

    position: int = 0
    events: int = 0
    decisions: int = 0
    same: int = 0
    unrecorded: int = 0
    different: int = 0
    differences: list[Difference] = field(factory=list)

    def note(self, difference: Difference) -> None:
        self.different += 1
        if len(self.differences) < DIFFERENCES_MAX:
            self.differences.append(difference)


class Replay:
    """Takes events in the order of their positions, whole appends at a time."""

    def __init__(self, load: Load, *, codec: EventCodec | None = None, states_max: int = STATES_MAX) -> None:
        self._load, self._codec, self._most = load, codec or event_codec(), states_max
        self._states: OrderedDict[str, Known] = OrderedDict()
        self.tally = Tally()

    async def check(self, events: Iterable[RecordedEvent]) -> None:
        """Check the decisions among these events; the last append must be whole."""
        for append in appends(events):
            await self._check(append)

    async def question(self, append: Sequence[RecordedEvent]) -> Question:
        """What led to this append.

        Raises:
          CommandUnknown: the log does not say.
        """
        first = append[0]
        kept = json.loads(first.metadata).get(COMMAND)
        own = kept.get("of", first.stream_id) if isinstance(kept, dict) else first.stream_id
        if Address.of_stream(own).category not in DECIDERS:
            raise CommandUnknown(f"nothing decides about {own}")
        known = await self._known(own, first.position - 1)
        data = kept.get("data") if isinstance(kept, dict) else None
        jobs = {named: await self._job(*named, first.position - 1) for named in jobs_of(data)}
        calendars = {named: await self._calendar(*named, first.position - 1) for named in calendars_of(data)}
        command = read(kept, lambda *named: jobs[named], lambda *named: calendars[named])
        written = [self._written(event) for event in append]
        return Question(
            stream_id=own,
            version=known.version,
            state=known.state,
            command=command,
            recorded=written,
            position=first.position,
        )

    def decided(self, question: Question, decision: Decision) -> Sequence[Written]:
        """A decision in the form of what was written."""
        streams = [(question.stream_id, decision.events), *((a.stream_id, e) for a, e in decision.opened.items())]
        return [(stream, type(event).__name__, self._plain(event)) for stream, events in streams for event in events]

    async def _check(self, append: Sequence[RecordedEvent]) -> None:
        tally = self.tally
        tally.decisions += 1
        try:
            question = await self.question(append)
        except CommandUnknown:
            tally.unrecorded += 1
        except Exception as exc:  # whatever it is, it is a finding
            tally.note(_difference(append, f"it cannot be asked again: {exc}"))
        else:
            found = self.compare(question)
            if found is None:
                tally.same += 1
            else:
                tally.note(found)
        for event in append:
            await self._evolve(event)
        tally.events += len(append)
        tally.position = append[-1].position

    def compare(self, question: Question) -> Difference | None:
        """Ask again, and say what is different; None when nothing is."""
        try:
            today = self.decided(question, question.decide())
        except Rejected as no:
            return self._different(question, f"today it is refused ({no.code}): {no.message}", ())
        except Exception as exc:
            return self._different(question, f"today the decider fails: {type(exc).__name__}: {exc}", ())
        if list(today) == list(question.recorded):
            return None
        return self._different(question, first_difference(question.recorded, today), today)

    @staticmethod
    def _different(question: Question, message: str, today: Sequence[Written]) -> Difference:
        return Difference(
            position=question.position,
            stream_id=question.stream_id,
            command=type(question.command.command).__name__,
            message=message,
            recorded=question.recorded,
            today=today,
        )

    def _written(self, event: RecordedEvent) -> Written:
        return (event.stream_id, event.type, self._plain(self._codec.decode(event)))

    def _plain(self, event: Any) -> Any:
        return json.loads(self._codec.encode(event, _NO_ID, {}).data)

    # --- states -------------------------------------------------------------------------------------------------------

    async def _known(self, stream_id: str, position: int) -> Known:
        known = self._states.get(stream_id)
        if known is not None:
            self._states.move_to_end(stream_id)
            return known
        return self._keep(stream_id, self._fold(stream_id, await self._load(stream_id, position)))

    async def _job(self, job_id: str, version: int, position: int) -> JobSnapshot:
        """The job that a command copies, as it was at the version that the command names."""
        known = await self._at(f"job-{job_id}", version, position)
        return snapshot(known.state, known.version)

    async def _calendar(self, calendar_id: str, version: int, position: int) -> CalendarSnapshot:
        """The calendar that a command tells of, in the same way."""
        known = await self._at(f"calendar-{calendar_id}", version, position)
        return calendar_snapshot(calendar_id, known.state, known.version)

    async def _at(self, stream_id: str, version: int, position: int) -> Known:
        known = await self._known(stream_id, position)
        if known.version == version:
            return known
        return self._fold(
            stream_id, [each for each in await self._load(stream_id, position) if each.version <= version]
        )

    async def _evolve(self, event: RecordedEvent) -> None:
        decider = DECIDERS.get(event.category)
        if decider is None:
            return
        known = self._states.get(event.stream_id)
        if known is None:
            known = await self._known(event.stream_id, event.position - 1)
        try:
            state = decider.evolve(known.state, self._codec.decode(event))
        except Exception as exc:
            self.tally.note(_difference([event], f"it cannot be folded: {type(exc).__name__}: {exc}"))
            state = known.state
        self._keep(event.stream_id, Known(state, event.version))

    def _fold(self, stream_id: str, events: Sequence[RecordedEvent]) -> Known:
        decider = DECIDERS[Address.of_stream(stream_id).category]
        state, version = decider.initial, 0
        for event in events:
            state, version = decider.evolve(state, self._codec.decode(event)), event.version
        return Known(state, version)

    def _keep(self, stream_id: str, known: Known) -> Known:
        self._states[stream_id] = known
        self._states.move_to_end(stream_id)
        if len(self._states) > self._most:
            self._states.popitem(last=False)
        return known


def appends(events: Iterable[RecordedEvent]) -> Iterable[Sequence[RecordedEvent]]:
    """The events of each command, which stand together in the log."""
    waiting: list[RecordedEvent] = []
    key: Any = None
    for event in events:
        command_id = json.loads(event.metadata).get("command_id")
        here = (command_id, event.recorded_at) if command_id is not None else event.position
        if waiting and here != key:
            yield waiting
            waiting = []
        key = here
        waiting.append(event)
    if waiting:
        yield waiting


def _difference(append: Sequence[RecordedEvent], message: str) -> Difference:
    first = append[0]
    kept = json.loads(first.metadata).get(COMMAND)
    name = str(kept.get("type")) if isinstance(kept, Mapping) else "unknown"
    return Difference(position=first.position, stream_id=first.stream_id, command=name, message=message)


def first_difference(recorded: Sequence[Written], today: Sequence[Written]) -> str:
    """The first thing that is not the same, as a sentence."""
    names, now = [each[1] for each in recorded], [each[1] for each in today]
    if names != now:
        return f"recorded {', '.join(names) or 'nothing'}; today {', '.join(now) or 'nothing'}"
    for (stream, type_, before), (other, _, after) in zip(recorded, today, strict=True):
        if stream != other:
            return f"{type_}: recorded in {stream}, today in {other}"
        for path, (old, new) in changes(before, after).items():
            return f"{type_}.{path}: recorded {_shown(old)}, today {_shown(new)}"
    return "the events are the same in another order"


def _shown(value: Any) -> str:
    return "(absent)" if value is ABSENT else json.dumps(value, ensure_ascii=False, default=str)


ABSENT = object()


def changes(before: Any, after: Any, path: str = "") -> dict[str, tuple[Any, Any]]:
    """What differs between two JSON values: path -> (before, after)."""
    if isinstance(before, Mapping) and isinstance(after, Mapping):
        found: dict[str, tuple[Any, Any]] = {}
        for name in dict.fromkeys((*before, *after)):
            inner = f"{path}.{name}" if path else str(name)
            found |= changes(before.get(name, ABSENT), after.get(name, ABSENT), inner)
        return found
    return {} if before == after and type(before) is type(after) else {path: (before, after)}
