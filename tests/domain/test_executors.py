"""`config.python`, `config.wasm` and `config.executor`: what is allowed, what an agent is told, and which agents have it."""

from __future__ import annotations

from base64 import b64encode
from typing import Any

import pytest

from hetuflow.domain.config import effective, problems, required_labels
from hetuflow.domain.execution import execution_of, features_of
from hetuflow.domain.executors import MODULE_PATH
from hetuflow.domain.inputs import FILES_BYTES_MAX, FileGiven

DIGEST = "0123456789abcdef" * 4
KEPT = f"/api/v1/files/{DIGEST}"
MODULE = b64encode(b"\0asm\1\0\0\0").decode()


@pytest.mark.parametrize(
    "config",
    [
        {"python": {}},
        {"python": {"version": "3.12", "requirements": ["requests==2.32.3", "rich>=13"]}},
        {"python": {"version": "3", "requirements_file": "requirements.txt"}},
        {"python": {"venv": "/opt/venv", "version": None}},
        {"wasm": {"module": "/opt/m.wasm", "function": "run", "memory_mb": 4096, "sha256": DIGEST}},
        {
            "wasm": {
                "module": "m.wasm",
                "allowed_paths": {"ro:/srv": "/srv", ".": "/work"},
                "allowed_hosts": ["*.a.org"],
            }
        },
        {"wasm": {"module": "m.wasm", "config": {"a": "x", "b": 1, "c": 1.5, "d": True}}},
        {"wasm": {"module": KEPT}},
        {"wasm": {"module": {"url": KEPT}}},
        {"wasm": {"module": {"base64": MODULE}}, "files": {"a": "b"}},
        {"executor": "sql", "executor_options": {"any": [{"thing": None}]}},
    ],
)
def test_allowed(config: dict[str, Any]) -> None:
    assert problems(config) == []


@pytest.mark.parametrize(
    ("config", "path", "says"),
    [
        ({"python": {"requirment": []}}, "config.python.requirment", "known are version, requirements, "),
        ({"python": {"version": "3.12.4"}}, "config.python.version", "such as \"3.12\", got '3.12.4'"),
        ({"python": {"requirements": "requests"}}, "config.python.requirements", "an array"),
        ({"python": {"requirements": ["a", ""]}}, "config.python.requirements", "not empty"),
        ({"python": {"requirements": ["a", " --index-url x"]}}, "config.python.requirements[1]", "the agent's to say"),
        ({"python": {"requirements": [" "]}}, "config.python.requirements[0]", "must be a requirement"),
        ({"python": {"requirements": [], "requirements_file": "r"}}, "config.python.requirements_file", "requirements"),
        ({"python": {"requirements_file": ""}}, "config.python.requirements_file", "a path"),
        ({"python": {"venv": "v"}}, "config.python.venv", "an absolute path"),
        ({"python": {"venv": "/v", "version": "3"}}, "config.python.version", "does not go together with venv"),
        ({"wasm": {"module": ""}}, "config.wasm.module", "is required"),
        ({"wasm": {"module": "https://example.org/m.wasm"}}, "config.wasm.module", "a file of the server (/api/v1/files/"),
        ({"wasm": {"module": "/api/v1/jobs"}}, "config.wasm.module", "a file of the server"),
        ({"wasm": {"module": {}}}, "config.wasm.module", "must have one of content, base64, url"),
        ({"wasm": {"module": {"url": "https://example.org/m"}}}, "config.wasm.module.url", "a file of the server ("),
        ({"wasm": {"module": {"base64": "%"}}}, "config.wasm.module.base64", "must be base64"),
        ({"wasm": {"module": {"bas64": MODULE, "url": KEPT}}}, "config.wasm.module.bas64", "known are content, base64"),
        ({"wasm": {"module": "m", "memory_mb": 4097}}, "config.wasm.memory_mb", "1-4096, got 4097"),
        ({"wasm": {"module": "m", "memory_mb": True}}, "config.wasm.memory_mb", "1-4096, got True"),
        ({"wasm": {"module": "m", "function": ""}}, "config.wasm.function", "the name of an export"),
        ({"wasm": {"module": "m", "allowed_paths": ["/srv"]}}, "config.wasm.allowed_paths", "must be an object"),
        ({"wasm": {"module": "m", "allowed_paths": {"/srv": "srv"}}}, "config.wasm.allowed_paths", "the absolute path inside"),
        ({"wasm": {"module": "m", "allowed_hosts": "x"}}, "config.wasm.allowed_hosts", "an array"),
        ({"wasm": {"module": "m", "config": {"a": []}}}, "config.wasm.config", "an object of strings"),
        ({"wasm": {"module": "m", "sha256": "12"}}, "config.wasm.sha256", "64 hexadecimal digits"),
        ({"wasm": {"module": "m", "config": {"a": "x" * 40_000}}}, "config.wasm", "at most 32768 bytes"),
        ({"wasm": {"module": "m"}, "args": ["x"]}, "config.args", "does not reach a WebAssembly module"),
        ({"wasm": {"module": "m"}, "stdin": "x"}, "config.stdin", "it is given the task's parameters"),
        ({"wasm": {"module": "m"}, "executor": "e"}, "config.executor", "does not go together with wasm"),
        ({"wasm": {"module": KEPT}, "files": {MODULE_PATH + "/x": ""}}, "config.wasm.module", "directory of another file"),
        ({"executor": "python"}, "config.executor", "members of their own"),
    ],
)  # fmt: skip
def test_refused(config: dict[str, Any], path: str, says: str) -> None:
    [(where, message)] = problems(config)
    assert where == path and says in message


def test_a_module_and_files_share_one_bound() -> None:
    half = "x" * (FILES_BYTES_MAX * 5 // 8)
    config = {"wasm": {"module": {"base64": b64encode(half.encode()).decode()[: len(half) // 4 * 4]}}}
    assert problems(config) == []
    [(path, message)] = problems({**config, "files": {"a": half}})
    assert path == "config.wasm.module" and f"at most {FILES_BYTES_MAX} bytes together" in message


@pytest.mark.parametrize(
    ("module", "given"),
    [
        (KEPT, FileGiven(path=MODULE_PATH, url=KEPT)),
        ({"url": KEPT}, FileGiven(path=MODULE_PATH, url=KEPT)),
        ({"base64": MODULE}, FileGiven(path=MODULE_PATH, content=b"\0asm\1\0\0\0")),
        ({"content": "(module)"}, FileGiven(path=MODULE_PATH, content=b"(module)")),
    ],
)
def test_a_module_that_is_not_on_the_agent_is_one_of_the_files(module: Any, given: FileGiven) -> None:
    config = effective({"wasm": {"module": module, "memory_mb": 8}, "files": {"a": "b"}})
    found = execution_of(config, {"p": 1})
    assert found.files == (given, FileGiven(path="a", content=b"b"))
    assert (found.executor, found.executor_options) == ("wasm", {"module": MODULE_PATH, "memory_mb": 8})
    assert found.parameters == {"p": 1}
    assert features_of(config) == ("files", "wasm")


def test_a_module_that_alone_is_brought_needs_an_agent_that_takes_files() -> None:
    assert features_of(effective({"wasm": {"module": KEPT}})) == ("wasm", "files")
    assert features_of(effective({"wasm": {"module": "/opt/m.wasm"}})) == ("wasm",)


def test_an_executor_is_looked_for_by_its_name() -> None:
    """An agent that has some executor is no use for a job that needs another."""
    assert required_labels(effective({"executor": "sql"})) == (
        ("sys.feature.executor.sql", "true"),
        ("sys.feature.executors", "true"),
    )
