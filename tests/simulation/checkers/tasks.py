"""T1, T2, T3, T4 of each task, from its stream alone; and which tasks are not at their end."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from tests.simulation.checkers.evidence import Evidence, Fact, Log
from tests.simulation.checkers.verdict import Verdict

EDGES: Mapping[str, Mapping[str, str]] = {
    "": {"TaskCreated": "pending"},
    "pending": {
        "TaskLocked": "locked",
        "TaskCancelled": "cancelled",
        "InstanceTakenOver": "pending",
        "InstanceDispatched": "dispatched",
    },
    "locked": {"TaskDispatched": "dispatched", "TaskCancelled": "cancelled", "InstanceTakenOver": "pending"},
    "dispatched": {
        "InstanceStarted": "running",
        "TaskRequeued": "pending",
        "TaskRetryScheduled": "waiting",
        "TaskFailed": "failed",
        "TaskCancelled": "cancelled",
    },
    "running": {
        "TaskSucceeded": "succeeded",
        "TaskRetryScheduled": "waiting",
        "TaskFailed": "failed",
        "TaskCancelled": "cancelled",
    },
    "waiting": {
        "TaskLocked": "locked",
        "TaskReopened": "pending",
        "TaskCancelled": "cancelled",
        "InstanceTakenOver": "pending",
    },
    "failed": {"TaskReopened": "pending"},
    "cancelled": {"TaskReopened": "pending"},
    "succeeded": {},
}
OUTCOMES = {"InstanceSucceeded", "InstanceFailed", "InstanceCancelled"}
STANDING: Mapping[str, frozenset[str]] = {
    "InstanceSucceeded": frozenset({"running"}),
    "InstanceFailed": frozenset({"dispatched", "running"}),
    "InstanceCancelled": frozenset({"pending", "locked", "waiting", "dispatched", "running"}),
    "TaskCancelRequested": frozenset({"dispatched", "running"}),
    "TaskDeleted": frozenset({"succeeded", "failed", "cancelled"}),
    "TaskUpdated": frozenset(EDGES) - {""},
    "TaskDependencySettled": frozenset({"pending", "waiting"}),
    "InstancePaused": frozenset({"running"}),
    "InstanceResumed": frozenset({"running"}),
    **dict.fromkeys(
        ("InstanceReportRefused", "InstanceCreated", "InstanceReported", "InstanceDeleted"), frozenset(EDGES) - {""}
    ),
}
"""Events that leave the task's status as it is, and in which states they may stand."""

FINAL = {"succeeded", "failed", "cancelled"}
ENDED_AS = {
    "TaskSucceeded": "InstanceSucceeded",
    "TaskFailed": "InstanceFailed",
    "TaskRetryScheduled": "InstanceFailed",
}
"""What must have been said of the instance before this is said of the task."""


def check_tasks(evidence: Evidence, verdict: Verdict) -> None:
    """T1 to T4 for every task."""
    for name, stream in evidence.streams("task"):
        TaskJudge(name, stream, verdict).judge()


def unfinished_tasks(log: Log) -> list[str]:
    """Tasks that have not reached a terminal state, with that state."""
    found = []
    for name, stream in log.streams.items():
        if not name.startswith("task-"):
            continue
        status = ""
        for event in stream:
            status = EDGES[status].get(event.type, status)
        if status not in FINAL:
            found.append(f"{name} {status}")
    return found


class TaskJudge:
    def __init__(self, name: str, stream: Sequence[Fact], verdict: Verdict) -> None:
        self._name, self._stream, self._verdict = name, stream, verdict
        self._status = ""
        self._live: tuple[str, int] | None = None
        self._ended: dict[str, str] = {}
        self._newest_end = ""
        self._taken_over = ""
        self._epoch = self._starts = self._starts_max = 0
        self._is_deleted = False

    def judge(self) -> None:
        for fact in self._stream:
            if "config" in fact.data:
                self._starts_max = max(self._starts_max, 1 + fact.data["config"]["max_retries"])
            before = self._status
            self._edge(fact)
            self._instance(fact, before)
        self._verdict.note(self._status)

    def _fail(self, promise: str, what: str, fact: Fact) -> None:
        place = f"{self._name} at position {fact.position} ({fact.type})"
        self._verdict.fail(promise, f"{place}: {what}", streams=[self._name])

    def _edge(self, fact: Fact) -> None:
        if self._is_deleted and fact.type != "InstanceReportRefused":
            self._fail("T1", "follows the deletion", fact)
        standing = STANDING.get(fact.type)
        if standing is not None:
            self._is_deleted = self._is_deleted or fact.type == "TaskDeleted"
            if self._status not in standing:
                self._fail("T1", f"does not follow {self._status!r}", fact)
            return
        following = EDGES[self._status].get(fact.type)
        if following is None:
            self._fail("T1", f"does not follow {self._status!r}", fact)
            return
        needed = ENDED_AS.get(fact.type)
        if needed is not None and self._newest_end != needed:
            self._fail("T1", f"its instance ended as {self._newest_end!r}", fact)
        self._status = following
        self._verdict.note(fact.type)

    def _instance(self, fact: Fact, before: str) -> None:
        kind, data = fact.type, fact.data
        key = (data.get("instance_id", ""), data.get("epoch", 0))
        if kind == "InstanceTakenOver":
            self._taken_over = key[0]
        elif kind in ("TaskDispatched", "InstanceDispatched"):
            if (key[0] == self._taken_over) is (kind == "TaskDispatched"):
                self._fail("T2", f"driven from outside is {self._taken_over!r}", fact)
            self._dispatched(key, fact)
        elif kind in ("InstanceStarted", "TaskRequeued", "InstanceSucceeded", "InstanceFailed"):
            if key != self._live:
                self._fail("T3", f"is of {key}, alive is {self._live}", fact)
        elif kind == "InstanceCancelled" and self._live is not None and key != self._live:
            self._fail("T3", f"is of {key}, alive is {self._live}", fact)
        if kind in OUTCOMES or kind == "TaskRequeued":
            self._live = None
        if kind in OUTCOMES:
            self._outcome(key[0], fact)
        elif kind == "InstanceStarted":
            self._starts += 1
            if self._starts > self._starts_max:
                self._fail("T4", f"start {self._starts} of at most {self._starts_max}", fact)
        elif kind == "TaskReopened":
            if before in FINAL:
                self._starts = 0
            self._newest_end = ""
        elif kind in ("TaskSucceeded", "TaskFailed", "TaskCancelled") and self._live is not None:
            self._fail("T2", f"{self._live} is left alive", fact)
        elif kind in ("InstanceReportRefused", "TaskCancelRequested", "TaskRequeued"):
            self._verdict.note(kind)

    def _dispatched(self, key: tuple[str, int], fact: Fact) -> None:
        if self._live is not None:
            self._fail("T2", f"{key} while {self._live} lives", fact)
        if key[0] in self._ended:
            self._fail("T2", f"instance {key[0]} had ended", fact)
        if key[1] <= self._epoch:
            self._fail("T2", f"epoch {key[1]} after {self._epoch}", fact)
        self._live, self._epoch, self._newest_end = key, max(key[1], self._epoch), ""

    def _outcome(self, instance_id: str, fact: Fact) -> None:
        if instance_id in self._ended:
            self._fail("T1", f"instance {instance_id} had ended as {self._ended[instance_id]}", fact)
        self._ended[instance_id] = self._newest_end = fact.type
        self._verdict.note(f"instance ended: {fact.data.get('reason') or fact.type}")
