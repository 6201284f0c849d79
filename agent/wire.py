"""The socket under a WebSocket, dialling side: binary messages pass between it and the agent directly.

`trio_websocket` opens the connection, answers pings, closes it, and judges whatever is not as it should be. Between those, a
message that comes its way costs two turns of the run loop and a task, and one that goes its way another turn (measured:
0.15 ms each on a busy agent). So whole binary messages are cut out of the bytes here, as they come, and the rest is the
library's. After a message in pieces, a text, a close or anything else that no server of ours sends, all of it is.
"""

from __future__ import annotations

import os
from collections import deque
from typing import Any, Final

import trio

from hetuflow.ports.real import unpredictable
from hetuflow.protocol.codec import FRAME_BYTES_MAX

RECEIVE_BYTES: Final = 64 * 1024
HEAD_BYTES_MAX: Final = 16 * 1024
HEAD_OF_SUCCESS: Final = b"HTTP/1.1 101"
_BINARY: Final = 0x82
"""The first byte of a binary message in one frame (RFC 6455, section 5.2)."""
_PING_PONG: Final = (0x89, 0x8A)
_MASKED: Final = 0x80


class NotOurs(Exception):
    """What comes now is the library's to read: ask it for the next message."""


class Inbound:
    """Bytes in; `messages` out, and what is for the `library`."""

    def __init__(self) -> None:
        self.messages: deque[bytes] = deque()
        self.library = bytearray()
        self.is_library_only = False
        self._rest = b""

    def feed(self, data: bytes) -> None:
        if self._rest:
            data, self._rest = self._rest + data, b""
        at = 0
        while not self.is_library_only and (found := _frame_at(data, at)) is not None:
            start, end = found
            first = data[at]
            if data[at + 1] & _MASKED or end - start > FRAME_BYTES_MAX or first not in (_BINARY, *_PING_PONG):
                self.is_library_only = True
            elif end > len(data):
                break
            else:
                if first == _BINARY:
                    self.messages.append(data[start:end])
                else:
                    self.library += data[at:end]
                at = end
        if self.is_library_only:
            self.library += data[at:]
        elif at < len(data):
            self._rest = data[at:]

    def give_up(self) -> None:
        """All that comes is for the library."""
        self.is_library_only = True
        rest, self._rest = self._rest, b""
        self.library += rest


def _frame_at(data: bytes, at: int) -> tuple[int, int] | None:
    """Where the content of the frame begins and ends; None while its head is not whole."""
    if len(data) < at + 2:
        return None
    length = data[at + 1] & 0x7F
    size = {126: 2, 127: 8}.get(length, 0)
    start = at + 2 + size
    if len(data) < start:
        return None
    if size:
        length = int.from_bytes(data[at + 2 : start], "big")
    return start, start + length


def masked_message(message: bytes, key: bytes) -> bytes:
    """A client's binary message in one frame. `key`: four random bytes, new ones each time."""
    size = len(message)
    if size < 126:
        head = bytes((_BINARY, _MASKED | size))
    elif size < 65536:
        head = b"\x82\xfe" + size.to_bytes(2, "big")
    else:
        head = b"\x82\xff" + size.to_bytes(8, "big")
    mask = (key * (size // 4 + 1))[:size]
    mixed = int.from_bytes(message, "little") ^ int.from_bytes(mask, "little")
    return head + key + mixed.to_bytes(size, "little")


class Wire(trio.abc.Stream):
    """See the module. The library's methods are those of `Stream`; `send` and `receive` are ours."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream
        self._descriptor: int | None = stream.socket.fileno() if isinstance(stream, trio.SocketStream) else None
        """Of a plain socket, which can be written to at once."""
        self._writing = trio.Lock()
        self._inbound = Inbound()
        self._is_greeting = True
        self._is_reading = False
        self._for_library = trio.Event()

    # --- ours --------------------------------------------------------------------------------------------------------

    async def send(self, message: bytes) -> None:
        """Raises `BrokenResourceError` and `ClosedResourceError`. Does not wait, nor yield, when the socket takes it."""
        data = masked_message(message, unpredictable(4))
        if self._descriptor is not None and not self._writing.locked() and self._stream.socket.fileno() >= 0:
            try:
                written = os.write(self._descriptor, data)
            except OSError:  # full or broken: whoever waits for the socket finds out
                written = 0
            if written == len(data):
                return
            data = data[written:]
        await self.send_all(data)

    async def receive(self) -> bytes:
        """The next message. Raises `NotOurs`."""
        inbound = self._inbound
        self._is_reading = True
        try:
            while not inbound.messages:
                if inbound.is_library_only:
                    raise NotOurs
                try:
                    data = await self._stream.receive_some(RECEIVE_BYTES)
                except (trio.BrokenResourceError, trio.ClosedResourceError):  # the library meets the same, and says so
                    data = b""
                if data:
                    inbound.feed(bytes(data))
                else:
                    inbound.give_up()
                if inbound.library:
                    self._for_library.set()
            return inbound.messages.popleft()
        finally:
            self._is_reading = False
            if inbound.is_library_only:
                self._for_library.set()

    def take(self) -> list[bytes]:
        """Messages that came together with the last one, before anything of the library's."""
        found = list(self._inbound.messages)
        self._inbound.messages.clear()
        return found

    def give_up(self) -> None:
        """The connection is about to be closed: that is the library's conversation."""
        self._inbound.give_up()
        self._for_library.set()

    # --- the library's -----------------------------------------------------------------------------------------------

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        async with self._writing:
            await self._stream.send_all(data)

    async def wait_send_all_might_not_block(self) -> None:
        await self._stream.wait_send_all_might_not_block()

    async def receive_some(self, max_bytes: int | None = None) -> bytes | bytearray:
        if self._is_greeting:
            return await self._head()
        inbound = self._inbound
        while not inbound.library:
            if inbound.is_library_only and not self._is_reading:
                return bytes(await self._stream.receive_some(max_bytes))
            self._for_library = trio.Event()
            await self._for_library.wait()
        data, inbound.library = inbound.library, bytearray()
        return data

    async def _head(self) -> bytes:
        """The answer to the handshake, and nothing of what follows it when it is a welcome."""
        data = b""
        while b"\r\n\r\n" not in data and len(data) < HEAD_BYTES_MAX and _may_be_success(data):
            piece = bytes(await self._stream.receive_some(RECEIVE_BYTES))
            if not piece:
                break
            data += piece
        self._is_greeting = False
        head, end, behind = data.partition(b"\r\n\r\n")
        if not end or not _may_be_success(head):
            self._inbound.give_up()
            return data
        self._inbound.feed(behind)
        return head + end

    async def aclose(self) -> None:
        await self._stream.aclose()


def _may_be_success(data: bytes) -> bool:
    return data[: len(HEAD_OF_SUCCESS)] == HEAD_OF_SUCCESS[: len(data)]
