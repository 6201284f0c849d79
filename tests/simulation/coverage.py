"""What a long run of seeds has to reach: a fault or a situation that is never met is a check that proves nothing."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping

from tests.simulation.database import StoreFaults
from tests.simulation.faults import HELD_BACK, Faults
from tests.simulation.outcome import Outcome
from tests.support.network import FrameFaults

FAULTS = (
    *(kind for kind in Faults.kinds() if kind not in HELD_BACK),
    *StoreFaults.KINDS,
    *FrameFaults.KINDS,
)

ESSENTIAL = (
    *("cut", "kill agent", "kill server", "answer lost", "refused"),
    *("fired", "TaskSucceeded", "TaskFailed", "TaskCancelled", "TaskRetryScheduled", "instance ended: lost"),
    *("outputs compared", "rows compared", "states compared", "prefixes folded", "acknowledged writes"),
    *("feeds resumed", "nominal times in calm", "idempotency keys used", "machines that were full"),
    *("pause", "resume", "cancel", "retry", "run"),
)
"""What the fifty seeds of the suite reach, whatever the scenario draws."""

COMMON = (
    *("fired", "skipped (misfire)", "misfire that fired", "schedule resumed", "runs at once under allow"),
    *("TaskRetryScheduled", "TaskReopened", "TaskSucceeded", "TaskFailed", "TaskCancelled", "TaskCancelRequested"),
    *("succeeded", "failed", "cancelled", "InstanceReportRefused", "TaskRequeued"),
    *("instance ended: exit_code", "instance ended: timeout", "instance ended: start_error"),
    *("instance ended: lost", "instance ended: signal", "instance ended: InstanceCancelled"),
    *("tasks that ran more than once", "processes ended by a cancel", "machines that were full"),
    *("clusters that were full", "outputs compared", "rows compared", "states compared", "prefixes folded"),
    *("acknowledged writes", "answers lost", "idempotency keys used", "instants of edits compared"),
    *("feeds resumed", "nominal times in calm", "clocks stepped back", "processes ended by a cancel"),
    *("lines searched for a secret", "rows searched for a secret", "definitions with a secret", "events from outside"),
    *("skipped (overlap)", "skipped (disabled)", "skipped (edited)", "skipped (job_disabled)", "fires with jitter"),
    *("skipped (max_age)", "fires with a bound of their age", "schedule expired", "schedule deleted"),
    *("waits for earlier ones under queue", "waits for earlier ones under cancel_previous"),
    *("skipped for an overlap under skip", "skipped for an overlap under cancel_previous"),
    *("limits of a job that were reached", "limits of a key that were reached"),
    *("limits of a namespace that were reached", "starts within a rate"),
    *("skipped (calendar)", "edit calendar"),
    *("run flow", "cancel flow", "retry flow", "retry task of flow", "edit upstream"),
    *(
        "flow runs",
        "flow runs finished",
        "flow runs that failed",
        "flow runs that succeeded",
        "flow runs that cancelled",
    ),
    *("starts in flows", "skipped in flows", "fires of flows"),
    *("paused after failures", "fires after a delay", "seats started", "events that fired", "edit other schedule"),
    *("retries by a policy", "not retried by a policy", "retries timed"),
    *("edit task", "edit task (time)", "edit task (others)", "edit agent", "remove agent"),
    *("pause", "resume", "cancel", "retry", "run", "batch", "drive instance", "record instance", "event"),
    *(
        "dependencies settled",
        "cancelled by a dependency",
        "expired",
        "given in time",
        "InstanceTakenOver",
        "InstanceDispatched",
    ),
)
"""Situations that a few hundred seeds reach."""

RARE: tuple[str, ...] = (
    "skipped (deleted)",
    "outputs that were cut",
    "long waits in calm",
    "seats in calm",
    "events that were skipped",
)
"""Situations that only a long run reaches."""


def counted(outcomes: Iterable[Outcome]) -> tuple[Counter[str], Counter[str]]:
    """(Faults, situations) with how often they were met, over all these runs."""
    faults: Counter[str] = Counter()
    reached: Counter[str] = Counter()
    for outcome in outcomes:
        faults.update(outcome.faults)
        reached.update(outcome.reached)
    return faults, reached


def missing(faults: Mapping[str, int], reached: Mapping[str, int]) -> list[str]:
    """What was never met of all that there is."""
    situations = (*COMMON, *RARE)
    return [f"fault: {kind}" for kind in FAULTS if not faults.get(kind)] + [
        f"situation: {what}" for what in situations if not reached.get(what)
    ]
