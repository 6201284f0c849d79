"""The keeper without its sockets: messages in, messages out, time from its `System`. The simulation runs this very code.

What is to be told is not queued but asked for (`next_message`), and computed from what each instance is and what the agent
has heard of it: an agent that does not read costs no memory, and one that comes back is told the difference.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from typing import Final, Protocol

from attrs import frozen

from agent import limits
from agent.keeper.deadlines import NEVER, Deadlines
from agent.keeper.instance import Instance, Phase
from agent.keeper.log import Key, Log, Started
from agent.keeper.messages import (
    Attach,
    End,
    Held,
    Holding,
    KeeperMessage,
    Launch,
    Lease,
    Leased,
    Leave,
    Probe,
    Probed,
    Settled,
)
from agent.keeper.outcome import COPIED, RESTARTED, Why
from agent.keeper.system import System
from hetuflow.ports.disk import Disk, DiskError

HOLDING_BYTES_MAX: Final = 192 * 1024
"""Of output in one `Holding`, roughly; more follows in further ones."""
HELD_BYTES: Final = 1024
"""What one instance takes in a `Holding` beside its output, roughly."""
PROBES_MAX: Final = 16
TOGETHER_MAX: Final = 16
"""Programs that are started in one go. What is done between two starts is done with cold caches: the same work took 100 us
there, and 36 outside (measured with sixteen)."""
CATCH_UP_SECONDS: Final = 5.0
"""Between two tries to write what a full disk has refused."""
SETTLED_MAX: Final = 1024
"""Instances that are remembered after they were settled, so that a late `Launch` of theirs starts nothing: it is refused,
for whoever has sent it awaits an end."""
LEASE_OVER: Final = "the lease was over before it could be started"


@frozen(slots=True, kw_only=True)
class KeeperProfile:
    """`mark`: value of `KEEPER_MARK` in the environment of what this keeper starts; "" = none is set.

    `is_copy`: the log is the copy of another keeper's, which runs.
    """

    log_path: str
    pid: int
    version: str
    boot_id: str
    mark: str = ""
    is_copy: bool = False


class Switch(Protocol):
    """The dead-man's switch: who ends an instance when the keeper cannot."""

    def expect(self, instances: Sequence[Instance]) -> None:
        """These are about to be started: whatever becomes of the keeper meanwhile, they have a lease. Said before it returns."""
        ...

    def guard(self, instances: Sequence[Instance]) -> None:
        """They run; the end of each is at `Keeper.renewed_at` plus its lease. Said before it returns."""
        ...

    def release(self, key: Key) -> None:
        """Its tree is gone."""
        ...

    def renew(self, renewed_at: float) -> None: ...


class NoSwitch:
    def expect(self, instances: Sequence[Instance]) -> None: ...
    def guard(self, instances: Sequence[Instance]) -> None: ...
    def release(self, key: Key) -> None: ...
    def renew(self, renewed_at: float) -> None: ...


class Keeper:
    """One life of the keeper. Raises `DiskError` when it is made and its log cannot be read."""

    def __init__(
        self,
        system: System,
        disk: Disk,
        profile: KeeperProfile,
        *,
        switch: Switch | None = None,
        complain: Callable[[str], None] = lambda problem: None,
    ) -> None:
        self.system, self.disk, self.profile = system, disk, profile
        self.mark = profile.mark
        self.complain = complain
        self.renewed_at = -NEVER
        self.is_attached = self.has_left = self.is_stopping = False
        self.incarnation = 0
        self._switch = switch or NoSwitch()
        self._instances: dict[Key, Instance] = {}
        self._active: dict[Key, Instance] = {}
        """Those whose tree is not gone."""
        self._untold: OrderedDict[Key, Instance] = OrderedDict()
        self._unheld: deque[Instance] | None = None
        """What `Holding` has still to say; None: it was said."""
        self._probes: deque[int] = deque(maxlen=PROBES_MAX)
        self._deadlines: Deadlines[Key] = Deadlines()
        self._settled: OrderedDict[Key, None] = OrderedDict()
        self._catch_up_at = -NEVER
        self.log = Log.open(disk, profile.log_path, boot_id=profile.boot_id, mark=profile.mark)
        if self.log.problem is not None:
            complain(self.log.problem)
        self._take_over()

    def __repr__(self) -> str:
        held = len(self._instances) - len(self._active)
        return f"<Keeper {self.profile.pid}: {len(self._active)} running, {held} ended and held>"

    @property
    def next_deadline(self) -> float:
        """When `tick` has something to do, in seconds of `System.now`; infinity = never."""
        return min(self._deadlines.next, NEVER if self._is_safe else self._catch_up_at)

    @property
    def _is_safe(self) -> bool:
        """Whether another keeper would find all that this one holds."""
        return self.log.is_whole or not self._instances

    @property
    def active_count(self) -> int:
        return len(self._active)

    @property
    def is_done(self) -> bool:
        """Nothing runs, and nobody is there who would want something of it: what has ended is in the log, or was settled."""
        if self._active or not (self._is_safe or self.is_stopping):
            return False
        return self.is_stopping or not self.is_attached or (self.has_left and not self._instances)

    def admits(self, attach: Attach) -> bool:
        """Whether this agent may take the place of the one before."""
        return attach.incarnation >= self.incarnation

    def receive_all(self, messages: Iterable[KeeperMessage]) -> None:
        """From the attached agent, in this order. Launches that follow one another are started together."""
        launches: list[Launch] = []
        try:
            for message in messages:
                if isinstance(message, Launch):
                    launches.append(message)
                    continue
                self._launch_all(launches)
                launches.clear()
                self.receive(message)
        finally:  # what was whole before something was not is meant
            self._launch_all(launches)

    def receive(self, message: KeeperMessage) -> None:
        """From the attached agent. What is not known is ignored."""
        match message:
            case Attach():
                self._attach(message)
            case Launch():
                self._launch_all((message,))
            case End(instance_id=instance_id, epoch=epoch):
                self._end(instance_id, epoch, Why(message.reason, message.message), message.grace_seconds)
            case Lease(renewed_at=renewed_at):
                self._renew(renewed_at)
            case Leased(instance_id=instance_id, epoch=epoch, lease_seconds=seconds):
                self._lease_anew((instance_id, epoch), seconds)
            case Settled(ended=ended):
                self._settle(tuple((instance_id, epoch) for instance_id, epoch in ended))
            case Leave():
                self.has_left = True
            case Probe(token=token):
                self._probes.append(token)
            case _:
                pass

    def detached(self) -> None:
        """The connection is gone. Everything goes on."""
        self.is_attached = False
        self._unheld = None
        self._untold.clear()
        self._probes.clear()
        self._set_all_deadlines()

    def next_message(self) -> KeeperMessage | None:
        """What to tell the agent next; None: nothing, or nobody is there. Call it when it can be sent."""
        if not self.is_attached:
            return None
        if self._unheld is not None:
            return self._next_holding(self._unheld)
        if self._probes:
            return Probed(token=self._probes.popleft())
        while self._untold:
            key, instance = next(iter(self._untold.items()))
            message = instance.next_message()
            if message is not None:
                return message
            del self._untold[key]
        return None

    def tick(self) -> None:
        """Do what is due."""
        now = self.system.now()
        if not self._is_safe and now >= self._catch_up_at:
            self._catch_up_at = now + CATCH_UP_SECONDS
            with suppress(DiskError):
                self.log.catch_up()
        for key in self._deadlines.pop_due(now):
            instance = self._active.get(key)
            if instance is not None:
                instance.tick(now)
                self._deadlines.set(key, instance.deadline)

    def stop(self, message: str) -> None:
        """End everything with its grace, take nothing new."""
        self.is_stopping = True
        for instance in list(self._active.values()):
            instance.end(Why("lost", message), instance.kill_grace_seconds)

    def close(self) -> None:
        self.log.close()

    # --- told by instances, see `Room` -----------------------------------------------------------------------------

    def grew(self, instance: Instance) -> None:
        if self.is_attached:
            self._untold[instance.key] = instance

    def changed(self, instance: Instance) -> None:
        self.grew(instance)
        if instance.key in self._active:
            self._deadlines.set(instance.key, instance.deadline)

    def finished(self, instance: Instance) -> None:
        self._active.pop(instance.key, None)
        self._deadlines.set(instance.key, NEVER)
        self._switch.release(instance.key)

    # --- inside ----------------------------------------------------------------------------------------------------

    def _take_over(self) -> None:
        """What an earlier keeper has left: ends are held again, what ran is ended, if it can be there and is ours."""
        earlier = self.log.earlier
        why = RESTARTED if earlier is None or earlier.boot_id != self.profile.boot_id else ""
        if self.profile.is_copy:
            why = COPIED
        for entry in list(self.log.entries.values()):
            instance = Instance.of_earlier(entry, self)
            self._instances[instance.key] = instance
            if instance.phase is not Phase.FINISHED:
                self._active[instance.key] = instance
                if why:
                    instance.lose_orphan(why)
                else:
                    instance.end_orphan()

    def _attach(self, attach: Attach) -> None:
        self.incarnation = attach.incarnation
        self.is_attached, self.has_left = True, False
        self._probes.clear()
        self._untold.clear()
        self._unheld = deque(self._instances.values())
        self._set_all_deadlines()

    def _next_holding(self, unheld: deque[Instance]) -> Holding:
        instances: list[Held] = []
        room = HOLDING_BYTES_MAX
        while unheld and room > 0:
            instance = unheld.popleft()
            if instance.key not in self._instances:  # settled in between
                continue
            held = instance.held()
            self._untold.pop(instance.key, None)
            instances.append(held)
            room -= HELD_BYTES + len(held.small)
        if not unheld:
            self._unheld = None
        return Holding(
            pid=self.profile.pid,
            version=self.profile.version,
            instances=tuple(instances),
            more=bool(unheld),
            isolation=self.system.isolation(),
            limits=tuple(f"{limit}:{how}" for limit, how in self.system.limits().items()),
        )

    def _launch_all(self, launches: Sequence[Launch]) -> None:
        for at in range(0, len(launches), TOGETHER_MAX):
            taken = [self._take(launch) for launch in launches[at : at + TOGETHER_MAX]]
            self._start_all([instance for instance in taken if instance is not None])

    def _take(self, launch: Launch) -> Instance | None:
        """What is to be started for it; None: nothing."""
        key = (launch.instance_id, launch.epoch)
        if key in self._instances:
            return None
        instance = Instance(launch, self)
        self._instances[key] = instance
        refusal = self._why_refuse(launch)
        if refusal is not None:
            instance.refuse(refusal.reason, refusal.message)
            return None
        self._active[key] = instance
        return instance

    def _start_all(self, instances: Sequence[Instance]) -> None:
        """An intent is in the log before anything is started."""
        if not instances:
            return
        try:
            self.log.append(*(instance.intent() for instance in instances))
        except DiskError as exc:
            for instance in instances:
                instance.give_up(f"the keeper cannot write its log: {exc}")
            return
        self._switch.expect(instances)
        wanted = [(instance, what) for instance in instances if (what := instance.wanted()) is not None]
        trees = self.system.spawn_all([what for _, what in wanted])
        for (instance, _), tree in zip(wanted, trees, strict=True):
            instance.started(tree)
        running = [instance for instance, _ in wanted if instance.key in self._active]
        try:
            self.log.append(*(Started(launched=each.launched) for each in running if each.launched is not None))
        except DiskError as exc:  # it counts in memory, and is in the file when that is written again
            self.complain(str(exc))
        self._switch.guard(running)

    def _why_refuse(self, launch: Launch) -> Why | None:
        if self.is_stopping:
            return Why("rejected", "the keeper is stopping")
        if (launch.instance_id, launch.epoch) in self._settled:
            return Why("rejected", "it has ended already")
        if launch.lease_seconds > 0 and self.system.now() >= instance_deadline(self.renewed_at, launch.lease_seconds):
            return Why("lost", LEASE_OVER)
        for instance_id, epoch in self._active:
            if instance_id == launch.instance_id:
                return Why("rejected", f"epoch {epoch} of this instance has not ended on this agent yet")
        return None

    def _end(self, instance_id: str, epoch: int, why: Why, grace_seconds: float) -> None:
        for instance in list(self._active.values()):
            if instance.key[0] == instance_id and instance.key[1] <= epoch:
                instance.end(why, grace_seconds)

    def _renew(self, renewed_at: float) -> None:
        """What has outlived the lease as it was known ends first: whoever slept through that, its agent too, may be told
        now that the server is there again, which has given away what it ran."""
        if renewed_at <= self.renewed_at:
            return
        self.tick()
        self.renewed_at = renewed_at
        self._switch.renew(renewed_at)
        self._set_all_deadlines()

    def _lease_anew(self, key: Key, seconds: float) -> None:
        instance = self._active.get(key)
        if instance is not None and seconds != instance.lease_seconds:
            instance.lease_anew(seconds)
            self._switch.guard((instance,))

    def _settle(self, ended: tuple[Key, ...]) -> None:
        """An instance that has not ended cannot be settled."""
        settled = tuple(key for key in ended if key in self._instances and key not in self._active)
        for key in settled:
            del self._instances[key]
            self._untold.pop(key, None)
            self._settled[key] = None
        while len(self._settled) > SETTLED_MAX:
            self._settled.popitem(last=False)
        if settled:
            try:
                self.log.drop(settled)
            except DiskError as exc:
                self.complain(str(exc))

    def _set_all_deadlines(self) -> None:
        for key, instance in self._active.items():
            self._deadlines.set(key, instance.deadline)


def instance_deadline(renewed_at: float, lease_seconds: float) -> float:
    """When an instance must begin to end, so that it is gone when its lease is."""
    return limits.Lease(renewed_at, lease_seconds).deadline
