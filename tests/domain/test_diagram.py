"""The documentation's diagrams are the tables."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from hetuflow.domain import diagram
from hetuflow.domain.enums import InstanceStatus
from hetuflow.domain.task_transitions import INSTANCE_TRANSITIONS, TASK_TRANSITIONS

ROOT = Path(__file__).parents[2]
DOCUMENT = ROOT / "docs" / "architecture.md"


def test_the_document_shows_the_present_tables() -> None:
    assert diagram.section_in(DOCUMENT.read_text()) == diagram.section(), "run: python -m hetuflow.domain.diagram"


def test_every_change_of_status_is_drawn_once() -> None:
    task, instance = diagram.text().split("Task instance")
    changes = {(before, after) for before, f in TASK_TRANSITIONS.items() for after in f.values() if before is not after}
    assert task.count(" --> ") == len(changes) + 3
    assert "    [*] --> Pending: TaskCreated\n" in task
    assert "    WaitingRetry --> Pending: TaskReopened, InstanceTakenOver\n" in task
    assert "    Succeeded --> [*]\n" in task
    finals = [status for status in InstanceStatus if status in INSTANCE_TRANSITIONS and status.is_final]
    assert all(f"    {status.name.title()} --> [*]\n" in instance for status in finals)


def test_a_document_without_markers_has_no_section() -> None:
    assert diagram.section_in("# Architecture\n") is None
    assert diagram.section_in(f"before\n{diagram.section()}\nafter") == diagram.section()


def test_the_command_prints_the_section() -> None:
    printed = subprocess.run(
        [sys.executable, "-m", "hetuflow.domain.diagram"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert printed.stdout == diagram.section() + "\n"
