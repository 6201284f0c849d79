"""One sentence for people per event type. Fields are those of the event's data; what is missing shows as `?`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

SENTENCES: Final[Mapping[str, str]] = {
    "JobCreated": "Job {name} was created.",
    "JobUpdated": "Job {name} was changed: {changed}.",
    "JobEnabled": "The job was enabled.",
    "JobDisabled": "The job was switched off (status {status}).",
    "JobDeleted": "The job was deleted.",
    "ScheduleCreated": "Schedule {name} was created; next run {next_run_at}.",
    "ScheduleUpdated": "The schedule was changed: {changed}; next run {next_run_at}.",
    "ScheduleEnabled": "The schedule was enabled; next run {next_run_at}.",
    "ScheduleDisabled": "The schedule was switched off (status {status}).",
    "ScheduleDeleted": "The schedule was deleted ({reason}).",
    "ScheduleExpired": "The schedule is over: {reason}.",
    "ScheduleSuspended": "The schedule was suspended after a defect: {error}",
    "ScheduleFired": "Fired for {nominal_at} as task {task_id} (fire {fire_count}).",
    "ScheduleSkipped": "Skipped {count} nominal times from {first_nominal_at} to {last_nominal_at}: {reason}.",
    "TaskCreated": "Task {name} was created by {trigger}, to start at {scheduled_at}.",
    "TaskUpdated": "The task was changed: {changed}.",
    "TaskLocked": "Claimed by server {server_id}.",
    "TaskDispatched": "Attempt {attempt} was dispatched to agent {agent_id} (epoch {epoch}).",
    "TaskRequeued": "Agent {agent_id} did not start it ({reason}); it waits again.",
    "TaskRetryScheduled": "Retry {retry_count} follows at {retry_at} as attempt {attempt}.",
    "TaskReopened": "Reopened by an operator as attempt {attempt}.",
    "TaskCancelRequested": "A cancel was requested by {by}.",
    "TaskCancelled": "Cancelled ({cause}).",
    "TaskSucceeded": "The task succeeded.",
    "TaskFailed": "The task failed: {reason}.",
    "TaskDeleted": "The task was deleted.",
    "InstanceStarted": "Attempt {attempt} started on agent {agent_id} as process {pid}.",
    "InstanceSucceeded": "Attempt {attempt} succeeded on agent {agent_id} after {duration_seconds} s.",
    "InstanceFailed": "Attempt {attempt} failed on agent {agent_id} ({reason}): {error_message}",
    "InstanceCancelled": "Attempt {attempt} was cancelled.",
    "InstanceReportRefused": "A report of agent {agent_id} (epoch {epoch}) was refused: {why}.",
    "AgentCreated": "Agent {name} was created.",
    "AgentRegistered": "Agent {name} declared itself: version {version} on {host}.",
    "AgentConnected": "Connected from {address} with {max_concurrent_tasks} slots.",
    "AgentDisconnected": "Disconnected: {reason}.",
    "AgentLost": "Lost: its lease ran out.",
    "AgentUpdated": "The agent was changed: {changed}.",
    "AgentDrained": "Draining: it takes nothing new.",
    "AgentUndrained": "Taking work again.",
    "AgentRemoved": "The agent was removed.",
    "ServerStarted": "Server {name} started, version {version}.",
    "ServerUpdated": "Server {name} was changed.",
    "ServerStopped": "The server stopped.",
    "ServerLost": "The server was lost.",
    "ServerRemoved": "The server was removed.",
    "LeaseTaken": "Server {server_id} decides for slot {slot}.",
    "LeaseReleased": "Server {server_id} gave slot {slot} back.",
}


class _Shown(dict[str, str]):
    def __missing__(self, key: str) -> str:
        return "?"


def summary(event_type: str, data: Mapping[str, Any]) -> str:
    """The sentence; for a type without one, its name."""
    sentence = SENTENCES.get(event_type)
    if sentence is None:
        return event_type
    return sentence.format_map(_Shown({name: _text(value) for name, value in data.items()}))


def _text(value: Any) -> str:
    if value is None:
        return "none"
    if isinstance(value, (list, tuple)):
        return ", ".join(map(str, value))
    return str(value)
