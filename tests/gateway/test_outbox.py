"""The way out of a connection: in order, together under load, at once at rest."""

from __future__ import annotations

import pytest
import trio
import trio.testing

from hetuflow.gateway.outbox import ACK_REST_SECONDS, REST_SECONDS, Outbox, OutboxFull
from hetuflow.protocol.codec import decode_frame
from hetuflow.protocol.messages import Ack, Dispatch, Forget, Hello, Message, Stop, Welcome
from hetuflow.protocol.session import Role, Session


class EagerStream:
    """Takes what the test lets it take, at once or not."""

    peer = query = ""

    def __init__(self) -> None:
        self.takes = True
        self.has_rest = False
        self.at_once: list[list[Message]] = []
        self.frames: list[list[Message]] = []

    def send_nowait(self, frame: bytes) -> bool:
        if self.takes:
            self.at_once.append(decode_frame(frame)[0])
            self.frames.append(decode_frame(frame)[0])
        return self.takes

    async def flush(self) -> None:
        await trio.lowlevel.checkpoint()
        self.has_rest = False

    async def send(self, frame: bytes) -> None:
        await trio.lowlevel.checkpoint()
        self.frames.append(decode_frame(frame)[0])


def an_order(number: int) -> Dispatch:
    return Dispatch(task_id=f"t{number}", job_id="j", instance_id=f"i{number}", epoch=1, attempt=1, cmd="true")


def a_stop(number: int) -> Stop:
    return Stop(instance_id=f"i{number}", epoch=1)


def greeted() -> Session:
    session, agent = Session(Role.SERVER), Session(Role.AGENT)
    hello = Hello(agent_id="a", name="a", boot_id="b", incarnation=1, version="1", host="h", slots=1)
    for frame in agent.send([hello]):
        session.receive(frame)
    session.send(
        [
            Welcome(
                session="s", server_id="x", lease_seconds=1, heartbeat_interval=1, check_interval=1, server_time="now"
            )
        ]
    )
    return session


class Running:
    def __init__(self, capacity: int = 100) -> None:
        self.unsendable: list[Message] = []
        self.outbox = Outbox(capacity, lambda message, why: self.unsendable.append(message))
        self.stream = EagerStream()

    async def start(self, nursery: trio.Nursery) -> None:
        nursery.start_soon(self.outbox.run, greeted(), self.stream, 10.0)
        await trio.sleep(1)

    @property
    def heard(self) -> list[Message]:
        return [message for frame in self.stream.frames for message in frame]


@pytest.fixture
async def running(autojump_clock, nursery) -> Running:
    running = Running()
    await running.start(nursery)
    return running


async def test_an_order_at_rest_is_written_without_waiting_for_the_writer(running: Running, autojump_clock) -> None:
    running.outbox.put(an_order(1))
    assert running.stream.at_once == [[an_order(1)]]
    await trio.testing.wait_all_tasks_blocked()
    assert running.heard == [an_order(1)]
    assert running.outbox.sent == 1


async def test_orders_in_a_burst_go_together(running: Running, autojump_clock) -> None:
    for number in range(4):
        running.outbox.put(an_order(number))
    await trio.testing.wait_all_tasks_blocked()
    assert running.stream.frames == [[an_order(0)], [an_order(1), an_order(2), an_order(3)]]
    await trio.sleep(REST_SECONDS)
    running.outbox.put(an_order(4))
    assert running.stream.at_once == [[an_order(0)], [an_order(4)]]


async def test_an_order_never_overtakes_what_was_put_before(running: Running, autojump_clock) -> None:
    running.outbox.put(a_stop(1))
    running.outbox.put(an_order(2))
    running.outbox.put(a_stop(3))
    await trio.testing.wait_all_tasks_blocked()
    assert running.heard == [a_stop(1), an_order(2), a_stop(3)]


async def test_what_a_full_socket_does_not_take_is_sent_by_the_writer_in_order(
    running: Running, autojump_clock
) -> None:
    running.stream.takes = False
    running.outbox.put(an_order(1))
    running.outbox.put(a_stop(2))
    running.outbox.put(an_order(3))
    await trio.testing.wait_all_tasks_blocked()
    assert running.heard == [an_order(1), a_stop(2), an_order(3)]


async def test_what_is_left_of_an_order_is_written_before_anything_else(running: Running, autojump_clock) -> None:
    running.stream.has_rest = True
    running.outbox.put(an_order(1))
    await trio.testing.wait_all_tasks_blocked()
    assert not running.stream.has_rest


async def test_acknowledgements_are_gathered(running: Running, autojump_clock) -> None:
    running.outbox.put(Forget(instance_ids=("i",)))
    running.outbox.acknowledge([1, 2])
    running.outbox.acknowledge([3])
    await trio.testing.wait_all_tasks_blocked()
    assert running.heard == [Forget(instance_ids=("i",)), Ack(sequences=(1, 2, 3))]


async def test_acknowledgements_wait_a_little_after_a_frame_for_more_and_never_hold_up_an_order(
    autojump_clock, running: Running
) -> None:
    running.outbox.acknowledge([1])
    await trio.testing.wait_all_tasks_blocked()
    assert running.heard == [Ack(sequences=(1,))]
    began = trio.current_time()
    running.outbox.acknowledge([2])
    await trio.sleep(ACK_REST_SECONDS / 2)
    running.outbox.acknowledge([3])
    await running.outbox.drained()
    assert running.heard[1:] == [Ack(sequences=(2, 3))]
    assert trio.current_time() == began + ACK_REST_SECONDS
    running.outbox.acknowledge([4])
    await trio.testing.wait_all_tasks_blocked()
    began = trio.current_time()
    running.outbox.put(an_order(1))
    await running.outbox.drained()
    assert running.heard[2:] == [an_order(1), Ack(sequences=(4,))]
    assert trio.current_time() == began


async def test_one_message_that_cannot_be_sent_does_not_hold_up_the_rest(running: Running, caplog) -> None:
    monster = Dispatch(task_id="t", job_id="j", instance_id="i", epoch=1, attempt=1, cmd="x" * 300_000)
    running.outbox.put(a_stop(1))
    running.outbox.put(monster)
    running.outbox.put(a_stop(2))
    await trio.testing.wait_all_tasks_blocked()
    await running.outbox.drained()
    assert running.heard == [a_stop(1), a_stop(2)]
    assert running.unsendable == [monster]


async def test_the_queue_is_bounded(autojump_clock) -> None:
    outbox = Outbox(3, lambda message, why: None)
    for number in range(3):
        outbox.put(a_stop(number))
    with pytest.raises(OutboxFull):
        outbox.put(a_stop(4))
