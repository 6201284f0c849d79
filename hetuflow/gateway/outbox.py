"""The way out of one connection: a bounded queue, one writer, a deadline for each send.

Putting never waits. What is put while a send is under way goes out together in the next frames; acknowledgements are
gathered until then. A peer that does not take what it is sent ends its own connection, nobody else's.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Sequence

import trio

from hetuflow.ports.network import MessageStream
from hetuflow.protocol.errors import CloseCode, LocalProtocolError, RemoteProtocolError
from hetuflow.protocol.messages import Ack, Message
from hetuflow.protocol.session import Session

log = logging.getLogger(__name__)

FLUSH_MESSAGES_MAX = 200
"""Messages turned into frames at once: some 100 KiB of dispatches, so that encoding never holds the loop for long."""

Unsendable = Callable[[Message, LocalProtocolError], None]


class OutboxFull(Exception):
    """The peer does not take what it is sent."""


class Outbox:
    def __init__(self, capacity: int, unsendable: Unsendable) -> None:
        self._capacity = capacity
        self._unsendable = unsendable
        self._queue: deque[Message] = deque()
        self._acknowledged: list[int] = []
        self._filled = trio.Event()
        self._empty = trio.Event()
        self._empty.set()
        self.sent = 0

    def __len__(self) -> int:
        return len(self._queue)

    def put(self, message: Message) -> None:
        """Send this after what was put before. Raises `OutboxFull`."""
        if len(self._queue) >= self._capacity:
            raise OutboxFull
        self._queue.append(message)
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
        while True:
            await self._filled.wait()
            self._filled = trio.Event()
            while messages := self._take():
                for frame in self._frames(session, messages):
                    with trio.move_on_after(send_seconds) as scope:
                        await stream.send(frame)
                    if scope.cancelled_caught:
                        raise RemoteProtocolError(CloseCode.SILENT, f"a frame was not taken in {send_seconds:g} s")
                self.sent += len(messages)
            self._empty.set()

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
        try:
            return session.send(messages)
        except LocalProtocolError as exc:
            if len(messages) == 1:
                log.error("a message cannot be sent: %s", exc)
                self._unsendable(messages[0], exc)
                return []
            return [frame for message in messages for frame in self._frames(session, [message])]
