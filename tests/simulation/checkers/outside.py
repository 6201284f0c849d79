"""O1, E1, C1, V1: output, feeds, clocks, and that everything comes to its end."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from datetime import datetime, timedelta
from hashlib import sha256

from tests.simulation.checkers.evidence import Evidence, Fact
from tests.simulation.checkers.exclusion import Calendars
from tests.simulation.checkers.kinds import is_timed
from tests.simulation.checkers.nominal import Timing
from tests.simulation.checkers.schedules import ANCHORS, ENABLED, TIMES
from tests.simulation.checkers.tasks import unfinished_tasks
from tests.simulation.checkers.verdict import Verdict
from tests.support.processes import Running

STREAMS = ((1, "stdout"), (2, "stderr"))

FEED_SECONDS_MAX = 10.0
"""From a commit to its delivery on a feed that stands, without faults."""

DECISION_SECONDS_MAX = 30.0
"""From the moment when every clock has reached a nominal time to its decision, beside a lease, without faults."""


def check_output(evidence: Evidence, verdict: Verdict) -> None:
    """O1: what is stored of a process whose end was reported is what it wrote, up to a cut that says how much."""
    if evidence.output is None:
        return
    for chunk in evidence.output.contradictions:
        verdict.fail("O1", f"two texts at offset {chunk.offset} of {chunk.instance_id} {chunk.stream}")
    by_key = {(process.instance_id, process.epoch): process for process in evidence.history}
    for name, stream in evidence.streams("task"):
        for fact in stream:
            said = fact.data.get("output")
            process = by_key.get((fact.data.get("instance_id", ""), fact.data.get("epoch", 0)))
            ended_by_itself = fact.type == "InstanceSucceeded" or fact.data.get("reason") == "exit_code"
            if process is None or not ended_by_itself:
                continue
            if not said:
                if any(process.written[number] for number, _ in STREAMS):
                    verdict.fail("O1", f"the end of {process.instance_id} says nothing of its output", streams=[name])
            else:
                _check_bytes(name, fact, process, evidence, verdict)


def _check_bytes(name: str, fact: Fact, process: Running, evidence: Evidence, verdict: Verdict) -> None:
    said = fact.data["output"]
    assert evidence.output is not None
    for number, stream in STREAMS:
        written = process.written[number]
        shown = evidence.output.text(process.instance_id, stream)
        summary = said.get(stream) or {"bytes": 0, "kept": 0, "sha256": sha256(b"").hexdigest()}
        kept = summary.get("kept", summary["bytes"])
        if summary["bytes"] != len(written) or summary.get("sha256") != sha256(written).hexdigest():
            verdict.fail(
                "O1", f"the digest of {stream} of {process.instance_id} is not that of what was written", streams=[name]
            )
        if shown[:kept] != written[:kept]:
            verdict.fail("O1", f"{stream} of {process.instance_id} is not what was written", streams=[name])
        if kept < len(written):
            verdict.note("outputs that were cut")
            if not said.get("dropped"):
                verdict.fail("O1", f"{stream} of {process.instance_id} is cut without a count", streams=[name])
        elif len(shown) > kept and not said.get("dropped"):
            verdict.fail("O1", f"{stream} of {process.instance_id} shows more than was written", streams=[name])
    verdict.note("outputs compared")


def check_feeds(evidence: Evidence, verdict: Verdict) -> None:
    """E1: a feed resumed after position p gives every event behind p once, in order."""
    events = evidence.log.events
    for reader, readings in evidence.observed.readers.items():
        had = 0
        for reading in readings:
            verdict.note("feeds resumed", reading.after > 0)
            if reading.after != had:
                verdict.fail("E1", f"{reader} had {had} and resumed after {reading.after}")
            for number, (position, event_id) in enumerate(reading.received, reading.after + 1):
                if position != number or position > len(events) or events[position - 1].event_id != event_id:
                    verdict.fail(
                        "E1", f"{reader}, resumed after {reading.after}, got {position} in the place of {number}"
                    )
                    break
            had = reading.received[-1][0] if reading.received else reading.after
        _reads_to_the_end(reader, had, evidence, verdict)


def _reads_to_the_end(reader: str, had: int, evidence: Evidence, verdict: Verdict) -> None:
    """In the calm at the end nothing is kept back."""
    if not evidence.observed.calm:
        return
    since, until = evidence.observed.calm[-1]
    due = [fact for fact in evidence.facts if fact.at <= until - FEED_SECONDS_MAX - evidence.lease]
    if until - since > FEED_SECONDS_MAX + evidence.lease and due and had < due[-1].position:
        late = evidence.facts[had]
        verdict.fail("E1", f"{reader} never got position {had + 1}, committed at {late.at:.1f}", streams=[late.stream])


# --- clocks ------------------------------------------------------------------------------------------------------------


def check_clocks(evidence: Evidence, verdict: Verdict) -> None:
    """C1: no nominal time is fired twice, and none waits longer than until every clock has come (back) to it."""
    verdict.note("clocks stepped back", sum(step.seconds < 0 for step in evidence.observed.clock_steps))
    for name, stream in evidence.streams("schedule"):
        fired: dict[str, int] = defaultdict(int)
        for fact in stream:
            if fact.type == "ScheduleFired":
                fired[fact.data["nominal_at"]] += 1
        for nominal, count in fired.items():
            if count > 1:
                verdict.fail("C1", f"{name} fired {nominal} {count} times", streams=[name])
        if evidence.started_at is not None and is_timed(stream):
            _check_stalls(name, stream, evidence, verdict)


def _check_stalls(name: str, stream: Sequence[Fact], evidence: Evidence, verdict: Verdict) -> None:
    """In calm stretches every nominal time of an enabled schedule is decided soon after its instant on all clocks."""
    periods = list(_periods(stream, evidence))
    decisions = [(fact.at, fact.time("nominal_at") or fact.time("last_nominal_at")) for fact in stream]
    bound = DECISION_SECONDS_MAX + evidence.lease
    calendars = Calendars(evidence)
    for timing, since, after, until in periods:
        excluding = timing.members.get("exclude_calendars") or ()
        for begin, end in evidence.observed.calm:
            first, last = max(begin, since), min(end, until)
            if last - first <= bound:
                continue
            assert evidence.started_at is not None
            lead = evidence.clock_error(last, last - first)
            wall_from = max(after, evidence.started_at + _seconds(first) - lead)
            for nominal in timing.between(wall_from, evidence.started_at + _seconds(last)):
                if calendars.excluded(excluding, nominal) is not False:
                    continue  # it is told with the next decision
                due = max(first, evidence.reached_by_all(nominal))
                decided = next((at for at, covered in decisions if covered is not None and covered >= nominal), last)
                verdict.note("nominal times in calm")
                if due + bound < min(decided, last):
                    verdict.fail(
                        "C1", f"{name} was due for {nominal} at {due:.1f} and decided at {decided:.1f}", streams=[name]
                    )
                    return


def _seconds(count: float) -> timedelta:
    return timedelta(seconds=count)


def _periods(stream: Sequence[Fact], evidence: Evidence) -> list[tuple[Timing, float, datetime, float]]:
    """(Timing, begin, instant after which nominal times count, end) of each stretch in which the schedule was enabled.

    That instant never falls: what lies before the creation, an edit or a resume is not to be decided later, even where the
    clock that was asked then was ahead (seed 20180).
    """
    found: list[tuple[Timing, float, datetime, float]] = []
    created_at = stream[0].time("created_at")
    assert created_at is not None
    timing = Timing(stream[0].data, created_at)
    after = created_at
    since: tuple[float, datetime] | None = (stream[0].at, created_at) if stream[0].data["status"] == ENABLED else None
    for fact in stream[1:]:
        ends = fact.type in ("ScheduleDisabled", "ScheduleDeleted", "ScheduleExpired", "ScheduleSuspended")
        changed = set(fact.data.get("changed", ()))
        restarts = fact.type == "ScheduleUpdated" and (not changed or changed & TIMES)
        if (ends or restarts) and since is not None:
            found.append((timing, *since, fact.at))
            after = max(after, fact.time("updated_at") or after)
            since = None if ends else (fact.at, after)
        if fact.type == "ScheduleUpdated":
            timing = Timing(fact.data, (fact.time("updated_at") if changed & ANCHORS else None) or timing.anchor_at)
        elif fact.type == "ScheduleEnabled":
            after = max(after, fact.time("enabled_at") or fact.recorded_at)
            since = (fact.at, after)
    if since is not None:
        found.append((timing, *since, evidence.ended))
    return found


# --- liveness ----------------------------------------------------------------------------------------------------------


def check_liveness(evidence: Evidence, verdict: Verdict) -> None:
    """V1: when everything has healed and time has passed, no due work is left, and nothing runs."""
    if not evidence.has_settled:
        return
    for task in unfinished_tasks(evidence.log):
        verdict.fail("V1", f"{task} is left although everything has healed", streams=[task.partition(" ")[0]])
    for process in evidence.history:
        if process.ended is None:
            verdict.fail(
                "V1",
                f"a process of task {process.task_id} still runs on {process.machine}",
                streams=[f"task-{process.task_id}"],
            )
