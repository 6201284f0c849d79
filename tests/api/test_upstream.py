"""Jobs that follow others: what is stored, what is refused, and circles that two edits of one moment would close."""

from __future__ import annotations

from typing import Any

import pytest
import trio

from tests.api.client import Client

NOBODY = "550e8400-e29b-41d4-a716-446655440001"


async def a_job(client: Client, name: str, *upstream: str, **more: Any) -> str:
    jobs = {"upstream": {"jobs": [{"job_id": each} for each in upstream]}} if upstream else {}
    return await client.made("/jobs/item", {"name": name, **jobs, **more})


async def follow(client: Client, job_id: str, *upstream: str) -> Any:
    value = {"jobs": [{"job_id": each} for each in upstream]}
    return await client.put(f"/jobs/item/{job_id}", {"upstream": value})


async def upstream_of(client: Client, job_id: str) -> Any:
    return (await client.get(f"/jobs/item/{job_id}")).json["upstream"]


async def test_a_job_says_what_it_follows(client: Client) -> None:
    first = await a_job(client, "first")
    assert await upstream_of(client, first) is None
    wanted = {"jobs": [{"job_id": first.upper(), "on": "Failed"}], "match": "ANY"}
    second = await client.made("/jobs/item", {"name": "second", "upstream": wanted})
    stored = {"jobs": [{"job_id": first, "on": "failed"}], "match": "any"}
    assert await upstream_of(client, second) == stored
    page = await client.post("/jobs/page", {"filter": {"upstream": {"$contains": {"jobs": [{"job_id": first}]}}}})
    assert [row["id"] for row in page.json["result"]] == [second]
    row = (await client.get(f"/jobs/item/{second}")).json
    assert (await client.put(f"/jobs/item/{second}", row)).status == 200
    assert (await client.get(f"/jobs/item/{second}")).json["version"] == 1
    await client.put(f"/jobs/item/{second}", {"upstream": {"jobs": []}})
    assert await upstream_of(client, second) is None


async def test_unknown_and_deleted_jobs_are_not_followed(client: Client) -> None:
    first = await a_job(client, "first")
    for body in ({"jobs": [{"job_id": first}, {"job_id": NOBODY}]}, {"jobs": [{"job_id": NOBODY}]}):
        answer = await client.post("/jobs/item", {"name": "x", "upstream": body})
        index = len(body["jobs"]) - 1
        assert (answer.status, answer.json["detail"]) == (
            404,
            {"kind": "job", "id": NOBODY, "path": f"upstream.jobs[{index}].job_id"},
        )
    second = await a_job(client, "second", first)
    await client.delete(f"/jobs/item/{first}")
    assert (await follow(client, second, first)).status == 200  # as it is stored already
    assert (await client.post("/jobs/item", {"name": "x", "upstream": {"jobs": [{"job_id": first}]}})).status == 404


@pytest.mark.parametrize(
    ("upstream", "path"),
    [
        ({}, "upstream.jobs"),
        ({"jobs": [{}]}, "upstream.jobs[0].job_id"),
        ({"jobs": [{"job_id": NOBODY, "on": "success"}]}, "upstream.jobs[0].on"),
        ({"jobs": [{"job_id": NOBODY}, {"job_id": NOBODY}]}, "upstream.jobs[1].job_id"),
        ({"jobs": [], "match": "one"}, "upstream.match"),
        ({"jobs": [], "mtach": "any"}, "upstream.mtach"),
        ([NOBODY], "upstream"),
    ],
)
async def test_what_is_not_understood_is_refused_with_its_place(client: Client, upstream: Any, path: str) -> None:
    answer = await client.post("/jobs/item", {"name": "x", "upstream": upstream})
    assert (answer.status, set(answer.problems)) == (422, {path})


async def test_a_circle_is_refused_with_its_path(client: Client) -> None:
    a = await a_job(client, "a")
    b = await a_job(client, "b", a)
    c = await a_job(client, "c", b)
    answer = await follow(client, a, c)
    assert answer.status == 422
    [problem] = answer.json["detail"]
    assert problem["path"] == "upstream"
    assert f"b ({b}) -> c ({c}) -> a ({a}) -> b ({b})" in problem["message"]
    itself = await follow(client, a, a)
    assert f"a ({a}) -> a ({a})" in itself.json["err_msg"]
    assert await upstream_of(client, a) is None
    assert (await follow(client, c, a, b)).status == 200


async def test_edits_of_one_moment_close_no_circle(client: Client) -> None:
    """Each guards every job it looked at: whoever comes second looks again."""
    jobs = [await a_job(client, f"j{n}") for n in range(4)]
    answers: list[int] = []

    async def edit(job_id: str, other: str) -> None:
        answers.append((await follow(client, job_id, other)).status)

    async with trio.open_nursery() as nursery:
        for job_id, other in zip(jobs, [*jobs[1:], jobs[0]], strict=True):
            nursery.start_soon(edit, job_id, other)
    assert sorted(answers) == [200, 200, 200, 422]
    followed = [await upstream_of(client, job_id) for job_id in jobs]
    assert sum(each is None for each in followed) == 1
