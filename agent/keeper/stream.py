"""One connection to a keeper, as messages. Agent side."""

from __future__ import annotations

import os
from typing import Final

import trio

from agent.keeper.frames import Unframer
from agent.keeper.messages import KeeperMessage
from agent.keeper.place import Identity, Place, peer_of, short_path
from hetuflow.protocol.errors import ProtocolError

RECEIVE_BYTES: Final = 64 * 1024


class Lost(Exception):
    """The connection is of no use any more."""

    def __init__(self, message: str, *, hangs: bool = False) -> None:
        self.hangs = hangs
        super().__init__(message)


class Stream:
    """Messages over the socket. Raises `Lost`."""

    def __init__(self, raw: trio.SocketStream) -> None:
        self.raw = raw
        self._unframer = Unframer()

    async def send(self, data: bytes) -> None:
        try:
            await self.raw.send_all(data)
        except trio.BrokenResourceError as exc:
            raise Lost("the keeper has closed the connection") from exc

    def send_nowait(self, data: bytes) -> int:
        """How much of it the socket has taken at once; what is wrong with a broken one, `send` says."""
        try:
            return os.write(self.raw.socket.fileno(), data)
        except OSError:
            return 0

    async def receive(self) -> list[KeeperMessage]:
        try:
            data = await self.raw.receive_some(RECEIVE_BYTES)
            if not data:
                raise Lost("the keeper has closed the connection")
            self._unframer.feed(data)
            return list(self._unframer.messages())
        except (trio.BrokenResourceError, trio.ClosedResourceError) as exc:
            raise Lost("the connection to the keeper is broken") from exc
        except ProtocolError as exc:
            raise Lost(f"the keeper cannot be understood: {exc}", hangs=True) from exc


async def connect(place: Place, found: Identity) -> Stream:
    """Raises `Lost`, also when somebody else listens there."""
    raw = trio.socket.socket(trio.socket.AF_UNIX, trio.socket.SOCK_STREAM)
    try:
        with short_path(place.socket) as name:
            await raw.connect(name)
        pid, uid = peer_of(raw)
        if uid not in (os.geteuid(), 0) or pid not in (0, found.pid):
            raise Lost(f"process {pid} of user id {uid} listens on {place.socket}, not the keeper ({found.pid})")
    except OSError as exc:
        raw.close()
        raise Lost(f"cannot connect to {place.socket}: {exc.strerror or exc}", hangs=True) from exc
    except BaseException:
        raw.close()
        raise
    return Stream(trio.SocketStream(raw))
