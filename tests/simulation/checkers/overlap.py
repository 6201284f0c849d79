"""F4: the overlap policy holds in what really ran.

`allow` asks for nothing. With any other policy no two runs of one schedule may be there at once: `skip` decides not to
make the second, `queue` makes it wait, `cancel_previous` ends the first before the second begins. Not the policy's: a run that
a user asked for by retrying a task that had ended, and what was made before the last fire under `allow`.
"""

from __future__ import annotations

from collections import defaultdict
from itertools import pairwise

from tests.simulation.checkers.evidence import Evidence
from tests.simulation.checkers.verdict import Verdict
from tests.support.processes import Running


def check_overlap(evidence: Evidence, verdict: Verdict) -> None:
    """F4, from the processes of each schedule's tasks, and the policy as of each fire."""
    policy_of: dict[str, str] = {}
    schedule_of: dict[str, str] = {}
    era_of: dict[str, int] = {}
    era = 0
    reopened = {
        name for name, stream in evidence.streams("task") if any(fact.type == "TaskReopened" for fact in stream)
    }
    for name, stream in evidence.streams("schedule"):
        policy = "allow"
        for fact in stream:
            policy = fact.data.get("overlap_policy", policy)
            if fact.type == "ScheduleFired":
                era += policy == "allow"
                era_of[fact.data["task_id"]] = era
                policy_of[fact.data["task_id"]], schedule_of[fact.data["task_id"]] = policy, name
    runs: dict[str, list[Running]] = defaultdict(list)
    for process in evidence.counted:
        if process.task_id in schedule_of:
            runs[schedule_of[process.task_id]].append(process)
    for name, processes in runs.items():
        for one, two in pairwise(processes):
            if one.task_id == two.task_id or not (one.ended is None or one.ended > two.started):
                continue
            policy = policy_of[two.task_id]
            verdict.note(f"runs at once under {policy}")
            is_asked_for = not reopened.isdisjoint((f"task-{one.task_id}", f"task-{two.task_id}"))
            is_of_one_era = policy_of[one.task_id] != "allow" and era_of[one.task_id] == era_of[two.task_id]
            if policy != "allow" and is_of_one_era and not is_asked_for:
                verdict.fail(
                    "F4",
                    f"{name} ({policy}): task {one.task_id} ran {one.started:.2f}-{one.ended}, "
                    f"{two.task_id} from {two.started:.2f}",
                    streams=[name, f"task-{one.task_id}", f"task-{two.task_id}"],
                )
