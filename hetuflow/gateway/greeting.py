"""From hello to welcome: who it is, what became of what it was given, and only then its session.

Order is the point, for a crash may come between any two steps and the next hello must find the same truth:

1. An older session of the agent is ended, here and in the log, so that nothing new is committed for it. One that still
   answers wins over a second connection of the same incarnation.
2. Instances that the log gives to the agent and the hello lacks are settled: the same incarnation never started them
   (requeued), an earlier one did perhaps (lost). The log still holds the *previous* incarnation then, whatever crashes,
   and in its session's name the life: an equal incarnation of another life is an earlier start too.
3. `AgentConnected` records incarnation and session.
4. In one step without an await: what was committed for the old session meanwhile is requeued (nobody was sent it), the
   welcome and everything that the agent should end goes out, and the session is opened for work.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping

import trio
from attrs import evolve

from hetuflow.actors import ActorSystem, Context
from hetuflow.domain.agent import AgentState
from hetuflow.domain.commands import ConnectAgent, DisconnectAgent, LeftBehind, LoseInstance, RequeueInstance
from hetuflow.domain.decider import Address, Guard, Occupy
from hetuflow.domain.enums import InstanceStatus
from hetuflow.domain.rejection import Rejected
from hetuflow.gateway.hooks import SchedulerHooks
from hetuflow.gateway.settings import GatewaySettings
from hetuflow.gateway.translate import connect_agent
from hetuflow.protocol.errors import CloseCode
from hetuflow.protocol.messages import (
    AGENT_ID_RULE,
    PROTOCOL_VERSION,
    PROTOCOL_VERSION_MIN,
    Hello,
    KnownState,
    is_agent_id,
)

log = logging.getLogger(__name__)

NEVER_STARTED = "the agent does not have it: it was never started"
RESTARTED = "the agent restarted and does not have it"
SETTLING_MAX = 32
"""Instances settled at once in one greeting."""


class Unwelcome(Exception):
    """The agent is not let in: `code` and `reason` are told to it."""

    def __init__(self, code: CloseCode, reason: str) -> None:
        self.code, self.reason = code, reason
        super().__init__(reason)


def session_name(life: str, token: str) -> str:
    """The name of a session tells which life of the agent it belongs to, so that the log knows it too."""
    return f"{life}.{token}" if life else token


def is_same_life(hello: Hello, incarnation: int, session: str | None) -> bool:
    """Whether the start of the agent that says this hello is the one that had this incarnation and session.

    What is not told on either side (an older agent, an older log) does not tell two lives apart.
    """
    life = (session or "").rpartition(".")[0]
    return hello.incarnation == incarnation and (not life or not hello.life or life == hello.life)


def started_later(hello: Hello, incarnation: int) -> Unwelcome:
    """The refusal of an incarnation that is over: either this agent is, or its count began anew."""
    return Unwelcome(
        CloseCode.SUPERSEDED,
        f"agent {hello.agent_id} is known from start number {incarnation}, and this is its start number"
        f" {hello.incarnation}: either a later one runs, or its state directory was lost; in that case delete the agent"
        f" (DELETE /api/v1/agents/{hello.agent_id}), and it is let in as a new one",
    )


def check(hello: Hello, agent_id: str) -> None:
    """Raises `Unwelcome` for a hello that does not fit its connection."""
    if protocol_with(hello) is None:
        oldest, newest = hello.protocol, newest_of(hello)
        spoken = f"{oldest}" if oldest >= newest else f"{oldest} to {newest}"
        older = "server" if oldest > PROTOCOL_VERSION else "agent"
        raise Unwelcome(
            CloseCode.INCOMPATIBLE,
            f"this server speaks protocol {PROTOCOL_VERSION_MIN} to {PROTOCOL_VERSION}, the agent {spoken}:"
            f" upgrade the {older}",
        )
    if not is_agent_id(hello.agent_id):
        raise Unwelcome(CloseCode.REFUSED, f"{hello.agent_id[:64]!r} is no id of an agent: {AGENT_ID_RULE}")
    if hello.agent_id != agent_id:
        raise Unwelcome(CloseCode.REFUSED, "the hello names another agent than the connection's address")
    if hello.incarnation < 1 or hello.slots < 0:
        raise Unwelcome(CloseCode.REFUSED, "incarnation must be at least 1, slots at least 0")
    if hello.life and not is_agent_id(hello.life):
        raise Unwelcome(CloseCode.REFUSED, f"life must be empty, or {AGENT_ID_RULE}")


def newest_of(hello: Hello) -> int:
    """The newest protocol that the agent speaks."""
    return max(hello.protocol, hello.protocol_max)


def protocol_with(hello: Hello) -> int | None:
    """The protocol of the connection: the newest that both speak; None when there is none."""
    agreed = min(newest_of(hello), PROTOCOL_VERSION)
    return agreed if agreed >= max(hello.protocol, PROTOCOL_VERSION_MIN) else None


class Greeting:
    def __init__(self, system: ActorSystem, scheduler: SchedulerHooks, settings: GatewaySettings) -> None:
        self._system = system
        self._scheduler = scheduler
        self._settings = settings

    async def greet(self, hello: Hello, session: str, address: str) -> None:
        """Steps 1 to 3 for the log; the caller has ended the agent's older connection here.

        Raises `Unwelcome`, and what `ActorSystem.ask` raises: nothing is half done then that the next hello would not
        find as it was.
        """
        agent = Address("agent", hello.agent_id)
        state: AgentState = (await self._system.read(agent)).state
        if hello.incarnation < state.incarnation:
            raise started_later(hello, state.incarnation)
        self._scheduler.heard_from(hello.agent_id)
        if state.is_connected and state.session is not None:
            await self._system.ask(agent, DisconnectAgent(session=state.session, reason="replaced"))
        await self._look_at(hello)
        await self._settle(hello, same_life=is_same_life(hello, state.incarnation, state.session))
        left = await self._left_behind(hello.agent_id) if state.was_removed else None
        try:
            await self._system.ask(
                agent,
                evolve(self._connect(hello, session, address), left=left),
                Context(principal=f"agent:{hello.agent_id}"),
            )
        except Rejected as no:
            if no.code == "incarnation_old":  # it has started again in this moment, on another server
                raise started_later(hello, int(no.detail["known"])) from no
            raise Unwelcome(CloseCode.REFUSED, no.message) from no

    async def _left_behind(self, agent_id: str) -> LeftBehind:
        """What an agent of this id that was removed has left running: its ends will count in the new one's row."""
        tasks = [Address("task", occupy.task_id) for occupy in self._scheduler.occupants(agent_id).values()]
        held = {
            address: reading
            for address, reading in (await self._system.read_many(tasks)).items()
            if (live := reading.state.live_instance) is not None and live.agent_id == agent_id
        }
        return LeftBehind(
            running=len(held),
            started=sum(reading.state.live_instance.status is InstanceStatus.RUNNING for reading in held.values()),
            guards=tuple(Guard(address.stream_id, reading.version) for address, reading in held.items()),
        )

    async def _look_at(self, hello: Hello) -> None:
        """Make sure that what the log gives to the agent is in the agenda, also what another server committed."""
        occupants = self._scheduler.occupants(hello.agent_id)
        unknown = [
            Address("task", each.task_id)
            for each in hello.known
            if each.instance_id not in occupants and each.state != KnownState.ENDED
        ]
        if unknown:
            await self._system.read_many(unknown)

    async def _settle(self, hello: Hello, *, same_life: bool) -> None:
        missing = missing_in(hello, self._scheduler.occupants(hello.agent_id))
        limiter = trio.CapacityLimiter(SETTLING_MAX)

        async def settle(occupy: Occupy) -> None:
            async with limiter:
                await self._scheduler.settle_now(occupy, settlement(occupy, same_life=same_life))

        async with trio.open_nursery() as nursery:
            for occupy in missing:
                log.info("agent %s lacks instance %s", hello.agent_id, occupy.instance_id)
                nursery.start_soon(settle, occupy)

    def _connect(self, hello: Hello, session: str, address: str) -> ConnectAgent:
        return connect_agent(
            hello,
            server_id=self._settings.server_id,
            session=session,
            address=address,
            lease_seconds=self._settings.lease_seconds(hello.lost_after_seconds),
        )


def missing_in(hello: Hello, occupants: Mapping[str, Occupy]) -> list[Occupy]:
    """The instances that hold a slot of the agent according to the log, and that the agent does not have."""
    held = {(each.instance_id, each.epoch) for each in hello.known}
    return [occupy for occupy in occupants.values() if (occupy.instance_id, occupy.epoch) not in held]


def settlement(occupy: Occupy, *, same_life: bool) -> RequeueInstance | LoseInstance:
    if same_life:
        return RequeueInstance(instance_id=occupy.instance_id, epoch=occupy.epoch, reason=NEVER_STARTED)
    return LoseInstance(instance_id=occupy.instance_id, epoch=occupy.epoch, message=RESTARTED)
