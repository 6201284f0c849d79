"""How configs lay over each other, and what is out of bounds."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hetuflow.domain import execution
from hetuflow.domain.config import (
    BOUNDS,
    DEFAULTS,
    LIMIT_BOUNDS,
    RESERVED,
    STORED,
    TaskConfig,
    checked,
    completed,
    effective,
    problems,
    required_labels,
)
from hetuflow.domain.execution import PLAIN, execution_of
from hetuflow.domain.inputs import ArtifactWanted, FileGiven
from hetuflow.domain.rejection import Rejected

KEPT = "/api/v1/files/" + "0a" * 32
ARTIFACTS = "/api/v1/task-instances/item/0198f0de-0000-7000-8000-000000000001/artifacts"


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
        ("working_dir", "relative"),
        ("stdin", "x" * 65537),
        ("stdin", "ü" * 32769),
        ("kill_grace_seconds", 3601),
        ("on_disconnect", "go"),
        ("lost_after_seconds", 4),
        ("lost_after_seconds", 86401),
        ("idempotent", 1),
        ("run_as", "-x"),
        ("umask", "0888"),
        ("umask", 77),
        ("nice", 20),
        ("nice", -21),
        ("ionice", "realtime"),
        ("files", []),
        ("artifacts", "x"),
        ("python", "3.12"),
        ("wasm", "x.wasm"),
        ("executor", "wasm"),
        ("executor", "a b"),
        ("executor_options", {"x": 1}),
    ],
)
def test_a_value_out_of_bounds_is_named(member: str, value: Any) -> None:
    with pytest.raises(Rejected) as refused:
        checked({member: value})
    assert (refused.value.code, refused.value.detail["path"]) == ("invalid", f"config.{member}")


@pytest.mark.parametrize(
    ("member", "value"),
    [
        ("max_memory_mb", 0),
        ("max_processes", 0),
        ("max_cpu_percent", 0),
        ("max_cpu_percent", True),
        ("max_execution_time_secs", 1.5),
    ],
)
def test_a_limit_out_of_bounds_is_named(member: str, value: Any) -> None:
    assert member in LIMIT_BOUNDS
    assert [path for path, _ in problems({"resource_limits": {member: value}})] == [f"config.resource_limits.{member}"]


@pytest.mark.parametrize("member", RESERVED)
def test_reserved_members_are_refused_until_they_are_built(member: str) -> None:
    assert problems({member: 1}) == [(f"config.{member}", "is not supported by this version")]


def test_every_problem_is_found() -> None:
    assert [path for path, _ in problems({"cmd": "", "timeout": -1, "secrets": 1})] == [
        "config.timeout",
        "config.cmd",
        "config.secrets",
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
    assert config.labels == (("a", "2"), ("sys.feature.limits", "true"), ("z", "1"))
    assert (config.max_retries, config.retry_interval_seconds, config.capture_output) == (3, 60, True)
    assert TaskConfig.of(effective({"environment": {"A": 1}})).environment == {"A": 1}


# --- how a program is run ------------------------------------------------------------------------------------------


EVERYTHING: dict[str, Any] = {
    "working_dir": "/srv/app",
    "stdin": "grüße\n",
    "kill_grace_seconds": 0,
    "on_disconnect": "continue",
    "lost_after_seconds": 600,
    "idempotent": True,
    "run_as": "worker",
    "umask": "027",
    "nice": -5,
    "ionice": "best-effort:7",
    "files": {"conf/app.ini": "[app]", "data.bin": {"base64": "AAE=", "mode": "0640"}, "large": {"url": KEPT}},
    "artifacts": ["out/*.csv", {"path": "log", "max_bytes": 10, "optional": True}],
    "resource_limits": {"max_memory_mb": 2, "max_cpu_percent": 1, "max_processes": 9},
}


def test_what_is_said_anyway_is_not_stored() -> None:
    assert effective({}).keys() == STORED.keys()
    assert effective(dict(execution.DEFAULTS)).keys() == STORED.keys()
    assert effective({"on_disconnect": "continue"}, {"on_disconnect": "stop"}).keys() == STORED.keys()
    assert effective(EVERYTHING).keys() == STORED.keys() | EVERYTHING.keys()


def test_what_is_shown_has_every_member() -> None:
    older = {name: value for name, value in STORED.items() if name not in ("params", "limits")}
    assert completed(older).keys() == completed(effective({})).keys() == DEFAULTS.keys()
    assert completed(effective({"nice": 3})) == {**DEFAULTS, "args": [], "nice": 3}


def test_a_config_without_such_members_is_plain_and_needs_no_feature() -> None:
    assert execution_of(effective({"resource_limits": {"max_output_size_bytes": 1}}), {"a": 1}) is PLAIN
    assert required_labels(effective({"idempotent": True})) == ()


def test_all_of_it_reaches_the_agent() -> None:
    found = execution_of(effective(EVERYTHING), {"a": 1})
    assert (found.stdin, found.umask, found.kill_grace_seconds) == ("grüße\n".encode(), 0o027, 0)
    assert (found.memory_bytes_max, found.cpu_cores_max, found.processes_max) == (2 * 1024 * 1024, 1.0, 9)
    assert (found.on_disconnect, found.lost_after_seconds) == ("continue", 600)
    assert found.files == (
        FileGiven(path="conf/app.ini", content=b"[app]"),
        FileGiven(path="data.bin", content=b"\0\1", mode=0o640),
        FileGiven(path="large", url=KEPT),
    )
    assert found.artifacts == (
        ArtifactWanted(glob="out/*.csv"),
        ArtifactWanted(glob="log", bytes_max=10, optional=True),
    )
    assert (found.executor, found.parameters) == ("", {})


def test_a_task_goes_only_to_agents_that_can_do_what_it_asks() -> None:
    assert required_labels(effective({**EVERYTHING, "labels": {"gpu": "true"}})) == (
        ("gpu", "true"),
        ("sys.feature.artifacts", "true"),
        ("sys.feature.files", "true"),
        ("sys.feature.limits", "true"),
        ("sys.feature.manners", "true"),
        ("sys.feature.policies", "true"),
    )


@pytest.mark.parametrize(
    ("config", "name", "options"),
    [
        ({"wasm": {"module": "/m.wasm"}}, "wasm", {"module": "/m.wasm"}),
        ({"python": {"requirements": ["a==1"]}}, "python", {"requirements": ["a==1"]}),
        ({"executor": "mine", "executor_options": {"x": [1]}}, "mine", {"x": [1]}),
        ({"executor": "mine"}, "mine", {}),
    ],
)
def test_an_executor_is_told_its_options_and_the_parameters(
    config: dict[str, Any], name: str, options: dict[str, Any]
) -> None:
    assert problems(config) == []
    found = execution_of(effective(config), {"day": "x"})
    assert (found.executor, found.executor_options, found.parameters) == (name, options, {"day": "x"})


@pytest.mark.parametrize(
    ("config", "path", "says"),
    [
        ({"files": {"../x": ""}}, "config.files", "relative path"),
        ({"files": {"/x": ""}}, "config.files", "relative path"),
        ({"files": {"a//b": ""}}, "config.files", "relative path"),
        ({"files": {"a/./b": ""}}, "config.files", "relative path"),
        ({"files": {"a": "", "a/b": ""}}, "config.files", "also the directory"),
        ({"files": {"a": 1}}, "config.files.a", "the file's text"),
        ({"files": {"a": {}}}, "config.files.a", "has none"),
        ({"files": {"a": {"content": "", "url": KEPT}}}, "config.files.a", "content and url"),
        ({"files": {"a": {"base64": "%"}}}, "config.files.a.base64", "base64"),
        (
            {"files": {"a": {"url": "https://x.org/a"}}},
            "config.files.a.url",
            "a file of the server (/api/v1/files/<id>, ",
        ),
        ({"files": {"a": {"url": "/api/v1/jobs"}}}, "config.files.a.url", "let the program fetch others"),
        ({"files": {"a": {"url": f"{ARTIFACTS}/%ff"}}}, "config.files.a.url", "must be UTF-8"),
        ({"files": {"a": {"url": f"{ARTIFACTS}/a%00"}}}, "config.files.a.url", "without NUL"),
        ({"files": {"a": {"url": f"{ARTIFACTS}/{'a' * 2048}"}}}, "config.files.a.url", "at most 2048 characters"),
        ({"files": {"a": {"content": "", "mode": "9"}}}, "config.files.a.mode", "octal"),
        ({"files": {"a": {"content": "", "mod": "0600"}}}, "config.files.a.mod", "known are content"),
        ({"files": {str(n): "" for n in range(101)}}, "config.files", "at most 100"),
        ({"files": {"a": "x" * 131072}}, "config.files", "at most 131072 bytes"),
        ({"artifacts": ["../x"]}, "config.artifacts[0]", "relative path"),
        ({"artifacts": [{"max_bytes": 1}]}, "config.artifacts[0].path", "relative path"),
        ({"artifacts": [{"path": "x", "max_bytes": 0}]}, "config.artifacts[0].max_bytes", "≥ 1"),
        ({"artifacts": [{"path": "x", "size": 0}]}, "config.artifacts[0].size", "known are path"),
        ({"artifacts": ["x"] * 101}, "config.artifacts", "at most 100"),
        ({"wasm": {}}, "config.wasm.module", "required"),
        ({"wasm": {"module": "x", "memory": 1}}, "config.wasm.memory", "known are module"),
        ({"wasm": {"module": "x", "allowed_paths": ["/x"]}}, "config.wasm.allowed_paths", "must be an object"),
        ({"python": {"version": "2"}}, "config.python.version", "3.12"),
        ({"python": {"version": "3.12.4"}}, "config.python.version", "3.12"),
        ({"python": {"venv": "/v", "requirements": ["a"]}}, "config.python.requirements", "venv"),
        ({"python": {}, "wasm": {"module": "x"}}, "config.wasm", "does not go together with python"),
        ({"executor_options": {"x": 1}}, "config.executor_options", "without executor"),
        ({"executor": "e", "executor_options": {"x": "y" * 40000}}, "config.executor_options", "at most 32768 bytes"),
    ],
)
def test_what_is_wrong_inside_is_named(config: dict[str, Any], path: str, says: str) -> None:
    [(where, message)] = problems(config)
    assert where == path and says in message
