"""All agents' connections: admits them, keeps one session per agent, and is the scheduler's way out to them."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import datetime
from functools import partial
from typing import Any
from urllib.parse import parse_qs

import trio
from attrs import frozen

from hetuflow.actors import ActorSystem
from hetuflow.actors.patience import FAILING, STOPPING
from hetuflow.domain.commands import DisconnectAgent
from hetuflow.domain.decider import Address, Available, DispatchOrder, Stop
from hetuflow.domain.environment import rfc3339
from hetuflow.domain.event_watch import Watches
from hetuflow.domain.rejection import Rejected
from hetuflow.gateway.connection import LOST, Connection
from hetuflow.gateway.files import FileRoom, NoFiles
from hetuflow.gateway.greeting import (
    Greeting,
    Unwelcome,
    check,
    missing_in,
    protocol_with,
    session_name,
    settlement,
    started_later,
)
from hetuflow.gateway.hooks import SchedulerHooks
from hetuflow.gateway.output import OutputSink
from hetuflow.gateway.settings import GatewaySettings
from hetuflow.gateway.translate import clean, declared_labels
from hetuflow.gateway.usage import Beat, NoUsage, UsageAt, UsageIntake, UsageSink
from hetuflow.ports.clock import Clock
from hetuflow.ports.ids import Ids
from hetuflow.ports.network import ConnectionLost, MessageStream
from hetuflow.protocol.errors import CloseCode, ProtocolError
from hetuflow.protocol.messages import (
    AGENT_ID_RULE,
    PROTOCOL_VERSION_MIN,
    Command,
    Hello,
    Refused,
    Welcome,
    is_agent_id,
)
from hetuflow.protocol.session import Role, Session

log = logging.getLogger(__name__)

NAMELESS = f"the address must name the agent: ?agent_id=... ({AGENT_ID_RULE})"
USED_TWICE = (
    "the agent has a connection that is alive: is its identity used twice? A copy of its machine or container needs"
    " a state directory of its own"
)
FETCH_LOG = 8
"""Kind of the command that an agent answers with its log."""
METRICS_REMEMBERED_MAX = 10_000
"""Agents whose last heartbeat is remembered after their connection ended."""


@frozen(slots=True)
class ConnectionStatus:
    agent_id: str
    address: str
    connected_at: datetime
    last_message_at: datetime


@frozen(slots=True, kw_only=True)
class GatewayStatus:
    """Counts are since the start; `online_agents` are those connected to this server now."""

    total_connections: int
    active_connections: int
    total_messages_sent: int
    total_messages_received: int
    online_agents: int
    timestamp: datetime
    connections: Sequence[ConnectionStatus]


@frozen(slots=True, kw_only=True)
class AgentCondition:
    """How a connected agent does: what it says of itself, its last heartbeats, the latest figures of what it runs."""

    session: str
    connected_at: datetime
    address: str
    facts: Mapping[str, Any]
    beats: Sequence[Beat]
    usage: Sequence[UsageAt]


@frozen(slots=True)
class AgentLog:
    """Lines of an agent's own log; `first` is the number of the first. `problem`: why there are none, else empty."""

    first: int
    lines: Sequence[str]
    problem: str


@frozen(slots=True)
class LastSeen:
    heard_at: datetime
    metrics: Mapping[str, float]


class Gateway:
    """Implements the scheduler's `Deliveries`. `serve_connection` is the handler of each connection."""

    def __init__(
        self,
        system: ActorSystem,
        scheduler: SchedulerHooks,
        sink: OutputSink,
        clock: Clock,
        ids: Ids,
        settings: GatewaySettings,
        files: FileRoom | None = None,
        usage: UsageSink | None = None,
    ) -> None:
        self._system = system
        self._scheduler = scheduler
        self._sink = sink
        self._files = NoFiles() if files is None else files
        self.usage = UsageIntake(NoUsage() if usage is None else usage)
        self._clock = clock
        self._ids = ids
        self._settings = settings
        self._greeting = Greeting(system, scheduler, settings)
        self._admissions = trio.CapacityLimiter(settings.admissions_max)
        self._connections: dict[str, Connection] = {}
        self._turns: dict[str, deque[trio.Event]] = {}
        self._seen: dict[str, LastSeen] = {}
        self._open = self._opened = self._sent = self._received = 0
        self._is_stopping = False

    def __repr__(self) -> str:
        return f"<Gateway: {len(self._connections)} agents, {self._open} connections>"

    # --- for the API -------------------------------------------------------------------------------------------------

    def status(self) -> GatewayStatus:
        connections = list(self._connections.values())
        return GatewayStatus(
            total_connections=self._opened,
            active_connections=self._open,
            total_messages_sent=self._sent + sum(each.sent for each in connections),
            total_messages_received=self._received + sum(each.received for each in connections),
            online_agents=len(connections),
            timestamp=self._clock.now(),
            connections=[
                ConnectionStatus(each.agent_id, each.address, each.connected_at, each.last_message_at)
                for each in connections
            ],
        )

    def metrics(self, agent_id: str) -> Mapping[str, float] | None:
        """Those of the agent's last heartbeat here; None when there was none."""
        seen = self._last_seen(agent_id)
        return seen.metrics or None if seen is not None else None

    def last_heard_at(self, agent_id: str) -> datetime | None:
        """When this server last heard the agent's work loop; None when it never did."""
        seen = self._last_seen(agent_id)
        return None if seen is None else seen.heard_at

    def connected(self) -> Sequence[str]:
        """The agents that are connected to this server now."""
        return list(self._connections)

    def command(self, agent_id: str, *, command_id: str, kind: int, timestamp: int, payload: Mapping[str, Any]) -> bool:
        """Hand an operator's command to the agent's connection; False when it has none here."""
        connection = self._connections.get(agent_id)
        if connection is None:
            return False
        connection.tell(Command(id=command_id, kind=kind, timestamp=timestamp, payload=dict(payload)))
        return True

    def condition(self, agent_id: str) -> AgentCondition | None:
        """What its connection has told of it; None when it is not connected here."""
        connection = self._connections.get(agent_id)
        if connection is None:
            return None
        told = connection.condition
        return AgentCondition(
            session=connection.session,
            connected_at=connection.connected_at,
            address=connection.address,
            facts=told.facts,
            beats=tuple(told.beats),
            usage=tuple(told.usage.values()),
        )

    def refusal_of(self, agent_id: str) -> str | None:
        """Why it takes nothing now, as it says itself; None: it does, or is not connected here."""
        connection = self._connections.get(agent_id)
        refusal = None if connection is None else connection.condition.facts.get("refusal")
        return refusal if isinstance(refusal, str) and refusal else None

    def usage_of(self, instance_id: str, agent_id: str) -> UsageAt | None:
        """The latest figures of a running instance; None when there are none here."""
        connection = self._connections.get(agent_id)
        return None if connection is None else connection.condition.usage.get(instance_id)

    def usages(self) -> Sequence[tuple[str, UsageAt]]:
        """The agents connected here by id, and the latest figures of what they run."""
        return [
            (connection.agent_id, used)
            for connection in self._connections.values()
            for used in connection.condition.usage.values()
        ]

    async def log_of(self, agent_id: str, *, lines: int, after: int, seconds: float) -> AgentLog | None:
        """The last lines of the agent's own log, asked for now; None when it is not connected here. Raises `NoAnswer`."""
        connection = self._connections.get(agent_id)
        if connection is None:
            return None
        question_id = str(self._ids.uuid7())
        connection.questions.ask(question_id)
        connection.tell(Command(id=question_id, kind=FETCH_LOG, payload={"lines": lines, "after": after}))
        answer = await connection.questions.answer(question_id, seconds)
        return AgentLog(answer.first, tuple(clean(line) for line in answer.lines), clean(answer.problem))

    def _last_seen(self, agent_id: str) -> LastSeen | None:
        connection = self._connections.get(agent_id)
        if connection is None:
            return self._seen.get(agent_id)
        return LastSeen(connection.last_heard_at, connection.metrics)

    # --- for the scheduler -------------------------------------------------------------------------------------------

    def deliver(self, agent_id: str, session: str, order: DispatchOrder) -> None:
        connection = self._connections.get(agent_id)
        if connection is not None and connection.session == session:
            connection.deliver(order)

    def stop(self, stop: Stop) -> None:
        connection = self._connections.get(stop.agent_id)
        if connection is not None:
            connection.stop(stop.instance_id, stop.epoch, stop.reason, stop.grace_seconds)

    def close(self, agent_id: str, session: str, reason: str) -> None:
        connection = self._connections.get(agent_id)
        if connection is not None and connection.session == session:
            connection.end(CloseCode.REFUSED, reason)

    def stand(self, agent: Available) -> None:
        connection = self._connections.get(agent.agent_id)
        if connection is not None and connection.session == agent.session:
            connection.stand(agent)

    def watch(self, agent_id: str, session: str, watches: Watches) -> None:
        connection = self._connections.get(agent_id)
        if connection is not None and connection.session == session:
            connection.watch(watches)

    def close_all(self, reason: str) -> None:
        for connection in list(self._connections.values()):
            connection.end(CloseCode.GOING_AWAY, reason)

    # --- stopping ----------------------------------------------------------------------------------------------------

    def stop_accepting(self) -> None:
        """No new connections, and nothing new on the present ones; reports and acknowledgements still flow."""
        self._is_stopping = True
        for connection in list(self._connections.values()):
            self._scheduler.close_session(connection.agent_id, connection.session)
            connection.shut_down("the server is stopping")

    async def drained(self) -> None:
        """Wait until every report that has arrived is committed and acknowledged."""
        for connection in list(self._connections.values()):
            await connection.drained()

    # --- a connection ------------------------------------------------------------------------------------------------

    async def serve_connection(self, stream: MessageStream) -> None:
        """Serve one connection to its end. Whatever goes wrong ends it, and nothing is raised but cancellation."""
        protocol = Session(Role.SERVER)
        self._opened += 1
        self._open += 1
        code, reason = CloseCode.GOING_AWAY, "the server is stopping"
        try:
            code, reason = await self._serve(stream, protocol)
        except ConnectionLost:
            code, reason = CloseCode.NORMAL, ""
        except Unwelcome as no:
            code, reason = no.code, no.reason
            log.info("an agent at %s is not admitted: %s", stream.peer, reason)
            await self._say(stream, protocol, Refused(code=code, reason=reason))
        except BaseExceptionGroup as group:  # while it is cancelled too: only the cancellation goes on
            cancelled, other = group.split(trio.Cancelled)
            if other is not None:
                code, reason = _lost_or(other)
            if cancelled is not None:
                raise cancelled from None
        except Exception as exc:
            code, reason = _lost_or(exc)
        finally:
            self._open -= 1
            with trio.move_on_after(self._settings.close_seconds, shield=True):
                await stream.aclose(code, reason)

    async def _serve(self, stream: MessageStream, protocol: Session) -> tuple[CloseCode, str]:
        if self._is_stopping:
            raise Unwelcome(CloseCode.GOING_AWAY, "the server is stopping")
        if not self._scheduler.is_trusted():
            raise Unwelcome(CloseCode.GOING_AWAY, "the server cannot reach its database now")
        if self._settings.connections_max and self._open > self._settings.connections_max:
            raise Unwelcome(CloseCode.OVERLOADED, f"{self._settings.connections_max} agents are connected already")
        agent_id = agent_id_of(stream.query)
        if agent_id is None:
            raise Unwelcome(CloseCode.REFUSED, NAMELESS)
        with trio.move_on_after(self._settings.hello_seconds) as scope:
            hello = await _hello(stream, protocol)
        if scope.cancelled_caught:
            raise Unwelcome(CloseCode.SILENT, "no hello came")
        check(hello, agent_id)
        async with self._turn(agent_id):
            connection = await self._admit(hello, stream, protocol)
        try:
            await connection.run()
        except Exception as exc:
            connection.end_code, connection.end_reason = _lost_or(exc)
        except BaseExceptionGroup as group:  # lost and cancelled in the same moment: only the cancellation goes on
            cancelled, other = group.split(trio.Cancelled)
            if other is not None:
                connection.end_code, connection.end_reason = _lost_or(other)
            if cancelled is not None:
                raise cancelled from None
        finally:
            await self._farewell(connection)
        return connection.end_code, connection.end_reason

    async def _admit(self, hello: Hello, stream: MessageStream, protocol: Session) -> Connection:
        """Greet, and in one step without an await at the end: reconcile what remains, welcome, open for work."""
        session = session_name(hello.life, self._ids.token())
        try:
            async with self._admissions:
                await self._end_older(hello)
                await self._greeting.greet(hello, session, stream.peer)
        except BaseException:  # it may be in the log all the same: nothing was and nothing will be sent on it
            self._scheduler.close_session(hello.agent_id, session)
            raise
        connection = Connection(
            agent_id=hello.agent_id,
            session=session,
            incarnation=hello.incarnation,
            labels=declared_labels(hello),
            stream=stream,
            protocol=protocol,
            system=self._system,
            scheduler=self._scheduler,
            sink=self._sink,
            files=self._files,
            usage=self.usage,
            clock=self._clock,
            settings=self._settings,
            interval=partial(self._interval, hello.lost_after_seconds, hello.heartbeat_interval),
        )
        self._connections[hello.agent_id] = connection
        agent = self._scheduler.available(hello.agent_id)
        if agent is None or agent.session != session:  # the log has gone on: nothing would ever come
            connection.end(CloseCode.REFUSED, "the agent was disconnected, lost or removed while it was greeted")
            return connection
        for occupy in missing_in(hello, self._scheduler.occupants(hello.agent_id)):
            if not self._scheduler.is_unsent(occupy, session):
                self._scheduler.settle(occupy, settlement(occupy, same_life=True))
        connection.tell(self._welcome(session, hello))
        connection.stand(agent)
        connection.stop_strays(hello.known)
        for stop in self._scheduler.stops(hello.agent_id):
            connection.stop(stop.instance_id, stop.epoch, stop.reason, stop.grace_seconds)
        self._scheduler.heard_from(hello.agent_id)
        self._scheduler.open_session(hello.agent_id, session)
        log.info("agent %s is connected from %s (session %s)", hello.agent_id, stream.peer, session)
        if hello.store_id and hello.store_id != self._settings.store_id:
            log.warning(
                "agent %s knows another event store (%s) than this one (%s): a backup was restored, or it belongs to"
                " another installation; what this store does not know of its work is ended and dropped",
                hello.agent_id,
                hello.store_id,
                self._settings.store_id,
            )
        return connection

    async def _end_older(self, hello: Hello) -> None:
        """End the agent's present connection here. Raises `Unwelcome` when that one is in its right.

        An agent that was started again cannot answer on the connection of its earlier life. Whoever does answer there
        lives, and its work with it, whatever number this hello has: the state directory was copied.
        """
        older = self._connections.get(hello.agent_id)
        if older is None:
            return
        if hello.incarnation < older.incarnation:
            raise started_later(hello, older.incarnation)
        if await older.answers_ping(self._ids.token()):
            raise Unwelcome(CloseCode.REFUSED, USED_TWICE)
        await older.dismiss(CloseCode.SUPERSEDED, "another connection of this agent took over")
        await older.ended.wait()

    def _welcome(self, session: str, hello: Hello) -> Welcome:
        lease_seconds = self._settings.lease_seconds(hello.lost_after_seconds)
        return Welcome(
            session=session,
            server_id=self._settings.server_id,
            lease_seconds=lease_seconds,
            heartbeat_interval=self._interval(hello.lost_after_seconds, hello.heartbeat_interval),
            check_interval=self._settings.check_seconds,
            server_time=rfc3339(self._clock.now()),
            store_id=self._settings.store_id,
            protocol=protocol_with(hello) or PROTOCOL_VERSION_MIN,
        )

    def _interval(self, lost_after_seconds: float, wished_seconds: float) -> float:
        """Of an agent's heartbeats, with so many agents as are connected now."""
        lease_seconds = self._settings.lease_seconds(lost_after_seconds)
        return self._settings.heartbeat_interval(len(self._connections), lease_seconds, wished_seconds)

    async def _farewell(self, connection: Connection) -> None:
        """The session is over, here at once and in the log within a deadline; else the next hello or the lease says so."""
        agent_id, session = connection.agent_id, connection.session
        self._scheduler.close_session(agent_id, session)
        if self._connections.get(agent_id) is connection:
            del self._connections[agent_id]
        self._sent += connection.sent
        self._received += connection.received
        self._seen[agent_id] = LastSeen(connection.last_heard_at, connection.metrics)
        if len(self._seen) > METRICS_REMEMBERED_MAX:
            del self._seen[next(iter(self._seen))]
        connection.has_ended()
        log.info("agent %s is disconnected (session %s): %s", agent_id, session, connection.end_reason)
        with trio.move_on_after(self._settings.close_seconds, shield=True):
            try:
                await self._system.ask(
                    Address("agent", agent_id), DisconnectAgent(session=session, reason=connection.end_reason)
                )
            except (Rejected, *FAILING, *STOPPING) as problem:
                log.info("the end of session %s is not recorded: %s", session, problem)

    async def _say(self, stream: MessageStream, protocol: Session, message: Refused) -> None:
        try:
            with trio.move_on_after(self._settings.close_seconds):
                for frame in protocol.send([message]):
                    await stream.send(frame)
        except (ProtocolError, ConnectionLost):
            pass  # the close frame says it too

    @asynccontextmanager
    async def _turn(self, agent_id: str) -> AsyncIterator[None]:
        """One greeting per agent at a time, in the order of their hellos."""
        queue = self._turns.setdefault(agent_id, deque())
        mine = trio.Event()
        queue.append(mine)
        if queue[0] is mine:
            mine.set()
        try:
            await mine.wait()
            yield
        finally:
            queue.remove(mine)
            if queue:
                queue[0].set()
            else:
                del self._turns[agent_id]


def agent_id_of(query: str) -> str | None:
    """The `agent_id` of a connection's query string; None when there is none that an agent may have."""
    values = parse_qs(query).get("agent_id", [])
    return values[0] if values and is_agent_id(values[0]) else None


async def _hello(stream: MessageStream, protocol: Session) -> Hello:
    while True:
        for message in protocol.receive(await stream.receive()):
            assert isinstance(message, Hello)  # the session lets an agent say nothing else first
            return message


def _lost_or(exc: BaseException) -> tuple[CloseCode, str]:
    """How a connection that ended by an exception is closed. Only what is our own fault is logged as an error."""
    if isinstance(exc, BaseExceptionGroup):
        _, other = exc.split(ConnectionLost)
        return (CloseCode.NORMAL, LOST) if other is None else _lost_or(other.exceptions[0])
    if isinstance(exc, ConnectionLost):
        return CloseCode.NORMAL, LOST
    if isinstance(exc, ProtocolError):
        log.warning("a connection ended: %s", exc)
        return exc.code, exc.close_reason
    if isinstance(exc, (*FAILING, *STOPPING)):
        log.warning("a connection ended: %s", exc)
        return CloseCode.GOING_AWAY, "the server cannot serve this connection now"
    log.error("a connection ended: %s", exc, exc_info=exc)
    return CloseCode.GOING_AWAY, "the server failed on this connection"
