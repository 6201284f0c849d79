"""L1, L2, L5, L6: the log as such, and what clients were told of it."""

from __future__ import annotations

from collections import Counter, defaultdict

from projections.fold import Tables
from tests.simulation.checkers.evidence import Evidence
from tests.simulation.checkers.verdict import Verdict
from tests.simulation.observed import SECRET

CREATIONS = {"JobCreated", "ScheduleCreated", "TaskCreated", "AgentCreated", "FlowStarted"}
CARRIERS = {"JobCreated", "JobUpdated", "TaskCreated", "TaskUpdated", "ScheduleCreated", "ScheduleUpdated"}
"""Events that hold a definition, its variables included, as does the command beside them: nowhere else may a value stand."""

DEFINED = {"environment", "config"}
"""Columns that show a definition."""


def check_log(evidence: Evidence, verdict: Verdict) -> None:
    """L1: positions are 1..n, versions 1..n per stream, time never falls; an event id stands once."""
    versions: dict[str, int] = defaultdict(int)
    ids = set()
    previous = None
    for number, event in enumerate(evidence.log.events, 1):
        versions[event.stream_id] += 1
        streams = [event.stream_id]
        if event.position != number or event.version != versions[event.stream_id]:
            verdict.fail(
                "L1", f"event {number} has position {event.position} and version {event.version}", streams=streams
            )
        if previous is not None and event.recorded_at < previous:
            verdict.fail("L1", f"time falls at position {number}", streams=streams)
        if event.event_id in ids:
            verdict.fail("L1", f"event id {event.event_id} stands twice", streams=streams)
        previous = event.recorded_at
        ids.add(event.event_id)
    for name, stream in evidence.log.streams.items():
        if [event.position for event in stream] != [fact.position for fact in evidence.by_stream.get(name, ())]:
            verdict.fail("L1", f"the stream {name} is not what the log holds of it", streams=[name])


def check_acknowledged(evidence: Evidence, verdict: Verdict) -> None:
    """L2: what a client was told is done stands in the log at the end."""
    events = evidence.log.events
    for write in evidence.observed.writes:
        verdict.note("acknowledged writes")
        stream = evidence.log.streams.get(write.stream, [])
        if len(stream) < write.version:
            what = f"{write.stream} was acknowledged at version {write.version}, it has {len(stream)}"
            verdict.fail("L2", what, streams=[write.stream])
        elif write.position > len(events):
            verdict.fail("L2", f"position {write.position} was acknowledged, the log ends at {len(events)}")
        elif write.event_ids:
            standing = [event.event_id for event in stream[write.version - len(write.event_ids) : write.version]]
            if standing != list(write.event_ids):
                verdict.fail("L2", f"{write.stream} holds other events than were acknowledged", streams=[write.stream])


def check_idempotency(evidence: Evidence, verdict: Verdict) -> None:
    """L5: all answers under one key name one effect, and that effect happened once."""
    effects: dict[str, set[str]] = defaultdict(set)
    made: dict[str, int] = defaultdict(int)
    for use in evidence.observed.keys:
        effects[use.key].add(f"{use.answer} {use.effect}")
        if use.answer == "created":
            made[use.effect] += 0
    for key, found in effects.items():
        verdict.note("idempotency keys used")
        if len(found) > 1:
            verdict.fail("L5", f"the key {key} had {len(found)} answers: {sorted(found)[:3]}")
    received = Counter(
        f"{fact.data['source']} {fact.data['id']}" for fact in evidence.facts if fact.type == "ExternalEventReceived"
    )
    for event, count in received.items():
        verdict.note("events from outside")
        if count != 1:
            verdict.fail("L5", f"the event {event} from outside was recorded {count} times")
    for use in evidence.observed.keys:
        if use.answer == "recorded" and not received[use.effect]:
            verdict.fail("L5", f"the event {use.effect} from outside was answered as recorded, and was not")
    for fact in evidence.facts:
        if fact.type in CREATIONS and fact.stream in made:
            made[fact.stream] += 1
    for stream, count in made.items():
        if count != 1:
            verdict.fail("L5", f"{stream} was answered as made, and was made {count} times", streams=[stream])


def check_secrets(evidence: Evidence, verdict: Verdict) -> None:
    """L6: no marked value in a line, an error, a metric, or an event that is not the definition itself."""
    verdict.note("lines searched for a secret", evidence.observed.lines_seen)
    for where, line in evidence.observed.leaks:
        verdict.fail("L6", f"{where} shows a secret: {line.replace(SECRET, '***')}")
    for event in evidence.log.events:
        if SECRET in event.data:
            verdict.note("definitions with a secret", event.type in CARRIERS)
            if event.type not in CARRIERS:
                verdict.fail(
                    "L6", f"{event.type} at position {event.position} shows a secret", streams=[event.stream_id]
                )
        if SECRET in str(event.metadata) and event.type not in CARRIERS:
            verdict.fail("L6", f"the metadata at position {event.position} show a secret", streams=[event.stream_id])


def check_shown(tables: Tables, verdict: Verdict) -> None:
    """L6: no marked value in a row, beside the definition."""
    for name, fold in tables.folds.items():
        for key, row in fold.rows().items():
            verdict.note("rows searched for a secret")
            for column, value in row.items():
                if column not in DEFINED and SECRET in str(value):
                    verdict.fail("L6", f"{column} of {key} in the table {name} shows a secret")
