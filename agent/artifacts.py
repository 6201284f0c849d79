"""`artifacts` of a job: files that its program leaves behind are taken out of the directory and kept for the server.

    <work dir>/<instance>.<epoch>.artifacts/    plan.json      which files, before the first of them is moved
                                                0, 1, 2, …     the files, by their place in the plan
                                                manifest.json  their sizes and digests: all of them are here

An agent that is killed in between is asked again, and goes on where the plan says. With a manifest the files belong to
`agent.artifact_shipping`, until the server has stored them.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, Final

import structlog
from attrs import frozen

from agent.artifact_plan import Problem, failure_of, plan
from agent.artifact_shipping import ArtifactShipping, KeptFile, KeptFiles
from agent.instance_tree import InstanceTree, TreeError
from agent.preparation import Collected, Collector
from agent.workplace import instant
from hetuflow.ports.clock import Clock
from hetuflow.ports.disk import Disk, DiskError
from hetuflow.protocol.messages import Dispatch

log = structlog.get_logger()

ARTIFACTS_SUFFIX: Final = ".artifacts"
PLAN, MANIFEST = "plan.json", "manifest.json"
FOUND_MAX: Final = 100_000
"""Files below the directory that are looked at."""


@frozen(slots=True)
class Artifacts:
    work_dir: str
    disk: Disk
    clock: Clock
    tree: InstanceTree
    shipping: ArtifactShipping

    def collector(self) -> Collector:
        return Collector(wanted=is_wanted, take=self.collect)

    async def collect(self, order: Dispatch, directory: str) -> Collected:
        """Take the files out of the directory; again the same, when that has been done before."""
        target = kept_dir(self.work_dir, order.instance_id, order.epoch)
        try:
            manifest = self._read(target, MANIFEST) or await self._take(order, directory, target)
        except (TreeError, DiskError) as exc:
            log.error("artifacts cannot be kept", instance_id=order.instance_id, error=str(exc))
            problem = Problem(path="", text=f"cannot be kept: {exc}", is_fatal=True)
            return Collected([problem.as_listed()], failure_of([problem]))
        kept = kept_files(target, manifest)
        if kept.files:
            self.shipping.add(kept)
        else:
            await self.tree.remove(target)
        return Collected(manifest["listing"], manifest["failure"])

    async def _take(self, order: Dispatch, directory: str, target: str) -> Mapping[str, Any]:
        self.disk.make_private_dir(target)
        planned = self._read(target, PLAN)
        if planned is None:
            chosen = plan(await self.tree.find(directory, FOUND_MAX), order.artifacts)
            planned = {"paths": chosen.chosen, "problems": [_as_json(each) for each in chosen.problems]}
            self.disk.replace(f"{target}/{PLAN}", json.dumps(planned).encode())
        problems = [Problem(**each) for each in planned["problems"]]
        listing: list[dict[str, Any]] = []
        files: list[dict[str, Any]] = []
        for number, path in enumerate(planned["paths"]):
            try:
                taken = await self.tree.take(directory, path, f"{target}/{number}", order.run_as)
            except TreeError as exc:
                problems.append(Problem(path=path, text=str(exc), is_fatal=True))
                continue
            entry = {"path": path, "bytes": taken.size, "sha256": taken.sha256}
            listing.append(entry)
            files.append({**entry, "number": number})
        manifest = {
            "instance_id": order.instance_id,
            "task_id": order.task_id,
            "epoch": order.epoch,
            "collected_at": instant(self.clock.now()),
            "files": files,
            "listing": [*listing, *(each.as_listed() for each in problems)],
            "failure": failure_of(problems),
        }
        self.disk.replace(f"{target}/{MANIFEST}", json.dumps(manifest).encode())
        return manifest

    def _read(self, target: str, name: str) -> Mapping[str, Any] | None:
        return _json_of(self.disk.read(f"{target}/{name}"))


def is_wanted(order: Dispatch) -> bool:
    return bool(order.artifacts)


def kept_dir(work_dir: str, instance_id: str, epoch: int) -> str:
    return f"{work_dir}/{instance_id}.{epoch}{ARTIFACTS_SUFFIX}"


def kept_files(target: str, manifest: Mapping[str, Any]) -> KeptFiles:
    return KeptFiles(
        directory=target,
        instance_id=manifest["instance_id"],
        task_id=manifest["task_id"],
        epoch=manifest["epoch"],
        collected_at=manifest["collected_at"],
        files=tuple(
            KeptFile(path=each["path"], size=each["bytes"], sha256=each["sha256"], place=f"{target}/{each['number']}")
            for each in manifest["files"]
        ),
    )


def ship_again(disk: Disk, work_dir: str, shipping: ArtifactShipping) -> None:
    """What an earlier life of the agent has kept and not seen stored."""
    for name in _listed(disk, work_dir):
        if not name.endswith(ARTIFACTS_SUFFIX):
            continue
        target = f"{work_dir}/{name}"
        try:
            manifest = _json_of(disk.read(f"{target}/{MANIFEST}"))
            if manifest is not None:
                shipping.add(kept_files(target, manifest))
        except (DiskError, KeyError, TypeError) as exc:
            log.warning("kept files of an instance are left alone", directory=target, error=repr(exc))


def _as_json(problem: Problem) -> Mapping[str, Any]:
    return {"path": problem.path, "text": problem.text, "is_fatal": problem.is_fatal}


def _json_of(data: bytes | None) -> Mapping[str, Any] | None:
    """None when there is no such file, or it is torn."""
    try:
        found = None if data is None else json.loads(data)
    except ValueError:
        return None
    return found if isinstance(found, dict) else None


def _listed(disk: Disk, path: str) -> Sequence[str]:
    try:
        return disk.list(path)
    except DiskError as exc:
        log.warning("the work directory cannot be read", error=str(exc))
        return ()
