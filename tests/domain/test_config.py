"""How configs lay over each other, and what is out of bounds."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hetuflow.domain.config import BOUNDS, DEFAULTS, LIMIT_BOUNDS, RESERVED, TaskConfig, checked, effective, problems
from hetuflow.domain.rejection import Rejected


def test_every_known_member_has_a_default_within_its_bounds() -> None:
    assert set(BOUNDS) == set(DEFAULTS)
    assert problems(effective({})) == []
    assert effective({})["timeout"] == 3600 and effective({})["cmd"] == "bash" and effective({})["args"] == []


def test_members_override_one_by_one_and_open_members_are_kept() -> None:
    job = {"timeout": 10, "labels": {"env": "x"}, "colour": "red", "shape": None}
    merged = effective(job, {"timeout": 20, "size": 3, "shape": "round"})
    assert (merged["timeout"], merged["labels"], merged["max_retries"]) == (20, {"env": "x"}, 3)
    assert (merged["colour"], merged["size"], merged["shape"]) == ("red", 3, "round")


def test_a_known_member_that_is_null_is_not_given_and_an_open_one_is() -> None:
    merged = effective({"timeout": None, "cmd": "x", "open": 1}, {"cmd": None, "labels": None, "open": None})
    assert (merged["timeout"], merged["cmd"], merged["labels"], merged["open"]) == (3600, "x", None, None)


def test_a_whole_config_of_nulls_is_the_defaults() -> None:
    assert effective(dict.fromkeys(DEFAULTS)) == effective({})


def test_the_layers_are_not_changed() -> None:
    job, overrides = {"args": ["a"]}, {"timeout": 1}
    effective(job, overrides)["args"].append("b")
    assert (job, overrides, DEFAULTS["args"]) == ({"args": ["a"]}, {"timeout": 1}, ())


@given(
    st.fixed_dictionaries(
        {}, optional={"timeout": st.integers(0, 9), "open": st.integers(), "cmd": st.text(min_size=1)}
    )
)
def test_an_effective_config_is_its_own_effective_config(config: dict[str, Any]) -> None:
    once = effective(config)
    assert effective(once) == once == effective({}, config)


@pytest.mark.parametrize(
    ("member", "value"),
    [
        ("timeout", -1),
        ("timeout", True),
        ("timeout", 1.5),
        ("timeout", "5m"),
        ("max_retries", 1001),
        ("retry_interval", -1),
        ("cmd", ""),
        ("cmd", "x" * 4097),
        ("args", "x"),
        ("args", [1]),
        ("capture_output", 1),
        ("max_output_size", -1),
        ("environment", {"A": None}),
        ("environment", {"A": []}),
        ("labels", {"gpu": True}),
        ("resource_limits", 5),
    ],
)
def test_a_value_out_of_bounds_is_named(member: str, value: Any) -> None:
    with pytest.raises(Rejected) as refused:
        checked({member: value})
    assert (refused.value.code, refused.value.detail["path"]) == ("invalid", f"config.{member}")


@pytest.mark.parametrize(
    ("member", "value"),
    [("max_memory_mb", -1), ("max_cpu_percent", 0), ("max_cpu_percent", True), ("max_execution_time_secs", 1.5)],
)
def test_a_limit_out_of_bounds_is_named(member: str, value: Any) -> None:
    assert member in LIMIT_BOUNDS
    assert [path for path, _ in problems({"resource_limits": {member: value}})] == [f"config.resource_limits.{member}"]


@pytest.mark.parametrize("member", RESERVED)
def test_reserved_members_are_refused_until_they_are_built(member: str) -> None:
    assert problems({member: 1}) == [(f"config.{member}", "is not supported by this version")]


def test_every_problem_is_found() -> None:
    assert [path for path, _ in problems({"cmd": "", "timeout": -1, "nice": 1})] == [
        "config.timeout",
        "config.cmd",
        "config.nice",
    ]


def test_an_effective_config_can_be_read_typed() -> None:
    config = TaskConfig.of(
        effective(
            {
                "timeout": 3600,
                "args": ["a"],
                "labels": {"z": "1", "a": "2"},
                "resource_limits": {
                    "max_memory_mb": 1024,
                    "max_cpu_percent": 0.8,
                    "max_execution_time_secs": 1800,
                    "max_output_size_bytes": 5,
                },
            }
        )
    )
    assert (config.timeout_seconds, config.output_bytes_max, config.args) == (1800, 5, ("a",))
    assert (config.memory_mb_max, config.cpu_percent_max) == (1024, 0.8)
    assert config.labels == (("a", "2"), ("z", "1"))
    assert (config.max_retries, config.retry_interval_seconds, config.capture_output) == (3, 60, True)
    assert TaskConfig.of(effective({"environment": {"A": 1}})).environment == {"A": 1}
