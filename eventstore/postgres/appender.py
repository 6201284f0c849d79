"""Group commit: take everything that is queued, one batch in flight, no artificial delay.

Why a tailing reader misses nothing: append_events holds one advisory lock from before it looks at the head until its
transaction has ended, and gives out "last row + 1". Position order is commit order, contiguous; a reader is
`position > p order by position`. While a batch is at the server the next one collects itself, so that a lone append
waits for nobody and a loaded writer commits hundreds of events with one flush. The queue is bounded: a slow disk becomes
back-pressure on the callers.

When the answer to a batch is lost, the same appends are sent again until their deadline: an append that had been written
loses its claims, and is then known by its event ids.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar

import trio

from eventstore.errors import (
    EventStoreError,
    InvalidEvent,
    SqlError,
    StartError,
    StoreClosed,
    StoreTimeout,
    StoreUnavailable,
    WrongExpectedVersion,
)
from eventstore.event import Appended, Claim
from eventstore.postgres.batch import Columns, PendingAppend, Verdict, recorded, take_batch
from eventstore.postgres.bridge import Bridge
from eventstore.postgres.errors import NO_PARTITION, is_data_error
from eventstore.postgres.settings import PostgresSettings
from eventstore.postgres.writer import Stored, Wanted, WriterConnection
from eventstore.subscription import Feed

log = logging.getLogger(__name__)
T = TypeVar("T")

BACKOFF_SECONDS_MIN, BACKOFF_SECONDS_MAX = 0.05, 1.0
"""Between two tries to reach a database that is away: a restart takes a second or two."""

TROUBLE_SECONDS = 30.0
"""How long a failure is told of when nothing has been tried since."""


class Appender:
    """The one writer of a store. `run` is its task; `append` its callers' side."""

    def __init__(self, bridge: Bridge, connection: WriterConnection, feed: Feed, settings: PostgresSettings) -> None:
        self._bridge, self._connection, self._feed, self._settings = bridge, connection, feed, settings
        self._send, self._receive = trio.open_memory_channel[PendingAppend](settings.append_queue_max)
        self._waiting: list[PendingAppend] = []
        self._bound = 0  # first position without a partition, as far as known
        self._trouble: tuple[float, str] | None = None

    def __repr__(self) -> str:
        queued = self._receive.statistics().current_buffer_used
        return f"<Appender {len(self._waiting) + queued} waiting>"

    @property
    def trouble(self) -> str | None:
        """Why the last tries failed; forgotten when one works, and after a while in which nobody tried."""
        if self._trouble is None or trio.current_time() - self._trouble[0] > TROUBLE_SECONDS:
            return None
        return self._trouble[1]

    async def append(self, claims: Sequence[Claim]) -> Appended:
        """See `EventStore.append`."""
        pending = PendingAppend(claims, trio.current_time() + self._settings.append_seconds_max)
        await trio.lowlevel.checkpoint_if_cancelled()
        await self._put(pending)
        return await pending.answer()

    async def append_each(self, appends: Sequence[Sequence[Claim]]) -> Sequence[Appended | EventStoreError]:
        """See `EventStore.append_each`."""
        await trio.lowlevel.checkpoint_if_cancelled()
        deadline = trio.current_time() + self._settings.append_seconds_max
        queued: list[PendingAppend | EventStoreError] = []
        for claims in appends:
            try:
                pending = PendingAppend(claims, deadline)
                await self._put(pending)
                queued.append(pending)
            except EventStoreError as no:
                queued.append(no)
        return [await each.verdict() if isinstance(each, PendingAppend) else each for each in queued]

    async def _put(self, pending: PendingAppend) -> None:
        try:
            try:
                self._send.send_nowait(pending)
            except trio.WouldBlock:
                await self._queue(pending)
        except (trio.ClosedResourceError, trio.BrokenResourceError):
            raise StoreClosed from None

    async def _queue(self, pending: PendingAppend) -> None:
        with trio.move_on_at(pending.deadline) as patience:
            await self._send.send(pending)
        if patience.cancelled_caught:
            raise StoreUnavailable("the queue of appends did not move in time: nothing was written; try again")

    async def run(self) -> None:
        """Write until `close` and everything queued is written. Cancelling it fails what is left with StoreClosed."""
        try:
            while await self._collect():
                batch, self._waiting = take_batch(self._waiting)
                await self._write(batch)
        finally:
            self._fail_rest()

    def close(self) -> None:
        """Take nothing more; `run` returns when the queue is empty."""
        self._send.close()

    async def prepare(self) -> None:
        """Open the connection and make sure that there is room for the next events."""
        self._bound = await self._bridge.call(self._connection.extend, 1, self._settings.partition_positions)

    async def _collect(self) -> bool:
        """Everything that is queued, waiting for the first; False when closed and empty."""
        if not self._waiting:
            try:
                self._waiting.append(await self._receive.receive())
            except trio.EndOfChannel:
                return False
        while len(self._waiting) < self._settings.append_queue_max:
            try:
                self._waiting.append(self._receive.receive_nowait())
            except (trio.WouldBlock, trio.EndOfChannel):
                break
        return True

    async def _write(self, batch: Sequence[PendingAppend]) -> None:
        """Settle every append of the batch, however long it takes within their deadlines."""
        try:
            verdict = await self._persistently(batch, lambda left: self._append(left))
            if verdict is not None:
                left, answer = verdict
                lost = self._settle_winners(left, answer)
                if lost:
                    await self._settle_losers(lost)
                await self._make_room(answer)
        except trio.Cancelled:
            for pending in batch:
                pending.settle(_given_up(pending, StoreClosed()))
            raise
        except _DataError as exc:
            await self._halve(exc)
        except Exception as exc:  # a defect: the callers learn of it, the writer goes on
            log.exception("append failed")
            for pending in batch:
                pending.settle(exc if isinstance(exc, EventStoreError) else EventStoreError(f"append failed: {exc!r}"))

    async def _append(self, batch: Sequence[PendingAppend]) -> Verdict:
        columns = Columns.of(batch)
        while True:
            try:
                return await self._bridge.call(self._connection.append, columns)
            except (StoreTimeout, trio.Cancelled):
                for pending in batch:
                    pending.maybe_written = True
                raise
            except SqlError as exc:
                if exc.sqlstate == NO_PARTITION and "no partition" in exc.message:
                    await self._extend(len(columns.append))
                elif is_data_error(exc):
                    raise _DataError(exc, batch) from exc
                else:
                    raise

    async def _persistently(
        self, batch: Sequence[PendingAppend], attempt: Callable[[Sequence[PendingAppend]], Awaitable[T]]
    ) -> tuple[Sequence[PendingAppend], T] | None:
        """Try until it works for those whose deadline has not passed; None when nobody is left."""
        backoff_seconds = BACKOFF_SECONDS_MIN
        while True:
            try:
                answer = await attempt(batch)
                self._trouble = None
                return batch, answer
            except (StoreUnavailable, StoreTimeout, StartError) as exc:
                # A StartError here is a database that was there and is being restored, or changed its password:
                # also worth waiting for, and told to the caller if it stays.
                now = trio.current_time()
                if self._trouble is None:
                    log.warning("appends do not get through: %s; they are repeated until their deadlines", exc)
                self._trouble = (now, str(exc))
                for pending in batch:
                    if pending.deadline <= now:
                        pending.settle(_given_up(pending, exc))
                batch = [pending for pending in batch if not pending.settled]
                if not batch:
                    return None
                patience = min(pending.deadline for pending in batch) - now
                await trio.sleep(min(backoff_seconds, patience))
                backoff_seconds = min(2 * backoff_seconds, BACKOFF_SECONDS_MAX)

    def _settle_winners(self, batch: Sequence[PendingAppend], verdict: Verdict) -> list[_Loser]:
        """Answer those who won, tell the subscriptions, return those who lost with their first losing claim."""
        head, place = verdict.head, 0
        losers, published = [], []
        for pending in batch:
            loser = None
            if verdict.lost:
                loser = _first_loser(pending, place, verdict)
                place += len(pending.claims)
            if loser is not None:
                losers.append(loser)
                continue
            last = head + pending.count
            if len(self._feed) and pending.count:
                published += recorded(pending.claims, head, verdict.recorded_at)
            position = last if pending.count else verdict.head
            pending.settle(Appended(position, verdict.recorded_at, pending.positions(head)))
            head = last
        if published:
            self._feed.publish(published)
        return losers

    async def _settle_losers(self, losers: Sequence[_Loser]) -> None:
        """Conflict, or success when exactly these events already stand there."""
        wanted: list[Wanted] = []
        candidates = []
        for loser in losers:
            if loser.may_have_happened:
                candidates.append(loser)
                loser.pending.maybe_written = True
                for claim in loser.pending.claims:
                    if claim.events:
                        after = claim.expected_version
                        wanted.append((len(candidates) - 1, claim.stream_id, after, after + len(claim.events)))
            else:
                loser.pending.settle(loser.error)
        if not candidates:
            return
        answer = await self._persistently(
            [loser.pending for loser in candidates],
            lambda _: self._bridge.call(self._connection.recorded_ids, wanted),
        )
        if answer is None:
            return
        for number, loser in enumerate(candidates):
            stored = [row for row in answer[1] if row[0] == number]
            appended = _already(loser.pending, stored)
            if appended is not None:
                self._feed.hint(appended.position)  # perhaps nobody was told: the first answer was lost
            loser.pending.settle(appended or loser.error)

    async def _halve(self, trouble: _DataError) -> None:
        """A value that passed our checks was refused: a bug, but the innocent are saved and the culprit is found."""
        batch = [pending for pending in trouble.batch if not pending.settled]
        if len(batch) == 1:
            log.error("PostgreSQL refused %r: %s", batch[0], trouble.error)
            batch[0].settle(InvalidEvent(f"PostgreSQL refused the event: {trouble.error}"))
            return
        middle = len(batch) // 2
        await self._write(batch[:middle])
        await self._write(batch[middle:])

    async def _make_room(self, verdict: Verdict) -> None:
        """Add the next partition when the current is half full."""
        head = verdict.head + verdict.appended
        if head + self._settings.partition_positions // 2 >= self._bound:
            try:
                await self._extend(self._settings.partition_positions // 2)
            except EventStoreError as exc:  # the batch that does not fit will try again, and report it
                log.warning("no partition added: %s", exc)

    async def _extend(self, ahead: int) -> None:
        self._bound = await self._bridge.call(self._connection.extend, ahead, self._settings.partition_positions)

    def _fail_rest(self) -> None:
        self._send.close()
        while True:
            try:
                self._waiting.append(self._receive.receive_nowait())
            except (trio.WouldBlock, trio.EndOfChannel):
                break
        self._receive.close()
        for pending in self._waiting:
            pending.settle(_given_up(pending, StoreClosed()))
        self._waiting = []


class _DataError(Exception):
    def __init__(self, error: SqlError, batch: Sequence[PendingAppend]) -> None:
        super().__init__(str(error))
        self.error, self.batch = error, batch


class _Loser:
    """An append that lost, with its first losing claim as the error."""

    __slots__ = ("error", "may_have_happened", "pending")

    def __init__(self, pending: PendingAppend, error: WrongExpectedVersion, may_have_happened: bool) -> None:
        self.pending, self.error, self.may_have_happened = pending, error, may_have_happened


def _first_loser(pending: PendingAppend, place: int, verdict: Verdict) -> _Loser | None:
    """`place` is how many claims of the batch stand before this append's."""
    error = None
    untouched = False  # a stream it writes is as it was: so it cannot have been written
    for number, claim in enumerate(pending.claims, start=place + 1):
        actual = verdict.lost.get(number)
        if actual is None:
            untouched = untouched or bool(claim.events)
            continue
        if error is None:
            error = WrongExpectedVersion(claim.stream_id, claim.expected_version, actual)
        untouched = untouched or actual < claim.expected_version + len(claim.events)
    if error is None:
        return None
    return _Loser(pending, error, bool(pending.count) and not untouched)


def _already(pending: PendingAppend, stored: Sequence[Stored]) -> Appended | None:
    """The verdict of the first time when the stored ids are exactly the append's, stream by stream."""
    places: dict[str, list[Stored]] = {}
    for row in stored:
        places.setdefault(row[1], []).append(row)
    positions = []
    last: Stored | None = None
    for claim in pending.claims:
        if not claim.events:
            continue
        rows = places.get(claim.stream_id, [])
        if [row[2] for row in rows] != [event.event_id for event in claim.events]:
            return None
        positions.append(rows[0][3])
        last = rows[-1]
    return None if last is None else Appended(last[3], last[4], tuple(positions))


def _given_up(pending: PendingAppend, cause: EventStoreError) -> EventStoreError:
    """What is known about an append nobody will try again."""
    if pending.maybe_written:
        return StoreTimeout(f"{StoreTimeout.__doc__} ({cause})")
    if isinstance(cause, (StoreTimeout, StartError)):
        return StoreUnavailable(f"{StoreUnavailable.__doc__} ({cause})")
    return cause
