"""config.params: what may be declared, what fits, what a task is made with, and what becomes of one that does not fit."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given as given_
from hypothesis import strategies as st

from hetuflow.domain import parameters
from hetuflow.domain.commands import CreateJob, CreateTask, CreateTasks, RetryTask, UpdateJob, UpdateTask
from hetuflow.domain.config import checked
from hetuflow.domain.decider import Send
from hetuflow.domain.enums import InstanceReason, ParameterType, ScheduleKind, TaskStatus
from hetuflow.domain.events import InstanceFailed, ScheduleFired, TaskCreated, TaskFailed, TaskUpdated
from hetuflow.domain.job import JOB
from hetuflow.domain.rejection import Rejected
from hetuflow.domain.task import TASK
from tests.support.given import given, later
from tests.support.schedules import a_fire, a_minutely, a_schedule
from tests.support.tasks import JOB_ID, PLACEMENT, TASK_ID, a_create, a_job

DECLARED = {
    "day": {"type": "date", "required": True},
    "n": {"type": "integer", "default": 3, "minimum": 1, "maximum": 9},
    "mode": {"type": "string", "choices": ["full", "diff"]},
}
CONFIG = {"cmd": "bash", "args": ["-c", "report {{ params.day }}", "{{ params.n }}"], "params": DECLARED}


@pytest.mark.parametrize(
    ("kind", "fit", "unfit"),
    [
        ("string", ["", "x", "2026-01-01"], [1, True, [], {}]),
        ("integer", [0, -5, 2**53 - 1, 5.0], [1.5, True, "1", 2**53]),
        ("number", [0, 1.5, -1], ["1", True, float("inf"), float("nan")]),
        ("boolean", [True, False], [0, 1, "true"]),
        (
            "date",
            ["2026-02-28", "2024-02-29"],
            ["2026-02-30", "2026-2-1", "20260201", 20260201, "2026-02-01T00:00:00Z"],
        ),
        ("datetime", ["2026-01-01T00:00:00Z", "2026-01-01T00:00:00.5+05:30"], ["2026-01-01", "2026-01-01T00:00:00", 1]),
        ("array", [[], [1, "a", None]], ["[]", {}, 1]),
        ("object", [{}, {"a": [1]}], ["{}", [], 1]),
    ],
)
def test_what_fits_a_type(kind: str, fit: list[Any], unfit: list[Any]) -> None:
    declared = {"v": {"type": kind}}
    assert kind in set(ParameterType)
    for value in fit:
        values, wrong = parameters.effective(declared, {"v": value})
        assert wrong == [] and "v" in values
    for value in unfit:
        values, wrong = parameters.effective(declared, {"v": value})
        assert [each.path for each in wrong] == ["v"] and values == {}
        assert wrong[0].message.startswith("must be ")


def test_a_string_may_have_a_pattern() -> None:
    declared = {"v": {"type": "string", "pattern": "[a-z][a-z0-9-]*"}}
    assert parameters.effective(declared, {"v": "web-1"}) == ({"v": "web-1"}, [])
    for wrong in ("-rf", "", "Web", "web\n", "a" * 1025):
        _, unfit = parameters.effective(declared, {"v": wrong})
        assert unfit[0].message.startswith("must match [a-z][a-z0-9-]* ")


def test_equal_instants_are_one_value_and_whole_numbers_are_integers() -> None:
    declared = {"at": {"type": "datetime"}, "n": {"type": "integer"}}
    values, _ = parameters.effective(declared, {"at": "2026-01-01T05:30:00+05:30", "n": 5.0})
    assert values == {"at": "2026-01-01T00:00:00Z", "n": 5} and type(values["n"]) is int


def test_defaults_are_filled_in_null_is_not_given_and_what_is_optional_stays_away() -> None:
    assert parameters.effective(DECLARED, {"day": "2026-01-01", "n": None}) == ({"day": "2026-01-01", "n": 3}, [])


@pytest.mark.parametrize(
    ("given", "path", "says"),
    [
        ({}, "day", "is required by the job: a date such as 2026-01-31"),
        ({"day": "2026-01-01", "n": 10}, "n", "must be from 1 to 9, got 10"),
        ({"day": "2026-01-01", "mode": "ful"}, "mode", 'must be one of "full", "diff", got "ful"'),
        ({"day": "2026-01-01", "dya": 1}, "dya", 'is not declared; the nearest is "day"'),
    ],
)
def test_what_does_not_fit_says_what_would(given: dict[str, Any], path: str, says: str) -> None:
    _, unfit = parameters.effective(DECLARED, given, passed=())
    assert [(each.path, each.message) for each in unfit] == [(path, says)]


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)


@given_(st.dictionaries(st.sampled_from(["day", "n", "mode", "x"]), JSON))
def test_what_fits_fits_again_and_nothing_else_is_kept(given: dict[str, Any]) -> None:
    values, unfit = parameters.effective(DECLARED, given, passed=())
    assert values.keys() <= DECLARED.keys() and not ({each.path for each in unfit} & values.keys())
    if not unfit:
        assert parameters.effective(DECLARED, values, passed=()) == (values, [])


@given_(
    st.dictionaries(st.text(max_size=5), JSON | st.fixed_dictionaries({"type": st.sampled_from(list(ParameterType))}))
)
def test_whatever_is_declared_is_either_refused_or_can_be_used(declared: dict[str, Any]) -> None:
    if not parameters.faults(declared):
        parameters.effective(declared, dict.fromkeys(declared, "x"))


@pytest.mark.parametrize(
    ("declaration", "path"),
    [
        ({"type": "text"}, "type"),
        ({}, "type"),
        ({"type": "date", "defualt": "2026-01-01"}, "defualt"),
        ({"type": "date", "default": "tomorrow"}, "default"),
        ({"type": "integer", "default": 10, "maximum": 9}, "default"),
        ({"type": "integer", "default": 1, "required": True}, "required"),
        ({"type": "integer", "required": 1}, "required"),
        ({"type": "string", "minimum": 1}, "minimum"),
        ({"type": "integer", "minimum": "1"}, "minimum"),
        ({"type": "integer", "minimum": 2, "maximum": 1}, "maximum"),
        ({"type": "date", "minimum": "2026-02-01", "maximum": "2026-01-01"}, "maximum"),
        ({"type": "string", "choices": []}, "choices"),
        ({"type": "string", "choices": ["a", 1]}, "choices[1]"),
        ({"type": "object", "choices": [{}]}, "choices"),
        ({"type": "string", "description": 1}, "description"),
        ({"type": "string", "pattern": "(a+)+"}, "pattern"),
        ({"type": "string", "pattern": 1}, "pattern"),
        ({"type": "integer", "pattern": "a"}, "pattern"),
        ({"type": "string", "pattern": "a+", "default": "b"}, "default"),
    ],
)
def test_a_wrong_declaration_is_named(declaration: dict[str, Any], path: str) -> None:
    with pytest.raises(Rejected) as refused:
        checked({"params": {"p": declaration}})
    assert refused.value.detail["path"] == f"config.params.p.{path}"


@pytest.mark.parametrize("names", [["1a"], ["a-b"], [""], ["x" * 65], ["day", "Day"]])
def test_names_are_names_and_each_has_a_variable_of_its_own(names: list[str]) -> None:
    assert parameters.faults({name: {"type": "string"} for name in names})


# --- jobs ------------------------------------------------------------------------------------------------------------


def test_a_template_is_refused_when_the_job_is_written_and_when_it_is_edited() -> None:
    wrong = {**CONFIG, "args": ["{{ params.dya }}", "{{ x"]}
    create = CreateJob(job_id=JOB_ID, name="x", config=wrong)
    outcome = given(JOB).when(create).then_rejected("invalid", path="config.args[0]")
    assert outcome.rejected is not None
    assert [each["path"] for each in outcome.rejected.detail["problems"]] == ["config.args[0]", "config.args[1]"]
    made = given(JOB).when(CreateJob(job_id=JOB_ID, name="x", config=CONFIG))
    made.when(UpdateJob(changes={"config": wrong})).then_rejected("invalid", path="config.args[0]")
    made.when(UpdateJob(changes={"command": "python3"})).then_rejected("invalid", path="config.args[1]")


def test_without_declared_parameters_braces_are_text() -> None:
    config = {"cmd": "echo", "args": ["{{ anything", "{{ params.x }}"]}
    assert given(JOB).when(CreateJob(job_id=JOB_ID, name="x", config=config)).state.exists
    task = given(TASK).when(a_create(a_job(config), parameters={"x": 1, "any": "thing"}, placement=PLACEMENT))
    order = task.intent(Send).order
    assert order.args == ("{{ anything", "{{ params.x }}")
    assert task.event(TaskCreated).rendered is None and task.event(TaskCreated).parameters == {"x": 1, "any": "thing"}


# --- tasks -----------------------------------------------------------------------------------------------------------


def test_a_task_has_its_effective_parameters_and_what_came_of_the_templates() -> None:
    hostile = a_create(a_job(CONFIG), parameters={"day": "2026-01-31"}, placement=PLACEMENT)
    outcome = given(TASK).when(hostile)
    created = outcome.event(TaskCreated)
    assert created.parameters == {"day": "2026-01-31", "n": 3}
    assert created.config["args"] == CONFIG["args"]
    order = outcome.intent(Send).order
    assert order.args == ("-c", 'report "${HETUFLOW_ARG_1?}"', "3")
    assert order.environment["HETUFLOW_ARG_1"] == order.environment["HETUFLOW_PARAM_DAY"] == "2026-01-31"


@pytest.mark.parametrize("trigger", ["run", "execute", "api"])
def test_who_asks_for_a_task_by_hand_is_told_all_that_does_not_fit(trigger: str) -> None:
    command = a_create(a_job(CONFIG), parameters={"n": 0, "x": 1}, trigger=trigger)
    outcome = given(TASK).when(command).then_rejected("invalid")
    assert outcome.rejected is not None
    paths = [each["path"] for each in outcome.rejected.detail["problems"]]
    assert paths == ["parameters.x", "parameters.day", "parameters.n"]


@pytest.mark.parametrize("trigger", ["schedule", "event", "daemon", "anything later"])
def test_what_makes_itself_fails_visibly_starts_nothing_and_is_not_retried(trigger: str) -> None:
    command = a_create(a_job(CONFIG), parameters={"n": 0}, trigger=trigger, placement=PLACEMENT)
    outcome = given(TASK).when(command).then(TaskCreated, InstanceFailed, TaskFailed)
    failed = outcome.event(InstanceFailed)
    assert (failed.reason, failed.agent_id, failed.epoch) == (InstanceReason.START_ERROR, None, 0)
    assert failed.error_message.startswith("not started: parameters.day: is required by the job")
    assert "parameters.n: must be from 1 to 9, got 0" in failed.error_message
    assert (outcome.state.status, outcome.intents) == (TaskStatus.FAILED, frozenset())
    if trigger != "daemon":  # of which no task is retried
        outcome.next(5).when(RetryTask()).then_rejected("not_retryable", path="parameters.day")


def test_what_an_event_brings_besides_passes() -> None:
    data = {"day": "2026-01-31", "path": "/data/a.csv", "size": 5}
    created = given(TASK).when(a_create(a_job(CONFIG), parameters=data, trigger="event")).event(TaskCreated)
    assert created.parameters == {**data, "n": 3}


def test_an_edit_while_it_waits_renders_anew_and_must_fit() -> None:
    waiting = given(TASK).when(a_create(a_job(CONFIG), parameters={"day": "2026-01-31"})).next(1)
    updated = waiting.when(UpdateTask(changes={"parameters": {"day": "2026-02-01", "n": 4}})).event(TaskUpdated)
    assert updated.rendered == {
        "args": ["-c", 'report "${HETUFLOW_ARG_1?}"', "4"],
        "variables": {"HETUFLOW_ARG_1": "2026-02-01"},
    }
    waiting.when(UpdateTask(changes={"parameters": {"day": "x"}})).then_rejected("invalid", path="parameters.day")
    waiting.when(UpdateTask(changes={"config": {"args": ["{{ params.x }}"]}})).then_rejected("invalid")
    waiting.when(UpdateTask(changes={"parameters": {"day": "2026-01-31"}})).then_nothing()


def test_an_edit_that_is_none_of_the_templates_keeps_what_was_rendered() -> None:
    created = given(TASK).when(a_create(a_job(CONFIG), parameters={"day": "2026-01-31"}))
    outcome = created.next(1).when(UpdateTask(changes={"description": "d"}))
    assert outcome.event(TaskUpdated).rendered == created.event(TaskCreated).rendered


def test_a_batch_is_told_of_all_its_tasks_by_their_place() -> None:
    def one(number: int, **members: Any) -> CreateTask:
        return CreateTask(task_id=f"{TASK_ID[:-1]}{number}", job=a_job(CONFIG), trigger="api", **members)

    batch = CreateTasks(tasks=[one(1), one(2, parameters={"day": "2026-01-31"}), one(3, parameters={"day": "x"})])
    outcome = given(TASK).when(batch).then_rejected("invalid", path="tasks[0].parameters.day")
    assert outcome.rejected is not None
    assert [each["path"] for each in outcome.rejected.detail["problems"]] == [
        "tasks[0].parameters.day",
        "tasks[2].parameters.day",
    ]


# --- schedules -------------------------------------------------------------------------------------------------------


def test_a_schedule_must_have_what_is_required_unless_an_event_may_bring_it() -> None:
    assert [u.path for u in parameters.unfit_for_schedule(DECLARED, {}, ScheduleKind.CRON)] == ["day"]
    assert parameters.unfit_for_schedule(DECLARED, {}, ScheduleKind.EVENT) == []
    assert [u.path for u in parameters.unfit_for_schedule(DECLARED, {"n": "x"}, ScheduleKind.EVENT)] == ["n"]
    assert parameters.unfit_for_schedule(None, {"any": 1}, ScheduleKind.CRON) == []


def test_a_fire_with_parameters_that_do_not_fit_any_more_is_a_failed_task_and_the_schedule_goes_on() -> None:
    schedule = a_schedule(a_minutely(parameters={"n": 2}))
    outcome = schedule.next(60).when(a_fire(a_job(CONFIG), placements=[PLACEMENT]))
    outcome.then(ScheduleFired)
    assert outcome.event(TaskFailed).not_retried == "a retry would be given the same parameters"
    assert outcome.event(InstanceFailed).error_message.startswith("not started: parameters.day: is required")
    assert outcome.state.is_enabled and outcome.state.next_run_at == later(120)


def test_a_fire_renders_with_the_parameters_of_its_schedule_and_its_own_time() -> None:
    config = {**CONFIG, "args": ["-c", "x", "{{ params.day }} {{ task.nominal_at | date('%H:%M') }} {{ params.n }}"]}
    outcome = a_schedule(a_minutely(parameters={"day": "2026-01-31"})).next(60).when(a_fire(a_job(config)))
    assert outcome.event(TaskCreated).rendered["args"][2] == f"2026-01-31 {later(60):%H:%M} 3"
