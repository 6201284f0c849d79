"""One connection's life, from hello to its end.

One task, the *work loop*, sends reports and output, and beats. So a heartbeat proves that the loop turns; an agent that hangs
stops beating. A second task takes frames from the connection. While the work loop waits for something to do, what they say is
done there and then, and the loop has a turn only if there is something to answer: orders and acknowledgements, which are most
of it, ask for none. While the loop is busy, such as with a peer that takes nothing, they go into its bounded inbox. When that
is full the second task waits, and so does the peer.

Where much is said, several messages share a frame and a turn (`agent.gathering`): reports wait for each other, never for
longer than a few milliseconds, and so does the next look at what has come. Heartbeats and all that is about leases, orders to
stop, answers and output wait for nothing.

Every send has a deadline. A heartbeat that is not answered in time ends the connection.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, Protocol, runtime_checkable

import structlog
import trio

from agent.commands import Obeying
from agent.gathering import Gathering, window_seconds
from agent.limits import Lease
from agent.pace import INTERVAL_SECONDS_MIN, Pace
from agent.run import lease_seconds_of
from agent.skew import in_protocol
from agent.wakeup import Wakeup
from agent.work import Moment, Work
from agent.workplace import StopOrder
from hetuflow.ports.network import ConnectionLost, MessageStream
from hetuflow.protocol.errors import CloseCode, ProtocolError
from hetuflow.protocol.messages import (
    PROTOCOL_VERSION,
    PROTOCOL_VERSION_MIN,
    Ack,
    ArtifactStored,
    Command,
    Condition,
    Dispatch,
    FilePart,
    Forget,
    Heartbeat,
    HeartbeatAck,
    HeartbeatHeard,
    Hello,
    Message,
    OutputAck,
    Ping,
    Pong,
    Refused,
    Shutdown,
    Standing,
    Stop,
    WatchFiles,
    Welcome,
)
from hetuflow.protocol.session import Role, Session, State

log = structlog.get_logger()

GREET_SECONDS_MAX: Final = 15.0
"""The server paces admissions; it has this long to answer a hello."""
SEND_SECONDS_MAX: Final = 10.0
PACED_PROTOCOL: Final = 2
"""The first in which a server has heard which interval the agent is configured for."""
UNRENEWED_SHARE_MAX: Final = 0.25
"""Of the lease: so long a server is kept that answers and does not renew it, when there is another address to try."""
INBOX_FRAMES_MAX: Final = 64
OUTPUT_BYTES_PER_TURN: Final = 192 * 1024
ARTIFACT_BYTES_PER_TURN: Final = 192 * 1024


SUPERSEDED: Final = "another agent with this identity has taken over: the server has given its work to others"


OBSERVED_PROTOCOL: Final = 2
"""The first in which a server hears what instances use, and how the agent is."""


LEASE_OVER: Final = "its lease was over before it could be started"


UNANSWERED: Final = frozenset((Dispatch, Ack, OutputAck))
"""After these the work loop has nothing to do, unless whoever carries them out says so."""
THICK_BYTES_MAX: Final = 16 * 1024
"""What comes at once and is larger has nothing to gain from being gathered."""


@runtime_checkable
class Ahead(Protocol):
    """A `MessageStream` that may have more messages at hand than the one that it gave."""

    def take(self) -> list[bytes]:
        """Those, in order; they will not be received."""
        ...


class Silent(Exception):
    """The server does not answer, or does not take what we send."""


class Link:
    """See the module. `ready` wakes the work loop: there is something to say."""

    def __init__(self, work: Work, stream: MessageStream, ready: Wakeup) -> None:
        self._work, self._stream, self._ready = work, stream, ready
        self._has_others = len(work.profile.server_urls) > 1
        self.session = Session(Role.AGENT)
        self._inbox: deque[bytes] = deque()
        self._inbox_freed = Wakeup()
        self._lost: ConnectionLost | ProtocolError | None = None
        self._is_waiting = False
        """The work loop has nothing under way."""
        self._hearing = Gathering()
        self._sent_at = float("-inf")
        self._replies: list[Message] = []
        self._told_facts: Mapping[str, Any] = {}
        self._acked: list[int] = []
        self._end: str | None = None
        self.refusal: str | None = None
        """What the server said when it wanted this agent not, or no longer."""
        self.was_let_in = False
        self.protocol = PROTOCOL_VERSION_MIN
        """What is spoken here: the server's welcome says so."""
        self.is_away = False
        """It is the server that cannot do anything now: it stops, or its database is away."""
        self._beats: dict[int, Moment] = {}
        """Sequence of a heartbeat -> when it was sent: those not acknowledged yet."""
        self._beat_sequence = 0
        self._unrenewed: float | None = None
        """Since when the server has answered heartbeats without renewing the lease."""
        self._pace = Pace(work.profile.heartbeat_interval)
        self._next_beat = self._next_check = float("inf")
        self._check_interval = work.profile.check_interval
        self._greet_deadline = float("inf")
        self._handlers: dict[type[Message], Callable[[Any], None]] = {
            Welcome: self._welcomed,
            Refused: self._refused,
            HeartbeatAck: self._beat_acked,
            HeartbeatHeard: self._beat_heard,
            Dispatch: self._dispatched,
            Stop: self._stop,
            Forget: self._forget,
            Standing: self._standing,
            Command: self._commanded,
            WatchFiles: self._work.watch,
            Ack: lambda message: self._acked.extend(message.sequences),
            OutputAck: self._output_acked,
            ArtifactStored: self._artifact_stored,
            FilePart: self._work.fetching.answered,
            Ping: lambda message: self._replies.append(Pong(token=message.token)),
            Pong: lambda message: None,
            Shutdown: self._shutdown,
        }

    @property
    def is_open(self) -> bool:
        return self.session.state in (State.OPEN, State.STOPPING)

    async def run(self) -> str:
        """Until the conversation is over; why. Raises `ConnectionLost`, `ProtocolError`, `Silent`."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._receive)
            try:
                await self._greet()
                while self._end is None:
                    await self._turn()
            except (ConnectionLost, ProtocolError, Silent) as exc:
                problem: Exception | None = exc
            else:
                problem = None
            nursery.cancel_scope.cancel()
        if problem is not None:
            raise problem
        return self._end or "closed"

    async def _receive(self) -> None:
        take_more = self._stream.take if isinstance(self._stream, Ahead) else list[bytes]
        try:
            while True:
                frames = [await self._stream.receive(), *take_more()]
                if self._is_waiting and not self._inbox:
                    if self._hear(frames) or self._end is not None:
                        self._ready.set()
                else:
                    for frame in frames:
                        while len(self._inbox) >= INBOX_FRAMES_MAX:
                            await self._inbox_freed.wait()
                        self._inbox.append(frame)
                    self._ready.set()
                now = trio.current_time()
                following = self._hearing.done(now, self._work.executor.active_count)
                if following > now and sum(map(len, frames)) < THICK_BYTES_MAX:
                    await trio.sleep_until(following)
        except (ConnectionLost, ProtocolError) as exc:
            self._lost = exc
            self._ready.set()

    async def _greet(self) -> None:
        profile = self._work.profile
        hello = Hello(
            agent_id=profile.agent_id,
            name=profile.name,
            boot_id=profile.boot_id,
            incarnation=self._work.incarnation,
            life=self._work.life,
            version=profile.version,
            host=profile.host,
            slots=profile.slots,
            protocol=PROTOCOL_VERSION_MIN,
            protocol_max=PROTOCOL_VERSION,
            features=profile.features,
            labels=profile.labels,
            metadata=profile.metadata,
            lost_after_seconds=profile.lost_after_seconds,
            heartbeat_interval=profile.heartbeat_interval,
            last_acked=self._work.reports.last_acked,
            known=self._work.known(),
            store_id=self._work.store_id,
            protected_labels=profile.policy.protected_labels,
        )
        self._hello_sent = self._work.moment()
        self._greet_deadline = self._hello_sent.at + GREET_SECONDS_MAX
        await self._send([hello])

    async def _turn(self) -> None:
        """Wait for something to do, and do all of it: hear, decide, say, beat."""
        self._is_waiting = True
        await self._ready.wait(until=self._next_deadline(), rest_until=self._rests_until())
        self._is_waiting = False
        if self._inbox:
            frames = list(self._inbox)
            self._inbox.clear()
            self._inbox_freed.set()
            self._hear(frames)
        if self._lost is not None and not self._inbox:
            raise self._lost
        if self.is_open:
            messages = self._collect(trio.current_time())
            if messages:
                await self._send(messages)
        self._check_silence(trio.current_time())

    def _hear(self, frames: Sequence[bytes]) -> bool:
        """Do what they say, until one ends the conversation; whether there is something to answer."""
        is_asked = False
        with self._work.executor.gathered():
            for frame in frames:
                if self._end is not None:
                    break
                for message in self.session.receive(frame):
                    kind = type(message)
                    self._handlers[kind](message)
                    is_asked = is_asked or kind not in UNANSWERED
        if self._acked:  # together: one record in the journal
            self._work.reports.acked(self._acked)
            self._acked.clear()
        return is_asked

    def _rests_until(self) -> float:
        return self._sent_at + window_seconds(self._work.executor.active_count)

    def _next_deadline(self) -> float:
        if not self.is_open:
            return self._greet_deadline
        return min(self._next_beat, self._work.reports.next_deadline, self._silent_at)

    @property
    def _silent_at(self) -> float:
        """When the first heartbeat that was sent and is not acknowledged has waited long enough."""
        if not self._beats:
            return float("inf")
        return next(iter(self._beats.values())).at + self._ack_seconds

    @property
    def _interval(self) -> float:
        """Between two heartbeats."""
        return self._pace.interval(self._work.executor.shortest_lease_seconds, trio.current_time())

    @property
    def _ack_seconds(self) -> float:
        return self._pace.ack_seconds(self._work.executor.shortest_lease_seconds)

    def _check_silence(self, now: float) -> None:
        if not self.is_open and self._end is None and now >= self._greet_deadline:
            raise Silent(f"the server did not answer the hello within {GREET_SECONDS_MAX:g} s")
        if now >= self._silent_at:
            raise Silent(f"a heartbeat was not answered within {self._ack_seconds:g} s")

    def _collect(self, now: float) -> list[Message]:
        """What is to be said now: replies, the output that precedes an end, reports, the heartbeat."""
        messages, self._replies = self._replies, []
        if self._work.stopping is not None and self.session.state is State.OPEN:
            messages.append(Shutdown(reason=self._work.stopping))
        messages.extend(self._work.shipping.take(OUTPUT_BYTES_PER_TURN))
        messages.extend(self._work.fetching.take())
        messages.extend(self._work.artifacts.take(ARTIFACT_BYTES_PER_TURN))
        messages.extend(in_protocol(report, self.protocol) for report in self._work.reports.take())
        if self._work.shipping.has_more or self._work.artifacts.has_more:
            self._ready.set()
        if now >= self._next_beat:
            messages.append(self._heartbeat(now))
            if self.protocol >= OBSERVED_PROTOCOL:
                messages.extend(self._work.executor.usage.take())
                messages.extend(self._changed_condition())
        return messages

    def _changed_condition(self) -> list[Message]:
        facts = self._work.facts()
        if facts == self._told_facts:
            return []
        self._told_facts = facts
        return [Condition(facts=facts)]

    def _heartbeat(self, now: float) -> Heartbeat:
        self._beat_sequence += 1
        self._beats[self._beat_sequence] = self._work.moment()
        self._next_beat = now + self._interval
        known = None
        if now >= self._next_check:
            known = self._work.known()
            self._next_check = now + self._check_interval
        return Heartbeat(sequence=self._beat_sequence, metrics=self._work.metrics(), known=known)

    async def _send(self, messages: list[Message]) -> None:
        for frame in self.session.send(messages):
            with trio.move_on_after(SEND_SECONDS_MAX) as patience:
                await self._stream.send(frame)
            if patience.cancelled_caught:
                raise Silent(f"the server did not take a message within {SEND_SECONDS_MAX:g} s")
        self._sent_at = trio.current_time()

    # --- what the server says --------------------------------------------------------------------------------------

    def _welcomed(self, message: Welcome) -> None:
        self.was_let_in = True
        self.protocol = message.protocol
        now = trio.current_time()
        told, lease_seconds = message.heartbeat_interval, message.lease_seconds
        self._pace.welcomed(told, lease_seconds, is_final=self.protocol >= PACED_PROTOCOL)
        self._check_interval = max(INTERVAL_SECONDS_MIN, min(self._check_interval, message.check_interval))
        self._next_beat, self._next_check = now, now + self._check_interval
        self._work.renew_lease(self._hello_sent, message.lease_seconds)
        self._work.reports.restart()
        self._work.shipping.restart()
        self._work.artifacts.restart()
        self._work.fetching.restart()
        self._ready.set()
        self._note_store(message.store_id)
        self._work.changed()
        log.info("connected", server=message.server_id, session=message.session, peer=self._stream.peer)

    def _note_store(self, store_id: str) -> None:
        """A store that is another one, or an earlier state of itself, does not know all that this agent has done."""
        known = self._work.store_id
        if not store_id or store_id == known:
            return
        if known:
            log.error(
                "the server has another event store: a backup was restored, or the agent was moved to another"
                " installation; what that store does not know is ended",
                store=store_id,
                before=known,
            )
            self._work.shipping.rewind()
        self._work.store_id = store_id
        self._work.store_changed(store_id)

    def _refused(self, message: Refused) -> None:
        self.refusal = message.reason
        self.is_away = message.code == CloseCode.GOING_AWAY
        self._end = f"refused by the server ({message.code}: {message.reason})"
        if message.code == CloseCode.SUPERSEDED:
            self._work.executor.stop_all(StopOrder("lost", SUPERSEDED, self._work.lease.grace_seconds))

    def _beat_heard(self, message: HeartbeatHeard) -> None:
        """The server lives and may not renew the lease. With another address to try, it is left in time."""
        if message.sequence not in self._beats:
            return
        self._beats = {number: at for number, at in self._beats.items() if number > message.sequence}
        now = trio.current_time()
        if self._unrenewed is None:
            self._unrenewed = now
            log.warning("the server does not renew the lease", reason=message.reason)
        if self._has_others and now - self._unrenewed >= self._pace.lease_seconds * UNRENEWED_SHARE_MAX:
            self._end = f"the server has not renewed the lease for {now - self._unrenewed:.0f} s: {message.reason}"

    def end(self, why: str) -> None:
        """Leave this connection: what still comes by it is not heard."""
        self._end = why
        self._ready.set()

    def _beat_acked(self, message: HeartbeatAck) -> None:
        sent = self._beats.get(message.sequence)
        if sent is None:
            return
        self._beats = {number: at for number, at in self._beats.items() if number > message.sequence}
        self._unrenewed = None
        if message.heartbeat_interval > 0:
            self._pace.told(message.heartbeat_interval)
            self._next_beat = min(self._next_beat, trio.current_time() + self._interval)
        self._work.renew_lease(sent, self._pace.lease_seconds)

    def _dispatched(self, message: Dispatch) -> None:
        """Start it, if there is a lease to run under.

        An agent that was stopped (SIGSTOP, a suspended machine) finds orders in its connection that are older than its
        lease: the server has given their tasks to others. The next hello does not name them, and that settles them.
        """
        if self._work.lease_is_over():
            log.warning("an order came when the lease was over: not started", instance=message.instance_id)
            self._end = "the lease ran out before an order was read"
        elif message.lost_after_seconds:
            self._dispatched_with_lease(message)
        else:
            self._work.executor.dispatch(message)

    def _dispatched_with_lease(self, message: Dispatch) -> None:
        """It has a lease of its own, perhaps a shorter one, which counts from the last renewal as the others do.

        Where that is over, the order goes back, to be given again after the heartbeat that is sent now: by when the server
        has given it away, only that knows, who sent it before we could tell. For a while we beat as often as such a lease
        asks for, so that it happens once.
        """
        now = trio.current_time()
        self._pace.given(message.lost_after_seconds, now)
        lease_seconds = lease_seconds_of(message, self._pace.lease_seconds)
        if now < Lease(self._work.renewed_at, lease_seconds).deadline or lease_seconds == float("inf"):
            self._work.executor.dispatch(message)
            self._next_beat = min(self._next_beat, now + self._interval)
            self._ready.set()
        else:
            self._work.executor.dispatch(message, LEASE_OVER)
            self._beat_now()
        self._work.lease_changed.set()

    def _stop(self, message: Stop) -> None:
        reason = message.reason or "cancelled"
        order = StopOrder("cancelled", f"ended on request: {reason}", max(0.0, message.grace_seconds))
        self._work.executor.stop(message.instance_id, message.epoch, order)

    def _commanded(self, message: Command) -> None:
        work = self._work
        Obeying(
            work.stop,
            work.clear_cache,
            self._beat_now,
            self._set_interval,
            work.log_ring.after,
            self._replies.append,
            work.profile.policy,
        ).obey(message)

    def _beat_now(self) -> None:
        self._next_beat = trio.current_time()
        self._ready.set()

    def _set_interval(self, name: str, seconds: float) -> None:
        seconds = max(INTERVAL_SECONDS_MIN, seconds)
        if name == "check_interval":
            self._check_interval = seconds
            self._next_check = min(self._next_check, trio.current_time() + seconds)
        else:
            self._pace.ordered(seconds)
            self._next_beat = min(self._next_beat, trio.current_time() + self._interval)
        self._ready.set()

    def _standing(self, message: Standing) -> None:
        self._work.executor.stand(message)

    def _forget(self, message: Forget) -> None:
        for instance_id in message.instance_ids:
            self._work.executor.forget(instance_id)
            self._work.shipping.forget(instance_id)
            self._work.artifacts.forget(instance_id)
        self._work.reports.forget(message.instance_ids)

    def _output_acked(self, message: OutputAck) -> None:
        self._work.shipping.acked(message.instance_id, message.stream, message.offset_end)
        self._work.reports.output_acked()
        if self._work.shipping.has_more:
            self._ready.set()

    def _artifact_stored(self, message: ArtifactStored) -> None:
        self._work.artifacts.heard(message)
        if self._work.artifacts.has_more:
            self._ready.set()

    def _shutdown(self, message: Shutdown) -> None:
        log.info("the server is stopping", reason=message.reason)
