"""One sentence for people per event type, from the stored data: what is missing there is left out of the sentence."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime
from typing import Any, Final

from hetuflow.domain.daemon import BECAUSE
from hetuflow.domain.enums import JobStatus, ScheduleKind, TaskStatus

Data = Mapping[str, Any]

SENTENCES: Final[Mapping[str, str]] = {
    "JobCreated": "Job {name} was created.",
    "JobUpdated": "Job {name} was changed: {changed}.",
    "JobEnabled": "The job was enabled{noted}.",
    "JobDisabled": "The job was set to {status}{noted}.",
    "JobDeleted": "The job was deleted.",
    "ScheduleCreated": "{Schedule} was created; {next_run}.",
    "ScheduleUpdated": "{Schedule} was changed: {changed}; {next_run}.",
    "ScheduleEnabled": "The schedule was enabled{noted}; {next_run}.",
    "ScheduleDisabled": "The schedule was set to {status}{noted}.",
    "ScheduleTaskEnded": "Its task {task_id} ended {ended_as}{in_a_row}; {next_run}.",
    "ScheduleDeleted": "The schedule was deleted{deleted_because}.",
    "ScheduleExpired": "The schedule is over: {over_because}.",
    "ScheduleSuspended": "The schedule was suspended after a defect: {error}.",
    "ScheduleFired": "Fired for {fired_for} as task {task_id} (fire {fire_count}).",
    "ScheduleSkipped": "Skipped {nominal_times}: {skipped_because}{noted}.",
    "ScheduleEventHeld": "The event at position {event_position} ({event_type}) waits for quiet until {quiet_at}; {held_count}.",
    "SeatStarted": "Seat {seat} was given task {task_id}, its run {incarnation}: {seat_because}.",
    "SeatRunning": "Seat {seat} runs {where} as task {task_id}.",
    "SeatReady": "Seat {seat} counts as available.",
    "SeatEnded": "Task {task_id} of seat {seat} {outcome}{because}{lived}; {seat_next}.",
    "SeatsStopping": "Stopping seats {seats}: {stopping_because}.",
    "DaemonStopped": "The daemon has stopped: its last task has ended.",
    "DaemonGaveUp": "The daemon gave up and was disabled: {error}.",
    "ScheduleReplanned": "A calendar of the schedule was changed; {next_run}.",
    "CalendarCreated": "Calendar {calendar_id} was created.",
    "CalendarUpdated": "Calendar {calendar_id} was changed: {changed}.",
    "CalendarDeleted": "Calendar {calendar_id} was deleted.",
    "CalendarSealed": "No schedule may refer to the calendar while it is looked for those that do.",
    "CalendarUnsealed": "Schedules refer to the calendar, and it stays.",
    "TaskCreated": "Task {name} was created {trigger}, to start {start}.",
    "TaskUpdated": "Task {name} was changed: {changed}.",
    "TaskLocked": "Claimed by server {server_id}.",
    "TaskDispatched": "Attempt {attempt} was dispatched to agent {agent_id} (epoch {epoch}).",
    "TaskRequeued": "Agent {agent_id} did not start it ({reason}); it waits again.",
    "TaskRetryScheduled": "Retry {retry_count} follows at {retry_at} as attempt {attempt}.",
    "TaskReopened": "Reopened by an operator as attempt {attempt}.",
    "TaskDependencySettled": "Task {dependency_id}, which it waits for, ended {ended_as}; {still_awaited}.",
    "TaskCancelRequested": "A cancel was requested by {by}{because}; the agent ends the process.",
    "TaskCancelled": "The task was cancelled{cancelled_because}{because}.",
    "TaskSucceeded": "The task succeeded.",
    "TaskFailed": "The task failed ({reason}){not_retried}.",
    "TaskDeleted": "The task was deleted.",
    "InstanceCreated": "An execution outside the agents was recorded as instance {instance_id}.",
    "InstanceTakenOver": "Instance {instance_id} is executed outside the agents from now on.",
    "InstanceDispatched": "Attempt {attempt} was handed to its execution outside the agents (epoch {epoch}).",
    "InstanceReported": "Reported of instance {instance_id}: {changed}.",
    "InstancePaused": "Instance {instance_id} was paused.",
    "InstanceResumed": "Instance {instance_id} goes on.",
    "InstanceDeleted": "Instance {instance_id} was deleted.",
    "InstanceStarted": "Attempt {attempt} started {where}{process}.",
    "InstanceSucceeded": "Attempt {attempt} succeeded {where} after {duration_seconds}.",
    "InstanceFailed": "Attempt {attempt} failed {failed_where} ({reason}): {error_message}.",
    "InstanceCancelled": "Attempt {attempt} was cancelled {cancelled_where}.",
    "InstanceReportRefused": "A report of agent {agent_id} (epoch {epoch}) was refused: {why}.",
    "AgentCreated": "Agent {name} was created.",
    "AgentRegistered": "Agent {name} declared itself: version {version} on {host}.",
    "AgentConnected": "Connected from {address} with {max_concurrent_tasks} slots.",
    "AgentDisconnected": "Disconnected: {reason}.",
    "AgentLost": "Lost: its lease ran out.",
    "AgentUpdated": "Agent {name} was changed: {changed}.",
    "AgentDrained": "Draining{because}: it takes nothing new.",
    "AgentUndrained": "Taking work again.",
    "AgentRemoved": "The agent was removed.",
    "ServerStarted": "Server {name} started, version {version}.",
    "ServerUpdated": "Server {name} was changed.",
    "ServerStopped": "The server stopped.",
    "ServerLost": "The server was lost.",
    "ServerRemoved": "The server was removed.",
    "JobSealed": "No task is made of the job while it is looked for open ones.",
    "JobUnsealed": "The job has open tasks and stays.",
    "ExternalEventReceived": "Event {type}{of_path} came from {source} as {id}.",
    "BackfillStarted": "A backfill of {total} nominal times from {from_at} to {until_at} was started{noted}.",
    "BackfillAdvanced": "Made {made} tasks so far, left out {left_out} that were there; up to {cursor_at}.",
    "BackfillTaskEnded": "Its task {task_id} ended {ended_as}.",
    "BackfillCancelled": "The backfill was cancelled{noted}.",
    "BackfillFinished": "The backfill is over: all its tasks have ended.",
    "LeaseTaken": "Server {server_id} decides for slot {slot}.",
    "LeaseReleased": "Server {server_id} gave slot {slot} back.",
    "FlowStarted": "A run of flow {name} was started {trigger}: {task_count} tasks.",
    "FlowCancelRequested": "The flow run is being cancelled{because}.",
    "FlowRetried": "Tasks of the flow run again: {retried}.",
    "FlowFinished": "The flow run {finished_as}: {outcome_counts}.",
}

_OVER = {
    "end_time": "its end time has come",
    "max_count": "it has fired as often as it was to",
    "no_further_fire": "no further time follows",
}
_SKIPPED = {
    "misfire": "found too late, as the misfire policy says",
    "calendar": "excluded by a calendar",
    "max_age": "older than the maximum age when it was decided",
    "overlap": "an earlier task of the schedule had not ended",
    "job_disabled": "the job was not enabled",
    "backfilled": "a backfill had run it already",
    "edited": "the schedule was given other times",
    "disabled": "the schedule was switched off",
    "deleted": "the schedule was deleted",
    "debounced": "a newer event took its place before there was quiet",
    "loop_guard": "too many event schedules are behind it: it looks like a loop",
    "unfit": "no task can be made of it",
}
_SEAT = {
    "started": "nothing ran there",
    "restarted": "the last one had ended",
    "moved": "its agent was lost",
    "edited": "in place of an older version",
}
_TRIGGERS = {
    "schedule": "by its schedule",
    "execute": "by hand from its schedule",
    "run": "by a run of the job",
    "api": "over the API",
    "event": "by an event",
    "daemon": "to keep the job running",
    "backfill": "by a backfill of its schedule",
    "flow": "by a run of the flow",
}
_CANCELLED = {
    "user": " by a user",
    "cascade": " with what it belongs to",
    "overlap": " by a newer task of its schedule",
    "dependency": ": a dependency did not succeed",
    "dependency_unmet": ": what it was to follow ended otherwise",
    "flow": " with its flow run",
    "expired": " because it did not start in time",
    "daemon": " by its daemon",
}


def _text(value: Any) -> str:
    return ", ".join(map(str, value)) if isinstance(value, (list, tuple)) else str(value)


def _words(value: Any) -> str:
    """A code in words; what is a sentence already stays, it may name a setting."""
    text = str(value)
    return text if " " in text else text.replace("_", " ")


def moment(value: Any) -> str:
    """`2026-01-31 08:00:00 UTC`."""
    try:
        return f"{datetime.fromisoformat(value).astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC"
    except (TypeError, ValueError):
        return str(value)


def duration(seconds: Any) -> str:
    """As people say it, in two digits or more: `1 ms`, `1.3 s`, `2 min 5 s`, `3 h 20 min`."""
    if not isinstance(seconds, (int, float)):
        return str(seconds)
    if seconds < 0.9995:
        return f"{max(1, round(seconds * 1000))} ms" if seconds > 0 else "0 ms"
    if seconds < 9.95:
        return f"{seconds:.1f}".removesuffix(".0") + " s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return _two(whole // 60, "min", whole % 60, "s")
    return _two(whole // 3600, "h", whole % 3600 // 60, "min")


def _two(large: int, large_unit: str, small: int, small_unit: str) -> str:
    return f"{large} {large_unit} {small} {small_unit}" if small else f"{large} {large_unit}"


def _status(value: Any) -> str:
    try:
        return JobStatus(value).name.capitalize()  # schedules have the same
    except ValueError:
        return str(value)


_MEMBERS: Final[Mapping[str, Callable[[Any], str]]] = {
    **dict.fromkeys(("nominal_at", "retry_at", "quiet_at", "from_at", "until_at", "cursor_at"), moment),
    "duration_seconds": duration,
    "status": _status,
    "reason": _words,
    "error_message": lambda value: str(value).rstrip(". \n"),
    "error": lambda value: str(value).rstrip(". \n"),
}
"""How a member is shown, where its text is not its value."""


def _schedule(data: Data) -> str:
    return f"Schedule {data['name']}" if data.get("name") else "The schedule"


def _next_run(data: Data) -> str:
    if data.get("schedule_kind") == ScheduleKind.EVENT:
        return f"it waits for events of type {data.get('event_type')}"
    return f"next run {moment(data['next_run_at'])}" if data.get("next_run_at") else "no run follows"


def _nominal_times(data: Data) -> str:
    if data.get("event_id"):
        return _event(data)
    first, last = moment(data.get("first_nominal_at")), moment(data.get("last_nominal_at"))
    return first if data.get("count") == 1 else f"{data.get('count')} nominal times from {first} to {last}"


def _fired_for(data: Data) -> str:
    return _event(data) if data.get("event_id") else moment(data.get("nominal_at"))


def _event(data: Data) -> str:
    return f"the event at position {data.get('event_position')}"


def _of_path(data: Data) -> str:
    """Of a file, and why it cannot be watched."""
    inner = data.get("data")
    path, error = (inner.get("path"), inner.get("error")) if isinstance(inner, dict) else (None, None)
    shown = [each for each in (path, error) if isinstance(each, str)]
    return f" ({': '.join(shown)})" if shown and len(shown[0]) <= 300 else ""


def _held_count(data: Data) -> str:
    count = data.get("count", 1)
    return f"{count} since the last task" if count != 1 else "it is the first"


def _start(data: Data) -> str:
    at, created = data.get("scheduled_at"), data.get("created_at")
    if at is None or created is None or datetime.fromisoformat(at) <= datetime.fromisoformat(created):
        return "at once"
    return f"at {moment(at)}"


def _because(data: Data) -> str:
    return f" ({data['reason']})" if data.get("reason") else ""


def _process(data: Data) -> str:
    return f" as process {data['pid']}" if data.get("pid") is not None else ""


def _cancelled_where(data: Data) -> str:
    if data.get("agent_id") is None:
        return "before it was dispatched"
    return f"on agent {data['agent_id']} after {duration(data.get('duration_seconds'))}"


def _where(data: Data) -> str:
    return f"on agent {data['agent_id']}" if data.get("agent_id") is not None else "outside the agents"


def _failed_where(data: Data) -> str:
    if data.get("epoch") == 0:
        return "before it was dispatched"
    return f"{_where(data)} after {duration(data.get('duration_seconds'))}"


def _not_retried(data: Data) -> str:
    return f"; not retried: {data['not_retried']}" if data.get("not_retried") else ""


def _ended_as(data: Data) -> str:
    code = data.get("ended_as", data.get("status", 0))
    try:
        return TaskStatus(code).name.title()
    except ValueError:
        return str(code)


def _finished_as(data: Data) -> str:
    names = {100: "succeeded", 90: "failed", 99: "was cancelled"}
    return names.get(data.get("status", 0), str(data.get("status")))


def _outcome_counts(data: Data) -> str:
    outcome = data.get("outcome")
    counts = outcome if isinstance(outcome, Mapping) else {}
    return ", ".join(f"{count} {how}" for how, count in counts.items() if count) or "no tasks"


def _still_awaited(data: Data) -> str:
    count = data.get("open_count")
    return f"{count} more are awaited" if count else "nothing else is awaited"


def _one_of(words: Mapping[str, str], member: str) -> Callable[[Data], str]:
    return lambda data: words.get(str(data.get(member)), _words(data.get(member)))


def _noted(data: Data) -> str:
    note = data.get("note")
    return f" ({note})" if note else ""


def _in_a_row(data: Data) -> str:
    count = data.get("consecutive_failures")
    return f" ({count} failed in a row)" if count and data.get("ended_as") == TaskStatus.FAILED else ""


def _skipped_because(data: Data) -> str:
    return skipped_because(str(data.get("reason")), data.get("calendars") or {})


_PHRASES: Final[Mapping[str, Callable[[Data], str]]] = {
    "Schedule": _schedule,
    "next_run": _next_run,
    "changed": lambda data: _text(data.get("changed") or "its times were computed anew"),
    "deleted_because": lambda data: " with its job" if data.get("reason") == "job_deleted" else "",
    "over_because": _one_of(_OVER, "reason"),
    "nominal_times": _nominal_times,
    "fired_for": _fired_for,
    "of_path": _of_path,
    "held_count": _held_count,
    "skipped_because": _skipped_because,
    "trigger": _one_of(_TRIGGERS, "trigger"),
    "start": _start,
    "because": _because,
    "cancelled_because": lambda data: _CANCELLED.get(str(data.get("cause", "user")), ""),
    "process": _process,
    "noted": _noted,
    "in_a_row": _in_a_row,
    "where": _where,
    "failed_where": _failed_where,
    "not_retried": _not_retried,
    "ended_as": _ended_as,
    "still_awaited": _still_awaited,
    "finished_as": _finished_as,
    "outcome_counts": _outcome_counts,
    "retried": lambda data: _text([*(data.get("tasks") or ())]),
    "cancelled_where": _cancelled_where,
    "seat_because": _one_of(_SEAT, "why"),
    "seat_next": lambda data: (
        f"the next starts at {moment(data['due_at'])}" if data.get("due_at") else "no other follows"
    ),
    "lived": lambda data: f" after {duration(data['lived_seconds'])}" if data.get("lived_seconds") is not None else "",
    "stopping_because": _one_of(BECAUSE, "cause"),
}
"""Parts of a sentence that are more than one member, or none."""


class _Shown(dict[str, Any]):
    def __missing__(self, name: str) -> str:
        if name in _PHRASES:
            return _PHRASES[name](self["data"])
        value = self["data"].get(name)
        return "(unknown)" if value is None else _MEMBERS.get(name, _text)(value)


def skipped_because(reason: str, calendars: Iterable[str] = ()) -> str:
    """Why a nominal time was skipped, in words. `calendars`: those that were asked."""
    if reason == "calendar" and (names := sorted(calendars)):
        return f"excluded by calendar{'s' if len(names) > 1 else ''} {' or '.join(names)}"
    return _SKIPPED.get(reason, _words(reason))


def summary(event_type: str, data: Data) -> str:
    """The sentence; for a type without one, its name."""
    sentence = SENTENCES.get(event_type)
    return event_type if sentence is None else sentence.format_map(_Shown(data=data))
