"""The index of who waits for what: whatever happens to schedules, it is what reading all of it again gives."""

from __future__ import annotations

import json
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from hypothesis import given as having
from hypothesis import strategies as st

from eventstore.event import RecordedEvent
from eventstore.memory import MemoryStore
from hetuflow.glob import Glob
from hetuflow.scheduler.event_cursor import CHANGES_MIN, CURSOR, INDEX, SCHEMA, Cursor
from hetuflow.scheduler.event_index import DEFINING, EventIndex, named
from tests.scheduler.builders import START

TYPES = ["file.created", "file.deleted", "file.*", "*", "mail.?"]
ASKED = ["file.created", "file.deleted", "mail.x", "task.failed"]


def a_record(position: int, type_: str, schedule_id: str, **data: Any) -> RecordedEvent:
    at = (START + timedelta(seconds=position)).isoformat()
    members = {
        "schedule_id": schedule_id,
        "job_id": "job",
        "created_at": at,
        "updated_at": at,
        "enabled_at": at,
        **data,
    }
    return RecordedEvent(
        position=position,
        recorded_at=START,
        version=1,
        schema=1,
        event_id=UUID(int=position),
        stream_id=f"schedule-{schedule_id}",
        type=type_,
        data=json.dumps(members),
        metadata="{}",
    )


@st.composite
def _logs(draw: st.DrawFn) -> list[RecordedEvent]:
    log = []
    for position in range(1, draw(st.integers(1, 25)) + 1):
        members = {
            "schedule_kind": draw(st.sampled_from([2, 4, 4])),
            "event_type": draw(st.sampled_from(TYPES)),
            "event_filter": draw(st.sampled_from([None, {"path": "/in/*"}])),
            "status": draw(st.sampled_from([99, 100])),
            "changed": draw(st.sampled_from([["name"], ["event_type"], ["schedule_kind"]])),
        }
        kind = draw(st.sampled_from([*DEFINING, "ScheduleFired"]))
        log.append(a_record(position, kind, draw(st.sampled_from("abc")), **members))
    return log


def found(index: EventIndex) -> dict[str, list[tuple[str, int, datetime]]]:
    return {
        asked: sorted((each.schedule_id, each.since, each.defined_at) for each in index.waiting_for(asked))
        for asked in ASKED
    }


def _expected(log: list[RecordedEvent]) -> dict[str, list[tuple[str, int, datetime]]]:
    """Naively: the state of each schedule, and each of them asked."""
    known: dict[str, dict[str, Any]] = {}
    for event in log:
        data, schedule_id = json.loads(event.data), event.stream_id[9:]
        state = known.get(schedule_id)
        if event.type == "ScheduleDeleted":
            known.pop(schedule_id, None)
        elif event.type == "ScheduleCreated" and data["schedule_kind"] == 4:
            known[schedule_id] = {**data, "at": event.position, "on": data["status"] == 100, "when": data["created_at"]}
        elif event.type == "ScheduleUpdated" and data["schedule_kind"] != 4:
            known.pop(schedule_id, None)
        elif event.type == "ScheduleUpdated" and (state is None or data["changed"] != ["name"]):
            is_on = state is None or state["on"]
            known[schedule_id] = {**data, "at": event.position, "on": is_on, "when": data["updated_at"]}
        elif event.type == "ScheduleEnabled" and state is not None:
            state |= {"on": True, "at": event.position, "when": data["enabled_at"]}
        elif event.type in ("ScheduleDisabled", "ScheduleSuspended", "ScheduleExpired") and state is not None:
            state["on"] = False
    return {
        asked: sorted(
            (schedule_id, state["at"], datetime.fromisoformat(state["when"]))
            for schedule_id, state in known.items()
            if state["on"] and Glob(state["event_type"]).matches(asked)
        )
        for asked in ASKED
    }


@having(_logs(), st.data())
def test_it_is_the_state_of_all_schedules_also_over_a_snapshot(log: list[RecordedEvent], data: st.DataObject) -> None:
    index = EventIndex()
    for event in log[: data.draw(st.integers(0, len(log)))]:
        index.apply(event)
    index = EventIndex.of_json(json.loads(json.dumps(index.as_json())))
    for event in log:  # those that are in it already change nothing
        index.apply(event)
    assert found(index) == _expected(log)
    assert index.is_idle == (not any(each.is_enabled for each in index))


def test_a_filter_of_another_program_fits_nothing_and_harms_nobody() -> None:
    index = EventIndex()
    filter_ = {"path": {"$future": 1}}
    index.apply(a_record(1, "ScheduleCreated", "a", schedule_kind=4, event_type="x", event_filter=filter_, status=100))
    index.apply(a_record(2, "ScheduleCreated", "b", schedule_kind=4, event_type="x", event_filter=None, status=100))
    assert {each.schedule_id: each.fits({"path": 1}) for each in index.waiting_for("x")} == {"a": False, "b": True}


def test_types_have_names() -> None:
    assert named(a_record(1, "TaskFailed", "a")) == ("task.failed", None)
    sent = a_record(2, "ExternalEventReceived", "a", type="file.created", data={"x": 1})
    assert named(sent) == ("file.created", {"x": 1})


async def test_the_index_is_kept_for_a_bounded_share_of_its_changes(autojump_clock: object) -> None:
    store = MemoryStore(lambda: START)
    index, position = await Cursor(store).load()
    assert (len(index), position) == (0, 0)
    cursor, written = Cursor(store), 0
    await cursor.load()
    for n in range(1, 10 * CHANGES_MIN + 1):
        index.apply(
            a_record(n, "ScheduleCreated", str(n), schedule_kind=4, event_type="x", event_filter=None, status=100)
        )
        before = store.log.snapshots.get((INDEX, SCHEMA))
        await cursor.save(n, index)
        written += store.log.snapshots.get((INDEX, SCHEMA)) is not before
        assert store.log.snapshots[CURSOR, SCHEMA].version == n
    assert written == 10
