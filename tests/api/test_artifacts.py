"""I8, I9: what instances left behind, as its pieces arrive."""

from __future__ import annotations

from hetuflow.protocol.messages import ArtifactPart
from tests.api.memory_rooms import World
from tests.api.test_logs import printed
from tests.projections.test_artifacts import parts

DATA = bytes(range(256)) * 3


def sent_by(instance_id: str, data: bytes = DATA, path: str = "out/a b.bin") -> list[ArtifactPart]:
    return parts(data, 100, path, instance_id)


async def test_a_file_is_listed_and_read_by_its_path(world: World) -> None:
    instance_id = await printed(world)
    await world.rooms.artifacts.store([*sent_by(instance_id), *sent_by(instance_id, b"x", "ü")])
    listed = await world.client.get(f"/task-instances/item/{instance_id}/artifacts")
    assert [(each["path"], each["bytes"], each["complete"]) for each in listed.json["result"]] == [
        ("out/a b.bin", 768, True),
        ("ü", 1, True),
    ]
    assert (listed.json["bytes"], listed.json["complete"]) == (769, False)  # it has not ended
    for path in ("out/a%20b.bin", "out%2Fa%20b.bin"):
        answer = await world.client.get(f"/task-instances/item/{instance_id}/artifacts/{path}")
        assert (answer.status, answer.content) == (200, DATA)
        assert answer.headers["content-disposition"] == "attachment; filename*=UTF-8''a%20b.bin"
    ranged = await world.client.get(
        f"/task-instances/item/{instance_id}/artifacts/out/a%20b.bin", headers=[("Range", "bytes=99-101")]
    )
    assert (ranged.status, ranged.content) == (206, DATA[99:102])
    head = await world.client.call("HEAD", f"/task-instances/item/{instance_id}/artifacts/%C3%BC")
    assert (head.status, head.headers["content-length"]) == (200, "1")


async def test_a_file_that_is_still_on_its_way(world: World) -> None:
    instance_id = await printed(world)
    await world.rooms.artifacts.store(sent_by(instance_id)[:2])
    (row,) = (await world.client.get(f"/task-instances/item/{instance_id}/artifacts")).json["result"]
    assert (row["stored"], row["bytes"], row["complete"]) == (200, 768, False)
    answer = await world.client.get(f"/task-instances/item/{instance_id}/artifacts/out/a%20b.bin")
    assert (answer.status, answer.reason) == (409, "artifact_incomplete")
    assert answer.json["details"]["stored"] == 200


async def test_what_is_not_there(world: World) -> None:
    instance_id = await printed(world)
    base = f"/task-instances/item/{instance_id}/artifacts"
    assert (await world.client.get(base)).json == {"result": [], "bytes": 0, "complete": False}
    for path in ("x", "../x", "a%00b", "%2Fetc%2Fpasswd"):
        assert (await world.client.get(f"{base}/{path}")).status == 404
    unknown = instance_id.replace(instance_id[:4], "0000")
    assert (await world.client.get(f"/task-instances/item/{unknown}/artifacts")).status == 404
    assert (await world.client.get("/task-instances/item/x/artifacts/y")).status == 400
    assert (await world.client.post(f"{base}/x")).status == 405
