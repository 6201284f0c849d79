"""Output of instances that are driven over the API: what they were said to have written, as the log has it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from attrs import evolve, frozen

from hetuflow.api.call import Call
from hetuflow.api.rooms import Row
from hetuflow.domain.decider import Address
from hetuflow.domain.environment import rfc3339
from hetuflow.domain.events import InstanceReported
from projections.output import MemoryOutput, Tail

OUTPUT_BYTES_MAX = 64 * 1024
"""As much of it is kept as an answer shows."""


@frozen(slots=True)
class _Piece:
    instance_id: str
    stream: str
    offset: int
    seq: int
    at: str
    data: bytes


def end_of(text: str) -> tuple[str, bool]:
    """The end of the text that is kept, and whether that is less than all; never a part of a character."""
    data = text.encode()
    if len(data) <= OUTPUT_BYTES_MAX:
        return text, False
    return data[-OUTPUT_BYTES_MAX:].decode("utf-8", "ignore"), True


async def reported_tails(call: Call, rows: Sequence[Row], bytes_max: int) -> Mapping[str, Tail]:
    """The last bytes of each of these that is driven over the API and was said to have written any."""
    external = [row for row in rows if row["external"]]
    if not external:
        return {}
    addresses = [Address("task", each) for each in dict.fromkeys(str(row["task_id"]) for row in external)]
    tasks = await call.rooms.system.read_many(addresses)
    found: dict[str, Tail] = {}
    for row in external:
        reading = tasks.get(Address("task", str(row["task_id"])))
        said = None if reading is None else reading.state.reported(str(row["id"]))
        if said is not None and said.output:
            data = said.output.encode()
            is_whole = len(data) <= bytes_max and not said.output_truncated
            found[str(row["id"])] = Tail(data=data[-bytes_max:], is_whole=is_whole)
    return found


async def use_reported_output(call: Call, task_id: str, instance_id: str) -> None:
    """If the instance is driven over the API: let this call read its output from there."""
    state = (await call.rooms.system.read(Address("task", task_id))).state
    said: InstanceReported | None = state.reported(instance_id)
    if said is None:
        return
    output = MemoryOutput()
    if said.output:
        at = rfc3339(said.completed_at or call.rooms.clock.now())
        await output.store([_Piece(instance_id, "stdout", 0, 0, at, said.output.encode())])
    call.rooms = evolve(call.rooms, output=output)
