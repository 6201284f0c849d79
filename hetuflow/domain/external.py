"""Events from outside, one stream per source: each (source, id) is recorded once, whoever sends it how often.

The state remembers the latest ids only. Whoever asks has looked the id up in the log before and says up to which
version: as long as what was recorded since is remembered, nothing is recorded twice. The log itself is never folded in
full to find that out, for there is a snapshot.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import datetime
from itertools import islice

from attrs import frozen

from hetuflow.domain.commands import ReceiveEvent
from hetuflow.domain.decider import Decision
from hetuflow.domain.events import ExternalEventReceived
from hetuflow.domain.rejection import Rejected
from hetuflow.domain.table_decider import TableDecider

REMEMBERED_MAX = 1000
"""Latest ids that are remembered: more than one source sends between a look at the log and the question."""


@frozen(slots=True)
class ExternalState:
    """A source. `recent`: digest of the content by id, oldest first."""

    version: int = 0
    recent: Mapping[str, str] = {}


def _receive(command: ReceiveEvent, state: ExternalState, now: datetime) -> Decision:
    """Record the event.

    Raises:
      Rejected: `known`, it is recorded already, or another of its name is: look it up; `look_again`, too much was
        recorded since the caller looked.
    """
    if command.id in state.recent:
        raise Rejected("known", f"event {command.id} of source {command.source} is recorded", {"id": command.id})
    if state.version - command.known_until > len(state.recent):
        raise Rejected("look_again", "too many events since", {"version": state.version})
    received = ExternalEventReceived(
        id=command.id,
        source=command.source,
        type=command.type,
        data=command.data,
        time=command.time,
        digest=command.digest,
    )
    return Decision([received])


def _received(state: ExternalState, event: ExternalEventReceived) -> ExternalState:
    excess = len(state.recent) + 1 - REMEMBERED_MAX
    kept = state.recent if excess <= 0 else dict(islice(state.recent.items(), excess, None))
    return ExternalState(state.version + 1, {**kept, event.id: event.digest})


class _External(TableDecider[ExternalState]):
    """Keeps its state as a snapshot: a source's stream is without end."""

    __slots__ = ()
    state_schema = 1

    def dump_state(self, state: ExternalState) -> str:
        return json.dumps({"version": state.version, "recent": list(state.recent.items())})

    def load_state(self, text: str) -> ExternalState:
        found = json.loads(text)
        return ExternalState(found["version"], dict(found["recent"]))


INITIAL = ExternalState()

EXTERNAL = _External("external", INITIAL, {ReceiveEvent: _receive}, {ExternalEventReceived: _received})
