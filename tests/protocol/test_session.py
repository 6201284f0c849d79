"""The order in which things may be said, for both roles."""

from __future__ import annotations

import itertools

import pytest
from attrs import evolve
from hypothesis import given
from hypothesis import strategies as st

from hetuflow.protocol.codec import encode_frames
from hetuflow.protocol.errors import CloseCode, LocalProtocolError, RemoteProtocolError
from hetuflow.protocol.messages import (
    TAGS,
    Ack,
    Dispatch,
    Heartbeat,
    Hello,
    Known,
    KnownPage,
    Message,
    Ping,
    Pong,
    Refused,
    Shutdown,
    Welcome,
)
from hetuflow.protocol.session import KNOWN_MAX, KNOWN_PER_PAGE, TRANSITIONS, Role, Session, State
from tests.protocol.builders import SAMPLES

HELLO = SAMPLES["hello"]
WELCOME = SAMPLES["welcome"]
BY_TYPE = {type(message): message for message in SAMPLES.values()}


class Pair:
    """Two sessions and the frames between them."""

    def __init__(self) -> None:
        self.agent, self.server = Session(Role.AGENT), Session(Role.SERVER)

    def say(self, sender: Role, *messages: Message) -> list[Message]:
        ours, theirs = (self.agent, self.server) if sender is Role.AGENT else (self.server, self.agent)
        return [heard for frame in ours.send(messages) for heard in theirs.receive(frame)]

    @property
    def states(self) -> tuple[State, State]:
        return self.agent.state, self.server.state


def open_pair() -> Pair:
    pair = Pair()
    pair.say(Role.AGENT, HELLO)
    pair.say(Role.SERVER, WELCOME)
    return pair


def test_hello_welcome_opens_both() -> None:
    pair = Pair()
    assert pair.say(Role.AGENT, HELLO) == [HELLO]
    assert pair.states == (State.GREETED, State.START)
    assert pair.say(Role.SERVER, WELCOME) == [WELCOME]
    assert pair.states == (State.OPEN, State.OPEN)
    assert repr(pair.agent) == "<Session agent: open, peer open>"


def test_both_sides_agree_about_both_states() -> None:
    pair = open_pair()
    assert (pair.agent.peer_state, pair.server.peer_state) == (State.OPEN, State.OPEN)


def test_work_flows_both_ways() -> None:
    pair = open_pair()
    assert pair.say(Role.SERVER, SAMPLES["dispatch"], SAMPLES["stop"]) == [SAMPLES["dispatch"], SAMPLES["stop"]]
    assert pair.say(Role.AGENT, SAMPLES["started"], SAMPLES["ended"]) == [SAMPLES["started"], SAMPLES["ended"]]


def test_a_stopping_server_says_no_dispatch_but_still_acknowledges() -> None:
    pair = open_pair()
    pair.say(Role.SERVER, Shutdown(reason="x"))
    assert pair.states == (State.OPEN, State.STOPPING)
    assert pair.say(Role.SERVER, SAMPLES["ack"]) == [SAMPLES["ack"]]
    with pytest.raises(LocalProtocolError, match="the server may not say Dispatch in state stopping"):
        pair.say(Role.SERVER, SAMPLES["dispatch"])


def test_a_dispatch_may_cross_the_agents_shutdown() -> None:
    pair = open_pair()
    under_way = pair.server.send([SAMPLES["dispatch"]])
    pair.say(Role.AGENT, Shutdown(reason="stopping"))
    assert pair.agent.receive(under_way[0]) == [SAMPLES["dispatch"]]
    assert pair.say(Role.AGENT, SAMPLES["ended"]) == [SAMPLES["ended"]]


def test_refusal_closes_both_and_what_was_under_way_is_ignored() -> None:
    pair = open_pair()
    under_way = pair.agent.send([SAMPLES["heartbeat"]])
    pair.say(Role.SERVER, SAMPLES["refused"])
    assert pair.states == (State.CLOSED, State.CLOSED)
    assert pair.server.receive(under_way[0]) == []


def test_refusal_instead_of_a_welcome() -> None:
    pair = Pair()
    pair.say(Role.AGENT, HELLO)
    assert pair.say(Role.SERVER, SAMPLES["refused"]) == [SAMPLES["refused"]]


def test_what_may_not_be_said_is_not_said_and_changes_nothing() -> None:
    agent = Session(Role.AGENT)
    with pytest.raises(LocalProtocolError) as caught:
        agent.send([HELLO, SAMPLES["heartbeat"]])
    assert caught.value.code is CloseCode.UNEXPECTED
    assert agent.state is State.START
    assert len(agent.send([HELLO])) == 1


def test_out_of_turn_closes_with_code_and_reason() -> None:
    server = Session(Role.SERVER)
    with pytest.raises(RemoteProtocolError) as caught:
        server.receive(encode_frames([SAMPLES["heartbeat"]])[0])
    assert caught.value.code is CloseCode.UNEXPECTED
    assert caught.value.reason == "the agent may not say Heartbeat in state start"
    assert server.state is State.CLOSED and server.receive(b"whatever") == []


def test_the_server_waits_for_the_hello() -> None:
    with pytest.raises(LocalProtocolError, match="while the agent is start"):
        Session(Role.SERVER).send([WELCOME])


def test_unknown_messages_are_counted() -> None:
    pair = open_pair()
    frame = b"\x92" + b"\x92\xcd\x03\xe7\x80" + encode_frames([Ping(token="x")])[0][1:]
    assert pair.agent.receive(frame) == [Ping(token="x")]
    assert pair.agent.skipped == 1


@pytest.mark.parametrize("role", Role)
@pytest.mark.parametrize("state", State)
def test_every_message_in_every_state_follows_the_table(role: Role, state: State) -> None:
    """Exhaustive: what the table does not name is refused by the sender and by the receiver alike."""
    for kind in TAGS.values():
        sender, receiver = Session(role), Session(role.peer)
        for session in (sender, receiver):
            session._states = {role: state, role.peer: State.GREETED if kind is Welcome else State.OPEN}
        allowed = kind in TRANSITIONS[role][state]
        message = BY_TYPE[kind]
        frame = encode_frames([message])[0]
        if allowed:
            sender.send([message])
            assert sender.state is TRANSITIONS[role][state][kind]
        else:
            with pytest.raises(LocalProtocolError):
                sender.send([message])
        if kind is KnownPage or receiver.state is State.CLOSED or state is State.CLOSED:
            continue
        if allowed:
            assert receiver.receive(frame) == [message]
        else:
            with pytest.raises(RemoteProtocolError):
                receiver.receive(frame)


# --- hellos larger than a frame ------------------------------------------------------------------------------------


def many_known(count: int) -> tuple[Known, ...]:
    long = "01983d8e-7b3a-7000-8000-"
    return tuple(
        Known(task_id=f"{long}{n:012}", instance_id=f"{long}{n:012}", epoch=n, state="ended") for n in range(count)
    )


@pytest.mark.parametrize("count", [KNOWN_PER_PAGE, KNOWN_PER_PAGE + 1, 3 * KNOWN_PER_PAGE, 20_000])
def test_a_hello_of_any_length_arrives_whole(count: int) -> None:
    hello = evolve(HELLO, known=many_known(count))  # type: ignore[misc]
    pair = Pair()
    assert pair.say(Role.AGENT, hello) == [hello]
    assert pair.say(Role.SERVER, WELCOME) == [WELCOME]


def test_no_welcome_before_the_hello_is_whole() -> None:
    pair = Pair()
    frames = pair.agent.send([evolve(HELLO, known=many_known(5000))])  # type: ignore[misc]
    assert len(frames) > 1 and pair.server.receive(frames[0]) == []
    with pytest.raises(LocalProtocolError):
        pair.server.send([WELCOME])


def test_pages_without_end_are_refused() -> None:
    server = Session(Role.SERVER)
    server.receive(encode_frames([evolve(HELLO, known_complete=False)])[0])  # type: ignore[misc]
    page = encode_frames([KnownPage(known=many_known(1000), last=False)])[0]
    with pytest.raises(RemoteProtocolError, match="more than 100000"):
        for _ in range(KNOWN_MAX // 1000 + 1):
            server.receive(page)


def test_a_page_after_a_whole_hello_is_out_of_turn() -> None:
    server = Session(Role.SERVER)
    server.receive(encode_frames([HELLO])[0])
    with pytest.raises(RemoteProtocolError):
        server.receive(encode_frames([KnownPage(known=(), last=True)])[0])


# --- any conversation ----------------------------------------------------------------------------------------------

_anything = st.lists(st.tuples(st.sampled_from(Role), st.sampled_from(sorted(SAMPLES))), max_size=40)


@given(_anything)
def test_both_sides_always_agree_when_frames_do_not_cross(steps: list[tuple[Role, str]]) -> None:
    pair = Pair()
    for sender, name in steps:
        if name == "known_page":
            continue
        try:
            heard = pair.say(sender, SAMPLES[name])
        except LocalProtocolError:
            continue
        assert heard == [SAMPLES[name]]
        assert pair.agent.state is pair.server.peer_state
        assert pair.server.state is pair.agent.peer_state


@given(_anything, st.data())
def test_legal_senders_never_upset_each_other_however_frames_cross(
    steps: list[tuple[Role, str]], data: st.DataObject
) -> None:
    """The claim of the module: what a role may say depends on its own state, so crossing is always legal."""
    pair = open_pair()
    under_way: dict[Role, list[bytes]] = {Role.AGENT: [], Role.SERVER: []}
    sessions = {Role.AGENT: pair.agent, Role.SERVER: pair.server}

    def deliver(sender: Role) -> None:
        if under_way[sender]:
            sessions[sender.peer].receive(under_way[sender].pop(0))

    for sender, name in steps:
        try:
            under_way[sender] += sessions[sender].send([SAMPLES[name]])
        except LocalProtocolError:
            pass
        deliver(data.draw(st.sampled_from(Role)))
    for sender in itertools.islice(itertools.cycle(Role), 2 * len(steps)):
        deliver(sender)


def test_names_used_here_exist() -> None:
    """The samples the table test relies on are of the right types."""
    for kind in (Ack, Dispatch, Heartbeat, Hello, Pong, Refused):
        assert isinstance(BY_TYPE[kind], kind)
