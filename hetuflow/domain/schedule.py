"""The schedule: every nominal time becomes exactly one decision, fired or skipped, with its reason.

Here are the commands of users; the fire is in schedule_fires.py, the fold in schedule_fold.py. An edit of the times, a
disabling or a deletion that finds nominal times not yet covered skips them first, with its own reason: none of them
fires afterwards, and none disappears without a trace. An edit of anything else leaves what is due as it is.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Any

from attrs import evolve as changed

from hetuflow.domain import daemon, daemon_rules, schedule_events
from hetuflow.domain import schedule_fold as fold
from hetuflow.domain.commands import (
    CalendarSnapshot,
    CreateSchedule,
    DeleteSchedule,
    DisableSchedule,
    EnableSchedule,
    FireSchedule,
    NoteTaskEnds,
    ReplanSchedule,
    SuspendSchedule,
    TendDaemon,
    TriggerSchedule,
    UpdateSchedule,
)
from hetuflow.domain.daemon_fold import rested
from hetuflow.domain.daemon_state import next_start_at
from hetuflow.domain.daemon_tending import tend
from hetuflow.domain.decider import NOTHING, Address, Decision, Due, Follow, Intent
from hetuflow.domain.enums import IntervalMode, MisfirePolicy, OverlapPolicy, ScheduleKind, ScheduleStatus
from hetuflow.domain.event_watch import file_watch_of
from hetuflow.domain.events import (
    ScheduleCreated,
    ScheduleDeleted,
    ScheduleDisabled,
    ScheduleEnabled,
    ScheduleEvent,
    ScheduleReplanned,
    ScheduleSuspended,
    ScheduleUpdated,
)
from hetuflow.domain.excluded_times import Ahead, next_free
from hetuflow.domain.exclusion import Exclusion
from hetuflow.domain.rejection import Rejected
from hetuflow.domain.schedule_calendars import (
    check_fires_at_all,
    check_referable,
    exclusion_of,
    guards_of,
    versions_of,
)
from hetuflow.domain.schedule_conflicts import PAUSE_ON_FAILURES_MAX, conflicts
from hetuflow.domain.schedule_ends import note_ends
from hetuflow.domain.schedule_events import DEBOUNCE_SECONDS_MAX
from hetuflow.domain.schedule_fires import fire
from hetuflow.domain.schedule_state import (
    EDITABLE,
    ScheduleState,
    checked_trigger_of,
    is_once,
    matches_anew,
    starts_anew,
    trigger_of,
)
from hetuflow.domain.schedule_times import JITTER_SECONDS_MAX, covered, expiry, next_run_after
from hetuflow.domain.switch_notes import checked_note
from hetuflow.domain.table_decider import NO_INTENTS, TableDecider
from hetuflow.domain.transition import changed_members
from hetuflow.domain.trigger import INTERVAL_SECONDS_MAX

__all__ = ["INITIAL", "SCHEDULE", "ScheduleState", "checked_trigger_of", "intents", "opening", "trigger_of"]

INITIAL = ScheduleState()

_RANGES = (
    ("misfire_grace_seconds", 0, INTERVAL_SECONDS_MAX),
    ("max_age_seconds", 1, INTERVAL_SECONDS_MAX),
    ("max_count", 1, INTERVAL_SECONDS_MAX),
    ("jitter_seconds", 0, JITTER_SECONDS_MAX),
    ("pause_on_failures", 1, PAUSE_ON_FAILURES_MAX),
    ("debounce_seconds", 0, DEBOUNCE_SECONDS_MAX),
)
_MOVES_ANCHOR = frozenset({"schedule_kind", "interval_secs", "interval_mode", "start_time"})


# --- creation ------------------------------------------------------------------------------------------------------


def opening(command: CreateSchedule, now: datetime) -> list[ScheduleEvent]:
    """Return the first events of the schedule's stream; the second is its end, when nothing will ever fire.

    Raises:
      Rejected: `invalid`, naming the member.
    """
    command = changed(command, daemon=_daemon(command.daemon, command.schedule_kind))
    _check_supported(command)
    check_referable(command.exclude_calendars, command.calendars, now)
    exclusion = exclusion_of(command.exclude_calendars, command.calendars)
    ahead = _first_fire(command, exclusion, now)
    check_fires_at_all(ahead)
    status = _status(command.status)
    next_run_at = ahead.at if status is ScheduleStatus.ENABLED else None
    created = ScheduleCreated(
        schedule_id=command.schedule_id,
        job_id=command.job_id,
        status=status,
        anchor_at=now,
        next_run_at=next_run_at,
        created_at=now,
        calendars=versions_of(exclusion),
        **{name: getattr(command, name) for name in EDITABLE},
    )
    return [created, *_expiry(fold.created(INITIAL, created), now)]


def _daemon(given: Mapping[str, Any] | None, kind: int) -> Mapping[str, Any] | None:
    """The member as it is stored: complete, and always there for the kind that it is for."""
    if given is None and kind != ScheduleKind.DAEMON:
        return None
    return daemon_rules.effective(daemon_rules.checked(given))


def _check_rule(members: Any, anchor_at: datetime) -> None:
    """Refuse a rule of times that there is none by."""
    if members.schedule_kind != ScheduleKind.DAEMON:
        checked_trigger_of(members, anchor_at)


def _first_fire(command: CreateSchedule, exclusion: Exclusion | None, now: datetime) -> Ahead:
    """`once` fires at its time, also when that has passed."""
    if command.schedule_kind == ScheduleKind.DAEMON:
        return Ahead(next_start_at(ScheduleState(daemon=command.daemon, start_time=command.start_time), now))
    trigger = checked_trigger_of(command, now)
    if is_once(command) and command.start_time is not None:
        is_excluded = exclusion is not None and exclusion.excludes(command.start_time)
        return Ahead(command.start_time, is_free=not is_excluded)
    return next_free(trigger, exclusion, now)


def _next_run_after(state: ScheduleState, now: datetime, exclusion: Exclusion | None) -> datetime | None:
    return next_start_at(state, now) if state.is_daemon else next_run_after(state, now, exclusion)


def _expiry(state: ScheduleState, now: datetime) -> list[ScheduleEvent]:
    """The end of an enabled schedule that is over, and of what it keeps running."""
    ends = [*daemon.expiry(state, now), *expiry(state)]
    return [*ends, *daemon.stopping(state, now, "expired")] if ends else []


def _check_supported(members: Any) -> None:
    """Refuse what no server of this version obeys: of a create command, or of a state after an edit."""
    if members.overlap_policy not in frozenset(OverlapPolicy):
        raise Rejected("invalid", f"overlap_policy {members.overlap_policy!r} is not known", {"path": "overlap_policy"})
    if members.misfire_policy not in frozenset(MisfirePolicy):
        raise Rejected("invalid", f"misfire_policy {members.misfire_policy!r} is not known", {"path": "misfire_policy"})
    if members.interval_mode not in frozenset(IntervalMode):
        raise Rejected("invalid", f"interval_mode {members.interval_mode!r} is not known", {"path": "interval_mode"})
    for name, least, most in _RANGES:
        value = getattr(members, name)
        if value is not None and not least <= value <= most:
            raise Rejected("invalid", f"{name} must be {least}-{most}", {"path": name})
    for path, why in conflicts({name: getattr(members, name) for name in EDITABLE}):
        raise Rejected("invalid", f"{path}: {why}", {"path": path})


def _status(code: int) -> ScheduleStatus:
    try:
        return ScheduleStatus(code)
    except ValueError:
        raise Rejected("invalid", f"{code} is not a schedule status", {"path": "status"}) from None


# --- commands of users ---------------------------------------------------------------------------------------------


def _create(command: CreateSchedule, state: ScheduleState, now: datetime) -> Decision:
    if state.status is not None:
        id_ = command.schedule_id
        raise Rejected("already_exists", f"schedule {id_} exists", {"kind": "schedule", "id": id_})
    guards = guards_of(command.exclude_calendars, command.calendars)
    return Decision(opening(command, now), guards=(*command.guards, *guards))


def _update(command: UpdateSchedule, state: ScheduleState, now: datetime) -> Decision:
    _existing(state)
    wanted = dict(command.changes)
    status = wanted.pop("status", None)
    if "daemon" in wanted or "schedule_kind" in wanted:
        given = wanted.get("daemon", state.daemon)
        wanted["daemon"] = _daemon(given, wanted.get("schedule_kind", state.schedule_kind))
    if "exclude_calendars" in wanted:
        wanted["exclude_calendars"] = tuple(wanted["exclude_calendars"])
    names = changed_members(state, wanted, EDITABLE)
    events: list[ScheduleEvent] = []
    if names:
        if starts_anew(names) or (state.is_event and matches_anew(names)):
            events += covered(state, now, "edited")
        updated = _edit(command, state, {name: wanted[name] for name in names}, names, now)
        events.append(updated)
        state = fold.updated(state, updated)
        events += _expiry(state, now)
    if status is not None:
        events += _switched(state, _status(status), now, calendars=command.calendars)
    if not events:
        return NOTHING
    used = state.exclude_calendars if any(_relies_on_calendars(event) for event in events) else ()
    return Decision(events, guards=guards_of(used, command.calendars))


def _relies_on_calendars(event: ScheduleEvent) -> bool:
    return isinstance(event, ScheduleEnabled) or (isinstance(event, ScheduleUpdated) and starts_anew(event.changed))


def _edit(
    command: UpdateSchedule, state: ScheduleState, wanted: dict[str, Any], names: tuple[str, ...], now: datetime
) -> ScheduleUpdated:
    anchor_at = now if _MOVES_ANCHOR.intersection(names) else state.anchor_at
    after = changed(state, anchor_at=anchor_at, **wanted)
    after = changed(after, awaited_task=fold.awaited_after(state, after))
    _check_supported(after)
    _check_rule(after, anchor_at)
    next_run_at, versions = state.next_run_at, state.calendars
    if starts_anew(names) or after.is_daemon:
        if "exclude_calendars" in names:
            check_referable(after.exclude_calendars, command.calendars, now)
        exclusion = exclusion_of(after.exclude_calendars, command.calendars)
        if exclusion is not None:
            trigger = trigger_of(after, anchor_at)
            check_fires_at_all(next_free(trigger, exclusion, max(now, after.cursor_at)))
        next_run_at = _next_run_after(after, now, exclusion) if state.is_enabled else None
        versions = versions_of(exclusion)
    return ScheduleUpdated(
        schedule_id=state.schedule_id,
        job_id=state.job_id,
        anchor_at=anchor_at,
        next_run_at=next_run_at,
        updated_at=now,
        changed=names,
        consecutive_failures=0 if after.pause_on_failures is None else state.consecutive_failures,
        calendars=versions,
        **{name: getattr(after, name) for name in EDITABLE},
    )


def _enable(command: EnableSchedule, state: ScheduleState, now: datetime) -> Decision:
    _existing(state)
    events = _switched(state, ScheduleStatus.ENABLED, now, command.note, command.calendars)
    return Decision(events, guards=guards_of(state.exclude_calendars, command.calendars)) if events else NOTHING


def _disable(command: DisableSchedule, state: ScheduleState, now: datetime) -> Decision:
    _existing(state)
    events = _switched(state, ScheduleStatus.DISABLED, now, command.note)
    return Decision(events) if events else NOTHING


def _switched(
    state: ScheduleState,
    status: ScheduleStatus,
    now: datetime,
    note: str | None = None,
    calendars: Sequence[CalendarSnapshot] = (),
) -> list[ScheduleEvent]:
    """Said again it changes nothing, except for another note of what is switched off."""
    note = checked_note(note)
    if status is state.status and (note in (None, state.status_note) or status is ScheduleStatus.ENABLED):
        return []
    schedule_id, job_id = state.schedule_id, state.job_id
    if status is not ScheduleStatus.ENABLED:
        return [
            *covered(state, now, "disabled"),
            ScheduleDisabled(schedule_id=schedule_id, job_id=job_id, status=status, note=note),
            *daemon.stopping(state, now, "disabled"),
        ]
    exclusion = exclusion_of(state.exclude_calendars, calendars)
    enabled = ScheduleEnabled(
        schedule_id=schedule_id,
        job_id=job_id,
        enabled_at=now,
        next_run_at=_next_run_after(rested(state), now, exclusion),
        note=note,
        calendars=versions_of(exclusion),
    )
    return [enabled, *_expiry(fold.enabled(state, enabled), now)]


def _delete(command: DeleteSchedule, state: ScheduleState, now: datetime) -> Decision:
    _existing(state)
    return Decision([*covered(state, now, "deleted"), _deletion(state, command.reason)])


def _deletion(state: ScheduleState, reason: str) -> ScheduleDeleted:
    return ScheduleDeleted(schedule_id=state.schedule_id, job_id=state.job_id, reason=reason)


def _existing(state: ScheduleState) -> None:
    if not state.exists:
        raise Rejected("not_found", "there is no such schedule", {"kind": "schedule", "id": state.schedule_id or None})


def _suspend(command: SuspendSchedule, state: ScheduleState, now: datetime) -> Decision:
    if not state.is_enabled:
        return NOTHING
    return Decision([ScheduleSuspended(schedule_id=state.schedule_id, job_id=state.job_id, error=command.error)])


def _replan(command: ReplanSchedule, state: ScheduleState, now: datetime) -> Decision:
    """What was decided stays; what is due since stays due: only what comes next is looked for anew."""
    if not state.is_enabled or not state.exclude_calendars:
        return NOTHING
    exclusion = exclusion_of(state.exclude_calendars, command.calendars)
    at = next_run_after(state, state.cursor_at, exclusion)
    if at == state.next_run_at:
        return NOTHING
    replanned = ScheduleReplanned(
        schedule_id=state.schedule_id, job_id=state.job_id, next_run_at=at, calendars=versions_of(exclusion)
    )
    return Decision([replanned], guards=guards_of(state.exclude_calendars, command.calendars))


# --- intents -------------------------------------------------------------------------------------------------------


def intents(state: ScheduleState) -> frozenset[Intent]:
    """To be asked at the next nominal time, and told how its tasks end where that matters, while it is enabled; to be
    told of what it keeps running.

    One for events is asked when a quiet or its window is over.
    """
    if not state.seats and not state.is_daemon:
        return _of_times(state)
    return _of_times(state) | daemon.intents(state)


def _of_times(state: ScheduleState) -> frozenset[Intent]:
    if not state.is_enabled or state.is_daemon:
        return NO_INTENTS
    wishes: list[Intent] = []
    at = schedule_events.due_at(state) if state.is_event else state.next_run_at
    if at is not None:
        wishes.append(Due(at))
    if state.is_event and (watch := file_watch_of(state)) is not None:
        wishes.append(watch)
    if state.counted_tasks or state.awaited_task is not None:
        wishes.append(Follow(Address("schedule", state.schedule_id), state.job_id, state.followed))
    return frozenset(wishes)


_FIRES: Mapping[int, Callable[[FireSchedule, ScheduleState, datetime], Decision]] = {
    ScheduleKind.EVENT: schedule_events.tick
}
"""Of the kinds without nominal times."""

SCHEDULE: TableDecider[ScheduleState] = TableDecider(
    "schedule",
    INITIAL,
    {
        CreateSchedule: _create,
        UpdateSchedule: _update,
        EnableSchedule: _enable,
        DisableSchedule: _disable,
        DeleteSchedule: _delete,
        FireSchedule: lambda command, state, now: _FIRES.get(state.schedule_kind, fire)(command, state, now),
        TriggerSchedule: schedule_events.trigger,
        TendDaemon: tend,
        SuspendSchedule: _suspend,
        NoteTaskEnds: note_ends,
        ReplanSchedule: _replan,
    },
    fold.FOLDS,
    intents,
)
