"""One session of one agent, after its welcome: what it says is handed on, what it is to be told goes out.

The reading task only reads, decodes and hands on; commits, output and sends are tasks of their own. Anything that goes
wrong here ends this connection with a code and a reason, and no other.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence

import trio

from hetuflow.actors import FOLLOWING, ActorSystem
from hetuflow.actors.patience import FAILING, STOPPING
from hetuflow.domain import execution
from hetuflow.domain.commands import Report, ReportEnded
from hetuflow.domain.decider import Address, Available, DispatchOrder
from hetuflow.domain.enums import InstanceReason
from hetuflow.domain.event_watch import Watches
from hetuflow.domain.rejection import Rejected
from hetuflow.gateway.files import Fetching, FileRoom, artifact_intake
from hetuflow.gateway.hooks import SchedulerHooks
from hetuflow.gateway.intake import Intake
from hetuflow.gateway.observations import ObservationIntake
from hetuflow.gateway.outbox import Outbox, OutboxFull
from hetuflow.gateway.output import OutputSink, output_intake
from hetuflow.gateway.questions import Questions
from hetuflow.gateway.reports import ReportIntake
from hetuflow.gateway.settings import INTERVAL_CHANGE_MIN, GatewaySettings
from hetuflow.gateway.translate import dispatch_of, metrics_of, standing_of
from hetuflow.gateway.usage import Condition, UsageIntake, bounded
from hetuflow.ports.clock import Clock
from hetuflow.ports.network import MessageStream
from hetuflow.protocol.errors import CloseCode, LocalProtocolError
from hetuflow.protocol.messages import (
    ArtifactPart,
    Dispatch,
    Ended,
    FetchPart,
    FileWatch,
    Heartbeat,
    HeartbeatAck,
    HeartbeatHeard,
    Known,
    KnownState,
    LogLines,
    Message,
    Observed,
    Output,
    Ping,
    Pong,
    Refused,
    Shutdown,
    Standing,
    Started,
    Stop,
    Usage,
    WatchFiles,
)
from hetuflow.protocol.messages import Condition as Facts
from hetuflow.protocol.session import Session

log = logging.getLogger(__name__)

LOST = "the connection was lost"
NOT_YOURS = "the server does not count it as this agent's any more"
UNSURE = "the server cannot confirm in its database that it is known to live"
STRIKES = 2
"""Comparisons in a row that must miss an instance: an order may have been under way during the first."""


class Connection:
    def __init__(
        self,
        *,
        agent_id: str,
        session: str,
        incarnation: int,
        labels: Mapping[str, str],
        stream: MessageStream,
        protocol: Session,
        system: ActorSystem,
        scheduler: SchedulerHooks,
        sink: OutputSink,
        files: FileRoom,
        usage: UsageIntake,
        clock: Clock,
        settings: GatewaySettings,
        interval: Callable[[], float],
    ) -> None:
        self.agent_id = agent_id
        self.session = session
        self.incarnation = incarnation
        self.address = stream.peer
        self.connected_at = self.last_message_at = self.last_heard_at = clock.now()
        self.metrics: dict[str, float] = {}
        self.condition = Condition()
        self.questions = Questions()
        self.received = 1
        self.ended = trio.Event()
        self.end_code, self.end_reason = CloseCode.NORMAL, LOST
        self._stream = stream
        self._protocol = protocol
        self._system = system
        self._scheduler = scheduler
        self._clock = clock
        self._settings = settings
        self._interval, self._told_interval = interval, interval()
        self._scope = trio.CancelScope()
        self._pongs: dict[str, trio.Event] = {}
        self._missing: dict[tuple[str, int], int] = {}
        self._outbox = Outbox(settings.outbox_messages_max, self._not_sent)
        self._reports = ReportIntake(system, agent_id, self._outbox.acknowledge, reports_max=settings.reports_max)
        self._observations = ObservationIntake(
            system, agent_id, self._outbox.acknowledge, waiting_max=settings.reports_max
        )
        self._output = output_intake(sink, self.tell, bytes_max=settings.output_bytes_max)
        self._files = files
        self._usage = usage
        self._artifacts: Intake[ArtifactPart] | None = None
        self._fetching: Fetching | None = None
        self._standing = Standing(labels=labels)
        self._nursery: trio.Nursery | None = None

    def __repr__(self) -> str:
        return f"<Connection {self.agent_id} {self.session} from {self.address}>"

    @property
    def sent(self) -> int:
        return self._outbox.sent

    async def run(self) -> None:
        """Until the connection ends, for whatever reason: `end_code` and `end_reason` then say why."""
        with self._scope:
            async with trio.open_nursery() as self._nursery:
                await self._nursery.start(self._reports.run)
                self._nursery.start_soon(self._output.run)
                self._nursery.start_soon(self._observations.run)
                self._nursery.start_soon(self._outbox.run, self._protocol, self._stream, self._settings.send_seconds)
                await self._read()

    # --- to the agent ------------------------------------------------------------------------------------------------

    def tell(self, message: Message) -> None:
        """Send this; a peer that does not take what it is sent loses its connection."""
        try:
            self._outbox.put(message)
        except OutboxFull:
            self.end(CloseCode.OVERLOADED, "too much is waiting to be sent")

    def deliver(self, order: DispatchOrder) -> None:
        self.tell(dispatch_of(order))

    def stop(
        self, instance_id: str, epoch: int, reason: str, grace_seconds: float = execution.KILL_GRACE_SECONDS
    ) -> None:
        self.tell(Stop(instance_id=instance_id, epoch=epoch, reason=reason, grace_seconds=float(grace_seconds)))

    def stand(self, agent: Available) -> None:
        """Tell the agent its labels and whether it is draining, unless it was told the same last."""
        standing = standing_of(agent)
        if standing != self._standing:
            self._standing = standing
            self.tell(standing)

    def watch(self, watches: Watches) -> None:
        """Have the agent observe these files and no others; one that cannot does not know the message, and skips it."""
        told = tuple(FileWatch(glob=glob, types=types) for glob, types in watches)
        self.tell(WatchFiles(watches=told))

    def end(self, code: CloseCode, reason: str) -> None:
        """End this connection, nothing more is sent. Returns at once; `ended` says when it is over."""
        if not self._scope.cancel_called:
            self.end_code, self.end_reason = code, reason
            self._scope.cancel()

    async def dismiss(self, code: CloseCode, reason: str) -> None:
        """Say why and end: what was put before is sent first, within the send deadline."""
        self.tell(Refused(code=code, reason=reason))
        with trio.move_on_after(self._settings.close_seconds):
            await self._outbox.drained()
        self.end(code, reason)

    def shut_down(self, reason: str) -> None:
        """Tell the agent to expect nothing new; reports, output and acknowledgements still flow."""
        self.end_reason = reason
        self.tell(Shutdown(reason=reason))

    async def drained(self) -> None:
        """Wait until every report that has arrived is committed and acknowledged, or the connection has ended."""
        async with trio.open_nursery() as nursery:

            async def until_ended() -> None:
                await self.ended.wait()
                nursery.cancel_scope.cancel()

            nursery.start_soon(until_ended)
            await self._reports.drained()
            await self._observations.drained()
            await self._outbox.drained()
            nursery.cancel_scope.cancel()

    async def answers_ping(self, token: str) -> bool:
        """Whether the agent still answers on this connection, within the ping's deadline."""
        heard = self._pongs[token] = trio.Event()
        self.tell(Ping(token=token))
        try:
            with trio.move_on_after(self._settings.ping_seconds):
                await heard.wait()
            return heard.is_set() and not self.ended.is_set()
        finally:
            del self._pongs[token]

    def has_ended(self) -> None:
        """Tell those who wait for the end of this connection, or for its agent's answer."""
        self.ended.set()
        for heard in self._pongs.values():
            heard.set()

    def _not_sent(self, message: Message, why: LocalProtocolError) -> None:
        """An order that no frame can hold will never start: say so in the agent's place."""
        if isinstance(message, Dispatch) and why.code is not CloseCode.UNEXPECTED and self._nursery is not None:
            self._nursery.start_soon(self._start_failed, message, why.reason)

    async def _start_failed(self, message: Dispatch, why: str) -> None:
        now = self._clock.now()
        ended = ReportEnded(
            instance_id=message.instance_id,
            agent_id=self.agent_id,
            epoch=message.epoch,
            reason=InstanceReason.START_ERROR,
            started_at=None,
            completed_at=now,
            duration_seconds=0.0,
            error_message=f"the order cannot be sent: {why}",
        )
        try:
            await self._system.ask(Address("task", message.task_id), Report(reports=(ended,)), FOLLOWING)
        except (Rejected, *STOPPING, *FAILING) as no:  # the next hello lacks it: it comes back by then
            log.info("instance %s: %s", message.instance_id, no)

    # --- from the agent ----------------------------------------------------------------------------------------------

    async def _read(self) -> None:
        while True:
            messages = self._protocol.receive(await self._stream.receive())
            self.received += len(messages)
            self.last_message_at = self._clock.now()
            for message in messages:
                await self._heard(message)

    async def _heard(self, message: Message) -> None:
        match message:
            case Started() | Ended():
                self._alive()
                self._took(message)
                await self._reports.put(message)
            case Observed():
                self._alive()
                await self._observations.put(message)
            case Output():
                await self._output.put(message)
            case ArtifactPart():
                await self._take_artifact(message)
            case FetchPart():
                self._fetch(message)
            case Heartbeat():
                self._alive()
                self._beat(message)
                self.tell(self._answer_to(message))
                if message.known is not None:
                    self._compare(message.known)
            case Usage():
                self._use(message)
            case Facts():
                self.condition.facts = bounded(message.facts)
            case LogLines():
                self.questions.answered(message)
            case Pong(token=token):
                if token in self._pongs:
                    self._pongs[token].set()
            case Ping(token=token):
                self.tell(Pong(token=token))
            case Shutdown():
                self._scheduler.close_session(self.agent_id, self.session)

    def _beat(self, message: Heartbeat) -> None:
        self.metrics = metrics_of(message.metrics)
        kept = self.condition.beat(self.metrics, self.last_message_at)
        if kept is not None:
            self._usage.put((), [(self.agent_id, kept)])

    def _use(self, message: Usage) -> None:
        occupants = self._scheduler.occupants(self.agent_id)
        for told in message.instances:
            occupy = occupants.get(told.instance_id)
            if occupy is not None and occupy.epoch == told.epoch:
                self._usage.put(self.condition.use(told, self.last_message_at))

    async def _take_artifact(self, part: ArtifactPart) -> None:
        """The first one starts the task that stores them: an agent that only waits costs no more than it must."""
        if self._artifacts is None:
            assert self._nursery is not None
            self._artifacts = artifact_intake(self._files, self.tell, bytes_max=self._settings.output_bytes_max)
            self._nursery.start_soon(self._artifacts.run)
        await self._artifacts.put(part)

    def _fetch(self, wanted: FetchPart) -> None:
        if self._fetching is None:
            assert self._nursery is not None
            self._fetching = Fetching(self._files, self.tell)
            self._nursery.start_soon(self._fetching.run)
        self._fetching.put(wanted)

    def _answer_to(self, heartbeat: Heartbeat) -> Message:
        """An acknowledgement renews the agent's lease: given only while this server may (see `scheduler.trust`)."""
        if self._scheduler.is_trusted():
            return HeartbeatAck(sequence=heartbeat.sequence, heartbeat_interval=self._changed_interval())
        return HeartbeatHeard(sequence=heartbeat.sequence, reason=UNSURE)

    def _changed_interval(self) -> float:
        """What the agent is to be told; 0 = it beats as it should."""
        interval = self._interval()
        if abs(interval - self._told_interval) < INTERVAL_CHANGE_MIN * self._told_interval:
            return 0.0
        self._told_interval = interval
        return interval

    def _alive(self) -> None:
        self.last_heard_at = self.last_message_at
        self._scheduler.heard_from(self.agent_id)

    def _took(self, message: Started | Ended) -> None:
        if isinstance(message, Ended):
            self.condition.forget(message.instance_id)
        if isinstance(message, Started):
            self._scheduler.accepted_by(self.agent_id)
        elif message.reason == InstanceReason.REJECTED:
            self._scheduler.refused_by(self.agent_id)

    def _compare(self, known: Sequence[Known]) -> None:
        """What runs there against what should: strays are stopped; what is missing for good needs a new hello.

        An order may be under way while the agent looks, and is valid on this connection only: so nothing is requeued
        here. Ending the connection makes the next hello's word final.
        """
        self.stop_strays(known)
        held = {(each.instance_id, each.epoch) for each in known}
        missing = [
            (occupy.instance_id, occupy.epoch)
            for occupy in self._scheduler.occupants(self.agent_id).values()
            if (occupy.instance_id, occupy.epoch) not in held
        ]
        self._missing = {key: self._missing.get(key, 0) + 1 for key in missing}
        if any(strikes > STRIKES for strikes in self._missing.values()):
            self.end(CloseCode.UNEXPECTED, "the agent does not have what it was sent: connect again")

    def stop_strays(self, known: Sequence[Known]) -> None:
        """Have the agent end what it holds and is not counted as its own; its word on it is kept as evidence."""
        occupants = self._scheduler.occupants(self.agent_id)
        for each in known:
            occupy = occupants.get(each.instance_id)
            is_own = occupy is not None and occupy.epoch == each.epoch
            if not is_own and each.state != KnownState.ENDED:
                log.warning("agent %s holds instance %s: %s", self.agent_id, each.instance_id, NOT_YOURS)
                self.stop(each.instance_id, each.epoch, NOT_YOURS)
