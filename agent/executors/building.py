"""The programs that build an environment of Python: which interpreter, which installer, and what they said."""

from __future__ import annotations

import contextlib
import json
import os
import sys
from collections.abc import Mapping, Sequence
from typing import Final

from attrs import frozen

from agent.executors.children import Done, run
from agent.programs import find_program
from hetuflow.ports.processes import StartError

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
        has_pip = await self._run([interpreter.path, "-m", "pip", "--version"], directory)
        python = os.path.join(directory, "bin", "python")
        make = [interpreter.path, "-m", "venv", directory]
        install = [*_PIP_INSTALL, "-r", os.path.join(directory, "requirements.txt")]
        if has_pip.code == 0:
            return [[*make, "--without-pip"], [interpreter.path, "-m", "pip", "--python", python, *install]]
        return [make, [python, "-m", "pip", *install]]

    async def _step(self, command: Sequence[str], directory: str) -> None:
        done = await self._run(command, directory, mixed=True)
        if done.code != 0:
            program = " ".join(os.path.basename(part) for part in command[:4])
            raise BuildError(
                f"the environment could not be built: {program} … ended with exit code {done.code}: {_end(done.said)}"
            )

    async def _ask(self, path: str) -> Interpreter:
        try:
            done = await self._run([path, "-I", "-c", _ASK], "/")
        except BuildError as exc:
            raise StartError(f"python: {exc}") from exc
        try:
            real, full = json.loads(done.answer)
        except ValueError:
            said = _end(done.said or done.answer)
            raise StartError(f"python: {path} is no Python interpreter (exit code {done.code}): {said}") from None
        return Interpreter(real, f"{real} {full}")

    async def _managed(self, version: str) -> str:
        uv = self._uv()
        if not uv:
            return ""
        command = [uv, "python", "find", "--no-python-downloads", "--managed-python", version or "3"]
        done = await self._run(command, "/")
        return done.answer.decode(errors="replace").strip() if done.code == 0 else ""

    async def _run(self, command: Sequence[str], directory: str, *, mixed: bool = False) -> Done:
        try:
            return await run(command, self._environment, cwd=directory, mixed=mixed)
        except OSError as exc:
            raise BuildError(f"{command[0]} cannot be started: {exc.strerror}") from exc

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


def _end(said: bytes) -> str:
    text = said.decode(errors="replace").strip()
    return text or "it said nothing"
