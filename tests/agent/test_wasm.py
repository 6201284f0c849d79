"""WebAssembly modules, run as an agent runs them: in a process of their own, by Extism, with what they may use."""

from __future__ import annotations

import hashlib
import http.server
import json
import os
import re
import subprocess
import threading
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import wasmtime
from attrs import frozen

from agent.executors import wasm
from agent.executors.api import Program
from agent.executors.wasm import WasmOptions, host_paths
from agent.host import base_environment
from hetuflow.ports.processes import StartError

ROOT = Path(__file__).parents[2]
PATIENCE_SECONDS = 60


@frozen
class Run:
    code: int
    out: str
    err: str


def prepare(
    given: Mapping[str, Any], parameters: Mapping[str, Any], directory: str, variables: Mapping[str, str]
) -> Program:
    return wasm.prepare(wasm.options_of(given), parameters, directory, variables)


@pytest.fixture(scope="session")
def modules(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The example and the hostile one, built from their text."""
    directory = tmp_path_factory.mktemp("modules")
    for source in (ROOT / "examples/wasm/checksum.wat", ROOT / "tests/support/modules/hostile.wat"):
        (directory / f"{source.stem}.wasm").write_bytes(bytes(wasmtime.wat2wasm(source.read_text())))
    return directory


@pytest.fixture
def directory(tmp_path: Path, modules: Path) -> Path:
    """An instance's, with the modules as its files."""
    for module in modules.iterdir():
        (tmp_path / module.name).write_bytes(module.read_bytes())
    return tmp_path


def started(
    given: Mapping[str, Any], parameters: Mapping[str, Any], directory: Path, **variables: str
) -> subprocess.Popen[str]:
    program = prepare(given, parameters, str(directory), variables)
    with open(directory / ".stdin", "wb+") as stdin:
        stdin.write(program.stdin or b"")
        stdin.seek(0)
        return subprocess.Popen(
            program.argv,
            stdin=stdin,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            cwd=directory,
            env={**base_environment(), "HOME": str(directory), **program.environment},
            text=True,
        )


def run(given: Mapping[str, Any], parameters: Mapping[str, Any], directory: Path, **variables: str) -> Run:
    process = started(given, parameters, directory, **variables)
    out, err = process.communicate(timeout=PATIENCE_SECONDS)
    return Run(process.returncode, out, err)


def call(function: str, directory: Path, **options: Any) -> Run:
    return run({"module": "hostile.wasm", "function": function, **options}, {"a": 1}, directory)


def test_the_example_puts_out_what_it_found_in_its_parameters(directory: Path) -> None:
    done = run({"module": "checksum.wasm"}, {"name": "wörld", "count": 3}, directory)
    given = '{"name": "wörld", "count": 3}'.encode()
    assert (done.code, done.err) == (0, "")
    assert json.loads(done.out) == {"bytes": len(given), "crc32": f"{zlib.crc32(given):08x}"}


def test_the_example_reports_its_own_error(directory: Path) -> None:
    done = run({"module": "checksum.wasm"}, {}, directory)
    assert done == Run(1, "", "no parameters: give the task at least one, such as name=world\n")


def test_the_text_form_runs_too(directory: Path) -> None:
    done = run({"module": str(ROOT / "examples/wasm/checksum.wat")}, {"a": 1}, directory)
    assert done.code == 0 and '"bytes":8' in done.out


def test_a_large_input_arrives_whole(directory: Path) -> None:
    parameters = {"text": "x" * 3_000_000}
    done = run({"module": "hostile.wasm", "function": "echo"}, parameters, directory)
    assert done.code == 0 and json.loads(done.out) == parameters


def test_a_trap_says_where_and_why(directory: Path) -> None:
    done = call("trap", directory)
    assert (done.code, done.out) == (134, "")
    assert done.err.startswith("the module trapped:\n") and "wasm function" in done.err
    assert done.err.endswith("cause: wasm trap: wasm `unreachable` instruction executed\n")


def test_a_recursion_without_end_is_a_trap(directory: Path) -> None:
    done = call("deep", directory)
    assert done.code == 134 and "call stack exhausted" in done.err


def test_what_it_returns_is_the_exit_code(directory: Path) -> None:
    assert call("fail", directory) == Run(3, "", "something is odd\n")
    assert call("returns_5", directory) == Run(5, "", "returns_5 returned 5\n")
    assert call("returns_300", directory) == Run(1, "", "returns_300 returned 300\n")
    assert call("exits_with_0", directory) == Run(0, "", "")
    done = call("exits_with_7", directory)
    assert done.code == 7 and done.err.startswith("the module exited with 7:\n")


def test_a_loop_without_end_is_ended_like_any_program(directory: Path) -> None:
    process = started({"module": "hostile.wasm", "function": "forever"}, {}, directory)
    assert process.stdout is not None and process.stdout.readline() == "by WASI\n", "what it wrote before is not lost"
    process.terminate()
    assert process.wait(PATIENCE_SECONDS) == -15
    process.communicate()


@pytest.mark.parametrize("bomb", ["memory_bomb", "shared_bomb"])
def test_memory_ends_where_it_is_allowed_to(bomb: str, directory: Path) -> None:
    done = call(bomb, directory, memory_mb=8)
    assert done == Run(1, "", "the module wanted more memory than it may have (8 MiB, wasm.memory_mb)\n")


def test_a_table_is_memory_too(directory: Path) -> None:
    """Extism does not bound tables: the process is."""
    done = call("table_bomb", directory, memory_mb=8)
    assert done.code != 0


def test_its_default_is_more_than_8_mb(directory: Path) -> None:
    done = run({"module": "hostile.wasm", "function": "echo", "memory_mb": 8}, {"text": "x" * 9_000_000}, directory)
    assert "more memory than it may have (8 MiB" in done.err
    assert run({"module": "hostile.wasm", "function": "echo"}, {"text": "x" * 9_000_000}, directory).code == 0


def test_what_it_logs_and_writes_is_captured(directory: Path) -> None:
    assert call("logs", directory) == Run(0, "by WASI\n", "by WASI\nwarn: something is odd\n")


def test_the_jobs_variables_are_its_config_below_what_is_said(directory: Path) -> None:
    given = {"module": "hostile.wasm", "function": "color"}
    assert run(given, {}, directory, color="blue").out == "blue"
    assert run({**given, "config": {"color": True}}, {}, directory, color="blue").out == "true"


def test_the_jobs_variables_and_files_do_not_change_what_the_process_loads(directory: Path) -> None:
    for name in ("json.py", "extism.py", "sitecustomize.py"):
        (directory / name).write_text("import os; os._exit(99)")
    done = run(
        {"module": "hostile.wasm", "function": "echo"},
        {"a": 1},
        directory,
        PYTHONPATH=str(directory),
        PYTHONSTARTUP="json.py",
        LD_PRELOAD="/no/such.so",
        EXTISM_DEBUG="1",
    )
    assert done == Run(0, '{"a": 1}', "")


# --- what cannot be run ----------------------------------------------------------------------------------------------


def test_an_export_that_is_missing(directory: Path) -> None:
    done = run({"module": "hostile.wasm"}, {}, directory)
    assert done == Run(126, "", "the module exports no function 'execute_task'\n")


def test_a_module_that_is_broken(directory: Path) -> None:
    (directory / "broken.wasm").write_bytes(b"\0asm\1\0\0\0zzz")
    done = run({"module": "broken.wasm"}, {}, directory)
    assert done == Run(126, "", "the module cannot be used: unexpected end-of-file (at offset 0xa)\n")


def test_an_import_that_nobody_has(directory: Path) -> None:
    (directory / "m.wat").write_text('(module (import "env" "x" (func)) (func (export "execute_task")))')
    done = run({"module": "m.wat"}, {}, directory)
    assert done == Run(126, "", "the module cannot be used: unknown import: `env::x` has not been defined\n")


def test_a_module_that_wants_too_much_memory_from_the_start(directory: Path) -> None:
    (directory / "m.wat").write_text('(module (memory (export "memory") 1000) (func (export "execute_task")))')
    done = run({"module": "m.wat", "memory_mb": 16}, {}, directory)
    assert done == Run(1, "", "the module wanted more memory than it may have (16 MiB, wasm.memory_mb)\n")


def test_a_digest_that_is_another(directory: Path) -> None:
    right = hashlib.sha256((directory / "hostile.wasm").read_bytes()).hexdigest()
    assert call("echo", directory, sha256=right.upper()).code == 0
    done = call("echo", directory, sha256="00" * 32)
    assert done.code == 126 and "Hash mismatch" in done.err


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "wasm.module: m cannot be read: No such file or directory"),
        (b"#!/bin/sh\n", r"wasm.module: m is no WebAssembly module"),
        (b"", r"wasm.module: m is no WebAssembly module"),
    ],
)
def test_what_is_no_module_never_starts(content: bytes | None, message: str, tmp_path: Path) -> None:
    if content is not None:
        (tmp_path / "m").write_bytes(content)
    with pytest.raises(StartError, match=re.escape(message)):
        prepare({"module": "m"}, {}, str(tmp_path), {})


def test_a_fifo_is_no_module_and_nobody_waits_for_it(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "m")
    with pytest.raises(StartError, match=r"wasm\.module: m is no file"):
        prepare({"module": "m"}, {}, str(tmp_path), {})


def test_without_extism_it_says_what_to_install(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wasm, "has_extism", lambda: False)
    with pytest.raises(
        StartError, match=re.escape("Extism is not installed on this agent (pip install 'hetuflow[wasm]')")
    ):
        prepare({"module": "hostile.wasm"}, {}, str(directory), {})


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({}, "wasm.module is required: a string"),
        ({"module": ""}, "wasm.module must not be empty"),
        ({"modul": "m"}, "wasm.modul is not known; the nearest known one is 'module'"),
        ({"module": "m", "memory_mb": 0}, "wasm.memory_mb must be 1-4096, got 0"),
        ({"module": "m", "memory_mb": True}, "wasm.memory_mb must be an integer, got True"),
        ({"module": "m", "allowed_paths": ["/data"]}, "wasm.allowed_paths must be an object"),
        (
            {"module": "m", "allowed_paths": {"/data": "data"}},
            "wasm.allowed_paths['/data'] must be an absolute path inside the module",
        ),
        ({"module": "m", "allowed_hosts": [1]}, "wasm.allowed_hosts[0] must be a name such as api.example.org, got 1"),
        ({"module": "m", "config": {"a": {}}}, "wasm.config['a'] must be a string, a number or true or false, got {}"),
    ],
)
def test_options_name_what_is_wrong_with_them(given: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(StartError, match=re.escape(message)):
        prepare(given, {}, str(tmp_path), {})


# --- what it may use -------------------------------------------------------------------------------------------------


def test_no_file_unless_allowed(directory: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    data = tmp_path_factory.mktemp("data")
    (data / "secret").write_text("42")
    assert call("read", directory).code == 8, "EBADF: there is no directory at all"
    assert call("read", directory, allowed_paths={str(data): "/data"}) == Run(0, "42", "")
    assert call("read", directory, allowed_paths={f"ro:{data}": "/data"}) == Run(0, "42", "")


def test_read_only_is_read_only(directory: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    data = tmp_path_factory.mktemp("data")
    assert call("write", directory, allowed_paths={f"ro:{data}": "/data"}).code != 0
    assert os.listdir(data) == []
    assert call("write", directory, allowed_paths={str(data): "/data"}).code == 0
    assert os.listdir(data) == ["secret"]


def test_a_way_out_of_a_directory_is_none(directory: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    data = tmp_path_factory.mktemp("data")
    (data.parent / "outside").write_text("42")
    (data / "secret").symlink_to("../outside")
    done = call("read", directory, allowed_paths={str(data): "/data"})
    assert done.code != 0 and "42" not in done.out


def test_relative_paths_lie_in_the_instances_directory(directory: Path) -> None:
    (directory / "secret").write_text("mine")
    assert call("read", directory, allowed_paths={".": "/work"}) == Run(0, "mine", "")
    wanted = WasmOptions(module="m", allowed_paths={".": "/work", "ro:/etc/../srv": "/srv"})
    assert host_paths(wanted, "/w/i-1") == ("/w/i-1", "/srv"), "what a policy judges is where it really is"


@pytest.fixture
def web() -> Iterator[str]:
    class Answer(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()
            self.wfile.write(b"hello")

        def log_message(self, *args: object) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Answer)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_address[1]}/"
    server.shutdown()
    server.server_close()


def test_no_network_unless_allowed(directory: Path, web: str) -> None:
    given = {"module": "hostile.wasm", "function": "request"}
    request = {"url": web, "method": "GET"}
    denied = run(given, request, directory)
    assert denied.code != 0 and denied.err.endswith(f"cause: HTTP request to {web} is not allowed\n")
    other = run({**given, "allowed_hosts": ["*.example.org"]}, request, directory)
    assert other.code != 0 and "is not allowed" in other.err
    assert run({**given, "allowed_hosts": ["127.0.0.1"]}, request, directory) == Run(0, "hello", "")
