"""What instances have on this machine's disk: directories, the files they are given and leave, and when all that goes."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from attrs import evolve

from agent import artifacts
from agent.artifact_shipping import ArtifactShipping
from agent.artifacts import Artifacts, kept_dir
from agent.clean_up import CleanUp, plain_remove
from agent.fetching import Fetching
from agent.files import Files
from agent.instance_tree import InstanceTree
from agent.preparation import Preparations
from agent.profile import Profile
from agent.shipping import Shipping
from agent.spool import spool_path
from agent.wakeup import Wakeup
from hetuflow.ports.clock import Clock
from hetuflow.ports.disk import Disk

FEATURES = ("files", "artifacts")
"""What an agent can do that has an `InstanceTree`."""


class Storage:
    """Composes the parts. `held`: (instance, epoch) of what runs now, to be set before anything runs."""

    def __init__(
        self,
        profile: Profile,
        disk: Disk,
        clock: Clock,
        tree: InstanceTree | None,
        shipping: Shipping,
        ready: Wakeup,
    ) -> None:
        self._profile, self._disk, self._clock, self._tree, self._shipping = profile, disk, clock, tree, shipping
        self.held: Callable[[], Iterable[tuple[str, int]]] = lambda: ()
        self.clean_up = CleanUp(
            disk,
            profile.work_dir,
            plain_remove(disk) if tree is None else tree.remove,
            self._in_use,
            older_than_seconds=profile.cleanup_interval,
            free_min=profile.disk_free_min,
            is_enabled=profile.cleanup_enabled,
        )
        self.artifacts = ArtifactShipping(disk, self.clean_up.discard)
        self.fetching = Fetching(ready)

    def preparations(self, given: Preparations) -> Preparations:
        """Those, with a job's files put into place before the other steps, and taken out before the other collectors."""
        if self._tree is None:
            return given
        kept = Artifacts(self._profile.work_dir, self._disk, self._clock, self._tree, self.artifacts)
        return evolve(
            given,
            steps=(Files(self._tree, self.fetching).step(), *given.steps),
            collectors=(kept.collector(), *given.collectors),
        )

    def ship_again(self) -> None:
        """Send what an earlier life has kept; after what is held was asked for its own."""
        artifacts.ship_again(self._disk, self._profile.work_dir, self.artifacts)

    def _in_use(self) -> frozenset[str]:
        work_dir, held = self._profile.work_dir, list(self.held())
        return frozenset(
            [
                *(instance_id for instance_id, _ in held),
                *(spool_path(work_dir, *each) for each in held),
                *(kept_dir(work_dir, *each) for each in held),
                *self._shipping.paths(),
                *self.artifacts.directories(),
            ]
        )
