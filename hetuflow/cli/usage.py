"""What instances use, in words: cores, sizes, and a line of blocks for how it went."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from hetuflow.cli import render

BLOCKS = "▁▂▃▄▅▆▇█"
LINE_WIDTH = 40

Usage = Mapping[str, Any]


def size(count: float | None) -> str | None:
    """Bytes in the unit that leaves at most four digits: `812 KB`, `1.2 GB` (1 KB = 1024 bytes)."""
    if count is None:
        return None
    number = float(count)
    for unit in ("B", "KB", "MB", "GB", "TB"):
        if number < 1000 or unit == "TB":
            return f"{number:.0f} {unit}" if number >= 10 or unit == "B" else f"{number:.1f} {unit}"
        number /= 1024
    raise AssertionError("the last unit takes everything")


def cores(count: float | None) -> str | None:
    """`0.42`: of one core, as limits are given."""
    return None if count is None else f"{count:.2f}"


def seconds(count: float) -> str:
    from datetime import timedelta

    return render.span(timedelta(seconds=count))


def line(values: Sequence[float]) -> str:
    """How figures went, as blocks: at most `LINE_WIDTH`, each the greatest of its part."""
    if not values:
        return ""
    parts = min(LINE_WIDTH, len(values))
    greatest = [max(values[n * len(values) // parts : (n + 1) * len(values) // parts]) for n in range(parts)]
    top = max(greatest) or 1.0
    return "".join(BLOCKS[min(len(BLOCKS) - 1, int(each / top * len(BLOCKS)))] for each in greatest)


def now(usage: Usage) -> str:
    """The latest figures in one line."""
    parts = [
        f"CPU {cores(usage['cpu'])}" if usage["cpu"] is not None else None,
        f"memory {size(usage['memory'])}",
        f"{usage['processes']} process{'es' if usage['processes'] != 1 else ''}" if usage["processes"] else None,
    ]
    return ", ".join(part for part in parts if part)


def course(points: Sequence[Usage], name: str, text: Any) -> str | None:
    """A line of blocks and the greatest figure; None when there are too few to tell."""
    values = [float(point[name]) for point in points if point[name] is not None]
    return f"{line(values)} most {text(max(values))}" if len(values) > 1 else None
