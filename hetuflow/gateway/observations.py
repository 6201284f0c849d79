"""What agents have observed on their machines, into the log: recorded as events from outside, once, then acknowledged.

The source is the agent, the id is the agent's own. One at a time and in order, for they share a stream; one that cannot be
recorded now is tried again while the connection lives, and the agent's journal keeps it.
"""

from __future__ import annotations

import json
import logging
from collections import deque
from collections.abc import Callable, Sequence
from hashlib import sha256
from typing import Any

import trio

from hetuflow.actors import ActorSystem, Context
from hetuflow.actors.patience import FAILING, STOPPING, UNSTORABLE, Patience
from hetuflow.domain.commands import ReceiveEvent
from hetuflow.domain.decider import Address
from hetuflow.domain.event_types import OBSERVED_TYPES
from hetuflow.domain.identity import external_event_id
from hetuflow.domain.rejection import Rejected
from hetuflow.gateway.translate import clean, instant
from hetuflow.protocol.messages import Observed

log = logging.getLogger(__name__)

PAUSE_SECONDS_MAX = 2.0
RACES_MAX = 100


def source_of(agent_id: str) -> str:
    return f"agent-{agent_id}"


class ObservationIntake:
    """`acknowledge` is called with the sequences of what is recorded, or never can be."""

    def __init__(
        self, system: ActorSystem, agent_id: str, acknowledge: Callable[[Sequence[int]], None], *, waiting_max: int
    ) -> None:
        self._system = system
        self._agent_id = agent_id
        self._source = Address("external", source_of(agent_id))
        self._acknowledge = acknowledge
        self._waiting_max = waiting_max
        self._waiting: deque[tuple[int, ReceiveEvent]] = deque()
        self._sequences: set[int] = set()
        self._patience = Patience(most_seconds=PAUSE_SECONDS_MAX)
        self._changed = trio.Event()

    def __len__(self) -> int:
        return len(self._waiting)

    async def put(self, message: Observed) -> None:
        """Take it in; waits only while far too many are not recorded. Raises `RemoteProtocolError`."""
        if message.sequence in self._sequences:
            return
        if message.type not in OBSERVED_TYPES:
            log.warning("agent %s says that it observed a %r: dropped", self._agent_id, message.type[:60])
            self._acknowledge([message.sequence])
            return
        command = self._command(message)
        while len(self._waiting) >= self._waiting_max:
            await self._change()
        self._sequences.add(message.sequence)
        self._waiting.append((message.sequence, command))
        self._changed.set()

    async def drained(self) -> None:
        while self._waiting:
            await self._change()

    async def run(self) -> None:
        while True:
            while self._waiting:
                sequence, command = self._waiting[0]
                if not await self._record(command):
                    await trio.sleep(self._patience.failed(None))
                    continue
                self._patience.worked(None)
                self._waiting.popleft()
                self._sequences.discard(sequence)
                self._acknowledge([sequence])
                self._changed.set()
            await self._change()

    # --- inside ------------------------------------------------------------------------------------------------------

    async def _change(self) -> None:
        self._changed = trio.Event()
        await self._changed.wait()

    def _command(self, message: Observed) -> ReceiveEvent:
        data = {**_cleaned(message.data), "agent_id": self._agent_id}
        content = json.dumps({"type": message.type, "data": data, "time": message.at}, sort_keys=True)
        return ReceiveEvent(
            id=clean(message.event_id)[:200],
            source=self._source.id,
            type=message.type,
            data=data,
            time=instant(message.at),
            digest=sha256(content.encode()).hexdigest(),
        )

    async def _record(self, command: ReceiveEvent) -> bool:
        """Recorded, now or before, or never to be; False when it has to be tried again later."""
        context = Context(principal=f"agent:{self._agent_id}")
        try:
            for _ in range(RACES_MAX):
                reading = await self._system.read(self._source)
                if command.id in reading.state.recent:
                    return True
                is_forgetful = reading.version > len(reading.state.recent)
                if is_forgetful and await self._system.is_received(external_event_id(command.source, command.id)):
                    return True
                asked = ReceiveEvent(
                    id=command.id,
                    source=command.source,
                    type=command.type,
                    data=command.data,
                    time=command.time,
                    digest=command.digest,
                    known_until=reading.version,
                )
                try:
                    await self._system.ask(self._source, asked, context)
                except Rejected as no:
                    log.debug("an observation of agent %s: %s", self._agent_id, no)
                else:
                    return True
        except STOPPING:
            await trio.sleep_forever()  # the connection is ended by whoever stops us
        except UNSTORABLE as no:
            log.error("an observation of agent %s cannot be stored and is dropped: %s", self._agent_id, no)
            return True
        except FAILING as problem:
            log.warning("observations of agent %s cannot be recorded yet: %s", self._agent_id, problem)
        return False


def _cleaned(data: Any) -> Any:
    """Without NUL characters, which the log cannot hold."""
    if isinstance(data, str):
        return clean(data)
    if isinstance(data, dict):
        return {clean(str(name)): _cleaned(value) for name, value in data.items()}
    return data if isinstance(data, int | float | bool | None) else str(data)
