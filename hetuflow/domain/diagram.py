"""The lifecycle tables as Mermaid state diagrams, so that the documentation cannot drift from them.

`python -m hetuflow.domain.diagram` prints what stands in docs/architecture.md between the two markers. Events that
leave the status as it is (edits, requests, an instance's outcome before the task's own) are not drawn.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from enum import IntEnum

from hetuflow.domain.events import TaskEvent
from hetuflow.domain.task_transitions import INSTANCE_TRANSITIONS, TASK_TRANSITIONS

BEGIN = "<!-- diagram:begin -->"
END = "<!-- diagram:end -->"

Edge = tuple[IntEnum | None, type[TaskEvent], IntEnum]


def text() -> str:
    """Return both diagrams as Markdown."""
    task = _mermaid(_task_edges(), (status for status in TASK_TRANSITIONS if status and status.is_terminal))
    instance = _mermaid(_instance_edges(), (status for status in INSTANCE_TRANSITIONS if status and status.is_final))
    return f"Task:\n\n{task}\n\nTask instance (one try of a task; a retry makes a new one):\n\n{instance}\n"


def section() -> str:
    """Return the markers with the diagrams between them."""
    return f"{BEGIN}\n\n{text()}\n{END}"


def section_in(document: str) -> str | None:
    """Return the markers in a document with what stands between them; None when it has none."""
    begin, end = document.find(BEGIN), document.find(END)
    return None if begin < 0 or end < begin else document[begin : end + len(END)]


def _task_edges() -> Iterator[Edge]:
    for before, following in TASK_TRANSITIONS.items():
        yield from ((before, event, after) for event, after in following.items() if after is not before)


def _instance_edges() -> Iterator[Edge]:
    for before, following in INSTANCE_TRANSITIONS.items():
        for event, statuses in following.items():
            yield from ((before, event, after) for after in statuses if after is not before)


def _mermaid(edges: Iterable[Edge], ends: Iterable[IntEnum]) -> str:
    labels: dict[tuple[str, str], list[str]] = {}
    for before, event, after in edges:
        labels.setdefault((_name(before), _name(after)), []).append(event.__name__)
    lines = [f"    {before} --> {after}: {', '.join(events)}" for (before, after), events in labels.items()]
    lines += [f"    {_name(status)} --> [*]" for status in ends]
    return "\n".join(["```mermaid", "stateDiagram-v2", *lines, "```"])


def _name(status: IntEnum | None) -> str:
    return "[*]" if status is None else status.name.title().replace("_", "")


if __name__ == "__main__":
    sys.stdout.write(section() + "\n")
