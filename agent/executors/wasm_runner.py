"""The process that runs one WebAssembly module: `python wasm_runner.py`, with what to do as JSON on its standard input.

Its exit code is what the exported function returned, or 134 when the module trapped, 126 when it could not be run at all.
What the function put out is the standard output, beside what the module wrote there by WASI; errors, and what it logs, go to
the standard error. Imports nothing of ours: it is run as a file, by an interpreter that looks into no other directory.
"""

from __future__ import annotations

import json
import os
import re
import resource
import sys
import threading
from collections.abc import Mapping
from typing import Any

CANNOT_BE_RUN = 126
FAILED = 1
PAGES_A_MB = 16
BESIDE_BYTES = 1 << 30
"""What the process may have beside the module's memory: it compiles the module, and tables are not bounded otherwise."""
LOG_SECONDS = 0.1

_NO_MEMORY = ("oom", "failed to allocate extism memory")
_LOGGED = re.compile(r'^\S+\s+(\w+) (\S+): (.*?)(?: plugin="[0-9a-f-]{36}")?\s*$', re.DOTALL)


class Log:
    """What the module logs, as lines on the standard error; and why a call failed, which Extism says only there."""

    def __init__(self) -> None:
        self.causes: list[str] = []

    def __call__(self, line: str) -> None:
        match = _LOGGED.match(line)
        if match is None or match[2] == "extism::pdk":
            print(f"{match[1].lower()}: {match[3]}" if match else line.rstrip(), file=sys.stderr, flush=True)
            return
        _, found, cause = match[3].partition("Caused by:\n")
        if found:
            self.causes.append("; ".join(re.sub(r"^\s*\d+: ", "", part).strip() for part in cause.strip().splitlines()))


def main() -> int:
    sys.stderr.reconfigure(encoding="utf-8", errors="backslashreplace")  # type: ignore[union-attr]
    spec = json.load(sys.stdin.buffer)
    os.environ.update({"EXTISM_ENABLE_WASI_OUTPUT": "1", "RUST_BACKTRACE": "0"})
    bound = spec["memory_mb"] * (1 << 20) + BESIDE_BYTES
    resource.setrlimit(resource.RLIMIT_DATA, (bound, bound))
    try:
        import extism
    except ImportError as exc:
        return _say(f"Extism cannot be imported: {exc}", CANNOT_BE_RUN)
    log = Log()
    logger = extism.set_log_custom(log, "info")
    threading.Thread(target=_drain, args=(logger,), daemon=True).start()
    try:
        plugin = extism.Plugin(_manifest(spec), wasi=True, functions=[])
    except extism.Error as exc:
        return _say(_unusable(str(exc), spec), CANNOT_BE_RUN)
    if not plugin.function_exists(spec["function"]):
        return _say(f"the module exports no function {spec['function']!r}", CANNOT_BE_RUN)
    return _call(plugin, spec, log, logger)


def _call(plugin: Any, spec: Mapping[str, Any], log: Log, logger: Any) -> int:
    from extism_sys import ffi, lib  # the call's own code is not in extism.Plugin.call

    data = spec["input"].encode()
    code = lib.extism_plugin_call(plugin.plugin, spec["function"].encode(), data, len(data))
    logger.drain()
    error = lib.extism_plugin_error(plugin.plugin)
    if code != 0:
        said = ffi.string(error).decode(errors="replace") if error != ffi.NULL else ""
        return _say(_explained(said, code, spec, log.causes), code if 0 < code < 256 else FAILED)
    length = lib.extism_plugin_output_length(plugin.plugin)
    sys.stdout.buffer.write(ffi.buffer(lib.extism_plugin_output_data(plugin.plugin), length) if length else b"")
    sys.stdout.buffer.flush()
    return 0


def _manifest(spec: Mapping[str, Any]) -> dict[str, Any]:
    module = {"path": spec["module"], **({"hash": spec["sha256"]} if spec["sha256"] else {})}
    return {
        "wasm": [module],
        "memory": {"max_pages": spec["memory_mb"] * PAGES_A_MB},
        "allowed_paths": spec["allowed_paths"],
        "allowed_hosts": spec["allowed_hosts"],
        "config": spec["config"],
    }


def _explained(said: str, code: int, spec: Mapping[str, Any], causes: list[str]) -> str:
    if said in _NO_MEMORY:
        return f"the module wanted more memory than it may have ({spec['memory_mb']} MiB, wasm.memory_mb)"
    if not said:
        return f"{spec['function']} returned {code}"
    if said.startswith("error while executing"):
        said = "\n".join(
            ("the module trapped:" if code == 134 else f"the module exited with {code}:", *said.splitlines()[1:])
        )
    return "\n".join((said, *(f"cause: {cause}" for cause in causes)))


def _unusable(said: str, spec: Mapping[str, Any]) -> str:
    said = re.sub(r"^Unable to (compile|create) Extism plugin: ", "", said).strip()
    if said in _NO_MEMORY:
        return _explained(said, 0, spec, [])
    return f"the module cannot be used: {said}"


def _drain(logger: Any) -> None:
    """Extism holds back what is logged until it is asked."""
    pause = threading.Event()
    while not pause.wait(LOG_SECONDS):
        logger.drain()


def _say(message: str, code: int) -> int:
    print(message, file=sys.stderr, flush=True)
    return code


if __name__ == "__main__":
    status = main()
    sys.stdout.flush()
    os._exit(status)  # the thread that drains may be inside of Extism
