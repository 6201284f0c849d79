"""The member `wasm` of a job: a WebAssembly module, run by Extism in a process of its own.

The process is `wasm_runner`, started and contained like every program, so that a module that loops or crashes is one
failed instance. All that it is to know is on its standard input. It gets none of the job's variables, which could change
what it loads: they are the module's config.
"""

from __future__ import annotations

import json
import os
import stat
import sys
from collections.abc import Mapping
from typing import Any, Final

from attrs import Factory, frozen

from agent.distributions import version_of
from agent.executors.api import OptionProblem, Program, options
from agent.executors.features import has_extism
from hetuflow.ports.processes import StartError

FUNCTION: Final = "execute_task"
MEMORY_MB: Final = 256
"""Of a module that does not say more. WebAssembly itself allows 4096."""
MEMORY_MB_MAX: Final = 4096
MAGIC: Final = b"\0asm"
PATH: Final = "wasm"
INSTALL: Final = "pip install 'hetuflow[wasm]'"

_RUNNER: Final = os.path.join(os.path.dirname(os.path.abspath(__file__)), "wasm_runner.py")
_KINDS: Final = {
    "module": str,
    "function": str,
    "memory_mb": int,
    "allowed_paths": dict,
    "allowed_hosts": list,
    "config": dict,
    "sha256": str,
}


@frozen(slots=True, kw_only=True)
class WasmOptions:
    """The member `wasm`, typed. `module`: a path, absolute or in the instance's directory."""

    module: str
    function: str = FUNCTION
    memory_mb: int = MEMORY_MB
    allowed_paths: Mapping[str, str] = Factory(dict)
    """On the agent ("ro:" before it: read only; relative: in the instance's directory) -> in the module."""
    allowed_hosts: tuple[str, ...] = ()
    config: Mapping[str, str] = Factory(dict)
    sha256: str = ""


def extism_version() -> str | None:
    """Of the installed package; None = there is none."""
    return version_of("extism") or "of unknown version" if has_extism() else None


def wasm_options(given: Any) -> WasmOptions:
    """Read the member.

    Raises:
      OptionProblem: with the member's name and what is allowed.
    """
    found = options(given, _KINDS, required=("module",), path=PATH)
    for name in ("module", "function"):
        if name in found and (not found[name] or "\0" in found[name]):
            raise OptionProblem(f"{PATH}.{name} must not be empty, nor have a NUL character in it")
    memory_mb = found.get("memory_mb", MEMORY_MB)
    if not 1 <= memory_mb <= MEMORY_MB_MAX:
        raise OptionProblem(f"{PATH}.memory_mb must be 1-{MEMORY_MB_MAX}, got {memory_mb}")
    paths = found.get("allowed_paths", {})
    for host, guest in paths.items():
        if not isinstance(guest, str) or not guest.startswith("/"):
            raise OptionProblem(
                f"{PATH}.allowed_paths[{host!r}] must be an absolute path inside the module, got {guest!r}"
            )
    hosts = found.get("allowed_hosts", ())
    for number, host in enumerate(hosts):
        if not isinstance(host, str) or not host:
            raise OptionProblem(f"{PATH}.allowed_hosts[{number}] must be a name such as api.example.org, got {host!r}")
    config = found.get("config", {})
    for name, value in config.items():
        if not isinstance(value, str | int | float):
            raise OptionProblem(f"{PATH}.config[{name!r}] must be a string, a number or true or false, got {value!r}")
    return WasmOptions(
        module=found["module"],
        function=found.get("function", FUNCTION),
        memory_mb=memory_mb,
        allowed_paths=paths,
        allowed_hosts=tuple(hosts),
        config={name: _text(value) for name, value in config.items()},
        sha256=found.get("sha256", "").lower(),
    )


def options_of(given: Mapping[str, Any]) -> WasmOptions:
    """As `wasm_options`, for an order: raises `StartError`, also where Extism is not installed."""
    if not has_extism():
        raise StartError(f"wasm: Extism is not installed on this agent ({INSTALL})")
    try:
        return wasm_options(given)
    except OptionProblem as exc:
        raise StartError(str(exc)) from exc


def prepare(
    wanted: WasmOptions, parameters: Mapping[str, Any], directory: str, variables: Mapping[str, str]
) -> Program:
    """Return the process that runs the module, with `parameters` as its input. It needs the agent's base environment only.

    Args:
      directory: the instance's; paths that are not absolute lie there.
      variables: the job's environment: the module's config, below what `wasm.config` says.
    Raises:
      StartError: the module is not there, or none.
    """
    module = module_path(wanted, directory)
    _check_module(module, wanted.module)
    spec = {
        "module": module,
        "function": wanted.function,
        "input": json.dumps(parameters, ensure_ascii=False),
        "memory_mb": wanted.memory_mb,
        "allowed_paths": {_host_path(host, directory): guest for host, guest in wanted.allowed_paths.items()},
        "allowed_hosts": list(wanted.allowed_hosts),
        "config": {**variables, **wanted.config},
        "sha256": wanted.sha256,
    }
    # -E -P: no PYTHON… variable and nothing in the instance's directory decides what is imported.
    return Program(argv=(sys.executable, "-E", "-P", _RUNNER), stdin=json.dumps(spec).encode())


def module_path(wanted: WasmOptions, directory: str) -> str:
    return os.path.join(directory, wanted.module)


def host_paths(wanted: WasmOptions, directory: str) -> tuple[str, ...]:
    """The directories on the agent that the module may see, for the agent's policy to judge."""
    return tuple(_host_path(host, directory).removeprefix("ro:") for host in wanted.allowed_paths)


def _host_path(host: str, directory: str) -> str:
    read_only = "ro:" if host.startswith("ro:") else ""
    return read_only + os.path.normpath(os.path.join(directory, host.removeprefix("ro:")))


def _check_module(path: str, named: str) -> None:
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as exc:
        raise StartError(f"wasm.module: {named} cannot be read: {exc.strerror}") from exc
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise StartError(f"wasm.module: {named} is no file")
        beginning = os.read(descriptor, 4096)
    finally:
        os.close(descriptor)
    if not beginning.startswith(MAGIC) and b"(module" not in beginning:
        raise StartError(
            f"wasm.module: {named} is no WebAssembly module (it begins neither with \\0asm nor as its text form)"
        )


def _text(value: str | int | float) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
