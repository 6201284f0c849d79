"""Where tasks ran: never on a machine whose owner's word about a label is another than the task's."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tests.simulation.checkers.evidence import Evidence, Fact
from tests.simulation.checkers.verdict import Verdict


def check_placed(evidence: Evidence, verdict: Verdict) -> None:
    """The labels that a machine protects are those that it was set up with, whatever operators have set since."""
    wanted = {name.removeprefix("task-"): _wanted(stream) for name, stream in evidence.streams("task")}
    for machine in evidence.machines:
        for process in machine.history:
            given = wanted.get(process.task_id, [])
            for name in machine.protected:
                asked = [labels[name] for labels in given if name in labels]
                if asked and len(asked) == len(given):
                    verdict.note("tasks that asked for a protected label")
                    if machine.labels.get(name) not in asked:
                        what = (
                            f"{process.task_id} ran on {machine.name}, which protects {name}={machine.labels.get(name)}"
                        )
                        verdict.fail("T8", what, asked, streams=[f"task-{process.task_id}"])


def _wanted(stream: list[Fact]) -> list[Mapping[str, Any]]:
    """The labels that the task has ever asked for: it may be edited between two tries."""
    return [fact.data["config"].get("labels") or {} for fact in stream if isinstance(fact.data.get("config"), dict)]
