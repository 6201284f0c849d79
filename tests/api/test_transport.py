"""Transport rules: media types, strict JSON, paths, methods, hosts and origins, limits, headers, request ids."""

from __future__ import annotations

from typing import Any
from uuid import UUID

import pytest
import trio

from hetuflow.api import create_app
from tests.api.memory_rooms import memory_world

JSON = ("Content-Type", "application/json")
ID = "550e8400-e29b-41d4-a716-446655440000"


def assert_error(answer, status: int, code: str) -> None:  # type: ignore[no-untyped-def]
    """The one body of every answer outside 2xx."""
    body = answer.json
    assert answer.status == body["err_code"] == status
    assert body["code"] == code
    assert body["err_msg"] == body["message"] != ""
    assert body["detail"] == body["details"]
    assert body["request_id"] == answer.headers["x-request-id"]
    assert answer.headers["content-type"] == "application/json"


async def test_errors_have_one_shape() -> None:
    async with memory_world() as world:
        client = world.client
        assert_error(await client.send("GET", "/nothing"), 404, "NOT_FOUND")
        assert_error(await client.send("GET", "/api/v1/nothing"), 404, "NOT_FOUND")
        assert_error(await client.send("GET", "/"), 404, "NOT_FOUND")
        assert_error(await client.send("GET", f"/api/v1/jobs/item/{ID}"), 404, "NOT_FOUND")
        assert_error(await client.send("GET", "/api/v1/jobs/item/not-a-uuid"), 400, "BAD_REQUEST")
        wrong = await client.send("PATCH", f"/api/v1/jobs/item/{ID}")
        assert_error(wrong, 405, "METHOD_NOT_ALLOWED")
        assert wrong.headers["allow"] == "GET, PUT, DELETE, HEAD"
        too_large = await client.send("POST", "/api/v1/jobs/item", b" " * (3 * 1024 * 1024), [JSON])
        assert_error(too_large, 413, "PAYLOAD_TOO_LARGE")
        text = await client.send("POST", "/api/v1/jobs/item", b"{}", [("Content-Type", "text/plain")])
        assert_error(text, 415, "UNSUPPORTED_MEDIA_TYPE")
        assert_error(await client.send("POST", "/api/v1/jobs/item", b"{}"), 415, "UNSUPPORTED_MEDIA_TYPE")
        assert_error(await client.send("POST", "/api/v1/jobs/item", b"{", [JSON]), 400, "BAD_REQUEST")
        assert_error(await client.send("POST", "/api/v1/jobs/item", b"[]", [JSON]), 422, "VALIDATION_ERROR")
        assert_error(await client.send("GET", "/api/v1/agents?x=1"), 422, "VALIDATION_ERROR")
        assert_error(await client.send("POST", "/api/v1/auth/generate-token"), 501, "NOT_IMPLEMENTED")
        assert_error(await client.send("GET", "/api/v1/gateway/ws?agent_id=a"), 426, "UPGRADE_REQUIRED")
        assert_error(await client.send("GET", "/api/v1/gateway/ws"), 400, "BAD_REQUEST")
        assert world.rooms.store.log.events


async def test_malformed_json_is_told_its_place() -> None:
    async with memory_world() as world:
        answer = await world.client.send("POST", "/api/v1/jobs/item", b'{"name": "x",\n "name": "y"}', [JSON])
        assert_error(answer, 400, "BAD_REQUEST")
        assert answer.json["details"] == {"line": 2, "column": 2}


@pytest.mark.parametrize(
    ("content_type", "is_accepted"),
    [
        ("application/json", True),
        ("Application/JSON; charset=UTF-8", True),
        ('application/json; charset="utf-8"', True),
        ("application/merge-patch+json", True),
        ("application/json; charset=latin-1", False),
        ("application/jsonx", False),
        ("text/json", False),
    ],
)
async def test_media_types(content_type: str, is_accepted: bool) -> None:
    async with memory_world() as world:
        answer = await world.client.send(
            "POST", "/api/v1/jobs/item", b'{"name": "x"}', [("Content-Type", content_type), ("Accept", "text/html")]
        )
        assert answer.status == (200 if is_accepted else 415)


async def test_a_post_without_members_takes_nothing_null_and_an_empty_object() -> None:
    async with memory_world() as world:
        client = world.client
        job = await client.made("/jobs/item", {"name": "x"})
        path = f"/api/v1/jobs/item/{job}/disable"
        for body, headers in (
            (b"", []),
            (b"", [JSON, ("Content-Length", "0")]),
            (b"null", [JSON]),
            (b"{}", [JSON]),
            (b" {} ", [JSON]),
        ):
            answer = await client.send("POST", path, body, headers)
            assert (answer.status, answer.json) == (200, None)
        for body in (b'{"x": 1}', b"[]", b"5", b'""', b"false"):
            assert (await client.send("POST", path, body, [JSON])).status == 422
        assert (await client.send("POST", path, b"null")).status == 415
        assert (await client.send("POST", path, b"nul", [JSON])).status == 400
        for body in (b"", b"null", b"{}"):
            answer = await client.send("POST", "/api/v1/jobs/page", body, [JSON])
            assert answer.json["page"]["total"] == 1


async def test_get_and_delete_ignore_a_body_and_its_type() -> None:
    async with memory_world() as world:
        client = world.client
        job = await client.made("/jobs/item", {"name": "x"})
        answer = await client.send("GET", f"/api/v1/jobs/item/{job}", b"{not json", [("Content-Type", "text/plain")])
        assert answer.status == 200
        answer = await client.send("DELETE", f"/api/v1/jobs/item/{job}", b"{not json", [("Content-Type", "x")])
        assert answer.status == 200


async def test_head_is_get_without_the_body() -> None:
    async with memory_world() as world:
        full = await world.client.send("GET", "/api/v1/agents")
        head = await world.client.send("HEAD", "/api/v1/agents")
        assert (head.status, head.content) == (200, b"")
        assert head.headers["content-length"] == str(len(full.content))
        missing = await world.client.send("HEAD", f"/api/v1/jobs/item/{ID}")
        assert (missing.status, missing.content) == (404, b"")
        assert (await world.client.send("HEAD", "/api/v1/jobs/page")).status == 405


async def test_paths_are_decoded_once_and_one_trailing_slash_is_accepted() -> None:
    async with memory_world() as world:
        client = world.client
        job = await client.made("/jobs/item", {"name": "x"})
        for path in (f"/api/v1/jobs/item/{job}/", f"/api/v1/jobs/item/{job.upper()}", f"/api/v1/%6Aobs/item/{job}"):
            assert (await client.send("GET", path)).status == 200
        for path in (f"/api/v1/jobs/item/{job}//", f"/api/v1//jobs/item/{job}", f"/api/v1/jobs%2Fitem/{job}"):
            assert (await client.send("GET", path)).status == 404
        assert (await client.send("GET", "/api/v1/agents/a%2Fb")).status == 400
        assert (await client.send("GET", "/api/v1/agents/%2561")).status == 400
        assert (await client.send("GET", "/api/v1/agents/..")).status == 400
        assert (await client.send("GET", "/api/v1/agents/%ff")).status == 400
        assert (await client.send("GET", "/api/v1/agents/agent-01")).status == 404
        assert (await client.send("GET", "/api/v1/agents/query")).status == 404
        assert (await client.send("GET", "/api/v1/tasks/query")).status == 405
        assert (await client.send("GET", "/api/v1/jobs/page")).headers["allow"] == "POST"


BY_UUID = (
    ("GET", "/jobs/item/{}"),
    ("PUT", "/jobs/item/{}"),
    ("DELETE", "/jobs/item/{}"),
    ("POST", "/jobs/item/{}/enable"),
    ("POST", "/jobs/item/{}/disable"),
    ("POST", "/jobs/item/{}/run"),
    ("GET", "/schedules/item/{}"),
    ("PUT", "/schedules/item/{}"),
    ("DELETE", "/schedules/item/{}"),
    ("POST", "/schedules/item/{}/enable"),
    ("POST", "/schedules/item/{}/disable"),
    ("POST", "/schedules/item/{}/execute"),
    ("GET", "/tasks/{}"),
    ("PUT", "/tasks/{}"),
    ("POST", "/tasks/{}/update"),
    ("DELETE", "/tasks/{}"),
    ("POST", "/tasks/{}/retry"),
    ("POST", "/tasks/{}/cancel"),
    ("GET", "/tasks/{}/history"),
    ("GET", "/task-instances/item/{}"),
    ("GET", "/task-instances/item/{}/logs"),
)


async def test_a_malformed_id_is_400_and_an_absent_one_404() -> None:
    async with memory_world() as world:
        for method, path in BY_UUID:
            assert (await world.client.call(method, path.format("nope"))).status == 400, path
            for query in ("", "?cascade=cancel") if method == "DELETE" else ("",):
                absent = await world.client.call(method, path.format(ID) + query)
                assert (absent.status, absent.json["details"]["id"]) == (404, ID), path
                assert ID in absent.json["message"]


@pytest.mark.parametrize(
    "host", ["localhost", "localhost:8080", "127.0.0.1:1", "[::1]:8080", "LOCALHOST.", "my.name:8080"]
)
async def test_own_names_and_loopback_are_answered(host: str) -> None:
    async with memory_world(allowed_hosts=("my.name",)) as world:
        assert (await world.client.send("GET", "/api/v1/agents", host=host)).status == 200


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:8080", "localhost.evil.example", "127.0.0.1.nip.io", "[fe80::1]"]
)
async def test_foreign_host_names_are_refused(host: str) -> None:
    async with memory_world(allowed_hosts=("my.name",)) as world:
        assert_error(await world.client.send("GET", "/api/v1/agents", host=host), 403, "FORBIDDEN")


async def test_browsers_of_other_origins_are_refused_and_listed_ones_get_cors_answers() -> None:
    async with memory_world(allowed_origins=("https://ops.example",)) as world:
        client = world.client
        same = await client.send("GET", "/api/v1/agents", headers=[("Origin", "http://localhost:8080")])
        assert same.status == 200 and "access-control-allow-origin" not in same.headers
        for origin in ("https://evil.example", "null", "http://localhost:9999", "https://localhost:8080"):
            assert_error(await client.send("GET", "/api/v1/agents", headers=[("Origin", origin)]), 403, "FORBIDDEN")
            assert (await client.send("POST", "/api/v1/jobs/item", headers=[("Origin", origin)])).status == 403
        listed = await client.send("GET", "/api/v1/agents", headers=[("Origin", "https://ops.example")])
        assert listed.headers["access-control-allow-origin"] == "https://ops.example"
        assert "X-Hetuflow-Position" in listed.headers["access-control-expose-headers"]
        asked = [("Origin", "https://ops.example"), ("Access-Control-Request-Method", "PUT")]
        preflight = await client.send("OPTIONS", f"/api/v1/jobs/item/{ID}", headers=asked)
        assert preflight.status == 200
        assert "PUT" in preflight.headers["access-control-allow-methods"]
        assert (await client.send("OPTIONS", "/api/v1/agents")).status == 405


async def test_request_ids_are_kept_or_replaced_and_are_in_the_events() -> None:
    async with memory_world() as world:
        client = world.client
        answer = await client.call("POST", "/jobs/item", {"name": "x"}, [("X-Request-Id", "my-id.1")])
        assert answer.headers["x-request-id"] == "my-id.1"
        for bad in ("a b", "x" * 65, "é"):
            given = (await client.call("GET", "/agents", None, [("X-Request-Id", bad)])).headers["x-request-id"]
            assert UUID(given).version == 7
        events = await client.get(f"/events?stream=job-{answer.json['id']}")
        assert events.json["result"][0]["metadata"]["request_id"] == "my-id.1"
        assert events.json["result"][0]["metadata"]["principal"] == "user:1"


async def test_headers_and_request_lines_are_bounded() -> None:
    async with memory_world() as world:
        headers = [("X-Padding", "x" * 17_000)]
        assert_error(await world.client.send("GET", "/api/v1/agents", headers=headers), 431, "HEADERS_TOO_LARGE")
        target = "/api/v1/events?correlation_id=" + "x" * 9000
        assert_error(await world.client.send("GET", target), 431, "HEADERS_TOO_LARGE")


async def test_a_chunked_body_is_bounded_too() -> None:
    async with memory_world() as world:
        answer = await world.client.send("POST", "/api/v1/jobs/item", headers=[JSON], chunks=[b" " * 65_536] * 40)
        assert answer.status == 413
        pieces = [b'{"na', b'me": "x', b'"}']
        assert (await world.client.send("POST", "/api/v1/jobs/item", headers=[JSON], chunks=pieces)).status == 200


async def test_a_body_that_does_not_arrive_is_408(autojump_clock: trio.testing.MockClock) -> None:
    async with memory_world() as world:
        began = trio.current_time()
        answer = await world.client.send("POST", "/api/v1/jobs/item", b"{", [JSON], stall=True)
        assert_error(answer, 408, "REQUEST_TIMEOUT")
        assert trio.current_time() - began == 30


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("POST", "/api/v1/nothing", 404),
        ("POST", "/api/v1/system/health", 405),
        ("GET", "/api/v1/agents", 200),
        ("POST", "/api/v1/auth/generate-token", 501),
    ],
)
async def test_nobody_waits_for_a_body_that_is_not_read(
    autojump_clock: trio.testing.MockClock, method: str, path: str, status: int
) -> None:
    async with memory_world() as world:
        began = trio.current_time()
        for extra in ([], [("Content-Length", "1000")]):
            answer = await world.client.send(method, path, b"{", [JSON, *extra], stall=True)
            assert (answer.status, answer.answered_at - began) == (status, 0)
            assert trio.current_time() - began == 1, "the connection is held for long"
            began = trio.current_time()


async def test_a_body_that_is_too_large_is_answered_at_once_and_read_to_its_end_after_that() -> None:
    async with memory_world() as world:
        pieces = [b" " * 65_536] * 40
        answer = await world.client.send("POST", "/api/v1/jobs/item", headers=[JSON], chunks=pieces)
        assert answer.status == 413
        declared = [("Content-Length", str(65_536 * 40)), JSON]
        assert (await world.client.send("POST", "/api/v1/jobs/item", headers=declared, chunks=pieces)).status == 413
        assert world.client.unread == 0


async def test_a_defect_is_500_without_internals(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async with memory_world() as world:

        async def broken(collection: str, key: str) -> None:
            raise RuntimeError("secret internals")

        monkeypatch.setattr(world.rooms.rows, "get", broken)
        answer = await world.client.get(f"/jobs/item/{ID}")
        assert_error(answer, 500, "INTERNAL_ERROR")
        assert "secret" not in answer.content.decode()
        assert answer.headers["x-request-id"] in caplog.text


async def test_a_position_that_is_not_reached_is_503(autojump_clock: trio.testing.MockClock) -> None:
    async with memory_world() as world:
        client = world.client
        job = await client.made("/jobs/item", {"name": "x"})
        head = int((await client.get("/system/info")).headers["x-hetuflow-position"])
        fine = await client.call("GET", f"/jobs/item/{job}", None, [("X-Hetuflow-Min-Position", str(head))])
        assert int(fine.headers["x-hetuflow-position"]) >= head
        for path in (f"/jobs/item/{job}", "/events"):
            late = await client.call("GET", path, None, [("X-Hetuflow-Min-Position", str(head + 1))])
            assert_error(late, 503, "PROJECTION_BEHIND")
            assert late.headers["retry-after"] == "1"
            assert late.json["details"]["required"] == head + 1
        for bad in ("x", "-1", "1.5", ""):
            answer = await client.call("GET", f"/jobs/item/{job}", None, [("X-Hetuflow-Min-Position", bad)])
            assert_error(answer, 400, "BAD_REQUEST")


async def test_a_client_is_shown_its_own_writes(monkeypatch: pytest.MonkeyPatch) -> None:
    async with memory_world() as world:
        asked: list[int] = []

        async def reached(position: int, seconds: float) -> int:
            asked.append(position)
            return 10**9

        monkeypatch.setattr(world.rooms.rows, "reached", reached)
        write = await world.client.post("/jobs/item", {"name": "x"})
        position = int(write.headers["x-hetuflow-position"])
        await world.client.get("/agents")
        world.client.address = "127.0.0.2"
        await world.client.get("/agents")
        assert asked == [position, 0]


async def test_static_files_are_served_beside_the_api(tmp_path) -> None:  # type: ignore[no-untyped-def]
    (tmp_path / "index.html").write_text("<p>client</p>")
    (tmp_path / "assets").mkdir()
    (tmp_path / "assets" / "a.js").write_text("1")
    async with memory_world(static_dir=str(tmp_path)) as world:
        client = world.client
        for path in ("/", "/some/view", "/assets/../../secret"):
            answer = await client.send("GET", path)
            assert (answer.headers["content-type"], answer.content) == ("text/html", b"<p>client</p>")
        assert (await client.send("GET", "/assets/a.js")).content == b"1"
        for path in ("/api/v1/nothing", "/api", "/docs/nothing"):
            assert (await client.send("GET", path)).status == 404
        assert (await client.send("POST", "/")).status == 404


async def test_another_asgi_server_may_start_and_stop_the_application() -> None:
    """Nothing is done then, but a server that waits for the word goes on."""
    async with memory_world() as world:
        incoming = iter([{"type": "lifespan.startup"}, {"type": "lifespan.shutdown"}])
        sent: list[Any] = []

        async def receive() -> Any:
            return next(incoming)

        async def send(message: Any) -> None:
            sent.append(message["type"])

        await create_app(world.rooms)({"type": "lifespan"}, receive, send)
        assert sent == ["lifespan.startup.complete", "lifespan.shutdown.complete"]
