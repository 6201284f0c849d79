"""The agent's own log: bounded, over restarts, on full disks, and without secrets."""

from __future__ import annotations

from pathlib import Path

import pytest
import structlog
import trio

from agent.log_ring import ANSWER_BYTES_MAX, FILE_BYTES_MAX, FILES_MAX, LINES_MAX, LogRing, masked, rendered
from agent.logs import configure_logging
from agent.policy import Policy
from hetuflow.protocol.codec import MESSAGE_BYTES_MAX, MESSAGES
from hetuflow.protocol.messages import Command, LogLines
from tests.agent.gateway import Gateway, an_order
from tests.agent.world import MemoryDisk, fake_world, real_world


def a_ring(form: str) -> LogRing:
    """Everything that is logged, until the configuration is another one again: no logger keeps this one."""
    ring = configure_logging("debug", form)
    structlog.configure(cache_logger_on_first_use=False)
    return ring


def test_the_last_lines_come_with_their_numbers() -> None:
    ring = LogRing()
    for number in range(1, 2 * LINES_MAX + 1):
        ring.add(f"line {number}")
    assert ring.after(0, 3) == (2 * LINES_MAX - 2, [f"line {2 * LINES_MAX - n}" for n in (2, 1, 0)])
    first, lines = ring.after(0, 10**9)
    assert (first, len(lines)) == (LINES_MAX + 1, LINES_MAX)
    assert ring.after(2 * LINES_MAX - 1, 100) == (2 * LINES_MAX, [f"line {2 * LINES_MAX}"])
    assert ring.after(2 * LINES_MAX, 100) == (2 * LINES_MAX + 1, [])


def test_an_answer_fits_into_a_frame() -> None:
    ring = LogRing()
    for _ in range(LINES_MAX):
        ring.add("ü" * 1000)
    first, lines = ring.after(0, LINES_MAX)
    answer = LogLines(id="i" * 40, first=first, lines=tuple(lines))
    assert ANSWER_BYTES_MAX // 2 < len(MESSAGES.encode(answer)) < MESSAGE_BYTES_MAX
    assert lines and first == LINES_MAX - len(lines) + 1


def test_it_goes_on_in_the_next_life_and_stays_within_its_files() -> None:
    disk, written = MemoryDisk(), 0
    for life in range(5):
        ring = LogRing()
        ring.add(f"life {life} before the disk is known")
        ring.keep_in(disk, "/state/log")  # type: ignore[arg-type]
        for number in range(2000):
            ring.add(f"life {life} line {number} {'x' * 60}\nsecond")
        written += 2001
        first, lines = ring.after(0, LINES_MAX)
        assert first + len(lines) == written + 1
        assert lines[-1].startswith(f"life {life} line 1999 ") and lines[-1].endswith("\nsecond")
    assert len(disk.files) == FILES_MAX
    assert sum(map(len, disk.files.values())) <= FILES_MAX * FILE_BYTES_MAX
    again = LogRing()
    again.keep_in(disk, "/state/log")  # type: ignore[arg-type]
    assert again.after(0, 5) == (written - 4, ring.after(0, 5)[1])


def test_a_full_disk_loses_lines_and_nothing_else() -> None:
    disk = MemoryDisk()
    ring = LogRing()
    ring.keep_in(disk, "/state/log")  # type: ignore[arg-type]
    ring.add("before")
    disk.full = True
    for number in range(1000):
        ring.add(f"meanwhile {number}")
    disk.full = False
    for number in range(200):
        ring.add(f"after {number}")
    assert ring.after(0, 1) == (1201, ["after 199"])
    again = LogRing()
    again.keep_in(disk, "/state/log")  # type: ignore[arg-type]
    assert again.after(0, 1) == (1201, ["after 199"])


@pytest.mark.parametrize(("text", "shown"), [
    ("ws://user:hunter2@host/x", "ws://user:***@host/x"),
    ("DB_PASSWORD=hunter2 x", "DB_PASSWORD=*** x"),
    ("api_key: 'hunter2 hunter2' x", "api_key: *** x"),
    ("exit code 1", "exit code 1"),
])  # fmt: skip
def test_what_looks_like_a_secret_is_hidden(text: str, shown: str) -> None:
    assert masked(text) == shown


def test_a_line_says_when_how_bad_what_and_its_values() -> None:
    event = {
        "timestamp": "2026-01-05T08:00:00Z",
        "level": "warning",
        "event": "no connection",
        "problem": "it is away",
        "n": 3,
    }
    assert rendered(event) == "2026-01-05T08:00:00Z warning no connection problem='it is away' n=3"


def test_values_of_a_line_are_masked_wherever_it_goes(capsys: pytest.CaptureFixture[str]) -> None:
    before = structlog.get_config()
    try:
        ring = a_ring("text")
        log = structlog.get_logger()
        log.info(
            "dial postgresql://u:hunter2@h/db",
            url="ws://u:hunter2@h",
            password="hunter2",
            error=ValueError("TOKEN=hunter2"),
        )
        try:
            raise ValueError("secret: hunter2")
        except ValueError:
            log.exception("failed")
    finally:
        structlog.configure(**before)
    text = capsys.readouterr().err + "\n".join(ring.after(0, 100)[1])
    assert "ws://u:***@h" in text and "ValueError" in text and "hunter2" not in text


# --- asked for from afar ---------------------------------------------------------------------------------------------


async def answer_to(gateway: Gateway, **payload: object) -> LogLines:
    command = Command(id=f"log-{len(gateway.heard)}", kind=8, payload=payload)
    await gateway.send(command)
    found: list[LogLines] = []

    def has_come() -> bool:
        found[:] = [each for each in gateway.heard if isinstance(each, LogLines) and each.id == command.id]
        return bool(found)

    await gateway.until(has_come)
    return found[0]


async def test_the_server_gets_what_it_asks_for(autojump_clock: trio.testing.MockClock) -> None:
    async with fake_world() as world:
        for number in range(500):
            world.ports.log_ring.add(f"line {number}")
        assert (await answer_to(world.gateway)).lines[-1] == "line 499"
        assert len((await answer_to(world.gateway)).lines) == 200
        answer = await answer_to(world.gateway, lines=2)
        assert (answer.first, answer.lines) == (499, ("line 498", "line 499"))
        assert (await answer_to(world.gateway, after=499, lines=9)).lines == ("line 499",)
        assert len((await answer_to(world.gateway, after="x", lines=-1)).lines) == 200


async def test_the_owner_may_forbid_it(autojump_clock: trio.testing.MockClock) -> None:
    async with fake_world(policy=Policy(allowed_commands=("fetch_metrics",))) as world:
        world.ports.log_ring.add("not to be told")
        answer = await answer_to(world.gateway)
        assert answer.lines == () and "(policy.allowed_commands): fetch_log is not among them" in answer.problem
        await world.gateway.send(Command(id="stop", kind=1))
        ended = await world.gateway.run("true")  # it is still there
        assert ended.reason is None


async def test_no_environment_argument_or_output_of_a_program_is_in_the_log(tmp_path: Path) -> None:
    before = structlog.get_config()
    try:
        ring = a_ring("json")
        async with real_world(tmp_path, policy=Policy(max_execution_time_secs=1.0, min_nice=3)) as world:
            gateway = world.gateway
            for cmd, *arguments in (
                ("echo", "hunter2"),
                ("no-such", "hunter2"),
                ("/hunter2\0", "x"),
                ("sleep", "9", "#hunter2"),
            ):
                await gateway.run(cmd, *arguments, environment={"HIDDEN": "hunter2", "BAD=": "hunter2"})
            await gateway.send(an_order("echo", "hunter2"), an_order("sh", "-c", "exit hunter2"))
            await gateway.run("sh", "-c", "echo hunter2 >&2; exit 1", environment={"X": "hunter2"})
    finally:
        structlog.configure(**before)
    lines = ring.after(0, LINES_MAX)[1]
    assert any("agent started" in line for line in lines) and not any("hunter2" in line for line in lines)
