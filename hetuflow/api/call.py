"""One call of one endpoint: what was asked, by whom, and the few things that every handler does."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

import trio
from attrs import define, evolve, field, frozen

from hetuflow.actors import Answer, Context, GuardLost
from hetuflow.api.errors import ApiError, behind, conflict, invalid
from hetuflow.api.memory import Memory
from hetuflow.api.problems import Problems
from hetuflow.api.requests import Head
from hetuflow.api.rooms import Rooms
from hetuflow.api.routing import Endpoint
from hetuflow.api.shapes import Given, Shape, read, read_mask
from hetuflow.api.streaming import Produce
from hetuflow.domain.decider import Address
from hetuflow.domain.rejection import Rejected
from hetuflow.scheduler.calendars import ask_schedule

PRINCIPAL = "user:1"
"""Until authentication exists everybody is user 1, as `created_by` says."""

BEHIND_SECONDS_MAX = 2.0
LOG_POLL_SECONDS = 0.05
"""How often the head of the log is asked for while it is behind what another server has told this client."""

RACES_MAX = 5

MASK = "update_mask"


@frozen(slots=True)
class Reply:
    """A 200, or 206 for a range. `value` is rendered as JSON unless `content` or `body` has other bytes."""

    value: Any = None
    position: int | None = None
    content: bytes | None = None
    content_type: bytes = b"application/json"
    headers: tuple[tuple[bytes, bytes], ...] = ()
    is_write: bool = False
    stream: Produce | None = None
    """Where given, the answer is `text/event-stream`, written by this."""
    status: int = 200
    body: Produce | None = None
    """Where given, it writes the answer's content, whose length is in `headers`."""


@define(slots=True)
class Call:
    """`document`: the body's JSON value, None when there was none."""

    rooms: Rooms
    endpoint: Endpoint
    head: Head
    id: str
    query: Mapping[str, Any]
    document: Any
    request_id: str
    memory: Memory
    tail: str = ""
    """The rest of the path, of an endpoint that has one."""
    content: bytes = b""
    """The body's bytes, of an endpoint that takes them."""
    context: Context = field(init=False)

    def __attrs_post_init__(self) -> None:
        self.context = Context(principal=PRINCIPAL, request_id=self.request_id)

    # --- parsing ------------------------------------------------------------------------------------------------

    @property
    def members(self) -> Mapping[str, Any]:
        """The body as an object; empty when there was none.

        Raises:
          ApiError: 422, it is something else.
        """
        if self.document is None:
            return {}
        if not isinstance(self.document, dict):
            problems = Problems()
            problems.add("body", "must be a JSON object")
            raise invalid(list(problems))
        return self.document

    def refuse(self, problems: Problems) -> None:
        """Raises 422 (or 400) when there are problems, listed in the order of the request's members."""
        if problems:
            raise invalid(problems.in_order_of(list(self.members)))

    def read(self, shape: Shape, problems: Problems) -> Given:
        """The body by this shape; problems are left to the caller to refuse."""
        return read(shape, self.members, problems)

    def given(self, shape: Shape) -> Given:
        """The body by this shape.

        Raises:
          ApiError: 422, with every problem.
        """
        problems = Problems()
        given = self.read(shape, problems)
        self.refuse(problems)
        return given

    def update(self, shape: Shape, stored: Mapping[str, Any], problems: Problems) -> Given:
        """An update's body by this shape, `update_mask` obeyed; problems are left to the caller to refuse."""
        members = dict(self.members)
        mask = read_mask(shape, members.pop(MASK, None), problems)
        return read(shape, members, problems, stored=stored, mask=mask)

    # --- asking -------------------------------------------------------------------------------------------------

    async def ask(self, category: str, entity_id: str, command: object, context: Context | None = None) -> Answer:
        try:
            if category == "schedule":
                return await ask_schedule(self.rooms.system, entity_id, command, context or self.context)
            return await self.rooms.system.ask(Address(category, entity_id), command, context or self.context)
        except Rejected as refused:
            if refused.code != "not_found" or refused.detail.get("id"):
                raise
            # what does not exist does not know its id
            raise Rejected(refused.code, refused.message, {**refused.detail, "id": entity_id}) from refused

    async def ask_unless(self, refusals: Sequence[str], category: str, entity_id: str, command: object) -> int:
        """Ask for something that may have come about already: these refusals are fine. The position, 0 if refused."""
        try:
            return (await self.ask(category, entity_id, command)).position
        except Rejected as error:
            if error.code not in refusals:
                raise
            return 0

    def keyed(self, **extra: Any) -> Context:
        """The context with more metadata."""
        return evolve(self.context, extra={**self.context.extra, **extra})

    # --- answering ----------------------------------------------------------------------------------------------

    def written(self, position: int, value: Any = None, replayed: bool = False) -> Reply:
        """The answer to a write; what this client reads next will show it."""
        self.memory.own_writes.acknowledge(self.head.client, position, trio.current_time())
        headers = ((b"idempotency-replayed", b"true"),) if replayed else ()
        return Reply(value, position, headers=headers, is_write=True)

    async def visible(self, at_least: int = 0, *, projection: str = "live") -> int:
        """Wait until the tables show what this client must see; return the position they show.

        Args:
          projection: the one that is read, for the message.

        Raises:
          ApiError: 503 `PROJECTION_BEHIND` after 2 s; 400, a malformed header.
        """
        required = max(
            at_least, self._min_position(), self.memory.own_writes.required(self.head.client, trio.current_time())
        )
        reached = await self.rooms.rows.reached(required, BEHIND_SECONDS_MAX)
        if reached < required:
            raise behind(projection, required, reached)
        return reached

    async def log_head(self) -> int:
        """The head of the log, once it is as far as this client needs.

        Raises:
          ApiError: 503 after 2 s; 400, a malformed header.
        """
        required = self._min_position()
        with trio.move_on_after(BEHIND_SECONDS_MAX):
            while (head := await self.rooms.store.head()) < required:  # noqa: ASYNC110
                await trio.sleep(LOG_POLL_SECONDS)  # another server's append: nothing here would set an event
            return head
        raise behind("log", required, await self.rooms.store.head())

    def _min_position(self) -> int:
        text = self.head.text(b"x-hetuflow-min-position")
        if text is None:
            return 0
        if not (text.isascii() and text.isdigit() and len(text) <= 19):
            raise ApiError(400, "X-Hetuflow-Min-Position must be an integer ≥ 0", None)
        return int(text)


async def while_guards_are_lost(ask: Callable[[], Awaitable[int]]) -> int:
    """Look and ask again when what the question relies on has changed meanwhile, at most `RACES_MAX` times.

    Raises:
      ApiError: 409 `version_conflict`.
    """
    for attempt in range(1, RACES_MAX + 1):
        try:
            return await ask()
        except GuardLost as error:
            if attempt == RACES_MAX:
                raise lost_for_good(error) from error
    raise AssertionError("the loop returns or raises")


def lost_for_good(error: GuardLost) -> ApiError:
    return conflict("version_conflict", "others kept changing what this relies on; try again", stream=error.stream_id)
