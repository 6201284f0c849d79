"""The picture of `hetuflow top`: from two samples to lines that fit the terminal. Asks nobody."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from attrs import asdict, frozen

from hetuflow.cli import render
from hetuflow.cli.agents import label_text, state
from hetuflow.domain.enums import InstanceStatus, TaskStatus

if TYPE_CHECKING:
    from rich.console import Group
    from rich.text import Text

Row = Mapping[str, Any]
FIXED_LINES = 5 + 6
"""Lines besides rows: four of figures and one empty; a head and an empty (or last) line per table."""

ROWS_MIN = 2


@frozen(kw_only=True)
class Sample:
    """What the server said, and when (monotonic seconds)."""

    health: Row
    metrics: Row
    agents: Sequence[Row]
    agent_count: int
    running: Sequence[Row]
    running_count: int
    names: Mapping[str, str]
    waiting: Sequence[Row]
    waiting_count: int
    taken: float

    def as_json(self) -> dict[str, Any]:
        found = asdict(self, recurse=False)
        del found["taken"]
        return found


def screen(
    sample: Sample, before: Sample | None, server: str, *, width: int, height: int | None, trouble: str = ""
) -> Group:
    """The picture. `height` None: as many lines as there is to say."""
    from rich.console import Group
    from rich.text import Text

    counts = (len(sample.agents), len(sample.running), len(sample.waiting))
    rooms = counts if height is None else share(height - FIXED_LINES, counts)
    parts: list[Any] = [*_figures(sample, before, server, trouble, width), Text("")]
    sections = (
        (sample.agents, sample.agent_count, AGENTS, "no agent has ever connected; start one with `hetuflow agent`"),
        (sample.running, sample.running_count, _running_columns(sample), "nothing runs"),
        (sample.waiting, sample.waiting_count, WAITING, "nothing waits"),
    )
    for (rows, total, columns, empty), room in zip(sections, rooms, strict=True):
        parts += _section(rows, total, columns, empty, room, width, is_cut=height is not None)
        parts.append(Text(""))
    if height is None:
        parts.pop()
    else:
        parts[-1] = Text("q quits", style="dim")
    return Group(*parts)


def share(room: int, counts: Sequence[int]) -> list[int]:
    """How many of `room` lines each table gets: what it needs, else an equal part; what one leaves, the others get."""
    given = [0] * len(counts)
    room = max(room, ROWS_MIN * len(counts))
    open_ = [index for index, count in enumerate(counts) if count]
    while open_ and room > 0:
        part = max(room // len(open_), 1)
        for index in list(open_):
            more = min(part, counts[index] - given[index], room)
            given[index] += more
            room -= more
            if given[index] == counts[index]:
                open_.remove(index)
    return given


def _figures(sample: Sample, before: Sample | None, server: str, trouble: str, width: int) -> list[Text]:
    from rich.text import Text

    health, metrics = sample.health, sample.metrics
    tasks, schedules, agents = metrics["tasks"], metrics["schedules"], metrics["agents"]
    uptime = render.span(timedelta(seconds=metrics["uptime"]))
    head = Text.assemble(
        (f"hetuflow {health['version']}", "bold"), f"  {server}  up {uptime}  ", render.word(health["status"])
    )
    if trouble:
        head = Text.assemble(head, "  ", (trouble, "bold red"))
    elif bad := [name for name, check in health["checks"].items() if check["status"] != "ok"]:
        head = Text.assemble(head, (f" ({', '.join(bad)})", "yellow"))
    lateness = schedules["lateness_ms"]
    late = ", ".join(f"{name} {_ms(lateness[name])}" for name in ("p50", "p95", "p99"))
    used = agents["slots"] - agents["slots_free"]
    second = _line(
        ("agents", f"{agents['online']} of {agents['total']} online"),
        ("slots", f"{used}/{agents['slots']}"),
        ("running", sample.running_count),
        ("waiting", sample.waiting_count),
    )
    third = _line(("late", late), ("fired", schedules["fired_total"]), ("skipped", schedules["skipped_total"]))
    fourth = _line(
        ("succeeded", f"{tasks.get('succeeded', 0)}{_rate(sample, before, _succeeded)}"),
        ("failed", tasks.get("failed", 0)),
        ("log", f"{metrics['events']['position']}{_rate(sample, before, _position)}"),
    )
    lines = [head, second, third, fourth]
    for line in lines:
        line.truncate(width, overflow="ellipsis")
        line.no_wrap = True
    return lines


def _line(*pairs: tuple[str, Any]) -> Text:
    from rich.text import Text

    parts: list[Any] = []
    for name, value in pairs:
        parts += [(f"{'   ' if parts else ''}{name} ", "dim"), str(value)]
    return Text.assemble(*parts)


def _ms(value: float | None) -> str:
    return "-" if value is None else render.span(timedelta(milliseconds=value))


def _succeeded(sample: Sample) -> int:
    return int(sample.metrics["tasks"].get("succeeded", 0))


def _position(sample: Sample) -> int:
    return int(sample.metrics["events"]["position"])


def _rate(sample: Sample, before: Sample | None, count: Callable[[Sample], int]) -> str:
    if before is None or sample.taken <= before.taken:
        return ""
    return f" ({(count(sample) - count(before)) / (sample.taken - before.taken):.1f}/s)"


AGENTS = [
    render.Column("AGENT", lambda row: row["id"]),
    render.Column("STATUS", state),
    render.Column(
        "SLOTS", lambda row: f"{row['running_instances']}/{row['capabilities']['max_concurrent_tasks']}", right=True
    ),
    render.Column("DONE", lambda row: row["statistics"]["success_tasks"], right=True),
    render.Column("FAILED", lambda row: row["statistics"]["failure_tasks"], right=True),
    render.Column("CPU", lambda row: _percent(row, "cpu_usage"), right=True, drop=3),
    render.Column("MEM", lambda row: _percent(row, "memory_usage"), right=True, drop=2),
    render.Column("HEARD", lambda row: render.ago(row["last_heartbeat_at"], render.now()), drop=1),
    render.Column("LABELS", label_text, cut=True, least=6),
]


def _percent(row: Row, name: str) -> str | None:
    return f"{row['metrics'][name]:.0f} %" if row["metrics"] else None


def _running_columns(sample: Sample) -> list[render.Column]:
    return [
        render.Column("RUNNING", lambda row: sample.names.get(row["task_id"], ""), cut=True, least=24),
        render.Column("TASK", lambda row: row["task_id"], is_id=True),
        render.Column("TRY", lambda row: row["attempt"], right=True, drop=1),
        render.Column("STATUS", lambda row: render.status(InstanceStatus, row["status"]), drop=2),
        render.Column("AGENT", lambda row: row["agent_id"]),
        render.Column("FOR", lambda row: _since(row["started_at"]), right=True),
    ]


def _since(value: str | None) -> str | None:
    if value is None:
        return None
    return render.span(max(render.now() - datetime.fromisoformat(value), timedelta(0)))


WAITING = [
    render.Column("WAITING", lambda row: row["name"], cut=True, least=24),
    render.Column("TASK", lambda row: row["id"], is_id=True),
    render.Column("STATUS", lambda row: render.status(TaskStatus, row["status"])),
    render.Column("PRIO", lambda row: row["priority"], right=True, drop=1),
    render.Column("DUE", lambda row: render.At(row["next_retry_at"] or row["scheduled_at"])),
]


def _section(
    rows: Sequence[Row],
    total: int,
    columns: Sequence[render.Column],
    empty: str,
    room: int,
    width: int,
    *,
    is_cut: bool,
) -> list[Any]:
    from rich.text import Text

    if not rows:
        return [Text(empty, style="dim")]
    shown = rows[: room if total <= room else max(room - 1, 1)] if is_cut else rows
    grid, _ = render.fit(shown, columns, width)
    rest = total - len(shown)
    return [grid, Text(f"… and {rest} more", style="dim")] if rest > 0 else [grid]
