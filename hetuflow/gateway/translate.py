"""Messages to commands and orders to messages: pure, and the only place that knows both languages.

What an agent says goes into the event log, which holds no NUL characters and no NaN: such values are replaced here, so
that a report is never refused for its decoration. A report whose times cannot be read is malformed: the peer's fault.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from attrs import evolve

from hetuflow.domain.commands import ConnectAgent, ReportEnded, ReportStarted
from hetuflow.domain.decider import Available, DispatchOrder
from hetuflow.domain.environment import rfc3339
from hetuflow.domain.execution import FEATURE_LABEL, PLAIN, Execution
from hetuflow.protocol.errors import CloseCode, RemoteProtocolError
from hetuflow.protocol.messages import ArtifactWanted, Dispatch, Ended, FileGiven, Hello, Standing, Started

ARTIFACTS_MAX = 1100
"""In one report; an agent keeps at most 1000."""

MESSAGE_CHARACTERS_MAX = 4096
"""Of an error message kept in the log; the output has the rest."""

STREAMS = ("stdout", "stderr")


def dispatch_of(order: DispatchOrder) -> Dispatch:
    dispatch = _plain_dispatch(order)
    return dispatch if order.execution is PLAIN else _with_execution(dispatch, order.execution)


def _plain_dispatch(order: DispatchOrder) -> Dispatch:
    return Dispatch(
        task_id=order.task_id,
        job_id=order.job_id,
        instance_id=order.instance_id,
        epoch=order.epoch,
        attempt=order.attempt,
        cmd=order.cmd,
        args=tuple(order.args),
        environment=dict(order.environment),
        timeout_seconds=order.timeout_seconds,
        capture_output=order.capture_output,
        output_bytes_max=order.output_bytes_max,
        scheduled_at=rfc3339(order.scheduled_at),
    )


def _with_execution(dispatch: Dispatch, execution: Execution) -> Dispatch:
    return evolve(
        dispatch,
        working_dir=execution.working_dir,
        stdin=execution.stdin,
        kill_grace_seconds=float(execution.kill_grace_seconds),
        on_disconnect=execution.on_disconnect,
        lost_after_seconds=float(execution.lost_after_seconds),
        run_as=execution.run_as,
        umask=execution.umask,
        nice=execution.nice,
        ionice=execution.ionice,
        memory_bytes_max=execution.memory_bytes_max,
        cpu_cores_max=execution.cpu_cores_max,
        processes_max=execution.processes_max,
        files=tuple(
            FileGiven(path=each.path, content=each.content, url=each.url, mode=each.mode) for each in execution.files
        ),
        artifacts=tuple(
            ArtifactWanted(glob=each.glob, bytes_max=each.bytes_max, optional=each.optional)
            for each in execution.artifacts
        ),
        executor=execution.executor,
        executor_options=dict(execution.executor_options),
        parameters=dict(execution.parameters),
    )


def standing_of(agent: Available) -> Standing:
    return Standing(labels=dict(agent.labels), draining=agent.draining, reason=agent.drain_reason or "")


def declared_labels(hello: Hello) -> dict[str, str]:
    """The agent's labels, and one for each of its features; nobody else's word on features counts."""
    labels = {clean(name): clean(value) for name, value in hello.labels.items() if not name.startswith(FEATURE_LABEL)}
    labels.update((f"{FEATURE_LABEL}{clean(feature)}", "true") for feature in sorted(hello.features))
    return labels


def connect_agent(hello: Hello, *, server_id: str, session: str, address: str, lease_seconds: float) -> ConnectAgent:
    return ConnectAgent(
        agent_id=hello.agent_id,
        server_id=server_id,
        session=session,
        address=address,
        name=clean(hello.name) or hello.agent_id,
        incarnation=hello.incarnation,
        labels=declared_labels(hello),
        metadata={clean(name): clean(value) for name, value in hello.metadata.items()},
        max_concurrent_tasks=hello.slots,
        version=clean(hello.version),
        host=clean(hello.host),
        lease_seconds=lease_seconds,
        takeover=True,
        protected_labels=tuple(sorted({clean(name) for name in hello.protected_labels})),
    )


def report_of(message: Started | Ended, agent_id: str) -> ReportStarted | ReportEnded:
    """The agent's word as a command. Raises `RemoteProtocolError` when a time in it cannot be read."""
    if isinstance(message, Started):
        return ReportStarted(
            instance_id=message.instance_id,
            agent_id=agent_id,
            epoch=message.epoch,
            started_at=instant(message.started_at),
            pid=message.pid,
            isolation=None if message.isolation is None else clean(message.isolation),
        )
    started_at = None if message.started_at is None else instant(message.started_at)
    completed_at = instant(message.completed_at)
    return ReportEnded(
        instance_id=message.instance_id,
        agent_id=agent_id,
        epoch=message.epoch,
        reason=message.reason,
        started_at=started_at,
        completed_at=completed_at,
        duration_seconds=_duration(message.duration_seconds, started_at, completed_at),
        error_message=None if message.error_message is None else clean(message.error_message)[:MESSAGE_CHARACTERS_MAX],
        exit_code=message.exit_code,
        signal=message.signal,
        metrics=_numbers(message.metrics),
        output=_output(message.output),
        artifacts=_artifacts(message.artifacts),
    )


def bare(report: ReportStarted | ReportEnded) -> ReportStarted | ReportEnded:
    """The same word without anything that is not needed to act on it: storable whatever the agent said."""
    if isinstance(report, ReportStarted):
        return ReportStarted(
            instance_id=report.instance_id,
            agent_id=report.agent_id,
            epoch=report.epoch,
            started_at=report.started_at,
        )
    return ReportEnded(
        instance_id=report.instance_id,
        agent_id=report.agent_id,
        epoch=report.epoch,
        reason=report.reason,
        started_at=report.started_at,
        completed_at=report.completed_at,
        duration_seconds=report.duration_seconds,
        error_message="what the agent reported besides cannot be stored",
        exit_code=report.exit_code,
        signal=report.signal,
    )


def instant(text: str) -> datetime:
    """An RFC 3339 time as an aware UTC datetime. Raises `RemoteProtocolError`."""
    try:
        at = datetime.fromisoformat(text)
    except ValueError as exc:
        raise RemoteProtocolError(CloseCode.MALFORMED, f"{text[:40]!r} is not an RFC 3339 time") from exc
    if at.tzinfo is None:
        raise RemoteProtocolError(CloseCode.MALFORMED, f"{text[:40]!r} has no time zone")
    try:
        return at.astimezone(UTC)
    except OverflowError as exc:
        raise RemoteProtocolError(CloseCode.MALFORMED, f"{text[:40]!r} is out of range") from exc


def clean(text: str) -> str:
    """The text without NUL, which jsonb cannot hold."""
    return text.replace("\0", "\ufffd") if "\0" in text else text


def metrics_of(metrics: Mapping[str, float]) -> dict[str, float]:
    """The finite numbers of a heartbeat."""
    return _numbers(metrics) or {}


def _duration(seconds: float | None, started_at: datetime | None, completed_at: datetime) -> float:
    if seconds is None:
        seconds = 0.0 if started_at is None else (completed_at - started_at).total_seconds()
    return max(0.0, seconds) if math.isfinite(seconds) else 0.0


def _numbers(values: Mapping[str, float] | None) -> dict[str, float] | None:
    if values is None:
        return None
    return {clean(name): value for name, value in values.items() if math.isfinite(value)}


def _output(output: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """Per stream the counts and the digest, and the bytes dropped; anything else is left out."""
    if output is None:
        return None
    known: dict[str, Any] = {}
    for stream in STREAMS:
        counts = output.get(stream)
        if isinstance(counts, Mapping):
            known[stream] = {
                **{name: counts[name] for name in ("bytes", "kept", "shipped") if _is_count(counts.get(name))},
                **({"sha256": clean(counts["sha256"])[:64]} if isinstance(counts.get("sha256"), str) else {}),
            }
    if _is_count(output.get("dropped")):
        known["dropped"] = output["dropped"]
    return known


def _artifacts(artifacts: Sequence[Mapping[str, Any]]) -> tuple[dict[str, Any], ...]:
    """Of each the path, and size and digest, or why it was not kept; anything else is left out."""
    known: list[dict[str, Any]] = []
    for each in artifacts[:ARTIFACTS_MAX]:
        path, size, digest, problem = (each.get(name) for name in ("path", "bytes", "sha256", "problem"))
        if not isinstance(path, str):
            continue
        if isinstance(problem, str):
            known.append({"path": clean(path), "problem": clean(problem)[:MESSAGE_CHARACTERS_MAX]})
        elif _is_count(size) and isinstance(digest, str):
            known.append({"path": clean(path), "bytes": size, "sha256": clean(digest)[:64]})
    return tuple(known)


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**63
