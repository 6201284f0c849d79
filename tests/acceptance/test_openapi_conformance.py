"""A second opinion on the API: schemathesis reads `/docs/openapi.json` of a real server and tries to prove it wrong.

No answer is a 5xx, none has a status, content type, header or body that the document does not tell; what the document
forbids is refused; what it allows is accepted, save for the rules between members that no JSON Schema can say (`RULES`).

`make test` takes a few examples of every operation from a fixed seed. `make fuzz-api EXAMPLES=1000 SEED=7` takes more.
"""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterator
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.errors import FlakyStrategyDefinition
from hypothesis.stateful import run_state_machine_as_test
from schemathesis import Case, CheckContext, Response
from schemathesis.checks import CHECKS, load_all_checks
from schemathesis.generation import GenerationMode

from hetuflow.api.endpoints import ENDPOINTS
from hetuflow.api.filters import Collection
from hetuflow.api.openapi import document
from tests.support.dev import Dev, running_dev

EXAMPLES = int(os.environ.get("HETUFLOW_FUZZ_EXAMPLES", "12"))
SEED = int(os.environ.get("HETUFLOW_FUZZ_SEED", "1"))
IS_LONG = EXAMPLES > 50

RULES = (
    r"is another name of .* and has another value",
    r"are two names of one member|are two names of one member and differ",
    r"is required for a schedule",
    r"is required: host and port together",
    r"end_time must not be before start_time",
    r"must not be below backoff_initial_seconds",
    r"must be 1 for kind once",
    r"cannot be changed, is",
    r"cannot be given together with",
    r"is named in update_mask",
    r"must be a cursor from page\.next|is not a cursor",
    r"unknown member; the nearest known name is",
    r"must be an integer within ±",
    r"needs stream",
    r"waits for|a circle of tasks|there is no task|is used twice in this batch|is a schedule of job|must be the schedule's kind",
    r"and .* in the query$|which instance\? id is required",
    r"is required with a command frame|goes with single only|is the server's own: it cannot be sent|cancel_task takes|belongs to a command that is",
    r"^agent_id: is required$",  # of a command to one agent
    r"must not start with .*hetuflow's own",
    r"none of hetuflow's own events",
    r"event_filter\S*: must (not be nested deeper|have at most)",
    r"at position \d+: ",
    r"params\.\w+(\.\w+(\[\d+\])?)?: (must be (one of|from|≥|≤|an RFC 3339)|must match|must not be below|has no effect beside|differs from)",
    r"parameters\.\w+: |gives its tasks no parameters",  # against what the job declares
    r"exit_codes: has no effect",
    r"must not be before from|must be after from|must differ from from|must be before 24:00",
    r"^ical: line \d+",
    r"\.jobs\[\d+\]\.job_id: is named twice|dependencies\.on\.\S+: is none of the task_ids",
    r"with interval_mode fixed_delay|is not for interval_mode fixed_delay|fixed_delay (is for|has no meaning for) (schedules|a schedule)",
    r"pause_on_failures: (must be below max_count|is not for)|run_flow: is for schedules of kind",
    r"unknown calendar |they exclude every fire|is for (schedules|times)",
    r"config\.\S*: (does not (go together with|reach a WebAssembly)|has no effect without|must be UTF-8 where|.* is also the directory of another|must have at most \d+ bytes)",
    r"must be a position of the log|must be a time that has passed",
)
"""Problems of a request that fits its schema: rules between two members, against what is stored, or of the open config."""

NO_HTTP = ("G2",)
ENDLESS = ("E3",)
NOT_BUILT = ("U1", "U2")
SHADOWED = ("A1", "A2", "S1")
"""Their last segment may also be an agent's or server's id: `GET /agents/create` asks for the agent `create`."""

QUERIES = "|".join(f"{endpoint.number}(_.*)?" for endpoint in ENDPOINTS if isinstance(endpoint.body, Collection))
MIN_POSITION = "X-Hetuflow-Min-Position"

load_all_checks()
CONFIG = schemathesis.Config.from_dict(
    {
        "seed": SEED,
        "generation": {"allow-x00": False, "database": "none", "deterministic": not IS_LONG, "max-examples": EXAMPLES},
        # Every value of every operator of every field: thousands of requests each. What they mean is tested elsewhere.
        "operations": [{"include-operation-id-regex": QUERIES, "phases": {"coverage": {"enabled": IS_LONG}}}],
    }
)
SCHEMA = schemathesis.openapi.from_dict(document(ENDPOINTS, "1"), config=CONFIG).exclude(operation_id=list(ENDLESS))

schemathesis.openapi.format("cron", st.sampled_from(["@daily", "0 0 12 * * ?", "*/5 * * * *", "0 0 1 1 *"]))
schemathesis.openapi.format("iana-time-zone", st.sampled_from(["UTC", "Asia/Shanghai", "America/New_York"]))


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Dev]:
    """Without agents, so that no generated command runs."""
    with running_dev(tmp_path_factory.mktemp("openapi") / "data", agents=0) as dev:
        yield dev


def told_the_truth(ctx: CheckContext, response: Response, case: Case) -> None:
    """A request that fits the document is accepted, unless a rule that no schema can say speaks against it."""
    if not is_positive(case) or response.status_code not in (400, 422):
        return
    body = response.json()
    details = body["details"] if isinstance(body["details"], list) else [{"path": "", "message": body["message"]}]
    for problem in details:
        if not any(re.search(rule, f"{problem['path']}: {problem['message']}") for rule in RULES):
            raise AssertionError(f"fits the document and is refused: {problem}")


def is_positive(case: Case) -> bool:
    return case.meta is not None and case.meta.generation.mode is GenerationMode.POSITIVE


def checks_of(number: str) -> dict[str, list[Any]]:
    excluded = ["positive_data_acceptance"]
    if number in NOT_BUILT:
        excluded.append("not_a_server_error")
    if number in SHADOWED:
        excluded += ["unsupported_method", "allow_header_conformance"]
    return {
        "additional_checks": [] if number in NO_HTTP else [told_the_truth],
        "excluded_checks": CHECKS.get_by_names(excluded),
    }


def tame(case: Case) -> None:
    """Nothing that waits for what does not come."""
    headers = case.headers or {}
    if headers.get(MIN_POSITION, "").isdigit():
        headers[MIN_POSITION] = "0"  # a position to come is waited for: 503 after two seconds is right
    if isinstance(case.query, dict):
        case.query.pop("follow", None)  # an answer without end
        if str(case.query.get("as_of", "")).isdigit():
            case.query["as_of"] = str(int(case.query["as_of"]) % 40)  # of this log, rather than far beyond it


def ask(case: Case, dev: Dev) -> None:
    tame(case)
    number = case.operation.definition.raw["operationId"].partition("_")[0]
    case.call_and_validate(base_url=dev.url, timeout=20, **checks_of(number))


@SCHEMA.parametrize()
@settings(
    max_examples=EXAMPLES,
    derandomize=not IS_LONG,
    deadline=None,
    database=None,
    suppress_health_check=list(HealthCheck),
)
def test_operation(case: Case, served: Dev) -> None:
    ask(case, served)


class Walk(SCHEMA.as_state_machine()):  # type: ignore[misc]
    """Follows the document's links: what one operation made, the next ones are asked about."""

    dev: Dev

    def get_call_kwargs(self, case: Case) -> dict[str, Any]:
        return {"base_url": self.dev.url, "timeout": 20}

    def validate_response(self, response: Response, case: Case, additional_checks: Any = (), **kwargs: Any) -> None:
        checks = checks_of(case.operation.definition.raw["operationId"].partition("_")[0])
        if case.method == "DELETE":  # a walk may delete twice what it made once: 404 is right
            checks["excluded_checks"] += CHECKS.get_by_names(["ensure_resource_availability"])
        case.validate_response(response, transport_kwargs=kwargs or None, recorder=self.recorder, **checks)

    def before_call(self, case: Case) -> None:
        tame(case)
        if isinstance(case.query, dict):
            case.query.pop("as_of", None)  # what this walk has just made was not there then: 404 is right


def test_walks_along_the_links(served: Dev) -> None:
    """hypothesis wants a walk that begins like an earlier one to be answered like it; this server remembers both.

    Where that shows, it stops: what was walked until then was fine. A check that failed is told as ever.
    """
    Walk.dev = served
    with contextlib.suppress(FlakyStrategyDefinition):
        run_state_machine_as_test(
            Walk,
            settings=settings(
                max_examples=EXAMPLES,
                stateful_step_count=12,
                derandomize=not IS_LONG,
                deadline=None,
                database=None,
                suppress_health_check=list(HealthCheck),
            ),
        )
