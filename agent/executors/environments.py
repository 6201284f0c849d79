"""Environments of Python: built once for all tasks that want the same, kept until nobody has wanted them for long.

    <root>/<key>             a link to the finished environment, made by a rename when it is complete and on disk
    <root>/build/<key>-xxx   the environment itself, which never moves: its programs name their interpreter by path
    <root>/uses/<instance>   a link to the environment that an instance runs in

So a crash leaves a directory without a link, which is never used and is removed by the next clean-up. Building is done by
uv where the machine has it, else by venv and pip, as processes of their own that a cancelled task ends. They see the
agent's environment (PIP_…, UV_…, proxies), never the job's, and install wheels only: `agent.executors.requirements`.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Collection, Mapping, Sequence
from typing import Final

import structlog
import trio
from attrs import define, field

from agent.executors import requirements
from agent.executors.building import BuildError, Installer, Interpreter
from agent.executors.children import run
from hetuflow.ports.processes import StartError

log = structlog.get_logger()

BUILD_SECONDS_MAX: Final = 600.0
KEPT_MAX: Final = 20
"""Environments that are kept although nobody uses them; of a few hundred MB each at most, as a rule."""
_BUILDS, _USES = "build", "uses"


@define
class _Flight:
    """One build that is under way, and who waits for it. `error` None with no environment there: it was cancelled."""

    landed: trio.Event = field(factory=trio.Event)
    error: StartError | None = None


class Environments:
    """Under one directory, of one agent. `root` is readable by the users that tasks run as."""

    def __init__(
        self,
        root: str,
        environment: Mapping[str, str],
        *,
        build_seconds_max: float = BUILD_SECONDS_MAX,
        kept_max: int = KEPT_MAX,
    ) -> None:
        self.root = root
        self._installer = Installer(environment)
        self._build_seconds_max, self._kept_max = build_seconds_max, kept_max
        self._flights: dict[str, _Flight] = {}

    async def take(self, instance_id: str, version: str, lines: Sequence[str]) -> str:
        """The directory of the environment, built if it is not there. It stays while `instance_id` is held.

        Raises:
          StartError: there is no such interpreter, or it cannot be built; with the last lines that were written.
        """
        interpreter = await self._installer.interpreter(version)
        key = requirements.key(interpreter.text, lines)
        while (found := self._found(key)) is None:
            flight = self._flights.get(key)
            if flight is None:
                await self._fly(key, interpreter, lines)
                continue
            await flight.landed.wait()
            if flight.error is not None:
                raise StartError(str(flight.error))
        self._note_use(found, instance_id)
        return found

    async def clean_up(self, held: Collection[str], kept_max: int | None = None) -> int:
        """Remove what crashes left, and of the environments that no instance in `held` uses those that were used last
        longest ago, until `kept_max` are left (None = as configured). Returns how many were removed."""
        removed = self._abandoned(held, self._kept_max if kept_max is None else kept_max)
        for path in removed:
            await remove_tree(path)
        return len(removed)

    # --- one build -------------------------------------------------------------------------------------------------

    async def _fly(self, key: str, interpreter: Interpreter, lines: Sequence[str]) -> None:
        flight = self._flights[key] = _Flight()
        try:
            await self._build(key, interpreter, lines)
        except StartError as exc:
            flight.error = exc
            raise
        finally:
            del self._flights[key]
            flight.landed.set()

    async def _build(self, key: str, interpreter: Interpreter, lines: Sequence[str]) -> None:
        began = trio.current_time()
        try:
            builds = self._make_root()
            directory = tempfile.mkdtemp(prefix=f"{key}-", dir=builds)
        except OSError as exc:
            raise StartError(f"python: no environment can be made below {self.root}: {exc.strerror}") from exc
        complete = False
        try:
            with trio.fail_after(self._build_seconds_max):
                await self._installer.install(directory, interpreter, lines)
            self._publish(key, directory)
            complete = True
        except BuildError as exc:
            raise StartError(f"python: {exc}") from exc
        except trio.TooSlowError:
            raise StartError(
                f"python: the environment was not built within {self._build_seconds_max:g} s "
                "(executor.environment_build_timeout)"
            ) from None
        except OSError as exc:
            raise StartError(f"python: the environment cannot be kept: {exc.strerror}: {exc.filename}") from exc
        finally:
            if not complete:
                with trio.CancelScope(shield=True, deadline=trio.current_time() + 30):
                    await remove_tree(directory)
        log.info("environment built", directory=directory, seconds=round(trio.current_time() - began, 3))

    def _make_root(self) -> str:
        for path in (self.root, os.path.join(self.root, _BUILDS), os.path.join(self.root, _USES)):
            os.makedirs(path, mode=0o755, exist_ok=True)
        return os.path.join(self.root, _BUILDS)

    def _publish(self, key: str, directory: str) -> None:
        """Make the finished environment the one of its key, in one step."""
        os.chmod(directory, 0o755)  # others may run in it: tasks of other users, `run_as`
        link = f"{directory}.link"
        os.symlink(os.path.join(_BUILDS, os.path.basename(directory)), link)
        os.replace(link, os.path.join(self.root, key))

    # --- what is there ---------------------------------------------------------------------------------------------

    def _abandoned(self, held: Collection[str], kept_max: int) -> list[str]:
        """What is to be removed; no link leads there any more."""
        builds = os.path.join(self.root, _BUILDS)
        if not os.path.isdir(builds):
            return []
        used = self._in_use(held)
        idle = [name for name in self._links() if self._target(name) not in used]
        for name in sorted(idle, key=self._last_used, reverse=True)[kept_max:]:
            os.unlink(os.path.join(self.root, name))
        kept = used | {self._target(name) for name in self._links()}
        paths = [os.path.join(builds, name) for name in sorted(os.listdir(builds))]
        return [path for path in paths if path not in kept and _key_of(path) not in self._flights]

    def _links(self) -> list[str]:
        return [name for name in sorted(os.listdir(self.root)) if os.path.islink(os.path.join(self.root, name))]

    def _target(self, name: str) -> str:
        return os.path.join(self.root, os.readlink(os.path.join(self.root, name)))

    def _found(self, key: str) -> str | None:
        """The environment of this key, if its interpreter still exists: that of the machine may be gone since."""
        try:
            directory = self._target(key)
        except OSError:
            return None
        return directory if os.access(os.path.join(directory, "bin", "python"), os.X_OK) else None

    def _note_use(self, directory: str, instance_id: str) -> None:
        try:
            os.utime(directory)
            os.symlink(directory, os.path.join(self.root, _USES, instance_id))
        except FileExistsError:
            pass
        except OSError as exc:
            raise StartError(f"python: the use of {directory} cannot be noted: {exc.strerror}") from exc

    def _in_use(self, held: Collection[str]) -> set[str]:
        """What held instances run in; the notes of those that are not held any more are removed."""
        uses = os.path.join(self.root, _USES)
        found = set()
        for name in os.listdir(uses):
            path = os.path.join(uses, name)
            if name in held:
                found.add(os.readlink(path))
            else:
                os.unlink(path)
        return found

    def _last_used(self, name: str) -> float:
        try:
            return os.stat(self._target(name)).st_mtime
        except OSError:
            return 0.0


def _key_of(path: str) -> str:
    return os.path.basename(path).partition("-")[0]


async def remove_tree(path: str) -> None:
    """A large tree takes a second: done by a process of its own, so that the agent does not stand still."""
    try:
        await run(["rm", "-rf", "--", path], {"PATH": os.defpath}, cwd="/")
    except OSError:  # there is no such program
        shutil.rmtree(path, ignore_errors=True)
