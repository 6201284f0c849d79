"""F1, F2, F3, F5, F6: every nominal time is decided once, in order, none too early, none too late.

Each schedule's stream is walked with the oracle of nominal times beside it: `after` is the last nominal time that needs
no decision any more, so the next one decided must be the first one behind it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from tests.simulation.checkers.evidence import Evidence, Fact
from tests.simulation.checkers.exclusion import Calendars
from tests.simulation.checkers.kinds import is_timed, kinds_of
from tests.simulation.checkers.nominal import INTERVAL, TICK, Timing
from tests.simulation.checkers.verdict import Verdict

COMMIT_SECONDS_MAX = 6.0
"""Between an instant that a decision took and the commit that shows it, with the slowest store of the faults."""

ENABLED = 100
LOOK_AHEAD = timedelta(days=1)
"""How far behind a schedule's end a nominal time is looked for."""

TIMES = {
    *("schedule_kind", "cron_expression", "interval_secs", "max_count", "timezone", "start_time", "end_time"),
    *("misfire_policy", "misfire_grace_seconds", "max_age_seconds", "jitter_seconds", "exclude_calendars"),
}
"""Members that decide what fires when: an edit of one of them covers what was due, and no other edit does."""

ANCHORS = {"schedule_kind", "interval_secs", "start_time"}
"""Members whose edit makes an interval count from the edit."""

REASONS = {
    *("misfire", "job_disabled", "edited", "disabled", "deleted"),
    *("overlap", "max_age", "calendar", "backfilled"),
}


def check_fires(evidence: Evidence, verdict: Verdict) -> None:
    """F1, F2, F3, F5, and F6 of the decisions."""
    jobs = {name: Switch(stream) for name, stream in evidence.streams("job")}
    calendars = Calendars(evidence)
    for name, stream in evidence.streams("schedule"):
        if is_timed(stream):
            ScheduleJudge(name, stream, evidence, verdict, jobs, calendars).judge()
    check_tasks_of_fires(evidence, verdict)
    check_resumes(evidence, verdict)


class Switch:
    """When a job was on: by position in the log, which is exact, for a fire is guarded by the job's version."""

    def __init__(self, stream: Sequence[Fact]) -> None:
        self._changes = [(0, True, datetime.min.replace(tzinfo=UTC))]
        self.created_at = datetime.min.replace(tzinfo=UTC)
        """By the clock of the server that made it: one of a clock that was behind can name earlier instants."""
        for fact in stream:
            if fact.type == "JobCreated":
                self.created_at = fact.time("created_at") or fact.recorded_at
                self._changes = [(0, fact.data["status"] == ENABLED, datetime.min.replace(tzinfo=UTC))]
            elif fact.type == "JobEnabled":
                self._changes.append((fact.position, True, fact.time("enabled_at") or fact.recorded_at))
            elif fact.type in ("JobDisabled", "JobDeleted"):
                self._changes.append((fact.position, False, fact.recorded_at))

    def at(self, position: int) -> tuple[bool, datetime]:
        """On or off as of this position, and since which instant."""
        found = self._changes[0]
        for change in self._changes:
            if change[0] <= position:
                found = change
        return found[1], found[2]

    @property
    def was_ever_off(self) -> bool:
        return any(not on for _, on, _ in self._changes)


class ScheduleJudge:
    """One schedule. `_after`: nominal times at or before it need no decision; `_since`: begin of the enabled period."""

    def __init__(
        self,
        name: str,
        stream: Sequence[Fact],
        evidence: Evidence,
        verdict: Verdict,
        jobs: Mapping[str, Switch],
        calendars: Calendars,
    ) -> None:
        self._calendars = calendars
        self._name, self._stream, self._evidence, self._verdict, self._jobs = name, stream, evidence, verdict, jobs
        self._fires = 0
        self._last: datetime | None = None
        self._since: datetime | None = None
        self._over = False

    def judge(self) -> None:
        self._created(self._stream[0])
        for fact in self._stream[1:]:
            if self._over:
                self._fail("F1", f"{fact.type} after its end", fact)
            elif (step := getattr(self, f"_{fact.type.removeprefix('Schedule').lower()}", None)) is not None:
                step(fact)
        if self._since is not None:
            # What is due in the calm at the end is decided; before that, only what was decided is judged.
            self._closed(self._wall_at_the_end(), None)

    def _wall_at_the_end(self) -> datetime:
        evidence = self._evidence
        begin = evidence.started_at or evidence.log.events[0].recorded_at
        last = max(evidence.ended, evidence.facts[-1].at)
        return begin + timedelta(seconds=last - COMMIT_SECONDS_MAX) - evidence.clock_error(last)

    def _fail(self, promise: str, what: str, fact: Fact | None) -> None:
        place = f" at position {fact.position}" if fact is not None else ""
        self._verdict.fail(promise, f"{self._name}{place}: {what}", streams=[self._name])

    # --- periods -----------------------------------------------------------------------------------------------------

    def _created(self, fact: Fact) -> None:
        created_at = fact.time("created_at")
        assert created_at is not None
        self._timing = Timing(fact.data, created_at)
        self._after = created_at
        start = fact.time("start_time")
        if (
            fact.data["max_count"] == 1
            and fact.data["schedule_kind"] == INTERVAL
            and start is not None
            and start <= created_at
        ):
            self._after = start - TICK  # `once`, created late: it was asked for
        if fact.data["status"] == ENABLED:
            self._since = self._after

    def _enabled(self, fact: Fact) -> None:
        at = fact.time("enabled_at")
        assert at is not None
        self._after = max(self._after, at)
        self._since = at
        self._verdict.note("schedule resumed")

    def _disabled(self, fact: Fact) -> None:
        self._closed(self._wall(fact), fact)
        self._since = None

    def _suspended(self, fact: Fact) -> None:
        self._since = None
        self._fail("F1", f"was suspended: {fact.data['error']}", fact)

    def _deleted(self, fact: Fact) -> None:
        if fact.data["reason"] != "job_deleted":
            self._closed(self._wall(fact), fact)
        self._since, self._over = None, True
        self._verdict.note("schedule deleted")

    def _expired(self, fact: Fact) -> None:
        if fact.data["reason"] == "max_count":
            if self._fires < self._timing.members["max_count"]:  # an edit may set it lower
                self._fail("F1", f"is over after {self._fires} fires of {self._timing.members['max_count']}", fact)
        elif left := self._free(self._timing.between(self._after, self._after + LOOK_AHEAD)):
            self._fail("F1", f"is over, but {left[0]} is left", fact)
        self._since = None
        self._verdict.note("schedule expired")

    def _updated(self, fact: Fact) -> None:
        at = fact.time("updated_at")
        assert at is not None
        changed = set(fact.data["changed"])
        anchor = at if changed & ANCHORS else self._timing.anchor_at
        if changed & TIMES or not changed:
            self._closed(at, fact)
            self._after = max(self._after, at)
            if self._since is not None:
                self._since = at
        self._timing = Timing(fact.data, anchor)
        self._verdict.note("schedule edited" if changed else "schedule restated")

    def _wall(self, fact: Fact) -> datetime:
        """The latest instant that the decision before this commit certainly knew."""
        evidence = self._evidence
        begin = evidence.started_at
        if begin is None:
            return fact.recorded_at - evidence.clock_error(fact.at) - timedelta(seconds=COMMIT_SECONDS_MAX)
        return begin + timedelta(seconds=fact.at - COMMIT_SECONDS_MAX) - evidence.clock_error(fact.at)

    def _closed(self, until: datetime, fact: Fact | None) -> None:
        """The period ends: nothing up to `until` is left undecided."""
        if self._since is None or self._is_used_up:
            return
        if left := self._free(self._timing.between(self._after, until)):
            self._fail("F1", f"never decided {left[0]} (and {len(left) - 1} more), enabled until {until}", fact)

    @property
    def _is_used_up(self) -> bool:
        most = self._timing.members["max_count"]
        return most is not None and self._fires >= most

    # --- decisions ---------------------------------------------------------------------------------------------------

    def _fired(self, fact: Fact) -> None:
        nominal, fired = fact.time("nominal_at"), fact.time("fired_at")
        assert nominal is not None and fired is not None
        self._verdict.note("fired")
        self._fires += 1
        if self._in_order([nominal], fact):
            self._next_are([nominal], nominal, fact)
        if fact.data["fire_count"] != self._fires or self._fires > (self._timing.members["max_count"] or self._fires):
            self._fail("F1", f"counts {fact.data['fire_count']}, it is fire {self._fires}", fact)
        if self._is_excluded(nominal):
            self._fail("F1", f"fired {nominal}, which a calendar excludes", fact)
        if fired < nominal:
            self._fail("F6", f"fired {nominal} early, at {fired}", fact)
        self._job_was_on(nominal, fact)
        self._is_young_enough(nominal, fired, fact)
        self._covered(nominal)

    def _skipped(self, fact: Fact) -> None:
        first, last = fact.time("first_nominal_at"), fact.time("last_nominal_at")
        assert first is not None and last is not None
        reason = fact.data["reason"]
        self._verdict.note(f"skipped ({reason})")
        if reason not in REASONS:
            self._fail("F1", f"skips for the unknown reason {reason!r}", fact)
        times = self._timing.between(first - TICK, last)
        if len(times) != fact.data["count"] or not times or times[0] != first or times[-1] != last:
            self._fail("F1", f"a skip of {fact.data['count']} from {first} to {last} covers {len(times)}", fact)
        if self._in_order(times, fact):
            self._next_are(times, last, fact)
        self._may_skip(reason, last, fact)
        self._is_rightly_excluded(reason, times, fact)
        self._covered(last)

    def _in_order(self, times: Sequence[datetime], fact: Fact) -> bool:
        is_behind = not times or self._last is None or times[0] > self._last
        if not is_behind:
            self._fail("F3", f"decided {times[0]} after {self._last}", fact)
        if self._since is None or (times and times[0] <= self._since):
            self._fail("F2", f"decided {times[0] if times else None} in a period from {self._since}", fact)
            return False
        return is_behind

    def _next_are(self, times: Sequence[datetime], last: datetime, fact: Fact) -> None:
        expected = self._timing.between(self._after, last)
        if list(times) != expected:
            odd = sorted(set(times) ^ set(expected))[:3]
            self._fail("F1", f"decided other times than the nominal ones: {[str(at) for at in odd]}", fact)

    def _covered(self, nominal: datetime) -> None:
        self._last = nominal if self._last is None else max(self._last, nominal)
        self._after = max(self._after, nominal)

    def _job_was_on(self, nominal: datetime, fact: Fact) -> None:
        job = self._jobs.get(f"job-{fact.data['job_id']}")
        if job is None:
            return
        on, since = job.at(fact.position)
        if not on or (nominal <= since and since > self._stream[0].recorded_at):
            self._fail("F2", f"fired {nominal}, its job is {'on' if on else 'off'} since {since}", fact)

    # --- calendars ---------------------------------------------------------------------------------------------------

    def _is_excluded(self, nominal: datetime) -> bool | None:
        return self._calendars.excluded(self._timing.members.get("exclude_calendars") or (), nominal)

    def _free(self, times: Sequence[datetime]) -> list[datetime]:
        """Those that are certainly not excluded."""
        return [each for each in times if self._is_excluded(each) is False]

    def _is_rightly_excluded(self, reason: str, times: Sequence[datetime], fact: Fact) -> None:
        for each in times:
            is_excluded = self._is_excluded(each)
            if reason == "calendar" and is_excluded is False:
                self._fail("F1", f"skips {each} for a calendar, and none excludes it", fact)
            elif reason in ("misfire", "max_age") and is_excluded:
                self._fail("F5", f"skips {each} for {reason}, which a calendar excludes", fact)

    # --- misfires (F5) -----------------------------------------------------------------------------------------------

    def _is_young_enough(self, nominal: datetime, fired: datetime, fact: Fact) -> None:
        """F5: what is older than the grace fires only as the policy allows."""
        policy = self._timing.members["misfire_policy"]
        max_age = self._timing.members.get("max_age_seconds")
        if max_age is not None:
            self._verdict.note("fires with a bound of their age")
        if max_age is not None and fired - nominal > timedelta(seconds=max_age):
            self._fail("F5", f"fired {nominal} at {fired}, older than {max_age} s", fact)
        on_time_from = fired - timedelta(seconds=self._timing.members["misfire_grace_seconds"])
        if nominal >= on_time_from or policy == "fire_all":
            return
        self._verdict.note("misfire that fired")
        if policy == "skip":
            self._fail("F5", f"fired {nominal} at {fired}, beyond its grace, and skips misfires", fact)
        elif later := self._free(self._timing.between(nominal, on_time_from - TICK)):
            self._fail("F5", f"fired the misfire {nominal} at {fired}, not the newest one {later[-1]}", fact)

    def _may_skip(self, reason: str, last: datetime, fact: Fact) -> None:
        members = self._timing.members
        if reason == "misfire":
            if members["misfire_policy"] == "fire_all":
                self._fail("F5", "skips a misfire although all of them fire", fact)
            grace = timedelta(seconds=members["misfire_grace_seconds"])
            if last + grace > fact.recorded_at + self._evidence.clock_error(fact.at):
                self._fail("F5", f"skips {last} as a misfire within its grace, at {fact.recorded_at}", fact)
        elif reason == "job_disabled":
            job = self._jobs.get(f"job-{fact.data['job_id']}")
            if job is not None and not job.was_ever_off and last > job.created_at:
                self._fail("F1", f"skips {last} for its job, which was never off", fact)
        elif reason == "max_age":
            age = timedelta(seconds=members.get("max_age_seconds") or 0)
            if not age or last + age > fact.recorded_at + self._evidence.clock_error(fact.at):
                self._fail("F5", f"skips {last} as too old at {fact.recorded_at}, the maximum age is {age}", fact)
        elif reason == "calendar" and not members.get("exclude_calendars"):
            self._fail("F1", f"skips {last} for a calendar, and refers to none", fact)
        elif reason == "overlap" and members["overlap_policy"] == "allow":
            self._fail("F4", f"skips {last} for an overlap that is allowed", fact)


def check_tasks_of_fires(evidence: Evidence, verdict: Verdict) -> None:
    """F1: a fire is one task and a task of a schedule is one fire. F6: it is due in [nominal, next nominal)."""
    fired: dict[str, Fact] = {}
    timings: dict[str, list[tuple[int, Mapping[str, Any]]]] = {}
    for name, stream in evidence.streams("schedule"):
        for fact in stream:
            if fact.type == "ScheduleFired":
                fired[f"task-{fact.data['task_id']}"] = fact
            elif fact.type in ("ScheduleCreated", "ScheduleUpdated"):
                timings.setdefault(name, []).append((fact.position, fact.data))
    for name, stream in evidence.streams("task"):
        task = stream[0]
        schedule = evidence.by_stream.get(f"schedule-{task.data.get('schedule_id')}", [])
        if task.data.get("schedule_id") is None or "daemon" in kinds_of(schedule) or task.data.get("backfill_id"):
            continue
        fire = fired.pop(name, None)
        streams = [name, f"schedule-{task.data['schedule_id']}"]
        if fire is None or task.time("nominal_at") != fire.time("nominal_at"):
            verdict.fail("F1", f"{name} is the task of no fire", streams=streams)
            continue
        if is_timed(schedule):
            _due_in_time(task, fire, timings[fire.stream], evidence, verdict)
    for name, fire in fired.items():
        verdict.fail(
            "F1", f"{fire.stream} fired {fire.data['nominal_at']}, and there is no {name}", streams=[fire.stream]
        )


def _due_in_time(
    task: Fact,
    fire: Fact,
    timings: Sequence[tuple[int, Mapping[str, Any]]],
    evidence: Evidence,
    verdict: Verdict,
) -> None:
    nominal, due = fire.time("nominal_at"), task.time("scheduled_at")
    assert nominal is not None and due is not None
    members = [data for position, data in timings if position < fire.position][-1]
    jitter = members["jitter_seconds"]
    if jitter:
        verdict.note("fires with jitter")
    following = Timing(members, datetime.fromisoformat(members["anchor_at"])).between(nominal, nominal + LOOK_AHEAD)
    latest = min([nominal + timedelta(seconds=jitter), *following[:1]])
    if not (nominal <= due < latest or due == nominal):
        verdict.fail(
            "F6", f"{task.stream} of {nominal} is due at {due}, not in [nominal, {latest})", streams=[task.stream]
        )
    if evidence.started_at is not None:
        for process in evidence.history:
            if f"task-{process.task_id}" == task.stream:
                wall = evidence.started_at + timedelta(seconds=process.started)
                if wall + evidence.clock_error(process.started) < due:
                    verdict.fail("F6", f"{task.stream} ran at {wall}, due at {due}", streams=[task.stream])


def check_resumes(evidence: Evidence, verdict: Verdict) -> None:
    """F2: the instant of a resume or an edit that the log shows is not before the operator asked for it."""
    instants = {
        ("resume", "ScheduleEnabled"): "enabled_at",
        ("create", "ScheduleCreated"): "created_at",
        ("edit", "ScheduleUpdated"): "updated_at",
    }
    for act in evidence.observed.acts:
        if not act.accepted or not act.stream.startswith("schedule-"):
            continue
        for (what, kind), member in instants.items():
            if not act.what.startswith(what):
                continue
            for fact in evidence.by_stream.get(act.stream, ()):
                at = fact.time(member) if fact.type == kind else None
                if at is None or not act.asked_at <= fact.at <= act.answered_at:
                    continue
                verdict.note("instants of edits compared")
                if at + evidence.clock_error(fact.at) + timedelta(milliseconds=1) < act.asked_wall:
                    verdict.fail(
                        "F2", f"{act.stream}: {act.what} at {act.asked_wall} counts from {at}", streams=[act.stream]
                    )
