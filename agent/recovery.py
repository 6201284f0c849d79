"""What an earlier life of the agent left: its number, its unshipped output, processes that no keeper has.

A new incarnation is on disk before anything is said in its name. What nobody holds is ended for certain before it is
reported lost: the server will start it again elsewhere.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import structlog
import trio
from attrs import frozen

from agent.journal import Entry, Journal, Key
from agent.limits import KILL_GRACE_SECONDS
from agent.shipping import Shipment, Shipping
from agent.spool import SPOOL_SUFFIX, FoundSpool, spool_path
from agent.workplace import Leftovers
from hetuflow.ports.disk import Disk, DiskError

log = structlog.get_logger()

LEFTOVER_KILL_SECONDS_MAX: Final = 5.0
POLL_SECONDS: Final = (0.005, 0.01, 0.02, 0.05, 0.1, 0.25)
RESTARTED: Final = "the agent restarted"
REBOOTED: Final = "the machine restarted"
BOOT_FILE: Final = "boot-id"


def next_incarnation(disk: Disk, state_dir: str) -> int:
    """One more than at the last start, durable before it is used. Raises `DiskError`."""
    path = f"{state_dir}/incarnation"
    text = (disk.read(path) or b"0").decode(errors="replace").strip()
    if not text.isdigit():
        raise DiskError(f"{path} does not hold a number but {text[:40]!r}; restore it, or remove {state_dir} whole")
    incarnation = int(text) + 1
    disk.replace(path, f"{incarnation}\n".encode())
    return incarnation


def why_forgotten(disk: Disk, state_dir: str, boot_id: str) -> str | None:
    """Why nobody can say what has become of what the last life of the agent left; None: its keeper can. Raises `DiskError`.

    The machine may have been started anew since then. Agents before there were keepers noted no boot: what such a one had
    accepted may have run. It stays so until `note_boot`.
    """
    before = (disk.read(f"{state_dir}/{BOOT_FILE}") or b"").decode(errors="replace").strip()
    if not before:
        return RESTARTED
    return None if before == boot_id else REBOOTED


def note_boot(disk: Disk, state_dir: str, boot_id: str) -> None:
    """What was left from before this boot is sorted out, and journaled: from here on keepers know what has run."""
    try:
        disk.replace(f"{state_dir}/{BOOT_FILE}", f"{boot_id}\n".encode())
    except DiskError as exc:  # the next life is more careful than it need be
        log.warning("the boot of the machine cannot be noted", error=str(exc))


@frozen(slots=True)
class Trace:
    """By what the processes of an instance are found."""

    instance_id: str
    pid: int | None = None
    identity: str | None = None

    @classmethod
    def of(cls, entry: Entry | None) -> Trace | None:
        if entry is None:
            return None
        if entry.running is None:
            return cls(entry.accepted.instance_id)
        return cls(entry.accepted.instance_id, entry.running.started.pid, entry.running.identity)

    def found(self, leftovers: Leftovers) -> list[int]:
        return leftovers.of(self.instance_id, self.pid, self.identity)


async def end_leftover(trace: Trace, leftovers: Leftovers) -> None:
    """End all processes of an instance that no keeper has."""
    found = trace.found(leftovers)
    log.warning("ending what was left running", instance_id=trace.instance_id, pids=found)
    for forcefully, seconds in ((False, KILL_GRACE_SECONDS), (True, LEFTOVER_KILL_SECONDS_MAX)):
        leftovers.kill(found, forcefully=forcefully)
        with trio.move_on_after(seconds):
            for delay in (*POLL_SECONDS, *[POLL_SECONDS[-1]] * 1000):
                await trio.sleep(delay)
                found = trace.found(leftovers)
                if not found:
                    return
                if forcefully:
                    leftovers.kill(found, forcefully=True)
    log.error("processes of an earlier life could not be ended", instance_id=trace.instance_id, pids=found)


def recover_output(disk: Disk, work_dir: str, journal: Journal) -> dict[Key, FoundSpool]:
    """The spools of what has ended, in files and in the journal; a file is what the journal began, unless it is torn."""
    running = [entry.accepted for entry in journal.entries.values() if entry.ended is None]
    held = frozenset(spool_path(work_dir, each.instance_id, each.epoch) for each in running)
    found: dict[Key, FoundSpool] = {}
    for name in _listed(disk, work_dir):
        if not name.endswith(SPOOL_SUFFIX):
            continue
        path = f"{work_dir}/{name}"
        if path in held:
            continue
        try:
            spool = FoundSpool(disk, path)
        except DiskError as exc:
            log.warning("an output spool is left alone", error=str(exc))
            continue
        found[(spool.owner.instance_id, spool.owner.epoch)] = spool
    for entry in journal.entries.values():
        if entry.ended is None or not entry.captured:
            continue
        if entry.key not in found or found[entry.key].end < len(entry.captured):
            found[entry.key] = FoundSpool(disk, "journal", entry.captured)
    return found


def ship_again(spools: Mapping[Key, FoundSpool], journal: Journal, shipping: Shipping) -> dict[Key, Shipment]:
    shipments = {}
    for key, spool in spools.items():
        entry = journal.entries.get(key)
        shipment = Shipment(spool, entry.stored if entry is not None else None)
        shipment.finished = True
        shipping.add(shipment)
        shipping.settle(shipment)
        shipments[key] = shipment
    return shipments


def _listed(disk: Disk, path: str) -> list[str]:
    try:
        return list(disk.list(path))
    except DiskError as exc:
        log.warning("the work directory cannot be read", error=str(exc))
        return []
