"""Judges of a run. They stand outside: they read the raw log and what the machines ran, and know the rules by themselves.

The tables here repeat the promises in their own words on purpose: a checker that imported the system's tables would
agree with it about every mistake. Only L3 and L4 fold with the system's own functions, for that is what they say.

`CHECKERS` names the judge of every invariant of the promises; `check_safety` asks all of them. Each is proved in
`tests/simulation/mutations.py` by a deliberate bug that it catches, and in `tests/simulation/test_checkers.py` by logs
made by hand.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

import trio

from tests.simulation.checkers.backfills import check_backfills
from tests.simulation.checkers.dependencies import check_dependencies
from tests.simulation.checkers.evidence import Evidence, Held, MachineSeen
from tests.simulation.checkers.expiry import check_expiry
from tests.simulation.checkers.flows import check_flows
from tests.simulation.checkers.folds import check_prefixes
from tests.simulation.checkers.kinds import check_kinds
from tests.simulation.checkers.limits import check_config_limits
from tests.simulation.checkers.logs import check_acknowledged, check_idempotency, check_log, check_secrets
from tests.simulation.checkers.outside import check_clocks, check_feeds, check_liveness, check_output
from tests.simulation.checkers.overlap import check_overlap
from tests.simulation.checkers.overlap_rules import check_overlap_rules
from tests.simulation.checkers.pending import check_pending
from tests.simulation.checkers.placed import check_placed
from tests.simulation.checkers.processes import check_cancels, check_limits, check_processes, check_slots
from tests.simulation.checkers.retries import check_retries
from tests.simulation.checkers.rows_of_failures import check_rows_of_failures
from tests.simulation.checkers.schedules import check_fires
from tests.simulation.checkers.tasks import check_tasks, unfinished_tasks
from tests.simulation.checkers.verdict import Verdict, Violation

if TYPE_CHECKING:
    from tests.simulation.cluster import Cluster

__all__ = [
    "CHECKERS",
    "Evidence",
    "Verdict",
    "Violation",
    "check_safety",
    "evidence_of",
    "is_quiet",
    "judge",
    "unfinished_tasks",
]

Checker = Callable[[Evidence, Verdict], None]

CHECKERS: Mapping[Checker, tuple[str, ...]] = {
    check_log: ("L1",),
    check_fires: ("F1", "F2", "F3", "F5", "F6"),
    check_rows_of_failures: ("F1",),
    check_backfills: ("F1", "T7"),
    check_kinds: ("F1", "F2", "F3", "F4", "T7"),
    check_overlap: ("F4",),
    check_overlap_rules: ("F4",),
    check_tasks: ("T1", "T2", "T3", "T4"),
    check_dependencies: ("T1",),
    check_expiry: ("T1",),
    check_flows: ("T1", "V1", "F1"),
    check_retries: ("T4",),
    check_processes: ("T2", "T3", "T4"),
    check_cancels: ("T5",),
    check_slots: ("T6",),
    check_limits: ("T7",),
    check_config_limits: ("T7",),
    check_pending: ("T8",),
    check_placed: ("T8",),
    check_acknowledged: ("L2",),
    check_prefixes: ("L4",),
    check_idempotency: ("L5",),
    check_secrets: ("L6",),
    check_output: ("O1",),
    check_feeds: ("E1",),
    check_clocks: ("C1",),
    check_liveness: ("V1",),
}
"""Judge -> the invariants that it speaks for. L3 needs the running servers: `Verdict.check_states`, `check_rows`."""


def judge(evidence: Evidence, verdict: Verdict) -> None:
    """Ask every judge. One that fails itself, on a log that is too broken for it, is a violation too."""
    for checker, promises in CHECKERS.items():
        try:
            checker(evidence, verdict)
        except Exception as exc:
            verdict.fail(promises[0], f"{checker.__name__} cannot judge this log:", repr(exc))


def is_quiet(cluster: Cluster) -> bool:
    """Nothing is left to do and nothing runs."""
    return not any(host.machine.living() for host in cluster.hosts.values()) and not cluster.unfinished()


def evidence_of(cluster: Cluster, *, has_settled: bool) -> Evidence:
    """All that a run leaves behind."""
    return Evidence(
        log=cluster.log,
        observed=cluster.observed,
        machines=[
            MachineSeen(
                host.name,
                host.agent_id,
                host.slots,
                host.labels,
                host.machine.history,
                host.machine.most_at_once,
                host.protected,
            )
            for host in cluster.hosts.values()
        ],
        output=cluster.output,
        held=[
            Held(life.node.name, agenda.instances, agenda.reserved)
            for life in cluster.lives()
            if life.core is not None
            for agenda in [life.core.scheduler.status().agenda]
        ],
        handler_errors=cluster.network.handler_errors,
        lease=cluster.scale.lease,
        tasks_max=cluster.tasks_max,
        namespaces_max=cluster.namespaces_max,
        ended=trio.current_time(),
        started_at=cluster.shape.starts_at,
        has_settled=has_settled,
    )


def check_safety(evidence: Evidence, verdict: Verdict) -> None:
    """Everything that must hold at any time, whatever went wrong."""
    judge(evidence, verdict)
    for error in evidence.handler_errors:
        verdict.fail("gateway", "the handler of a connection raised", repr(error))
