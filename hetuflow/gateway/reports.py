"""Reports of one connection: committed, then acknowledged; in order per task, side by side across tasks.

Reports of one task that wait together are one command and one append. A report that cannot be committed now is asked
again after a pause, for as long as the connection lives; it is not acknowledged before, so that the agent's journal
keeps it. A repeat while the first is under way is not asked twice.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Sequence

import trio

from hetuflow.actors import ActorSystem, Context
from hetuflow.actors.patience import FAILING, STOPPING, UNSTORABLE, Patience
from hetuflow.domain.commands import Report, ReportEnded, ReportStarted
from hetuflow.domain.decider import Address
from hetuflow.domain.rejection import Rejected
from hetuflow.gateway.translate import bare, report_of
from hetuflow.protocol.messages import Ended, Started

log = logging.getLogger(__name__)

ASKING_MAX = 256
"""Tasks of one connection whose reports are being committed at once."""

REPORTS_PER_COMMAND_MAX = 16

PAUSE_SECONDS_MAX = 2.0
"""A database that was away for long is not waited for longer than that when it is back."""

START_HOLD_SECONDS = 0.025
"""How long the report of a start waits for that of the end: a short run is then one append instead of two (a quarter of
all appends of such tasks). Nobody waits for a start to be recorded: the time in it is the agent's."""


class ReportIntake:
    """`acknowledge` is called with the sequences of committed reports."""

    def __init__(
        self,
        system: ActorSystem,
        agent_id: str,
        acknowledge: Callable[[Sequence[int]], None],
        *,
        reports_max: int,
    ) -> None:
        self._system = system
        self._agent_id = agent_id
        self._acknowledge = acknowledge
        self._reports_max = reports_max
        self._queues: dict[str, deque[tuple[int, ReportStarted | ReportEnded]]] = {}
        self._waiting: deque[str] = deque()
        self._held: dict[str, trio.Event] = {}
        self._sequences: set[int] = set()
        self._asking = 0
        self._patience = Patience(most_seconds=PAUSE_SECONDS_MAX)
        self._room = trio.Event()
        self._nursery: trio.Nursery | None = None

    def __len__(self) -> int:
        """Reports that are not committed yet."""
        return len(self._sequences)

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        async with trio.open_nursery() as self._nursery:
            task_status.started()
            await trio.sleep_forever()

    async def put(self, message: Started | Ended) -> None:
        """Take a report in; waits only while far too many are not committed. Raises `RemoteProtocolError`."""
        if message.sequence in self._sequences:
            return
        report = report_of(message, self._agent_id)
        while len(self._sequences) >= self._reports_max:
            self._room = trio.Event()
            await self._room.wait()
        self._sequences.add(message.sequence)
        queue = self._queues.get(message.task_id)
        if queue is None:
            self._queues[message.task_id] = deque([(message.sequence, report)])
            self._begin(message.task_id)
        else:
            queue.append((message.sequence, report))
            held = self._held.get(message.task_id)
            if held is not None:
                held.set()

    async def drained(self) -> None:
        """Wait until no report waits for its commit."""
        while self._sequences:
            self._room = trio.Event()
            await self._room.wait()

    def _begin(self, task_id: str) -> None:
        assert self._nursery is not None
        if self._asking >= ASKING_MAX:
            self._waiting.append(task_id)
        else:
            self._asking += 1
            self._nursery.start_soon(self._commit, task_id)

    async def _commit(self, task_id: str) -> None:
        queue = self._queues[task_id]
        try:
            while queue:
                if len(queue) == 1 and isinstance(queue[0][1], ReportStarted):
                    await self._hold(task_id)
                batch = [queue[n] for n in range(min(len(queue), REPORTS_PER_COMMAND_MAX))]
                if not await self._ask(task_id, [report for _, report in batch]):
                    await trio.sleep(self._patience.failed(task_id))
                    continue
                self._patience.worked(task_id)
                for _ in batch:
                    queue.popleft()
                self._committed([sequence for sequence, _ in batch])
        finally:
            del self._queues[task_id]
            self._asking -= 1
        if self._waiting:
            self._begin(self._waiting.popleft())

    async def _hold(self, task_id: str) -> None:
        """Until something follows, or long enough."""
        more = self._held[task_id] = trio.Event()
        with trio.move_on_after(START_HOLD_SECONDS):
            await more.wait()
        del self._held[task_id]

    def _committed(self, sequences: Sequence[int]) -> None:
        self._sequences.difference_update(sequences)
        self._acknowledge(sequences)
        self._room.set()

    async def _ask(self, task_id: str, reports: Sequence[ReportStarted | ReportEnded]) -> bool:
        """Commit; False when it has to be asked again later."""
        address, context = Address("task", task_id), Context(principal=f"agent:{self._agent_id}", continues=True)
        try:
            try:
                await self._system.ask(address, Report(reports=reports), context)
            except UNSTORABLE as exc:
                log.error("a report of agent %s on task %s is stored bare: %s", self._agent_id, task_id, exc)
                await self._system.ask(address, Report(reports=[bare(report) for report in reports]), context)
        except Rejected as no:  # there is nothing that the agent could do about it
            log.warning("a report of agent %s on task %s is dropped: %s", self._agent_id, task_id, no)
        except STOPPING:
            await trio.sleep_forever()  # the connection is ended by whoever stops us
        except FAILING as problem:
            log.warning("reports of agent %s on task %s cannot be committed yet: %s", self._agent_id, task_id, problem)
            return False
        return True
