"""The keeper's Unix socket: who may connect, what is read, and how much may wait to be read by a slow agent."""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import Callable, Iterator
from typing import Final

from agent.keeper.core import Keeper
from agent.keeper.frames import Unframer, framed
from agent.keeper.loop import Loop
from agent.keeper.messages import Attach, KeeperMessage
from agent.keeper.place import Place, peer_of, short_path
from hetuflow.ports.disk import DiskError
from hetuflow.protocol.errors import ProtocolError

READ_BYTES: Final = 64 * 1024
READ_ROUNDS_MAX: Final = 1024
"""Reads of what a connection that is being replaced has left."""
SEND_BYTES_MAX: Final = 256 * 1024
"""Encoded and not yet taken by the agent; beyond it, nothing is asked of the keeper."""
STRANGERS_MAX: Final = 8
ATTACH_SECONDS_MAX: Final = 10.0


class Agents:
    """Listens; of all connections the one that has attached last is *the* agent's. `pump` after anything has happened."""

    def __init__(self, place: Place, loop: Loop, keeper: Keeper, complain: Callable[[str], None]) -> None:
        self._loop, self._keeper, self._complain = loop, keeper, complain
        self._listening = _listen(place.socket)
        self._strangers: list[Connection] = []
        self._agent: Connection | None = None
        loop.watch(self._listening.fileno(), self._accept)

    def pump(self) -> None:
        """Send what there is to say, as much as is taken."""
        agent = self._agent
        if agent is None:
            return
        while len(agent.unsent) < SEND_BYTES_MAX:
            message = self._keeper.next_message()
            if message is None:
                break
            agent.unsent += framed(message)
            if len(agent.unsent) >= SEND_BYTES_MAX:
                agent.flush()
        agent.flush()

    def close(self) -> None:
        self._loop.unwatch(self._listening.fileno())
        self._listening.close()
        for connection in [*self._strangers, *([self._agent] if self._agent else [])]:
            connection.close()

    # --- told by connections ---------------------------------------------------------------------------------------

    def received(self, connection: Connection) -> None:
        """Handle what is whole of it."""
        try:
            self._keeper.receive_all(self._meant_for_keeper(connection))
        except ProtocolError as exc:
            self.ended(connection, str(exc))

    def _meant_for_keeper(self, connection: Connection) -> Iterator[KeeperMessage]:
        for message in connection.unframer.messages():
            if connection is self._agent:
                if not isinstance(message, Attach):
                    yield message
            elif isinstance(message, Attach) and connection in self._strangers:
                self._attach(connection, message)
            else:
                self.ended(connection, "the first message is not Attach")

    def ended(self, connection: Connection, problem: str | None = None) -> None:
        if problem is not None:
            self._complain(f"connection of process {connection.peer}: {problem}")
        connection.close()
        if connection is self._agent:
            self._agent = None
            self._keeper.detached()
        elif connection in self._strangers:
            self._strangers.remove(connection)

    # --- inside ----------------------------------------------------------------------------------------------------

    def _accept(self) -> None:
        try:
            accepted, _ = self._listening.accept()
        except OSError:
            return
        pid, uid = peer_of(accepted)
        if uid not in (os.geteuid(), 0) or len(self._strangers) >= STRANGERS_MAX:
            self._complain(f"process {pid} of user id {uid} may not connect")
            accepted.close()
            return
        connection = Connection(accepted, pid, self._loop, self)
        self._strangers.append(connection)
        self._loop.call_at(self._loop.now() + ATTACH_SECONDS_MAX, lambda: self._expect_attached(connection))

    def _expect_attached(self, connection: Connection) -> None:
        if connection in self._strangers:
            self.ended(connection, f"nothing was said within {ATTACH_SECONDS_MAX:g} s")

    def _attach(self, connection: Connection, attach: Attach) -> None:
        if not self._keeper.admits(attach):
            self.ended(connection, f"incarnation {attach.incarnation} is older than {self._keeper.incarnation}")
            return
        earlier = self._agent
        if earlier is not None:  # what it has sent was meant: a launch that is on its way has been journaled
            earlier.read_rest()
        if self._agent is not None:
            self.ended(self._agent)
        self._strangers.remove(connection)
        self._agent = connection
        self._keeper.receive(attach)


class Connection:
    """One connection. Never blocks."""

    def __init__(self, connection: socket.socket, peer: int, loop: Loop, agents: Agents) -> None:
        self.peer = peer
        self.unframer = Unframer()
        self.unsent = bytearray()
        self._socket, self._loop, self._agents = connection, loop, agents
        self._is_open = True
        connection.setblocking(False)
        loop.watch(connection.fileno(), self._readable)

    def read_rest(self) -> None:
        """Everything that has arrived."""
        for _ in range(READ_ROUNDS_MAX):
            if not self._is_open or not self._read():
                return

    def flush(self) -> None:
        """Send as much as is taken; the rest when the other side reads."""
        if not self._is_open:
            return
        while self.unsent:
            try:
                sent = self._socket.send(self.unsent)
            except (BlockingIOError, InterruptedError):
                self._loop.watch_writable(self._socket.fileno(), self.flush)
                return
            except OSError as exc:
                self.unsent.clear()
                self.read_rest()  # it is gone, and what it has said before was meant
                if self._is_open:
                    self._agents.ended(self, f"cannot be written to: {exc.strerror}")
                return
            del self.unsent[:sent]
        self._loop.unwatch_writable(self._socket.fileno())

    def close(self) -> None:
        if self._is_open:
            self._is_open = False
            self._loop.unwatch(self._socket.fileno())
            self._socket.close()

    def _readable(self) -> None:
        self._read()

    def _read(self) -> bool:
        try:
            data = self._socket.recv(READ_BYTES)
        except (BlockingIOError, InterruptedError):
            return False
        except OSError:
            data = b""
        if not data:
            self._agents.ended(self)
            return False
        self.unframer.feed(data)
        self._agents.received(self)
        return True


def _listen(path: str) -> socket.socket:
    """Raises `DiskError`. Whoever listens there has the lock: what lies there is an earlier one's."""
    with contextlib.suppress(FileNotFoundError):
        os.unlink(path)
    listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        with short_path(path) as name:
            listening.bind(name)
        os.chmod(path, 0o600)
        listening.listen(STRANGERS_MAX)
    except OSError as exc:
        listening.close()
        raise DiskError(f"cannot listen on {path}: {exc.strerror or exc}") from exc
    listening.setblocking(False)
    return listening
