"""The way out of one connection: a bounded queue, one writer, a deadline for each send.

Putting never waits. What is put while a send is under way goes out together in the next frames; acknowledgements are
gathered until then, and a little longer when they are all there is. A peer that does not take what it is sent ends its
own connection, nobody else's.

An order does not wait for the writer's turn when the connection is at rest and can write at once (`send_nowait`): a turn
of the run loop is a good part of the time from a due instant to a running process. Under load, orders go out together.
"""

from __future__ import annotations

import logging
import math
from collections import deque
from collections.abc import Callable, Sequence
from typing import Protocol, runtime_checkable

import trio

from hetuflow.ports.network import MessageStream
from hetuflow.protocol.errors import CloseCode, LocalProtocolError, RemoteProtocolError
from hetuflow.protocol.messages import Ack, Dispatch, Message
from hetuflow.protocol.session import Session, State

log = logging.getLogger(__name__)

FLUSH_MESSAGES_MAX = 200
"""Messages turned into frames at once: some 100 KiB of dispatches, so that encoding never holds the loop for long."""

REST_SECONDS = 0.002
"""Since the last send, for an order to go out alone: bursts are cheaper for both sides in one frame."""

ACK_REST_SECONDS = 0.004
"""Since the last send, for acknowledgements to go out alone: nobody waits for them, and a frame costs the agent as much as what
is in it. Whatever else is sent takes them along."""

Unsendable = Callable[[Message, LocalProtocolError], None]


class OutboxFull(Exception):
    """The peer does not take what it is sent."""


@runtime_checkable
class Eager(Protocol):
    """A `MessageStream` that can also write at once."""

    def send_nowait(self, frame: bytes) -> bool:
        """Send the frame at once if that is possible without waiting; False: it was not sent."""
        ...

    @property
    def has_rest(self) -> bool:
        """Whether part of what was taken is still to be written."""
        ...

    async def flush(self) -> None:
        """Write what is left. Raises `ConnectionLost`."""
        ...


class Outbox:
    def __init__(self, capacity: int, unsendable: Unsendable) -> None:
        self._capacity = capacity
        self._unsendable = unsendable
        self._queue: deque[Message] = deque()
        self._acknowledged: list[int] = []
        self._said: deque[bytes] = deque()
        self._eager: tuple[Session, Eager] | None = None
        self._is_sending = False
        self._last_sent = -math.inf
        self._filled = trio.Event()
        self._hurried = trio.Event()
        self._empty = trio.Event()
        self._empty.set()
        self.sent = 0

    def __len__(self) -> int:
        return len(self._queue)

    def put(self, message: Message) -> None:
        """Send this after what was put before. Raises `OutboxFull`."""
        if len(self._queue) >= self._capacity:
            raise OutboxFull
        if isinstance(message, Dispatch) and self._eager is not None and self._is_at_rest():
            self._send_now(message, *self._eager)
        else:
            self._queue.append(message)
            self._hurried.set()
            self._fill()

    def acknowledge(self, sequences: Sequence[int]) -> None:
        """These reports are committed."""
        self._acknowledged.extend(sequences)
        self._fill()

    async def drained(self) -> None:
        """Wait until everything that was put has been sent; for ever, if the writer has ended."""
        await self._empty.wait()

    async def run(self, session: Session, stream: MessageStream, send_seconds: float) -> None:
        """Send until cancelled. Raises `ConnectionLost`, or `RemoteProtocolError` when the peer does not take a frame."""
        if isinstance(stream, Eager):
            self._eager = (session, stream)
        while True:
            await self._filled.wait()
            await self._rest()
            self._filled = trio.Event()
            self._is_sending = True
            with trio.move_on_after(send_seconds) as deadline:
                if self._eager is not None:
                    await self._eager[1].flush()
                while self._said or self._queue or self._acknowledged:
                    for frame in self._next_frames(session):
                        deadline.deadline = trio.current_time() + send_seconds
                        await stream.send(frame)
            if deadline.cancelled_caught:
                raise RemoteProtocolError(CloseCode.SILENT, f"a frame was not taken in {send_seconds:g} s")
            self._last_sent = trio.current_time()
            self._is_sending = False
            self._empty.set()

    async def _rest(self) -> None:
        """Let acknowledgements gather, until something else is to be sent."""
        until = self._last_sent + ACK_REST_SECONDS
        if (
            self._queue
            or self._said
            or until <= trio.current_time()
            or (self._eager is not None and self._eager[1].has_rest)
        ):
            return
        self._hurried = trio.Event()
        with trio.move_on_at(until):
            await self._hurried.wait()

    def _is_at_rest(self) -> bool:
        if self._is_sending or self._queue or self._acknowledged or self._said:
            return False
        return trio.current_time() - self._last_sent >= REST_SECONDS

    def _send_now(self, message: Message, session: Session, stream: Eager) -> None:
        self._last_sent = trio.current_time()
        for frame in self._frames(session, [message]):
            if self._said or not stream.send_nowait(frame):
                self._said.append(frame)
        self.sent += 1
        if self._said or stream.has_rest:
            self._hurried.set()
            self._fill()

    def _next_frames(self, session: Session) -> list[bytes]:
        """What is to be sent next, in the order it was said."""
        if self._said:
            frames = list(self._said)
            self._said.clear()
            return frames
        messages = self._take()
        self.sent += len(messages)
        return self._frames(session, messages)

    def _fill(self) -> None:
        self._filled.set()
        if self._empty.is_set():
            self._empty = trio.Event()

    def _take(self) -> list[Message]:
        messages = [self._queue.popleft() for _ in range(min(len(self._queue), FLUSH_MESSAGES_MAX))]
        if self._acknowledged:
            sequences, self._acknowledged = tuple(self._acknowledged), []
            messages.append(Ack(sequences=sequences))
        return messages

    def _frames(self, session: Session, messages: list[Message]) -> list[bytes]:
        if session.state is State.CLOSED:
            return []  # the agent was sent away: it hears nothing more
        try:
            return session.send(messages)
        except LocalProtocolError as exc:
            if len(messages) == 1:
                log.error("a message cannot be sent: %s", exc)
                self._unsendable(messages[0], exc)
                return []
            return [frame for message in messages for frame in self._frames(session, [message])]
