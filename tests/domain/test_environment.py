"""What a program finds in its environment."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hetuflow.domain.config import effective
from hetuflow.domain.environment import as_text, dispatch_order, merged, parameter_name, rfc3339, variables


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("as it is", "as it is"),
        ("", ""),
        (True, "true"),
        (False, "false"),
        (1, "1"),
        (-7, "-7"),
        (1.5, "1.5"),
        (None, "null"),
        (["a", 1, True, None], '["a",1,true,null]'),
        ({"b": "ü", "a": {}}, '{"a":{},"b":"ü"}'),
    ],
)
def test_values_are_rendered_as_text(value: Any, text: str) -> None:
    assert as_text(value) == text


@pytest.mark.parametrize(
    ("name", "variable"),
    [
        ("day", "HETUFLOW_PARAM_DAY"),
        ("file-name.txt", "HETUFLOW_PARAM_FILE_NAME_TXT"),
        ("ünï 1", "HETUFLOW_PARAM__N__1"),
        ("", "HETUFLOW_PARAM_"),
    ],
)
def test_parameter_names_become_variables(name: str, variable: str) -> None:
    assert parameter_name(name) == variable


@given(st.text())
def test_every_parameter_name_is_a_portable_variable(name: str) -> None:
    assert parameter_name(name).isascii()
    assert parameter_name(name).replace("_", "").isalnum()


def test_later_layers_win_and_no_layer_is_none() -> None:
    assert merged({"A": 1, "B": 1}, None, {"B": 2}) == {"A": 1, "B": 2}
    assert merged({}, None) == {}
    assert merged(None, None) is None


def test_two_parameters_of_one_variable_do_not_depend_on_their_order() -> None:
    assert variables(None, {"a-b": 1, "a_b": 2}, {}) == variables(None, {"a_b": 2, "a-b": 1}, {})


def test_hetuflows_own_variables_win_over_parameters_and_those_over_the_task() -> None:
    final = variables(
        {"HETUFLOW_PARAM_X": "task", "HETUFLOW_TASK_ID": "forged", "N": 1}, {"x": 2}, {"HETUFLOW_TASK_ID": "t"}
    )
    assert final == {"HETUFLOW_PARAM_X": "2", "HETUFLOW_TASK_ID": "t", "N": "1"}


@pytest.mark.parametrize(
    ("at", "text"),
    [
        (datetime(2026, 3, 1, 12, tzinfo=UTC), "2026-03-01T12:00:00Z"),
        (datetime(2026, 3, 1, 12, 0, 0, 5, tzinfo=UTC), "2026-03-01T12:00:00.000005Z"),
        (datetime(2026, 3, 1, 12, tzinfo=timezone(timedelta(hours=8))), "2026-03-01T04:00:00Z"),
        (datetime(2026, 3, 1, 12, tzinfo=timezone(timedelta(0), "GMT")), "2026-03-01T12:00:00Z"),
    ],
)
def test_instants_are_written_in_utc(at: datetime, text: str) -> None:
    assert rfc3339(at) == text


def an_order(**config: Any) -> Any:
    return dispatch_order(
        task_id="task-1",
        job_id="job-1",
        instance_id="instance-1",
        epoch=3,
        attempt=2,
        config=effective(config),
        environment={"MESSAGE": "hi", "DEBUG": True},
        parameters={"day": 3},
        scheduled_at=datetime(2026, 3, 1, 12, 30, tzinfo=UTC),
    )


def test_an_order_names_the_instance_in_its_environment() -> None:
    assert an_order().environment == {
        "MESSAGE": "hi",
        "DEBUG": "true",
        "HETUFLOW_PARAM_DAY": "3",
        "HETUFLOW_JOB_ID": "job-1",
        "HETUFLOW_TASK_ID": "task-1",
        "HETUFLOW_INSTANCE_ID": "instance-1",
        "HETUFLOW_EPOCH": "3",
        "HETUFLOW_ATTEMPT": "2",
        "HETUFLOW_SCHEDULED_AT": "2026-03-01T12:30:00Z",
    }


def test_an_order_holds_the_program_and_its_limits() -> None:
    order = an_order(cmd="node", args=["x.js", "-v"], timeout=0, capture_output=False, max_output_size=10)
    assert (order.cmd, order.args, order.timeout_seconds) == ("node", ("x.js", "-v"), 0)
    assert (order.capture_output, order.output_bytes_max) == (False, 10)
    assert (order.epoch, order.attempt, order.instance_id) == (3, 2, "instance-1")


@pytest.mark.parametrize(
    ("timeout", "limit", "seconds"), [(3600, 1800, 1800), (60, 1800, 60), (0, 1800, 1800), (60, 0, 60), (60, None, 60)]
)
def test_the_smaller_time_limit_holds_and_zero_is_none(timeout: int, limit: int | None, seconds: int) -> None:
    assert an_order(timeout=timeout, resource_limits={"max_execution_time_secs": limit}).timeout_seconds == seconds


@pytest.mark.parametrize(("size", "limit", "kept"), [(100, 10, 10), (10, 100, 10), (100, 0, 0), (100, None, 100)])
def test_the_smaller_output_limit_holds(size: int, limit: int | None, kept: int) -> None:
    assert an_order(max_output_size=size, resource_limits={"max_output_size_bytes": limit}).output_bytes_max == kept
