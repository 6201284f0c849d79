"""The programs that build an environment of Python: which interpreter, which installer, and what they said."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from typing import Final

import trio
from attrs import frozen

from agent.programs import find_program
from hetuflow.ports.processes import StartError

SAID_BYTES_MAX: Final = 2000
"""Of what a failed installer wrote, the end, for the instance's message."""
PASSED: Final = ("PIP_", "UV_")
PASSED_TOO: Final = (
    "HTTP_PROXY",
    "HTTPS_PROXY",
    "NO_PROXY",
    "ALL_PROXY",
    "SSL_CERT_FILE",
    "SSL_CERT_DIR",
    "REQUESTS_CA_BUNDLE",
)
"""Of the agent's own environment, what says where packages come from."""
_ASK: Final = (
    "import json, os, sys; "
    "print(json.dumps([os.path.realpath(getattr(sys, '_base_executable', None) or sys.executable), sys.version]))"
)


class BuildError(Exception):
    """The environment could not be built. The message has what was tried and the last lines written."""


@frozen(slots=True)
class Interpreter:
    """`path` starts it; `text` tells it apart from every other one, also from itself after an update."""

    path: str
    text: str


class Installer:
    """`environment`: the base that every program of the agent gets; the installers get also `PASSED`."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        passed = {
            name: value for name, value in os.environ.items() if name.startswith(PASSED) or name.upper() in PASSED_TOO
        }
        self._environment = {**environment, **passed, "PYTHONNOUSERSITE": "1", "PIP_DISABLE_PIP_VERSION_CHECK": "1"}
        self._asked: dict[tuple[str, int, int], Interpreter] = {}

    async def interpreter(self, version: str) -> Interpreter:
        """That of this version ("" = any of Python 3): on the PATH, else one that uv has installed.

        Raises:
          StartError: there is none.
        """
        try:
            path = find_program(f"python{version}" if version else "python3", self._environment, "/")
        except StartError as exc:
            path = await self._managed(version)
            if not path:
                raise StartError(f"python.version: {exc}") from None
        stat = os.stat(path)
        at = (path, stat.st_mtime_ns, stat.st_size)
        if at not in self._asked:
            self._asked[at] = await self._ask(path)
        return self._asked[at]

    async def install(self, directory: str, interpreter: Interpreter, lines: Sequence[str]) -> None:
        """Make the empty `directory` an environment with these requirements, on disk.

        Raises:
          BuildError: with what the installer said.
        """
        listing = os.path.join(directory, "requirements.txt")
        descriptor = os.open(listing, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644)
        with contextlib.closing(os.fdopen(descriptor, "w", encoding="utf-8")) as file:
            file.writelines(f"{line}\n" for line in lines)
        uv = self._uv()
        steps = _with_uv(uv, directory, interpreter) if uv else await self._with_pip(directory, interpreter)
        for step in steps[: None if lines else 1]:
            await self._step(step, directory)
        with contextlib.suppress(BuildError, StartError):  # where it is missing, a power loss may cost the environment
            await self._step([find_program("sync", self._environment, "/"), "-f", directory], directory)

    async def _with_pip(self, directory: str, interpreter: Interpreter) -> list[list[str]]:
        """The environment itself has no pip where the interpreter has: nobody installs into what others use."""
        has_pip = await run([interpreter.path, "-m", "pip", "--version"], self._environment, cwd=directory, check=False)
        python = os.path.join(directory, "bin", "python")
        make = [interpreter.path, "-m", "venv", directory]
        install = [*_PIP_INSTALL, "-r", os.path.join(directory, "requirements.txt")]
        if has_pip[0] == 0:
            return [[*make, "--without-pip"], [interpreter.path, "-m", "pip", "--python", python, *install]]
        return [make, [python, "-m", "pip", *install]]

    async def _step(self, command: Sequence[str], directory: str) -> None:
        code, said = await run(command, self._environment, cwd=directory)
        if code != 0:
            program = " ".join(os.path.basename(part) for part in command[:4])
            raise BuildError(
                f"the environment could not be built: {program} … ended with exit code {code}: {_end(said)}"
            )

    async def _ask(self, path: str) -> Interpreter:
        code, said = await run([path, "-I", "-c", _ASK], self._environment, cwd="/", errors=False)
        try:
            real, full = json.loads(said)
        except ValueError:
            raise StartError(f"python: {path} is no Python interpreter (exit code {code}): {_end(said)}") from None
        return Interpreter(real, f"{real} {full}")

    async def _managed(self, version: str) -> str:
        uv = self._uv()
        if not uv:
            return ""
        command = [uv, "python", "find", "--no-python-downloads", "--managed-python", version or "3"]
        code, said = await run(command, self._environment, cwd="/", errors=False)
        return said.decode(errors="replace").strip() if code == 0 else ""

    def _uv(self) -> str:
        try:
            return find_program("uv", self._environment, "/")
        except StartError:
            beside = os.path.join(os.path.dirname(sys.executable), "uv")  # installed with the agent
            return beside if os.access(beside, os.X_OK) else ""


_PIP_INSTALL: Final = (*("install", "--quiet", "--no-input", "--only-binary", ":all:", "--no-warn-script-location"),)


def _with_uv(uv: str, directory: str, interpreter: Interpreter) -> list[list[str]]:
    """Files are copied, not linked to uv's cache: a task that changes one would change it for every environment."""
    python = os.path.join(directory, "bin", "python")
    make = [uv, "venv", "--quiet", "--no-python-downloads", "--allow-existing", "--python", interpreter.path, directory]
    install = [
        *(uv, "pip", "install", "--quiet", "--no-build", "--link-mode", "copy", "--compile-bytecode"),
        *("--python", python, "-r", os.path.join(directory, "requirements.txt")),
    ]
    return [make, install]


async def run(
    command: Sequence[str], environment: Mapping[str, str], *, cwd: str, check: bool = True, errors: bool = True
) -> tuple[int, bytes]:
    """Run a program to its end; its whole session is killed when the caller is cancelled.

    Args:
      check: a program that cannot be started is a `BuildError`; else exit code 127.
      errors: standard error is part of what is returned.
    Returns its exit code (negative: the signal) and the end of what it wrote.
    """
    try:
        process = await trio.lowlevel.open_process(
            list(command),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT if errors else subprocess.DEVNULL,
            cwd=cwd,
            env=dict(environment),
            start_new_session=True,
            umask=0o022,
        )
    except OSError as exc:
        if check:
            raise BuildError(f"{command[0]} cannot be started: {exc.strerror}") from exc
        return 127, b""
    said = b""
    try:
        assert process.stdout is not None
        async for data in process.stdout:
            said = (said + data)[-SAID_BYTES_MAX:]
        return await process.wait(), said
    except BaseException:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        with trio.CancelScope(shield=True, deadline=trio.current_time() + 5):
            await process.wait()
        raise
    finally:
        if process.stdout is not None:
            with trio.CancelScope(shield=True):
                await process.stdout.aclose()


def _end(said: bytes) -> str:
    text = said.decode(errors="replace").strip()
    return text or "it said nothing"
