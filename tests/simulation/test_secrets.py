"""L6 is judged from all that somebody could read: the judge, and the ears that it needs, are proved here."""

from __future__ import annotations

import logging
from types import SimpleNamespace
from typing import Any

import structlog

from eventstore.memory import MemoryLog
from tests.simulation.by_hand import LAWFUL, RUN_1, TASK, a_log, found
from tests.simulation.checkers import Evidence, Verdict
from tests.simulation.checkers.logs import check_secrets, check_shown
from tests.simulation.lines import watched
from tests.simulation.observed import SECRET, Observed

SPEC = {**TASK, "environment": {"PASSWORD": SECRET}}


def test_a_secret_outside_its_definition_is_found() -> None:
    assert found(check_secrets, Evidence(a_log("task-t", [("TaskCreated", SPEC), *LAWFUL[1:]]))) == set()
    failed = ("InstanceFailed", {**RUN_1, "reason": "exit_code", "error_message": f"login with {SECRET}"})
    assert found(check_secrets, Evidence(a_log("task-t", [*LAWFUL[:4], failed]))) == {"L6"}


def test_a_secret_in_a_line_is_found() -> None:
    observed = Observed()
    observed.line("server", f"started with PASSWORD={SECRET}")
    assert found(check_secrets, Evidence(MemoryLog(), observed)) == {"L6"}


def test_every_line_of_servers_and_agents_is_looked_at_and_all_is_put_back() -> None:
    observed = Observed()
    server, agent = logging.getLogger("hetuflow.gateway"), structlog.get_logger()
    before = structlog.get_config(), logging.getLogger("hetuflow").level
    with watched(observed):
        server.info("a job with %s", {"PASSWORD": SECRET})
        agent.warning("a task", environment={"PASSWORD": SECRET})
        try:
            raise ValueError(SECRET)
        except ValueError:
            server.exception("it failed")
            agent.error("it failed", exc_info=True)
        server.info("nothing of it")
    assert observed.lines_seen == 5
    assert [where for where, _ in observed.leaks] == ["hetuflow.gateway", "agent"] * 2
    assert (structlog.get_config(), logging.getLogger("hetuflow").level) == before


def test_a_secret_in_a_row_is_found_beside_its_definition() -> None:
    def shown(**row: object) -> set[str]:
        verdict = Verdict()
        tables: Any = SimpleNamespace(folds={"tasks": SimpleNamespace(rows=lambda: {"t": row})})
        check_shown(tables, verdict)
        return verdict.promises

    assert shown(environment={"PASSWORD": SECRET}, status=90) == set()
    assert shown(environment={}, error_message=f"login with {SECRET}") == {"L6"}
