"""What is said of a run that violated a promise: which, the last events of the streams concerned, how to repeat it."""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from eventstore.memory import MemoryLog
from tests.simulation.checkers import Verdict
from tests.simulation.outcome import Outcome

EVENTS_MAX = 40
LINE_MAX = 220


def tail_of(log: MemoryLog, verdict: Verdict) -> list[str]:
    """The last events of the streams that the violations are about, and of the streams that these name."""
    if not verdict.violations:
        return []
    named = {stream for violation in verdict.violations for stream in violation.streams}
    chosen = [event for event in log.events if not named or event.stream_id in named]
    return [
        f"{event.position:6} {event.recorded_at:%H:%M:%S.%f} {event.stream_id} v{event.version} {event.type} "
        f"{_shortened(event.data)}"[:LINE_MAX]
        for event in chosen[-EVENTS_MAX:]
    ]


def _shortened(data: str) -> str:
    """Without what is long and seldom of use, and what the stream's name says already."""
    members = msgspec.json.decode(data)
    skipped = {"config", "environment", "description", "metrics", "namespace_id", "updated_by", "created_by"}
    return " ".join(f"{name}={value}" for name, value in members.items() if name not in skipped and value is not None)


def command_for(seed: int, *, is_small: bool = False) -> str:
    return f"make simulate SEED={seed}{' ARGS=--small' if is_small else ''}"


def failure_of(outcome: Outcome) -> str:
    """The whole of it, for a failing test or a terminal."""
    return "\n".join(lines_of(outcome))


def lines_of(outcome: Outcome) -> Iterable[str]:
    yield f"seed {outcome.seed}: {outcome.shape}"
    for violation in outcome.verdict.violations:
        yield f"  VIOLATED {violation}"
    if outcome.tail:
        yield f"  the last {len(outcome.tail)} events of the streams concerned:"
        yield from (f"  {line}" for line in outcome.tail)
    yield f"  repeat it: {command_for(outcome.seed, is_small=outcome.shape.is_small)}"
