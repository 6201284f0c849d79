"""K1-K5, and schedules that refer to calendars."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from hetuflow.scheduler.reactions import Reactions
from tests.api.client import Client
from tests.api.memory_rooms import World
from tests.api.postgres_rooms import postgres_world
from tests.api.test_idempotency import keyed

HOLIDAYS = {
    "id": "holidays-de",
    "timezone": "Europe/Berlin",
    "yearly": ["12-25", "12-26"],
    "weekdays": ["sat", {"days": ["Sunday"]}],
    "times": [{"from": "22:00", "to": "06:00"}],
}
ALWAYS = {"id": "always", "times": [{"from": "00:00"}]}
YEARLY = """BEGIN:VCALENDAR
VERSION:2.0
BEGIN:VEVENT
UID:one@example.org
DTSTART;VALUE=DATE:20201225
RRULE:FREQ=YEARLY
END:VEVENT
END:VCALENDAR
"""


@pytest.fixture
async def job_id(client: Client) -> str:
    return await client.made("/jobs/item", {"name": "x"})


async def show(client: Client, calendar_id: str) -> Any:
    return (await client.get(f"/calendars/item/{calendar_id}")).json


async def test_a_calendar_is_made_shown_changed_found_and_deleted(client: Client) -> None:
    assert await client.made("/calendars/item", HOLIDAYS) == "holidays-de"
    made = await show(client, "holidays-de")
    assert made["weekdays"] == [{"days": ["sat"]}, {"days": ["sun"]}]
    assert (made["yearly"], made["dates"], made["timezone"], made["version"]) == (
        ["12-25", "12-26"],
        [],
        "Europe/Berlin",
        1,
    )
    assert made["description"] is None and "ical" not in made and made["created_by"] == 1
    assert (await client.post("/calendars/item", HOLIDAYS)).reason == "already_exists"
    before = await client.get("/calendars/item/holidays-de")
    changed = {**made, "dates": ["2027-03-26"], "description": "of the office"}
    answer = await client.put("/calendars/item/holidays-de", changed)
    assert answer.status == 200
    now = await show(client, "holidays-de")
    assert (now["dates"], now["description"], now["version"], now["updated_by"]) == (
        ["2027-03-26"],
        "of the office",
        2,
        1,
    )
    then = (await client.get(f"/calendars/item/holidays-de?as_of={before.headers['x-hetuflow-position']}")).json
    assert then["dates"] == []
    page = (await client.post("/calendars/page", {"filter": {"timezone": {"$eq": "Europe/Berlin"}}})).json
    assert [row["id"] for row in page["result"]] == ["holidays-de"]
    assert (await client.delete("/calendars/item/holidays-de")).status == 200
    assert (await client.get("/calendars/item/holidays-de")).status == 404
    assert (await client.delete("/calendars/item/holidays-de")).status == 404
    assert await client.made("/calendars/item", HOLIDAYS) == "holidays-de", "the name is free again"


@pytest.mark.parametrize(
    ("members", "path"),
    [
        ({"dates": ["2026-02-30"]}, "dates[0]"),
        ({"weekdays": [{"days": ["sat", "domingo"]}]}, "weekdays[0].days[1]"),
        ({"ranges": [{"from": "2026-12-24", "to": "2026-12-23"}]}, "ranges[0].to"),
        ({"times": [{"from": "25:00", "until": "26:00"}]}, "times[0].until"),
        ({"timezone": "Europe/Berlim"}, "timezone"),
        ({"date": ["2026-12-24"]}, "date"),
        ({"id": "a b"}, "id"),
        ({"ical": YEARLY, "dates": []}, "dates"),
        ({"ical": "BEGIN:VTODO"}, "ical"),
    ],
)
async def test_what_is_wrong_is_told_with_its_path(client: Client, members: dict[str, Any], path: str) -> None:
    answer = await client.post("/calendars/item", {"id": "c", **members})
    assert answer.status == 422 and path in answer.problems, answer.json
    assert (await client.post("/calendars/item", {"dates": []})).problems.keys() == {"id"}


async def test_a_schedule_refers_to_calendars_that_exist(client: Client, job_id: str) -> None:
    await client.made("/calendars/item", HOLIDAYS)
    sent = {"job_id": job_id, "kind": "cron", "cron_expression": "0 12 * * *", "timezone": "Europe/Berlin"}
    answer = await client.post("/schedules/item", {**sent, "exclude_calendars": ["holidays-de", "holydays-de"]})
    assert answer.status == 422
    assert answer.json["detail"] == [
        {
            "path": "exclude_calendars[1]",
            "message": 'unknown calendar holydays-de; the nearest known name is "holidays-de"',
            "suggestion": "holidays-de",
        }
    ]
    made = await client.made("/schedules/item", {**sent, "exclude_calendars": ["holidays-de", "holidays-de"]})
    schedule = (await client.get(f"/schedules/item/{made}")).json
    assert schedule["exclude_calendars"] == ["holidays-de"] and schedule["calendar_versions"] == {"holidays-de": 1}
    found = (await client.post("/schedules/page", {"filter": {"exclude_calendars": {"$contains": "holidays-de"}}})).json
    assert [row["id"] for row in found["result"]] == [made]
    same = await client.put(f"/schedules/item/{made}", schedule)
    assert same.status == 200
    assert (await client.put(f"/schedules/item/{made}", {"exclude_calendars": ["x"]})).status == 422
    assert (await client.post(f"/schedules/item/{made}/disable")).status == 200
    assert (await client.post(f"/schedules/item/{made}/enable")).status == 200
    assert (await client.put(f"/schedules/item/{made}", {"exclude_calendars": []})).status == 200
    assert (await client.get(f"/schedules/item/{made}")).json["calendar_versions"] == {}


async def test_a_schedule_that_would_never_fire_is_refused(client: Client, job_id: str) -> None:
    await client.made("/calendars/item", ALWAYS)
    sent = {"job_id": job_id, "kind": "interval", "interval_secs": 60}
    answer = await client.post("/schedules/item", {**sent, "exclude_calendars": ["always"]})
    assert answer.status == 422 and answer.problems.keys() == {"exclude_calendars"}
    assert "they exclude every fire up to 20" in answer.json["message"]
    made = await client.made("/schedules/item", sent)
    assert (await client.put(f"/schedules/item/{made}", {"exclude_calendars": ["always"]})).status == 422


async def test_a_calendar_in_use_is_not_deleted(client: Client, job_id: str) -> None:
    await client.made("/calendars/item", HOLIDAYS)
    sent = {"job_id": job_id, "name": "nightly", "kind": "cron", "cron_expression": "0 12 * * *"}
    made = await client.made("/schedules/item", {**sent, "exclude_calendars": ["holidays-de"]})
    answer = await client.delete("/calendars/item/holidays-de")
    assert (answer.status, answer.reason) == (409, "calendar_in_use")
    assert answer.json["detail"]["schedules"] == [{"id": made, "name": "nightly", "job_id": job_id}]
    assert "1 schedule refers to the calendar: nightly" in answer.json["message"]
    assert (await show(client, "holidays-de"))["version"] == 1, "the refusal leaves no trace"
    assert (await client.delete(f"/schedules/item/{made}")).status == 200
    assert (await client.delete("/calendars/item/holidays-de")).status == 200


async def test_an_edit_of_a_calendar_moves_the_next_fire(world: World, job_id: str) -> None:
    client = world.client
    await client.made("/calendars/item", {"id": "c", "timezone": "UTC"})
    sent = {"job_id": job_id, "kind": "interval", "interval_secs": 3600, "start_time": "2099-01-01T00:00:00Z"}
    made = await client.made("/schedules/item", {**sent, "exclude_calendars": ["c"]})

    async def next_run(replans: int) -> str:
        if replans:
            seen = 0
            async with world.store.subscribe(after=0) as batches:
                async for batch in batches:
                    seen += sum(event.type == "ScheduleReplanned" for event in batch)
                    if seen == replans:
                        break
        await world.rooms.rows.reached(await world.store.head(), 2.0)
        schedule = (await client.get(f"/schedules/item/{made}")).json
        assert schedule["calendar_versions"] == {"c": replans + 1}
        return str(schedule["next_run_at"])

    assert await next_run(0) == "2099-01-01T00:00:00Z"
    await client.put("/calendars/item/c", {"dates": ["2099-01-01"]})
    assert await next_run(1) == "2099-01-02T00:00:00Z"
    await client.put("/calendars/item/c", {"dates": []})
    assert await next_run(2) == "2099-01-01T00:00:00Z"


async def test_previews_leave_out_what_is_excluded_or_show_why(client: Client, job_id: str) -> None:
    await client.made("/calendars/item", {"id": "c", "timezone": "UTC", "dates": ["2099-01-02"]})
    sent = {"kind": "cron", "cron_expression": "0 12 * * *", "timezone": "UTC", "exclude_calendars": ["c"]}
    asked = {**sent, "after": "2099-01-01T00:00:00Z", "count": 2}
    result = (await client.post("/schedules/preview", asked)).json["result"]
    assert [each["at"] for each in result] == ["2099-01-01T12:00:00Z", "2099-01-03T12:00:00Z"]
    assert "excluded_by" not in result[0]
    result = (await client.post("/schedules/preview", {**asked, "excluded": True})).json["result"]
    assert [(each["at"], each["excluded_by"]) for each in result] == [
        ("2099-01-01T12:00:00Z", []),
        ("2099-01-02T12:00:00Z", ["c"]),
    ]
    made = await client.made("/schedules/item", {**sent, "job_id": job_id})
    stored = (await client.get(f"/schedules/item/{made}/next?after=2099-01-01T13:00:00Z&count=1&excluded=true")).json
    assert [each["excluded_by"] for each in stored["result"]] == [["c"]]
    assert (await client.post("/schedules/preview", {**asked, "exclude_calendars": ["d"]})).status == 422


async def test_an_icalendar_file_becomes_its_rules(client: Client) -> None:
    await client.made("/calendars/item", {"id": "c", "ical": YEARLY, "yearly": ["05-01"]})
    made = await show(client, "c")
    assert len(made["dates"]) >= 10 and all(day.endswith("-12-25") for day in made["dates"])
    assert made["yearly"] == ["05-01"] and made["imported_until_at"] is not None
    broken = YEARLY.replace("YEARLY", "HOURLY")
    answer = await client.put("/calendars/item/c", {"ical": broken})
    assert answer.status == 422 and "line 3 (UID one@example.org): RRULE of FREQ=HOURLY" in answer.json["message"]
    await client.put("/calendars/item/c", {"dates": ["2027-01-01"]})
    now = await show(client, "c")
    assert (now["dates"], now["imported_until_at"]) == (["2027-01-01"], None)


async def test_the_same_key_makes_one(client: Client) -> None:
    sent = {"id": "c", "dates": ["2027-01-01"]}
    first = await keyed(client, "/calendars/item", sent)
    second = await keyed(client, "/calendars/item", sent)
    assert (first.status, second.status, second.json) == (200, 200, {"id": "c"})
    assert second.headers["idempotency-replayed"] == "true"
    other = await keyed(client, "/calendars/item", {**sent, "dates": []})
    assert (other.status, other.reason) == (409, "idempotency_key_reused")


@pytest.mark.postgres
async def test_an_edit_whose_server_dies_before_it_reacts_is_followed_at_the_next_start(
    fresh_database: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def dead(*_: Any) -> None:
        """It dies before it reacts."""

    with monkeypatch.context() as patch:
        patch.setattr(Reactions, "heard", dead)
        async with postgres_world(fresh_database, tmp_path) as world:
            job = await world.client.made("/jobs/item", {"name": "x"})
            for name, day in (("edited", "2099-01-01"), ("left", "2099-01-01")):
                await world.client.made("/calendars/item", {"id": name, "timezone": "UTC", "dates": [day]})
                sent = {"job_id": job, "name": name, "kind": "cron", "cron_expression": "0 0 1 1 *", "timezone": "UTC"}
                start = {"start_time": "2099-01-01T00:00:00Z", "exclude_calendars": [name]}
                await world.client.made("/schedules/item", {**sent, **start})
            assert (await world.client.put("/calendars/item/edited", {"dates": []})).status == 200
    async with postgres_world(fresh_database, tmp_path) as world:
        async with world.store.subscribe(after=0) as batches:
            async for batch in batches:
                if any(event.type == "ScheduleReplanned" for event in batch):
                    break
        await world.rooms.rows.reached(await world.store.head(), 2.0)
        rows = (await world.client.post("/schedules/page", {})).json["result"]
        assert {row["name"]: row["next_run_at"] for row in rows} == {
            "edited": "2099-01-01T00:00:00Z",
            "left": "2100-01-01T00:00:00Z",
        }
