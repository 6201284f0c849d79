"""`files` of a job: what its program finds in the instance's directory. A step of the preparation.

With `run_as` the directory becomes that user's, with or without files.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from attrs import frozen

from agent.fetching import FetchError, Fetching
from agent.instance_tree import InstanceTree, TreeError
from agent.preparation import Prepared, Step
from hetuflow.ports.processes import StartError
from hetuflow.protocol.messages import Dispatch, FileGiven

FETCHED_BYTES_MAX: Final = 16 * 1024**3
"""Of one file."""
WRITE_BYTES: Final = 128 * 1024


@frozen(slots=True)
class Files:
    tree: InstanceTree
    fetching: Fetching

    def step(self) -> Step:
        return Step(wanted=is_wanted, take=self.put)

    async def put(self, order: Dispatch, prepared: Prepared) -> Prepared:
        """Put all of them into place. Raises `StartError`."""
        try:
            for file in order.files:
                await self._put(order, prepared.directory, file)
            if order.run_as:
                self.tree.give(prepared.directory, order.run_as)
        except TreeError as exc:
            raise StartError(f"files: {exc}") from exc
        return prepared

    async def _put(self, order: Dispatch, directory: str, file: FileGiven) -> None:
        if problem := path_problem(file.path):
            raise StartError(f"files: {file.path!r} {problem}")
        new = self.tree.create(directory, file.path, file.mode, order.run_as)
        try:
            await self._fill(order, file, new.write)
            new.finish()
        finally:
            new.discard()

    async def _fill(self, order: Dispatch, file: FileGiven, write: Callable[[bytes], None]) -> None:
        if file.content is not None:
            write(file.content)
            return
        try:
            await self.fetching.fetch(order.instance_id, file.url, write, bytes_max=FETCHED_BYTES_MAX)
        except FetchError as exc:
            raise StartError(f"files.{file.path}: {exc}") from exc


def is_wanted(order: Dispatch) -> bool:
    return bool(order.files or order.run_as)


def path_problem(path: str) -> str | None:
    """Why nothing may be written there, whatever the server has checked; None if it may."""
    if not path or "\0" in path or len(path.encode(errors="replace")) > 1000:
        return "is not a path of 1 to 1000 bytes"
    if any(part in ("", ".", "..") for part in path.split("/")):
        return "must be relative to the instance's directory, and stay in it"
    return None
