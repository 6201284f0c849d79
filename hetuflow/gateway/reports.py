"""Reports of one connection: committed, then acknowledged; in order per task, side by side across tasks.

Reports of one task that wait together are one command and one append, and tasks whose reports came together are asked
together. A report that cannot be committed now is asked again after a pause, for as long as the connection lives; it is
not acknowledged before, so that the agent's journal keeps it. A repeat while the first is under way is not asked twice.
"""

from __future__ import annotations

import logging
import math
from collections import deque
from collections.abc import Callable, Sequence
from itertools import islice

import trio

from eventstore.errors import EventStoreError
from hetuflow.actors import ActorSystem, Answer, Context, Question
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


_Numbered = tuple[int, ReportStarted | ReportEnded]
"""A report and its sequence."""


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
        self._context = Context(principal=f"agent:{agent_id}", continues=True)
        self._queues: dict[str, deque[_Numbered]] = {}
        """Of every task with reports that are not committed; each is held, ready or being asked."""
        self._held: dict[str, float] = {}
        """Tasks of which only a start is told -> until when that waits; in this order."""
        self._ready: deque[str] = deque()
        self._sequences: set[int] = set()
        self._asking = 0
        self._patience = Patience(most_seconds=PAUSE_SECONDS_MAX)
        self._room = trio.Event()
        self._changed = trio.Event()

    def __len__(self) -> int:
        """Reports that are not committed yet."""
        return len(self._sequences)

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        async with trio.open_nursery() as nursery:
            task_status.started()
            while True:
                self._release()
                task_ids = [self._ready.popleft() for _ in range(min(len(self._ready), ASKING_MAX - self._asking))]
                self._asking += len(task_ids)
                if len(task_ids) == 1:
                    nursery.start_soon(self._commit, task_ids[0])
                elif task_ids:
                    nursery.start_soon(self._commit_each, nursery, task_ids)
                with trio.move_on_at(next(iter(self._held.values()), math.inf)):
                    await self._changed.wait()
                self._changed = trio.Event()

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
            self._hold_or_ask(message.task_id)
        else:
            queue.append((message.sequence, report))
            if self._held.pop(message.task_id, None) is not None:
                self._hold_or_ask(message.task_id)

    async def drained(self) -> None:
        """Wait until no report waits for its commit."""
        while self._sequences:
            self._room = trio.Event()
            await self._room.wait()

    def _hold_or_ask(self, task_id: str) -> None:
        """A start alone waits until something follows, or long enough."""
        queue = self._queues[task_id]
        if len(queue) == 1 and isinstance(queue[0][1], ReportStarted):
            self._held[task_id] = trio.current_time() + START_HOLD_SECONDS
        else:
            self._ready.append(task_id)
        self._changed.set()

    def _release(self) -> None:
        """Ask for those that were held long enough."""
        now = trio.current_time()
        while self._held:
            task_id, until = next(iter(self._held.items()))
            if until > now:
                return
            del self._held[task_id]
            self._ready.append(task_id)

    async def _commit_each(self, nursery: trio.Nursery, task_ids: Sequence[str]) -> None:
        """In one turn of the store; whose reports were not committed there is asked alone, which tells what was wrong."""
        batches = {task_id: self._batch(task_id) for task_id in task_ids}
        questions = [
            Question(_address(task_id), Report(reports=[report for _, report in batch]), self._context)
            for task_id, batch in batches.items()
        ]
        try:
            answers = await self._system.ask_each(questions)
        except STOPPING:
            await trio.sleep_forever()  # the connection is ended by whoever stops us
        except (EventStoreError, *FAILING) as problem:
            log.warning("reports of agent %s cannot be committed yet: %s", self._agent_id, problem)
            answers = {}
        committed: list[int] = []
        for task_id, batch in batches.items():
            if isinstance(answers.get(_address(task_id)), Answer):
                committed.extend(self._take(task_id, batch))
                self._go_on(task_id)
            else:
                nursery.start_soon(self._commit, task_id)
        self._committed(committed)

    async def _commit(self, task_id: str) -> None:
        """Those of one task, again and again until it works."""
        queue = self._queues[task_id]
        while queue:
            batch = self._batch(task_id)
            if await self._ask(task_id, [report for _, report in batch]):
                self._patience.worked(task_id)
                self._committed(self._take(task_id, batch))
            else:
                await trio.sleep(self._patience.failed(task_id))
        self._go_on(task_id)

    def _batch(self, task_id: str) -> Sequence[_Numbered]:
        return list(islice(self._queues[task_id], REPORTS_PER_COMMAND_MAX))

    def _take(self, task_id: str, batch: Sequence[_Numbered]) -> Sequence[int]:
        """What is committed leaves the queue; its numbers."""
        queue = self._queues[task_id]
        for _ in batch:
            queue.popleft()
        return [sequence for sequence, _ in batch]

    def _go_on(self, task_id: str) -> None:
        """The task is no longer being asked."""
        self._asking -= 1
        if self._queues[task_id]:
            self._hold_or_ask(task_id)
        else:
            del self._queues[task_id]
        if self._ready:
            self._changed.set()

    def _committed(self, sequences: Sequence[int]) -> None:
        self._sequences.difference_update(sequences)
        self._acknowledge(sequences)
        self._room.set()

    async def _ask(self, task_id: str, reports: Sequence[ReportStarted | ReportEnded]) -> bool:
        """Commit; False when it has to be asked again later."""
        address, context = _address(task_id), self._context
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


def _address(task_id: str) -> Address:
    return Address("task", task_id)
