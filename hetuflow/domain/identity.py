"""Ids that are derived, not drawn: whoever decides twice names the same thing, and the store refuses the second.

Shaped as UUID version 7, so that they sort by time among the drawn ones: 48 bits of milliseconds, the rest from
SHA-256 with version and variant set. Source of the layout: RFC 9562, section 5.7.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from hashlib import sha256
from uuid import UUID

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
_VARIANT = "89ab" * 4
"""Hex digit -> the digit with its two upper bits replaced by the variant 0b10."""


def task_id_of(schedule_id: str, nominal_at: datetime) -> str:
    """Return the id of the task that this schedule makes for this nominal time.

    Args:
      nominal_at: aware; equal instants in different zones give the same id.
    """
    microseconds = (nominal_at - _EPOCH) // _MICROSECOND
    milliseconds = microseconds // 1000 & 0xFFFF_FFFF_FFFF
    return _shaped(f"{milliseconds:012x}", f"task|{schedule_id}|{microseconds}")


def event_task_id_of(schedule_id: str, event_id: str, recorded_at: datetime) -> str:
    """Return the id of the task that this schedule makes for this event.

    Args:
      recorded_at: of the event; aware, and the same whoever reads it.
    """
    milliseconds = (recorded_at - _EPOCH) // _MICROSECOND // 1000 & 0xFFFF_FFFF_FFFF
    return _shaped(f"{milliseconds:012x}", f"event|{schedule_id}|{event_id}")


def seat_task_id_of(schedule_id: str, seat: int, incarnation: int, due_at: datetime) -> str:
    """Return the id of the `incarnation`-th task of a daemon's seat.

    Args:
      due_at: aware; the instant that the daemon's log gives it, which it sorts by.
    """
    milliseconds = (due_at - _EPOCH) // _MICROSECOND // 1000 & 0xFFFF_FFFF_FFFF
    return _shaped(f"{milliseconds:012x}", f"seat|{schedule_id}|{seat}|{incarnation}")


def fraction_of(schedule_id: str, nominal_at: datetime, count: int) -> int:
    """Return a number in [0, `count`) that looks drawn and is the same for the same schedule and nominal time."""
    microseconds = (nominal_at - _EPOCH) // _MICROSECOND
    h = sha256(f"jitter|{schedule_id}|{microseconds}".encode()).digest()
    return int.from_bytes(h[:8], "big") * count >> 64


def retry_fraction_of(task_id: str, attempt: int) -> float:
    """Return a number in [0, 1) that looks drawn and is the same for the same task and attempt."""
    h = sha256(f"retry|{task_id}|{attempt}".encode()).digest()
    return (int.from_bytes(h[:8], "big") >> 11) / (1 << 53)


def instance_id_of(task_id: str, attempt: int) -> str:
    """Return the id of the task's instance number `attempt`, which sorts beside its task.

    Args:
      task_id: UUID as text, lower-case and hyphenated.
      attempt: >= 1.
    """
    return _shaped(task_id[:8] + task_id[9:13], f"instance|{task_id}|{attempt}")


def flow_run_id_of(task_id: str) -> str:
    """Return the id of the flow run that begins with this task of a schedule, which sorts beside it."""
    return _shaped(task_id[:8] + task_id[9:13], f"flow|{task_id}")


def flow_task_id_of(flow_run_id: str, job_id: str) -> str:
    """Return the id of the task that this job has in this flow run, which sorts beside it.

    Args:
      flow_run_id: UUID as text, lower-case and hyphenated.
    """
    return _shaped(flow_run_id[:8] + flow_run_id[9:13], f"task|{flow_run_id}|{job_id}")


def external_event_id(source: str, id_: str) -> UUID:
    """Return the event id under which an event from outside is recorded: one for each (source, id)."""
    return UUID(bytes=sha256(f"external|{source}|{id_}".encode()).digest()[:16], version=5)


def _shaped(time_digits: str, name: str) -> str:
    h = sha256(name.encode()).hexdigest()
    return f"{time_digits[:8]}-{time_digits[8:]}-7{h[:3]}-{_VARIANT[int(h[3], 16)]}{h[4:7]}-{h[7:19]}"
