"""The agent's side of the keeper: finds it or starts it, speaks with it, and replaces it when it is lost.

There is a keeper for as long as the block of `ProcessKeepers.opened` lasts. One that has died, or does not answer, is made sure to be
dead, a new one is started, and the agent hears `Attached` again: it then says all that is held. Likewise one of another version,
or started with other settings, as soon as it holds nothing.
"""

from __future__ import annotations

import contextlib
import math
from collections import deque
from collections.abc import AsyncIterator, Iterable, Iterator, Sequence
from typing import Final

import structlog
import trio
from attrs import evolve, frozen

from agent.gathering import Gathering
from agent.keeper.frames import framed
from agent.keeper.log import Key
from agent.keeper.loop import lease_now
from agent.keeper.messages import Attach, Held, Holding, KeeperMessage, Launch, Leave, Probe, Probed, Settled
from agent.keeper.place import Identity, Place, is_locked, read_identity
from agent.keeper.starting import (
    DEATH_SECONDS_MAX,
    START_SECONDS_MAX,
    KeeperBusy,
    end_keeper,
    start_keeper,
    until_dead,
)
from agent.keeper.stream import Lost, Stream, connect
from agent.keeping import Attached, KeeperError, KeeperEvent
from agent.wakeup import Wakeup
from hetuflow.ports.disk import Disk
from hetuflow.ports.ids import Ids

log = structlog.get_logger()

ATTACH_SECONDS_MAX: Final = 10.0
TRIES_MAX: Final = 5
BUSY_SECONDS: Final = 0.5
PROBE_SECONDS: Final = 2.0
MISSED_MAX: Final = 5
"""Probes in a row without a word from the keeper; then it hangs. Counted, not timed: an agent that was stopped itself must
not find its keeper guilty."""
BACKOFF_SECONDS: Final = (0.1, 0.5, 2.0, 5.0)


class KeeperLink:
    """The conversation with whatever keeper there is; see `agent.keeping.Keeping`. Made by `ProcessKeepers.opened`."""

    def __init__(
        self,
        keepers: ProcessKeepers,
        attach: Attach,
    ) -> None:
        self.identity: Identity | None = None
        """Of the keeper we are attached to, or were last."""
        self.is_attached = False
        self.problem: str | None = None
        """Why there is no keeper, when none can be had for the time being."""
        self._place, self._attach = Place(keepers.state_dir), attach
        self._disk, self._ids, self._boot_id = keepers.disk, keepers.ids, keepers.boot_id
        self._isolation = keepers.isolation
        self._stream: Stream | None = None
        """To a keeper that is attached, and not known to be lost."""
        self._events: list[KeeperEvent] = []
        """Heard and not yet taken, before the stream is read."""
        self._changed = Wakeup()
        self._failed = trio.Event()
        self._failure: Lost | None = None
        self._reading = Gathering()
        self._read_next_at = -math.inf
        self._unsent: deque[bytes] = deque()
        """No more than what is held here: a launch for each slot. A keeper that does not read is found by its silence."""
        self._unsent_bytes = 0
        self._gathered = 0
        self._is_writing = False
        self._ready = Wakeup()
        self._sent = trio.Event()
        self._heard = True
        self._is_reading = self._has_left = self._is_retired = self._is_over = False
        self._held: set[Key] = set()
        """What the keeper has, or will have when it has read what it was told."""

    def __repr__(self) -> str:
        pid = self.identity.pid if self.identity is not None else None
        return f"<KeeperLink to {pid}{'' if self.is_attached else ', lost'}>"

    @property
    def keeper_pid(self) -> int | None:
        return self.identity.pid if self.identity is not None else None

    @property
    def watchdog_pid(self) -> int | None:
        return self.identity.watchdog_pid if self.identity is not None else None

    def send(self, message: KeeperMessage) -> None:
        """At once, in order; dropped while no keeper is attached: the next `Attached` says what it does not know.

        Raises `LocalProtocolError` for a message that cannot be encoded.
        """
        frame = framed(message)
        if not self.is_attached:
            return
        self._push(frame)
        match message:
            case Leave():
                self._has_left = True
            case Launch(instance_id=instance_id, epoch=epoch):
                self._held.add((instance_id, epoch))
            case Settled(ended=ended):
                self._held.difference_update(ended)
                self._retire_if_idle()

    @contextlib.contextmanager
    def gathered(self) -> Iterator[None]:
        """What is sent within the block leaves at its end, together."""
        self._gathered += 1
        try:
            yield
        finally:
            self._gathered -= 1
            self._write_now()

    async def receive(self) -> Sequence[KeeperEvent]:
        """What has happened, at least one event; the very first is `Attached`. Raises `trio.EndOfChannel` when the keeper is
        gone after a `Leave`.

        The socket is read here, by whoever wants to know: while nobody does, the keeper sums up.
        """
        while True:
            if self._events:
                heard, self._events = self._events, []
                await trio.lowlevel.checkpoint()
                return heard
            if self._is_over:
                raise trio.EndOfChannel
            stream = self._stream
            if stream is None:
                await self._changed.wait()
            elif (events := await self._read(stream)) is not None:
                return events

    async def flush(self) -> None:
        """Everything sent so far has left the agent, or the keeper is lost."""
        while self._unsent_bytes and self.is_attached:
            self._sent = trio.Event()
            await self._sent.wait()

    # --- inside ----------------------------------------------------------------------------------------------------

    async def run(self, first: _Reached) -> None:
        """Until cancelled, or the keeper is gone after a `Leave`. `first`: what `reach` has returned."""
        reached, why = first, ""
        while True:
            why = await self._converse(reached, why)
            if self._has_left:
                self._is_over = True
                self._changed.set()
                return
            if self._is_retired:
                why = ""
            else:
                log.error("the keeper is lost", problem=why)
            reached = await self._reach_again()

    async def _start(self) -> None:
        await start_keeper(
            self._place,
            version=self._attach.version,
            boot_id=self._boot_id,
            ids=self._ids,
            agent_id=self._attach.agent_id,
            isolation=self._isolation,
        )

    async def reach(self) -> _Reached:
        """A keeper that has answered: the one that runs, else a new one. Raises `KeeperError`."""
        problem = f"see {self._place.complaints}"
        patience = trio.current_time() + START_SECONDS_MAX
        tries = 0
        while tries < TRIES_MAX:
            found = self._found()
            if found is None:
                try:
                    await self._start()
                except KeeperBusy as exc:
                    problem = f"{exc}, and {self._place.identity} does not say which"
                    if trio.current_time() < patience:
                        await self._until_found()
                        continue
                except KeeperError as exc:
                    problem = str(exc)
                tries += 1
                continue
            tries += 1
            try:
                reached = await self._attach_to(found)
                if self._is_outdated(found) and not reached.attached.instances:
                    await self._retire(reached.stream, found)
                    continue
                return reached
            except Lost as exc:
                problem = f"the keeper (process {found.pid}) cannot be used: {exc}"
                log.warning("the keeper cannot be used", pid=found.pid, problem=str(exc))
                await self._until_gone(found, hangs=exc.hangs)
        raise KeeperError(f"no keeper can be reached: {problem}")

    def _found(self) -> Identity | None:
        """The keeper that runs, as it says itself; it holds the lock."""
        found = read_identity(self._disk, self._place)
        return found if found is not None and found.is_alive(self._boot_id) and is_locked(self._place) else None

    async def _until_found(self) -> None:
        """One that starts says who it is in a moment; one that ends lets another begin."""
        with trio.move_on_after(BUSY_SECONDS):
            while self._found() is None:  # noqa: ASYNC110 (nobody tells)
                await trio.sleep(BUSY_SECONDS / 10)

    async def _reach_again(self) -> _Reached:
        failures = 0
        while True:
            try:
                reached = await self.reach()
            except KeeperError as exc:
                if self.problem is None:
                    log.error("there is no keeper", problem=str(exc))
                self.problem = str(exc)
                await trio.sleep(BACKOFF_SECONDS[min(failures, len(BACKOFF_SECONDS) - 1)])
                failures += 1
            else:
                self.problem = None
                return reached

    def _is_outdated(self, keeper: Identity) -> bool:
        """Whether we would start another one than this."""
        return (keeper.version, keeper.isolation) != (self._attach.version, self._isolation)

    async def _retire(self, stream: Stream, keeper: Identity) -> None:
        """Let one go that holds nothing, to be replaced."""
        log.info("another keeper takes the place of an idle one", version=keeper.version, pid=keeper.pid)
        try:
            await stream.send(framed(Leave()))
        finally:
            await trio.aclose_forcefully(stream.raw)
        await self._until_gone(keeper, hangs=True)

    def _retire_if_idle(self) -> None:
        """Likewise, of one that we speak with. It may be told of a launch behind that: whether it still runs that or is gone,
        what it, or the next one, holds says so."""
        if self._held or self._has_left or self._is_retired:
            return
        if self.identity is not None and self._is_outdated(self.identity):
            log.info("another keeper takes the place of an idle one", version=self.identity.version)
            self._is_retired = True
            self._push(framed(Leave()))

    def _push(self, frame: bytes) -> None:
        self._unsent.append(frame)
        self._unsent_bytes += len(frame)
        if not self._gathered:
            self._write_now()

    def _write_now(self) -> None:
        """What the socket takes; the rest is `_write`'s, which takes a turn of the run loop."""
        if not self._unsent:
            return
        if self._stream is None or self._is_writing:
            self._ready.set()
            return
        data = b"".join(self._unsent)
        written = self._stream.send_nowait(data)
        self._unsent.clear()
        self._unsent_bytes -= written
        if written < len(data):
            self._unsent.append(data[written:])
            self._ready.set()

    async def _until_gone(self, found: Identity, *, hangs: bool) -> None:
        """One that is just ending may do so. One that nobody can talk to is ended; one that only refuses us is not."""
        with trio.move_on_after(DEATH_SECONDS_MAX):
            await until_dead(found, self._boot_id)
            return
        if not hangs:
            raise KeeperError(
                f"the keeper (process {found.pid}) does not take this agent: see {self._place.complaints}"
            )
        await end_keeper(found, self._boot_id)

    async def _attach_to(self, found: Identity) -> _Reached:
        """Raises `Lost`."""
        stream = await connect(self._place, found)
        try:
            with trio.move_on_after(ATTACH_SECONDS_MAX):
                await stream.send(framed(self._attach))
                return await self._first_answer(stream, found)
            raise Lost(f"it did not answer within {ATTACH_SECONDS_MAX:g} s", hangs=True)
        except BaseException:
            await trio.aclose_forcefully(stream.raw)
            raise

    async def _first_answer(self, stream: Stream, found: Identity) -> _Reached:
        """All that it holds, and what came behind that already."""
        instances: list[Held] = []
        while True:
            messages = deque(await stream.receive())
            while messages:
                message = messages.popleft()
                if not isinstance(message, Holding):
                    continue
                instances.extend(message.instances)
                if message.more:
                    continue
                attached = Attached(
                    instances=tuple(instances),
                    pid=message.pid,
                    isolation=message.isolation,
                    limits=message.limits,
                    restarted=self.identity is not None and self.identity != found,
                )
                self.identity = found
                return _Reached(stream, attached, messages)

    async def _converse(self, reached: _Reached, why: str) -> str:
        """Until the keeper is lost; why. `why`: what became of the one before."""
        stream = reached.stream
        self._held = {(each.launched.instance_id, each.launched.epoch) for each in reached.attached.instances}
        self._is_retired = False
        self.is_attached, self._is_writing = True, False
        self._failed, self._failure = trio.Event(), None
        self._events = [evolve(reached.attached, why=why), *_of_programs(reached.behind)]
        self._stream = stream
        self._changed.set()
        hangs = False
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._write, stream)
                nursery.start_soon(self._probe)
                await self._failed.wait()
                assert self._failure is not None
                raise self._failure
        except* Lost as group:
            lost = _first(group)
            why, hangs = str(lost), lost.hangs
        finally:
            self.is_attached = False
            self._stream = None
            self._unsent.clear()
            self._unsent_bytes = 0
            self._sent.set()
            with trio.CancelScope(shield=True):
                await trio.aclose_forcefully(stream.raw)
        if hangs and self.identity is not None:
            with contextlib.suppress(KeeperError):
                await end_keeper(self.identity, self._boot_id)
        return why

    async def _read(self, stream: Stream) -> Sequence[KeeperEvent] | None:
        """What the next read gives; None when that is nothing, or the keeper is lost."""
        if trio.current_time() < self._read_next_at:
            await trio.sleep_until(self._read_next_at)
            if stream is not self._stream:
                return None
        self._is_reading = True
        try:
            messages = await stream.receive()
        except Lost as lost:
            if stream is self._stream:
                self._stream, self._failure = None, lost
                self._failed.set()
            return None
        finally:
            self._is_reading = False
        self._heard = True
        self._read_next_at = self._reading.done(trio.current_time(), len(self._held))
        return _of_programs(messages) or None

    async def _write(self, stream: Stream) -> None:
        while True:
            if not self._unsent:
                await self._ready.wait(until=math.inf)
                continue
            data = b"".join(self._unsent)
            self._unsent.clear()
            self._is_writing = True
            await stream.send(data)
            self._is_writing = False
            self._unsent_bytes -= len(data)
            self._sent.set()

    async def _probe(self) -> None:
        """A keeper that says nothing, though it is asked and heard, hangs."""
        missed = token = 0
        while True:
            self._heard = False
            token += 1
            self.send(Probe(token=token))
            await trio.sleep(PROBE_SECONDS)
            missed = 0 if self._heard or not self._is_reading else missed + 1
            if missed >= MISSED_MAX:
                raise Lost(f"the keeper has not answered {missed} times in {missed * PROBE_SECONDS:g} s", hangs=True)


@frozen(slots=True)
class _Reached:
    """A keeper that has answered."""

    stream: Stream
    attached: Attached
    behind: Sequence[KeeperMessage]
    """Messages that came in the same breath."""


def _of_programs(messages: Iterable[KeeperMessage]) -> list[KeeperEvent]:
    return [message for message in messages if not isinstance(message, Probed)]


def _first(group: BaseExceptionGroup[Lost]) -> Lost:
    inner: BaseException = group
    while isinstance(inner, BaseExceptionGroup):
        inner = inner.exceptions[0]
    assert isinstance(inner, Lost)
    return inner


@frozen(slots=True, kw_only=True)
class ProcessKeepers:
    """See `agent.keeping.Keepers`: a keeper that is a process of its own, one per state directory."""

    state_dir: str
    boot_id: str
    disk: Disk
    ids: Ids
    isolation: str = "auto"
    """Of keepers that are started; one of `agent.containment.ISOLATIONS`."""
    why_gone: str = "the keeper has lost it"
    remembers: bool = True

    def now(self) -> float:
        return lease_now()

    @contextlib.asynccontextmanager
    async def opened(self, attach: Attach) -> AsyncIterator[KeeperLink]:
        """A keeper for the length of the block. It stays when the block ends, unless it was told `Leave`.

        Raises `KeeperError` at the beginning, when there is none and none can be started.
        """
        link = KeeperLink(self, attach)
        first = await link.reach()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(link.run, first)
            yield link
            nursery.cancel_scope.cancel()
