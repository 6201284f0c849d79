"""C10, C11: when a schedule fires next, stored or not."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

import pytest

from tests.api.client import Client
from tests.api.memory_rooms import World

PREVIEW = "/schedules/preview"


@pytest.fixture
async def job_id(client: Client) -> str:
    return await client.made("/jobs/item", {"name": "x"})


async def test_what_is_not_stored_is_shown_in_its_zone_with_what_is_special(world: World) -> None:
    head = await world.store.head()
    sent = {
        "kind": "cron",
        "cron_expression": "30 2 * * *",
        "timezone": "Europe/Berlin",
        "after": "2026-03-28T00:00:00Z",
        "count": 3,
    }
    answer = await world.client.post(PREVIEW, sent)
    assert (answer.status, answer.json) == (
        200,
        {
            "schedule_id": None,
            "kind": "cron",
            "schedule_kind": 1,
            "timezone": "Europe/Berlin",
            "ends": False,
            "result": [
                {"at": "2026-03-28T01:30:00Z", "local": "2026-03-28T02:30:00+01:00", "note": None},
                {"at": "2026-03-29T01:00:00Z", "local": "2026-03-29T03:00:00+02:00", "note": "gap"},
                {"at": "2026-03-30T00:30:00Z", "local": "2026-03-30T02:30:00+02:00", "note": None},
            ],
        },
    )
    autumn = {**sent, "after": "2026-10-24T12:00:00Z", "count": 2}
    notes = [each["note"] for each in (await world.client.post(PREVIEW, autumn)).json["result"]]
    assert notes == ["repeated", None]
    assert await world.store.head() == head


async def test_ends_says_that_nothing_follows(client: Client) -> None:
    cron = {"kind": "cron", "cron_expression": "0 0 0 1 1 ? 2060"}
    interval = {"kind": "interval", "interval_secs": 60, "start_time": "2099-01-01T00:00:00Z"}
    for sent, times, ends in (
        (cron, 1, True),
        (interval, 10, False),
        ({**interval, "max_count": 3}, 3, True),
        ({**interval, "max_count": 3, "count": 2}, 2, False),
        ({**interval, "max_count": 3, "after": "2099-01-01T00:01:30Z"}, 1, True),
        ({**interval, "max_count": 3, "after": "2099-01-01T01:00:00Z"}, 0, True),
        ({**interval, "end_time": "2099-01-01T00:01:00Z"}, 2, True),
        ({"kind": "once", "start_time": "2099-01-01T00:00:00Z"}, 1, True),
        ({"kind": "once", "start_time": "2001-01-01T00:00:00Z"}, 0, True),
    ):
        shown = (await client.post(PREVIEW, sent)).json
        assert (len(shown["result"]), shown["ends"]) == (times, ends), sent


async def test_a_stored_schedule_is_shown_as_if_enabled(client: Client, job_id: str) -> None:
    sent = {"job_id": job_id, "kind": "interval", "interval_secs": 3600, "enabled": False}
    schedule_id = await client.made("/schedules/item", sent)
    created = datetime.fromisoformat((await client.get(f"/schedules/item/{schedule_id}")).json["created_at"])
    shown = (await client.get(f"/schedules/item/{schedule_id}/next?count=2")).json
    assert (shown["schedule_id"], shown["kind"], shown["timezone"]) == (schedule_id, "interval", "UTC")
    first, second = (datetime.fromisoformat(each["at"]) for each in shown["result"])
    assert second - first == timedelta(hours=1)
    assert abs(first - created - timedelta(hours=1)) < timedelta(seconds=5)
    later = await client.get(f"/schedules/item/{schedule_id}/next?count=1&after=2098-12-31T23:59:59+00:00")
    assert later.json["result"][0]["at"] > "2099"
    assert len((await client.get(f"/schedules/item/{schedule_id}/next")).json["result"]) == 10
    for query, status in (("count=0", 400), ("count=1001", 400), ("after=x", 400), ("counts=1", 422)):
        assert (await client.get(f"/schedules/item/{schedule_id}/next?{query}")).status == status, query
    assert (await client.get("/schedules/item/550e8400-e29b-41d4-a716-4466554400ff/next")).status == 404


@pytest.mark.parametrize(
    ("body", "path"),
    [
        ({}, "schedule_kind"),
        ({"kind": "cron"}, "cron_expression"),
        ({"kind": "cron", "cron_expression": "61 * * * *"}, "cron_expression"),
        ({"kind": "interval", "interval_secs": 5, "count": 1001}, "count"),
        ({"kind": "interval", "interval_secs": 5, "after": "now"}, "after"),
        ({"kind": "event"}, "event_type"),
        ({"kind": "interval", "interval_secs": 5, "cuont": 1}, "cuont"),
    ],
)
async def test_what_is_wrong_with_a_preview_is_named(client: Client, body: dict[str, Any], path: str) -> None:
    answer = await client.post(PREVIEW, body)
    assert (answer.status, list(answer.problems)) == (422, [path])
