"""config.retry: every delay within its bounds, never shrinking, the same for the same attempt; which results are retried."""

from __future__ import annotations

from typing import Any

import pytest
from attrs import evolve
from hypothesis import given
from hypothesis import strategies as st

from hetuflow.domain import retry
from hetuflow.domain.commands import DispatchTask
from hetuflow.domain.config import checked, effective
from hetuflow.domain.decider import Choice, Offer, Placement
from hetuflow.domain.enums import InstanceReason, RetryReason, TaskStatus
from hetuflow.domain.events import InstanceFailed, TaskDispatched, TaskFailed, TaskRetryScheduled
from hetuflow.domain.explanation import Circumstances, Told, explain
from hetuflow.domain.rejection import Rejected
from hetuflow.domain.task import TASK
from tests.support.given import given as given_a
from tests.support.given import later
from tests.support.tasks import OTHER_PLACEMENT, TASK_ID, a_create, a_job, a_task, ended, started

POLICIES = st.fixed_dictionaries(
    {},
    optional={
        "strategy": st.sampled_from(retry.STRATEGIES),
        "factor": st.floats(1, retry.FACTOR_MAX),
        "max_seconds": st.integers(0, retry.CAP_SECONDS_MAX),
        "jitter": st.floats(0, 1),
    },
)
INTERVALS = st.integers(0, 3600) | st.integers(0, 2**53 - 1)


def config_of(policy: dict[str, Any] | None, interval: int = 10, **members: Any) -> dict[str, Any]:
    return effective(checked({"retry": policy, "retry_interval": interval, **members}))


@given(POLICIES, INTERVALS, st.integers(1, 1001), st.integers(1, 1000))
def test_every_delay_lies_between_its_share_without_jitter_and_the_longest(
    policy: dict[str, Any], interval: int, attempt: int, number: int
) -> None:
    config = config_of(policy, interval)
    longest = retry.longest_delay_seconds(config, number)
    delay = retry.delay_seconds(config, TASK_ID, attempt, number)
    assert longest * (1 - policy.get("jitter", 0)) - 1e-6 * longest <= delay <= longest
    assert delay >= 0
    assert delay == retry.delay_seconds(config, TASK_ID, attempt, number)
    if "max_seconds" in policy:
        assert longest <= policy["max_seconds"]
    elif policy.get("strategy", "fixed") != "fixed":
        assert longest <= max(retry.CAP_SECONDS, interval)
    else:
        assert longest == interval


@given(POLICIES, INTERVALS, st.integers(1, 999))
def test_without_jitter_no_delay_is_shorter_than_the_one_before(
    policy: dict[str, Any], interval: int, number: int
) -> None:
    config = config_of(policy, interval)
    assert retry.longest_delay_seconds(config, number) <= retry.longest_delay_seconds(config, number + 1)


@pytest.mark.parametrize(
    ("policy", "delays"),
    [
        (None, [10, 10, 10, 10]),
        ({"strategy": "linear"}, [10, 20, 30, 40]),
        ({"strategy": "linear", "max_seconds": 25}, [10, 20, 25, 25]),
        ({"strategy": "exponential"}, [10, 20, 40, 80]),
        ({"strategy": "exponential", "factor": 1.5}, [10, 15, 22.5, 33.75]),
        ({"strategy": "exponential", "factor": 100, "max_seconds": None}, [10, 1000, 86_400, 86_400]),
        ({"max_seconds": 4}, [4, 4, 4, 4]),
    ],
)
def test_the_delays_of_each_strategy(policy: dict[str, Any] | None, delays: list[float]) -> None:
    config = config_of(policy)
    assert [retry.delay_seconds(config, TASK_ID, n, n) for n in range(1, 5)] == delays


def test_jitter_differs_from_task_to_task_and_from_attempt_to_attempt() -> None:
    config = config_of({"jitter": 1})
    delays = {retry.delay_seconds(config, f"task-{n}", attempt, 1) for n in range(50) for attempt in (1, 2)}
    assert len(delays) == 100 and min(delays) < 1 and max(delays) > 9


def test_a_config_from_before_there_were_policies_is_retried_as_it_was() -> None:
    old = {"max_retries": 1, "retry_interval": 30}
    assert retry.delay_seconds(old, TASK_ID, 1, 1) == 30
    assert retry.why_not(old, 0, "lost", None) is None


@pytest.mark.parametrize(
    ("policy", "result", "why"),
    [
        ({}, ("exit_code", 1), None),
        ({"on": ["timeout", "lost"]}, ("lost", None), None),
        ({"on": ["timeout", "lost"]}, ("exit_code", 1), "exit_code is not in retry.on (timeout, lost)"),
        ({"exit_codes": [1, 75]}, ("exit_code", 75), None),
        ({"exit_codes": [1, 75]}, ("exit_code", 2), "exit code 2 is not in retry.exit_codes (1, 75)"),
        ({"exit_codes": [1, 75]}, ("timeout", None), None),
        ({"exit_codes": {"not": [2]}}, ("exit_code", 2), "exit code 2 is excluded by retry.exit_codes"),
        ({"exit_codes": {"not": [2]}}, ("exit_code", 1), None),
    ],
)
def test_which_results_are_retried(policy: dict[str, Any], result: tuple[str, int | None], why: str | None) -> None:
    config = config_of(policy)
    assert retry.why_not(config, 0, *result) == why
    assert retry.why_not(config, 3, *result) == (why or "its retries are used up (3)")


def test_without_retries_that_is_the_reason() -> None:
    assert retry.why_not(config_of(None, max_retries=0), 0, "lost", None) == "max_retries is 0"


def test_a_result_that_is_not_retried_fails_the_task_and_the_event_says_why() -> None:
    running = a_task(TaskStatus.RUNNING, a_job({"retry": {"exit_codes": {"not": [1]}}}))
    outcome = running.when(ended(running.state, "exit_code"))
    outcome.then(InstanceFailed, TaskFailed)
    assert outcome.event(TaskFailed).not_retried == "exit code 1 is excluded by retry.exit_codes"
    retried = running.when(ended(running.state, "exit_code", exit_code=3))
    retried.then(InstanceFailed, TaskRetryScheduled)


def test_the_moment_of_the_retry_is_in_the_event() -> None:
    running = a_task(TaskStatus.RUNNING, a_job({"retry": {"strategy": "exponential", "max_seconds": 20}}))
    assert running.when(ended(running.state, "lost")).event(TaskRetryScheduled).retry_at == later(6 + 20)


def test_a_retry_rather_elsewhere_offers_itself_away_from_the_agents_before() -> None:
    job = a_job({"max_retries": 5, "retry_interval": 0, "retry": {"prefer_other_agent": True}})
    outcome = a_task(TaskStatus.RUNNING, job)
    waiting = outcome.when(ended(outcome.state, "exit_code"))
    assert waiting.intent(Offer).avoid == ("agent-1",)
    instance_id = waiting.state.instance.instance_id
    second = waiting.next(20).when(DispatchTask(instance_id=instance_id, placement=OTHER_PLACEMENT))
    running = second.next(1).when(started(second.state))
    again = running.next(10).when(ended(running.state, "exit_code"))
    assert again.intent(Offer).avoid == ("agent-1", "agent-2")
    assert again.event(TaskRetryScheduled) and second.event(TaskDispatched)


def test_a_pinned_task_and_a_first_attempt_avoid_nobody() -> None:
    job = a_job({"max_retries": 5, "retry": {"prefer_other_agent": True}})
    assert a_task(TaskStatus.PENDING, job).intent(Offer).avoid == ()
    pinned = a_job({"max_retries": 5, "retry": {"prefer_other_agent": True}}, agent_id="agent-1")
    outcome = a_task(TaskStatus.RUNNING, pinned)
    assert outcome.when(ended(outcome.state, "exit_code")).intent(Offer).avoid == ()


@pytest.mark.parametrize(
    ("policy", "path"),
    [
        ({"strategy": "quadratic"}, "strategy"),
        ({"factor": 0.5}, "factor"),
        ({"factor": True}, "factor"),
        ({"max_seconds": -1}, "max_seconds"),
        ({"max_seconds": 1.5}, "max_seconds"),
        ({"jitter": 1.1}, "jitter"),
        ({"jitter": "full"}, "jitter"),
        ({"on": []}, "on"),
        ({"on": ["cancelled"]}, "on"),
        ({"on": "lost"}, "on"),
        ({"exit_codes": []}, "exit_codes"),
        ({"exit_codes": [256]}, "exit_codes"),
        ({"exit_codes": {"only": [1]}}, "exit_codes"),
        ({"exit_codes": [1], "on": ["lost"]}, "exit_codes"),
        ({"prefer_other_agent": 1}, "prefer_other_agent"),
        ({"stratgy": "fixed"}, "stratgy"),
    ],
)
def test_what_is_out_of_bounds_is_named(policy: dict[str, Any], path: str) -> None:
    with pytest.raises(Rejected) as refused:
        checked({"retry": policy})
    assert (refused.value.code, refused.value.detail["path"]) == ("invalid", f"config.retry.{path}")


def test_what_may_be_retried_is_what_an_attempt_can_fail_of() -> None:
    never = {InstanceReason.REJECTED, InstanceReason.CANCELLED}
    assert {str(reason) for reason in RetryReason} == {str(reason) for reason in InstanceReason if reason not in never}


@pytest.mark.parametrize(
    ("agent_id", "spread", "words"),
    [
        ("agent-9", (), "but for agent-1, agent-2, where an earlier attempt ended: "),
        ("agent-9", ("agent-1", "agent-2"), "but for agent-1, agent-2, where another instance of its daemon runs: "),
        ("agent-9", ("agent-2",), "where an earlier attempt ended or another instance of its daemon runs: "),
        ("agent-2", ("agent-2",), "Agent agent-2, where another instance of its daemon runs, was taken all the same: "),
        ("agent-1", ("agent-2",), "Agent agent-1, where an earlier attempt ended, was taken all the same: "),
    ],
)
def test_why_an_agent_was_passed_over_is_said(agent_id: str, spread: tuple[str, ...], words: str) -> None:
    choice = Choice(3, 0, 4, ("agent-1", "agent-2"))
    placement = Placement(agent_id=agent_id, session="s", server_id="server-1", choice=choice)
    outcome = given_a(TASK).when(evolve(a_create(), avoid=spread, placement=placement))
    told = [Told(event, later(0), number, None) for number, event in enumerate(outcome.decision.events, 1)]
    placed = explain(told, outcome.state, Circumstances(now=later(1))).placed
    assert placed is not None and words in placed.message
