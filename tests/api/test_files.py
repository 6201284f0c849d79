"""X1 to X4, and what every download does: ranges, HEAD, headers, and a body that ends early."""

from __future__ import annotations

import hashlib

import pytest

from hetuflow.api.downloads import READ_BYTES
from projections.kept_files import FILE_BYTES_MAX
from tests.api.memory_rooms import World

DATA = bytes(range(256)) * 20
DIGEST = hashlib.sha256(DATA).hexdigest()
FILES = "/api/v1/files"


async def uploaded(world: World, data: bytes = DATA) -> str:
    answer = await world.client.send("POST", FILES, data)
    assert answer.status == 200, answer.json
    return str(answer.json["id"])


async def test_a_file_is_kept_by_its_digest_once(world: World) -> None:
    answer = await world.client.send("POST", FILES, DATA, [("Content-Type", "text/csv")])
    assert answer.json["id"] == answer.json["sha256"] == DIGEST
    assert (answer.json["bytes"], answer.json["url"]) == (len(DATA), f"{FILES}/{DIGEST}")
    assert await uploaded(world) == DIGEST
    listed = await world.client.get("/files")
    assert listed.json == [answer.json]
    assert (await world.client.delete(f"/files/{DIGEST}")).json is None
    assert (await world.client.delete(f"/files/{DIGEST}")).status == 404
    assert (await world.client.get("/files")).json == []


async def test_what_looks_like_json_is_bytes_too(world: World) -> None:
    sent = b'{"a": 1, "a": NaN'
    await world.client.send("POST", FILES, sent, [("Content-Type", "application/json")])
    assert (await world.client.get(f"/files/{hashlib.sha256(sent).hexdigest()}")).content == sent


async def test_a_file_without_bytes(world: World) -> None:
    answer = await world.client.get(f"/files/{await uploaded(world, b'')}")
    assert (answer.status, answer.content, answer.headers["content-length"]) == (200, b"", "0")


async def test_a_download_says_what_it_is_and_is_never_shown_as_a_page(world: World) -> None:
    answer = await world.client.get(f"/files/{await uploaded(world)}")
    assert (answer.status, answer.content) == (200, DATA)
    headers = answer.headers
    assert headers["content-type"] == "application/octet-stream" and headers["x-content-type-options"] == "nosniff"
    assert headers["content-length"] == str(len(DATA)) and headers["accept-ranges"] == "bytes"
    assert headers["etag"] == f'"{DIGEST}"' and headers["repr-digest"].startswith("sha-256=:")
    assert headers["content-disposition"].startswith("attachment;")


async def test_head_has_the_headers_and_no_bytes(world: World) -> None:
    answer = await world.client.call("HEAD", f"/files/{await uploaded(world)}")
    assert (answer.status, answer.content, answer.headers["content-length"]) == (200, b"", str(len(DATA)))


@pytest.mark.parametrize(
    ("header", "first", "end"),
    [
        ("bytes=0-0", 0, 1),
        ("bytes=10-19", 10, 20),
        ("bytes=5000-", 5000, 5120),
        ("bytes=-20", 5100, 5120),
        ("bytes=5000-999999", 5000, 5120),
        ("bytes=-999999", 0, 5120),
    ],
)
async def test_a_range(world: World, header: str, first: int, end: int) -> None:
    answer = await world.client.get(f"/files/{await uploaded(world)}", headers=[("Range", header)])
    assert answer.content == DATA[first:end]
    if end - first < len(DATA):
        assert answer.status == 206
        assert answer.headers["content-range"] == f"bytes {first}-{end - 1}/{len(DATA)}"
    assert answer.headers["content-length"] == str(end - first)


@pytest.mark.parametrize("header", ["bytes=20-10", "bytes=a-b", "lines=1-2", "bytes=1-2,5-6", "bytes=-", "x"])
async def test_what_is_no_single_range_of_bytes_is_ignored(world: World, header: str) -> None:
    answer = await world.client.get(f"/files/{await uploaded(world)}", headers=[("Range", header)])
    assert (answer.status, answer.content) == (200, DATA)


@pytest.mark.parametrize("header", ["bytes=5120-", "bytes=99999-100000", "bytes=-0"])
async def test_a_range_outside_the_file(world: World, header: str) -> None:
    answer = await world.client.get(f"/files/{await uploaded(world)}", headers=[("Range", header)])
    assert (answer.status, answer.headers["content-range"]) == (416, f"bytes */{len(DATA)}")
    assert answer.json["code"] == "RANGE_NOT_SATISFIABLE"


async def test_a_long_file_is_read_as_it_is_taken(world: World) -> None:
    data = bytes(1000) + b"x" * (2 * READ_BYTES)
    assert (await world.client.get(f"/files/{await uploaded(world, data)}")).content == data


@pytest.mark.parametrize("name", ["0" * 64, "abc", "A" * 64])
async def test_a_file_that_is_not_there(world: World, name: str) -> None:
    answer = await world.client.get(f"/files/{name}")
    assert (answer.status, answer.json["details"]) == (404, {"kind": "file", "id": name})


async def test_a_body_that_is_too_large(world: World) -> None:
    headers = [("Content-Length", str(FILE_BYTES_MAX + 1))]
    assert (await world.client.send("POST", FILES, b"x", headers)).status == 413
