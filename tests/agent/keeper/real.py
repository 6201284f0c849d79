"""A real keeper in a directory of its own, and an agent's side of it."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import TypeVar

import trio

from agent import host, process_tree
from agent.keeper.client import Attached, KeeperEvent, KeeperLink, ProcessKeepers
from agent.keeper.disk import KeeperDisk
from agent.keeper.loop import lease_now
from agent.keeper.messages import Attach, Finished, Held, KeeperMessage, Launch, Launched, Lease
from agent.keeper.place import Place, read_identity
from hetuflow.ports.real import SystemDisk, SystemIds

M = TypeVar("M", bound=KeeperMessage)
PATIENCE_SECONDS = 60.0


def own(name: str) -> str:
    """An instance id that no other run of these tests on this machine has: keepers end what carries their instances' ids."""
    return f"{name}-{os.getpid()}"


class Site:
    """A state directory; `link` is an agent's life. `end` leaves nothing behind."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.state_dir = str(directory / "state")
        os.makedirs(self.state_dir, mode=0o700, exist_ok=True)
        self.boot_id = host.boot_id(SystemDisk())
        self.incarnation = 0
        self._seen: set[int] = set()

    @contextlib.asynccontextmanager
    async def link(self, version: str = "1.2.3", isolation: str = "auto") -> AsyncIterator[Conversation]:
        self.incarnation += 1
        disk, ids = SystemDisk(), SystemIds()
        keepers = ProcessKeepers(
            state_dir=self.state_dir, boot_id=self.boot_id, disk=disk, ids=ids, isolation=isolation
        )
        async with keepers.opened(Attach(agent_id="a", incarnation=self.incarnation, version=version)) as link:
            conversation = Conversation(self, link)
            attached = await conversation.until(lambda event: isinstance(event, Attached))
            assert isinstance(attached, Attached)
            conversation.held = attached.instances
            self._seen.add(attached.pid)
            yield conversation

    def launch(self, script: str, instance_id: str, **changed: object) -> Launch:
        values: dict[str, object] = {
            "task_id": f"task-{instance_id}",
            "instance_id": instance_id,
            "epoch": 1,
            "argv": ("/bin/sh", "-c", script),
            "environment": {"PATH": os.environ["PATH"], process_tree.MARK: instance_id},
            "directory": str(self.directory),
            "spool_path": str(self.directory / f"{instance_id}.1.out"),
            **changed,
        }
        return Launch(**values)  # type: ignore[arg-type]

    def end(self) -> None:
        found = read_identity(KeeperDisk(), Place(self.state_dir))
        if found is not None and found.is_alive(self.boot_id):
            with contextlib.suppress(ProcessLookupError):
                os.kill(found.pid, signal.SIGCONT)
                os.kill(found.pid, signal.SIGKILL)


class Conversation:
    """What an agent says and hears. Every wait has its end."""

    def __init__(self, site: Site, link: KeeperLink) -> None:
        self.site, self.link = site, link
        self.held: tuple[Held, ...] = ()
        self.heard: list[KeeperEvent] = []

    @property
    def keeper_pid(self) -> int:
        assert self.link.keeper_pid is not None
        return self.link.keeper_pid

    @property
    def watchdog_pid(self) -> int:
        assert self.link.watchdog_pid is not None
        return self.link.watchdog_pid

    def renew(self) -> None:
        self.link.send(Lease(renewed_at=lease_now()))

    async def start(self, script: str, instance_id: str, **changed: object) -> Launched:
        self.link.send(self.site.launch(script, instance_id, **changed))
        found = await self.until(lambda e: isinstance(e, Launched) and e.instance_id == instance_id)
        assert isinstance(found, Launched)
        return found

    async def finished(self, instance_id: str) -> Finished:
        found = await self.until(lambda e: isinstance(e, Finished) and e.instance_id == instance_id)
        assert isinstance(found, Finished)
        return found

    async def until(self, wanted: Callable[[KeeperEvent], bool]) -> KeeperEvent:
        for event in self.heard:
            if wanted(event):
                return event
        with trio.fail_after(PATIENCE_SECONDS):
            while True:
                events = await self.link.receive()
                self.heard.extend(events)
                for event in events:
                    if wanted(event):
                        return event


@contextlib.contextmanager
def open_site(directory: Path) -> Iterator[Site]:
    site = Site(directory)
    try:
        yield site
    finally:
        site.end()


async def until_no_process(*instance_ids: str) -> None:
    """No process carries these instances' marks any more."""
    with trio.fail_after(PATIENCE_SECONDS):
        while any(process_tree.marked(each) for each in instance_ids):  # noqa: ASYNC110 (other people's processes)
            await trio.sleep(0.02)


async def until_dead(pid: int) -> None:
    """Also a zombie is dead."""
    with trio.fail_after(PATIENCE_SECONDS):
        while (found := process_tree.read_process(pid)) is not None and found.state not in "ZX":  # noqa: ASYNC110
            await trio.sleep(0.02)
