"""One conversation between an agent and a server: frames in, messages out, and what may be said when.

Both sides run this class with their role as a value. It follows both roles' states: what we send moves our own, what we
receive moves the peer's. All rules are in the three tables below; the code only looks up.

    AGENT:  START --Hello--> GREETED --(server: Welcome)--> OPEN --Shutdown--> STOPPING
    SERVER: START --Welcome--> OPEN --Shutdown--> STOPPING     START, OPEN, STOPPING --Refused--> CLOSED (both)

Messages that cross on the wire are legal by construction: what a role may say depends on its own state alone, except for
the handshake, in which only one side may speak at a time.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from enum import Enum

from attrs import evolve

from hetuflow.protocol.codec import decode_frame, encode_frames
from hetuflow.protocol.errors import CloseCode, LocalProtocolError, RemoteProtocolError
from hetuflow.protocol.messages import (
    Ack,
    ArtifactPart,
    ArtifactStored,
    Command,
    Condition,
    Dispatch,
    Ended,
    FetchPart,
    FilePart,
    Forget,
    Heartbeat,
    HeartbeatAck,
    HeartbeatHeard,
    Hello,
    Known,
    KnownPage,
    LogLines,
    Message,
    Observed,
    Output,
    OutputAck,
    Ping,
    Pong,
    Refused,
    Shutdown,
    Standing,
    Started,
    Stop,
    Usage,
    WatchFiles,
    Welcome,
)


class Role(Enum):
    AGENT = "agent"
    SERVER = "server"
    __hash__ = object.__hash__  # Enum's own is a Python function: a third of the cost of a message

    @property
    def peer(self) -> Role:
        return Role.SERVER if self is Role.AGENT else Role.AGENT


class State(Enum):
    START = "start"
    GREETED = "greeted"
    OPEN = "open"
    STOPPING = "stopping"
    CLOSED = "closed"
    __hash__ = object.__hash__


def _loop(state: State, *types: type[Message]) -> dict[type[Message], State]:
    return dict.fromkeys(types, state)


_AGENT_SAYS = (
    Heartbeat,
    Started,
    Ended,
    Observed,
    Output,
    ArtifactPart,
    FetchPart,
    Usage,
    Condition,
    LogLines,
    Ping,
    Pong,
)
_SERVER_SAYS = (
    *(HeartbeatAck, HeartbeatHeard, Stop, Forget, Standing, Command, WatchFiles),
    *(Ack, OutputAck, ArtifactStored, FilePart, Ping, Pong),
)

TRANSITIONS: Mapping[Role, Mapping[State, Mapping[type[Message], State]]] = {
    Role.AGENT: {
        State.START: {Hello: State.GREETED},
        State.GREETED: {KnownPage: State.GREETED},
        State.OPEN: {**_loop(State.OPEN, *_AGENT_SAYS), Shutdown: State.STOPPING},
        State.STOPPING: _loop(State.STOPPING, *_AGENT_SAYS),
        State.CLOSED: {},
    },
    Role.SERVER: {
        State.START: {Welcome: State.OPEN, Refused: State.CLOSED},
        State.GREETED: {},
        State.OPEN: {
            **_loop(State.OPEN, Dispatch, *_SERVER_SAYS),
            Shutdown: State.STOPPING,
            Refused: State.CLOSED,
        },
        State.STOPPING: {**_loop(State.STOPPING, *_SERVER_SAYS), Refused: State.CLOSED},
        State.CLOSED: {},
    },
}
"""Whose message, in which state of the sender -> the sender's next state. What is not here may not be said."""

TURN: Mapping[type[Message], State] = {Welcome: State.GREETED}
"""A message that may be said only while the *other* role is in this state."""

COUPLED: Mapping[type[Message], Mapping[State, State]] = {
    Welcome: {State.GREETED: State.OPEN},
    Refused: dict.fromkeys(State, State.CLOSED),
}
"""A message that also moves the other role."""

KNOWN_PER_PAGE = 500
"""About 75 KiB: three times below the frame limit, also with long ids."""

KNOWN_MAX = 100_000
"""Instances in one hello; an agent holds its slots and what waits for an acknowledgement. More is an attack or a bug."""


class Session:
    """The rules of one connection, as seen by `role`. Not shared between tasks; never blocks."""

    def __init__(self, role: Role) -> None:
        self.role = role
        self.skipped = 0
        """Messages of unknown types received: a newer peer."""
        self._states = {Role.AGENT: State.START, Role.SERVER: State.START}
        self._partial: tuple[Hello, list[tuple[Known, ...]]] | None = None

    @property
    def state(self) -> State:
        return self._states[self.role]

    @property
    def peer_state(self) -> State:
        return self._states[self.role.peer]

    def __repr__(self) -> str:
        return f"<Session {self.role.value}: {self.state.value}, peer {self.peer_state.value}>"

    def send(self, messages: Iterable[Message]) -> list[bytes]:
        """The frames that say these messages, in order. Raises `LocalProtocolError`; nothing is said then."""
        wire = [page for message in messages for page in _pages(message)]
        before = dict(self._states)
        try:
            for message in wire:
                problem = self._move(self.role, message)
                if problem:
                    raise LocalProtocolError(CloseCode.UNEXPECTED, problem)
            return encode_frames(wire)
        except LocalProtocolError:
            self._states = before
            raise

    def receive(self, frame: bytes) -> list[Message]:
        """The messages that a frame says. Raises `RemoteProtocolError`; the session is closed then.

        After a close (ours or the peer's) frames that were still under way are ignored.
        """
        if State.CLOSED in self._states.values():
            return []
        try:
            messages, skipped = decode_frame(frame)
            self.skipped += skipped
            heard = [self._hear(message) for message in messages]
        except RemoteProtocolError:
            self.close()
            raise
        return [message for message in heard if message is not None]

    def close(self) -> None:
        """The connection is gone, or will be: nothing may be said any more."""
        self._states = dict.fromkeys(Role, State.CLOSED)

    def _hear(self, message: Message) -> Message | None:
        """Follow the peer. None while a hello is not complete."""
        if self._partial is not None and not isinstance(message, KnownPage):
            raise RemoteProtocolError(CloseCode.UNEXPECTED, f"{type(message).__name__} before the end of the hello")
        problem = self._move(self.role.peer, message)
        if problem:
            raise RemoteProtocolError(CloseCode.UNEXPECTED, problem)
        if isinstance(message, Hello):
            if message.known_complete:
                return message
            self._partial = (message, [message.known])
            return None
        if isinstance(message, KnownPage):
            return self._join(message)
        return message

    def _join(self, page: KnownPage) -> Hello | None:
        if self._partial is None:
            raise RemoteProtocolError(CloseCode.UNEXPECTED, "KnownPage after a complete hello")
        hello, pages = self._partial
        pages.append(page.known)
        if sum(map(len, pages)) > KNOWN_MAX:
            raise RemoteProtocolError(CloseCode.FRAME_TOO_LARGE, f"a hello with more than {KNOWN_MAX} instances")
        if not page.last:
            return None
        self._partial = None
        return evolve(hello, known=tuple(known for part in pages for known in part), known_complete=True)

    def _move(self, sender: Role, message: Message) -> str | None:
        """Look up and move; the problem as a sentence, or None."""
        kind = type(message)
        state = self._states[sender]
        following = TRANSITIONS[sender][state].get(kind)
        if following is state and kind not in COUPLED:  # nearly always: what is said again and again
            return None
        if following is None:
            return f"the {sender.value} may not say {kind.__name__} in state {state.value}"
        other = self._states[sender.peer]
        if kind in TURN and (other is not TURN[kind] or self._partial is not None):
            return f"the {sender.value} may not say {kind.__name__} while the {sender.peer.value} is {other.value}"
        self._states[sender] = following
        if kind in COUPLED:
            self._states[sender.peer] = COUPLED[kind].get(other, other)
        return None


def _pages(message: Message) -> list[Message]:
    if not isinstance(message, Hello) or len(message.known) <= KNOWN_PER_PAGE:
        return [message]
    known = message.known
    rest = [known[at : at + KNOWN_PER_PAGE] for at in range(KNOWN_PER_PAGE, len(known), KNOWN_PER_PAGE)]
    return [
        evolve(message, known=known[:KNOWN_PER_PAGE], known_complete=False),
        *(KnownPage(known=page, last=page is rest[-1]) for page in rest),
    ]
