"""A whole connection under any sequence of actions, frames delayed and crossing, against a model of both queues."""

from __future__ import annotations

from collections import deque

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from hetuflow.protocol.messages import (
    Ack,
    Dispatch,
    Ended,
    Heartbeat,
    HeartbeatAck,
    Message,
    Ping,
    Pong,
    Refused,
    Shutdown,
    Started,
)
from hetuflow.protocol.session import Role, Session, State
from tests.protocol.builders import SAMPLES, a_message_of


class Conversation(RuleBasedStateMachine):
    """Whatever legal peers do, every message arrives once, in order, until one side refuses or the link is cut."""

    @initialize()
    def connect(self) -> None:
        self.sessions = {Role.AGENT: Session(Role.AGENT), Role.SERVER: Session(Role.SERVER)}
        self.wire: dict[Role, deque[bytes]] = {Role.AGENT: deque(), Role.SERVER: deque()}
        self.said: dict[Role, list[Message]] = {Role.AGENT: [], Role.SERVER: []}
        self.heard: dict[Role, list[Message]] = {Role.AGENT: [], Role.SERVER: []}
        self.refused = False

    def say(self, role: Role, *messages: Message) -> None:
        self.wire[role].extend(self.sessions[role].send(messages))
        self.said[role].extend(messages)

    def is_open(self, role: Role) -> bool:
        return self.sessions[role].state in (State.OPEN, State.STOPPING)

    @precondition(lambda self: self.sessions[Role.AGENT].state is State.START)
    @rule()
    def greet(self) -> None:
        self.say(Role.AGENT, SAMPLES["hello"])

    @precondition(
        lambda self: (
            self.sessions[Role.SERVER].state is State.START and self.sessions[Role.SERVER].peer_state is State.GREETED
        )
    )
    @rule()
    def welcome(self) -> None:
        self.say(Role.SERVER, SAMPLES["welcome"])

    @precondition(lambda self: self.is_open(Role.AGENT))
    @rule(kinds=st.lists(st.sampled_from([Heartbeat, Started, Ended, Ping, Pong]), max_size=4), data=st.data())
    def agent_talks(self, kinds: list[type[Message]], data: st.DataObject) -> None:
        self.say(Role.AGENT, *[data.draw(a_message_of(kind)) for kind in kinds])

    @precondition(lambda self: self.is_open(Role.SERVER))
    @rule(kinds=st.lists(st.sampled_from([HeartbeatAck, Ack, Ping, Pong]), max_size=4), data=st.data())
    def server_talks(self, kinds: list[type[Message]], data: st.DataObject) -> None:
        self.say(Role.SERVER, *[data.draw(a_message_of(kind)) for kind in kinds])

    @precondition(lambda self: self.sessions[Role.SERVER].state is State.OPEN)
    @rule(order=a_message_of(Dispatch))
    def dispatch(self, order: Message) -> None:
        self.say(Role.SERVER, order)

    @precondition(lambda self: State.OPEN in (self.sessions[Role.AGENT].state, self.sessions[Role.SERVER].state))
    @rule(role=st.sampled_from(Role))
    def stop(self, role: Role) -> None:
        if self.sessions[role].state is State.OPEN:
            self.say(role, Shutdown(reason="stopping"))

    @precondition(lambda self: self.is_open(Role.SERVER) and not self.refused)
    @rule()
    def refuse(self) -> None:
        self.say(Role.SERVER, Refused(code=4003, reason="superseded"))
        self.refused = True

    @rule(role=st.sampled_from(Role))
    def deliver(self, role: Role) -> None:
        if self.wire[role]:
            self.heard[role.peer].extend(self.sessions[role.peer].receive(self.wire[role].popleft()))

    @invariant()
    def nothing_is_invented_or_reordered(self) -> None:
        for role in Role:
            heard = self.heard[role.peer]
            assert heard == self.said[role][: len(heard)]

    @invariant()
    def nothing_is_lost_but_after_a_refusal(self) -> None:
        for role in Role:
            if not self.wire[role] and not (self.refused and role is Role.AGENT):
                assert self.heard[role.peer] == self.said[role]


Conversation.TestCase.settings = settings(max_examples=60, stateful_step_count=40)
TestConversation = Conversation.TestCase
