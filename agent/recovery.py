"""What an earlier life of the agent left: its number, its running processes, its unshipped output, old directories.

Order at a start: a new incarnation is on disk before anything is said in its name; then what ran is ended for certain
(the server will start it again elsewhere), and only then reported lost.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import structlog
import trio

from agent.journal import Entry, Journal, Key
from agent.limits import KILL_GRACE_SECONDS
from agent.profile import Profile
from agent.reports import Reports
from agent.run import POLL_SECONDS
from agent.shipping import Shipment, Shipping
from agent.spool import SPOOL_SUFFIX, FoundSpool
from agent.workplace import Leftovers, instant
from hetuflow.ports.clock import Clock
from hetuflow.ports.disk import Disk, DiskError
from hetuflow.protocol.messages import Ended

log = structlog.get_logger()

LEFTOVER_KILL_SECONDS_MAX: Final = 5.0
RESTARTED: Final = "the agent restarted"


def next_incarnation(disk: Disk, state_dir: str) -> int:
    """One more than at the last start, durable before it is used. Raises `DiskError`."""
    path = f"{state_dir}/incarnation"
    text = (disk.read(path) or b"0").decode(errors="replace").strip()
    if not text.isdigit():
        raise DiskError(f"{path} does not hold a number but {text[:40]!r}; restore it, or remove {state_dir} whole")
    incarnation = int(text) + 1
    disk.replace(path, f"{incarnation}\n".encode())
    return incarnation


async def end_leftovers(journal: Journal, leftovers: Leftovers) -> None:
    """End all processes of instances that were accepted and have not ended."""
    open_entries = [entry for entry in journal.entries.values() if entry.ended is None]
    async with trio.open_nursery() as nursery:
        for entry in open_entries:
            nursery.start_soon(_end_leftover, entry, leftovers)


async def _end_leftover(entry: Entry, leftovers: Leftovers) -> None:
    instance_id = entry.accepted.instance_id
    pid = entry.running.started.pid if entry.running is not None else None
    identity = entry.running.identity if entry.running is not None else None
    found = leftovers.of(instance_id, pid, identity)
    if not found:
        return
    log.warning("ending what an earlier life of the agent left running", instance_id=instance_id, pids=found)
    for forcefully, seconds in ((False, KILL_GRACE_SECONDS), (True, LEFTOVER_KILL_SECONDS_MAX)):
        leftovers.kill(found, forcefully=forcefully)
        with trio.move_on_after(seconds):
            for delay in (*POLL_SECONDS, *[POLL_SECONDS[-1]] * 1000):
                await trio.sleep(delay)
                found = leftovers.of(instance_id, pid, identity)
                if not found:
                    return
                if forcefully:
                    leftovers.kill(found, forcefully=True)
    log.error("processes of an earlier life could not be ended", instance_id=instance_id, pids=found)


def recover_output(disk: Disk, work_dir: str, journal: Journal) -> dict[Key, FoundSpool]:
    """The spools that are left, in files and in the journal; a file is what the journal began, unless it is torn."""
    found: dict[Key, FoundSpool] = {}
    for name in _listed(disk, work_dir):
        if not name.endswith(SPOOL_SUFFIX):
            continue
        path = f"{work_dir}/{name}"
        try:
            spool = FoundSpool(disk, path, disk.read(path) or b"", is_small=False)
        except DiskError as exc:
            log.warning("an output spool is left alone", error=str(exc))
            continue
        found[(spool.owner.instance_id, spool.owner.epoch)] = spool
    for entry in journal.entries.values():
        if entry.captured and (entry.key not in found or found[entry.key].end < len(entry.captured)):
            found[entry.key] = FoundSpool(disk, "journal", entry.captured, is_small=True)
    return found


def ship_again(spools: Mapping[Key, FoundSpool], shipping: Shipping) -> dict[Key, Shipment]:
    shipments = {}
    for key, spool in spools.items():
        shipment = Shipment(spool)
        shipment.finished = True
        shipping.add(shipment)
        shipping.settle(shipment)
        shipments[key] = shipment
    return shipments


def report_lost(
    journal: Journal,
    reports: Reports,
    spools: Mapping[Key, FoundSpool],
    shipments: Mapping[Key, Shipment],
    clock: Clock,
) -> int:
    """Report as lost what was accepted and has not ended; how many."""
    lost = [entry for entry in journal.entries.values() if entry.ended is None]
    for entry in lost:
        accepted, running = entry.accepted, entry.running
        ended = Ended(
            event_id="",
            sequence=0,
            task_id=accepted.task_id,
            instance_id=accepted.instance_id,
            epoch=accepted.epoch,
            completed_at=instant(clock.now()),
            reason="lost",
            error_message=RESTARTED,
            started_at=running.started.started_at if running is not None else None,
            output=spools[entry.key].summary() if entry.key in spools else None,
        )
        reports.ended(ended, shipments.get(entry.key))
    return len(lost)


def clean_up(disk: Disk, profile: Profile, in_use: frozenset[str]) -> int:
    """Remove work directories and spools that nothing uses and that are older than the clean-up interval; how many."""
    removed = 0
    for name in _listed(disk, profile.work_dir):
        path = f"{profile.work_dir}/{name}"
        if name in in_use or path in in_use:
            continue
        try:
            if disk.age_seconds(path) < profile.cleanup_interval:
                continue
            disk.remove(path)
            removed += 1
        except (DiskError, OSError) as exc:
            log.warning("an old work directory cannot be removed", path=path, error=str(exc))
    return removed


def _listed(disk: Disk, path: str) -> list[str]:
    try:
        return list(disk.list(path))
    except DiskError as exc:
        log.warning("the work directory cannot be read", error=str(exc))
        return []
