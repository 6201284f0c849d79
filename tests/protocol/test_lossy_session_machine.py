"""Connections that are cut, frames that are lost or come twice: an order is heard only where it was said, and reports
that are said again until they are acknowledged arrive at least once, in order, on whichever connection.

Each connection is a pair of new sessions, as in life. A lost or doubled frame is not legal on one: the session that
hears it must refuse to go on or be none the worse, and never invent a message.
"""

from __future__ import annotations

from collections import deque

import attrs
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from hetuflow.protocol.errors import ProtocolError
from hetuflow.protocol.messages import Ack, Dispatch, Ended, Message
from hetuflow.protocol.session import Role, Session, State
from tests.protocol.builders import SAMPLES, a_message_of


class Lossy(RuleBasedStateMachine):
    """`journal`: reports that the agent says again on every connection until the server has acknowledged them."""

    @initialize()
    def begin(self) -> None:
        self.connections = 0
        self.journal: list[Ended] = []
        self.acked: set[int] = set()
        self.heard_reports: list[int] = []
        self.orders: dict[int, list[Message]] = {}
        self.heard_orders: dict[int, list[Message]] = {}
        self.dial()

    def dial(self) -> None:
        self.connections += 1
        self.agent, self.server = Session(Role.AGENT), Session(Role.SERVER)
        self.to_server: deque[bytes] = deque()
        self.to_agent: deque[bytes] = deque()
        self.is_spoiled = False
        self.orders[self.connections], self.heard_orders[self.connections] = [], []
        self.to_server.extend(self.agent.send([SAMPLES["hello"]]))

    @property
    def is_open(self) -> bool:
        return self.agent.state is State.OPEN and self.server.state is State.OPEN

    # --- what goes wrong ---

    @rule()
    def cut(self) -> None:
        """What was on the way is lost, and both begin anew."""
        self.dial()

    @precondition(lambda self: self.to_server or self.to_agent)
    @rule(first=st.booleans(), twice=st.booleans())
    def spoil(self, first: bool, twice: bool) -> None:
        """A frame is lost, or comes a second time."""
        wire = self.to_server if (first and self.to_server) or not self.to_agent else self.to_agent
        if twice:
            wire.insert(1, wire[0])
        else:
            wire.popleft()
        self.is_spoiled = True

    @precondition(lambda self: self.to_agent)
    @rule(length=st.integers(0, 6))
    def truncate(self, length: int) -> None:
        self.to_agent[0] = self.to_agent[0][:length]
        self.is_spoiled = True

    # --- what both say ---

    @precondition(lambda self: self.server.state is State.START and self.server.peer_state is State.GREETED)
    @rule()
    def welcome(self) -> None:
        self.to_agent.extend(self.server.send([SAMPLES["welcome"]]))

    @precondition(lambda self: self.is_open)
    @rule(order=a_message_of(Dispatch))
    def dispatch(self, order: Message) -> None:
        self.to_agent.extend(self.server.send([order]))
        self.orders[self.connections].append(order)

    @precondition(lambda self: len(self.journal) < 6)
    @rule(report=a_message_of(Ended))
    def end(self, report: Ended) -> None:
        self.journal.append(attrs.evolve(report, sequence=len(self.journal) + 1))

    @precondition(lambda self: self.is_open)
    @rule()
    def say_what_is_not_acknowledged(self) -> None:
        left = [report for report in self.journal if report.sequence not in self.acked]
        if left:
            self.to_server.extend(self.agent.send(left))

    # --- delivery ---

    @rule()
    def deliver_to_server(self) -> None:
        if not self.to_server:
            return
        try:
            found = self.server.receive(self.to_server.popleft())
        except ProtocolError:
            assert self.is_spoiled, "a legal frame was refused"
            self.dial()
            return
        sequences = [message.sequence for message in found if isinstance(message, Ended)]
        self.heard_reports += sequences
        if sequences and self.server.state is State.OPEN:
            self.to_agent.extend(self.server.send([Ack(sequences=tuple(sequences))]))

    @rule()
    def deliver_to_agent(self) -> None:
        if not self.to_agent:
            return
        try:
            found = self.agent.receive(self.to_agent.popleft())
        except ProtocolError:
            assert self.is_spoiled, "a legal frame was refused"
            self.dial()
            return
        for message in found:
            if isinstance(message, Ack):
                self.acked.update(message.sequences)
            elif isinstance(message, Dispatch):
                self.heard_orders[self.connections].append(message)

    # --- what must hold ---

    @invariant()
    def only_what_was_heard_is_acknowledged(self) -> None:
        assert self.acked <= set(self.heard_reports)
        assert set(self.heard_reports) <= {report.sequence for report in self.journal}

    @invariant()
    def an_order_is_heard_only_on_its_connection(self) -> None:
        for number, heard in self.heard_orders.items():
            said = self.orders[number]
            assert all(order in said for order in heard)
        if not self.is_spoiled:
            heard = self.heard_orders[self.connections]
            assert heard == self.orders[self.connections][: len(heard)]

    def teardown(self) -> None:
        """Once the network is whole, one connection is enough for everything that was left."""
        if not hasattr(self, "connections"):
            return
        self.dial()
        self.deliver_to_server()
        self.welcome()
        self.deliver_to_agent()
        self.say_what_is_not_acknowledged()
        while self.to_server or self.to_agent:
            self.deliver_to_server()
            self.deliver_to_agent()
        assert self.acked == {report.sequence for report in self.journal}


Lossy.TestCase.settings = settings(max_examples=30, stateful_step_count=30)
TestLossy = Lossy.TestCase
