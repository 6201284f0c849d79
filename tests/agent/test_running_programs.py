"""Real processes: what a dispatched program gets, does and leaves, as the server hears of it."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import AsyncIterator
from pathlib import Path

import psutil
import pytest
import trio
from attrs import evolve

from agent import process_tree
from agent.processes import SystemProcesses
from hetuflow.protocol.messages import Ended, Output, Started
from tests.agent.gateway import Gateway, an_order
from tests.agent.world import World, real_world


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    async with real_world(tmp_path) as world:
        yield world


@pytest.fixture
async def gateway(world: World) -> Gateway:
    return world.gateway


async def test_success_is_reported_with_output_digest_and_times(gateway: Gateway) -> None:
    ended = await gateway.run("bash", "-c", "echo hello; echo problem >&2")
    assert (ended.reason, ended.exit_code, ended.signal, ended.error_message) == (None, 0, None, None)
    assert gateway.output(ended.instance_id) == b"hello\n"
    assert gateway.output(ended.instance_id, "stderr") == b"problem\n"
    assert ended.output is not None
    assert ended.output["stdout"] == {
        "bytes": 6,
        "kept": 6,
        "shipped": 6,
        "sha256": hashlib.sha256(b"hello\n").hexdigest(),
    }
    assert ended.output["dropped"] == 0
    assert ended.started_at is not None and ended.started_at < ended.completed_at
    assert ended.duration_seconds is not None and ended.duration_seconds > 0


async def test_started_comes_before_ended_and_names_the_process(gateway: Gateway) -> None:
    ended = await gateway.run("true")
    started = await gateway.until_started(ended.instance_id)
    assert started.pid is not None and started.isolation == "session"
    assert gateway.heard.index(started) < gateway.heard.index(ended)
    assert started.sequence < ended.sequence and started.event_id != ended.event_id


async def test_output_is_offered_before_the_end_is_reported(gateway: Gateway) -> None:
    ended = await gateway.run("bash", "-c", "seq 1 20000")
    before = gateway.heard[: gateway.heard.index(ended)]
    shipped = sum(len(m.data) for m in before if isinstance(m, Output))
    assert ended.output is not None and shipped == ended.output["stdout"]["shipped"] > 100_000


async def test_exit_code_is_a_failure_with_its_number(gateway: Gateway) -> None:
    ended = await gateway.run("bash", "-c", "exit 7")
    assert (ended.reason, ended.exit_code, ended.signal) == ("exit_code", 7, None)
    assert ended.error_message == "ended with exit code 7"


async def test_signal_is_told_as_128_plus_its_number(gateway: Gateway) -> None:
    ended = await gateway.run("bash", "-c", "kill -SEGV $$")
    assert (ended.reason, ended.exit_code, ended.signal) == ("signal", 139, 11)


async def test_arguments_are_passed_verbatim_without_a_shell(gateway: Gateway) -> None:
    hostile = ["a b", "$HOME", "*", "'\"", "", "ü", "-n", "; rm -rf x"]
    ended = await gateway.run("python3", "-c", "import sys; print(sys.argv[1:])", *hostile)
    assert gateway.output(ended.instance_id).decode().strip() == repr(hostile)


async def test_environment_is_the_orders_over_a_small_base(gateway: Gateway, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECRET_OF_THE_AGENT", "x")
    script = "import json, os; print(json.dumps(dict(os.environ)))"
    ended = await gateway.run("python3", "-c", script, environment={"HETUFLOW_PARAM_X": "1", "LANG": "de_DE.UTF-8"})
    found = json.loads(gateway.output(ended.instance_id))
    assert found["HETUFLOW_PARAM_X"] == "1" and found["LANG"] == "de_DE.UTF-8"
    assert found["HETUFLOW_INSTANCE_ID"] == ended.instance_id
    assert found["HOME"] and found["PATH"] and found["USER"]
    assert "SECRET_OF_THE_AGENT" not in found


async def test_each_instance_works_in_a_private_directory_of_its_own(world: World, gateway: Gateway) -> None:
    ended = await gateway.run("bash", "-c", "pwd; stat -c %a .; touch kept")
    where, mode = gateway.output(ended.instance_id).decode().split()
    assert where == f"{world.agent.profile.work_dir}/{ended.instance_id}" and mode == "700"
    assert await trio.Path(where, "kept").exists(), "files stay until clean-up"


async def test_an_instance_that_leaves_nothing_costs_no_file(world: World, gateway: Gateway) -> None:
    for _ in range(5):
        await gateway.run("true")
    assert len(os.listdir(world.agent.profile.work_dir)) == 1, "one spare directory, used five times"


async def test_a_directory_that_its_program_changed_is_not_used_again(world: World, gateway: Gateway) -> None:
    await gateway.run("chmod", "777", ".")
    ended = await gateway.run("bash", "-c", "stat -c %a .")
    assert gateway.output(ended.instance_id) == b"700\n"


async def test_the_agents_own_directory_is_not_changed(gateway: Gateway) -> None:
    before = os.getcwd()
    await gateway.run("pwd")
    assert os.getcwd() == before


@pytest.mark.parametrize(
    ("program", "message"),
    [
        ("no-such-program", "program 'no-such-program' was not found on the PATH ("),
        ("/no/such/program", "program '/no/such/program': does not exist"),
        ("/tmp", "program '/tmp': is a directory"),
        ("/etc/passwd", "program '/etc/passwd': is not executable"),
        ("", "no program is named"),
    ],
)
async def test_a_program_that_cannot_start_says_why(gateway: Gateway, program: str, message: str) -> None:
    ended = await gateway.run(program)
    assert ended.reason == "start_error" and ended.started_at is None and ended.exit_code is None
    assert ended.error_message is not None and message in ended.error_message
    assert gateway.of(Started, ended.instance_id) == []


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"args": ("a\0b",)}, "args[0] contains a NUL character"),
        ({"environment": {"A=B": "x"}}, "environment variable 'A=B'"),
        ({"environment": {"A": "\0"}}, "environment variable 'A'"),
    ],
)
async def test_what_no_system_takes_is_a_start_error(gateway: Gateway, fields: dict[str, object], message: str) -> None:
    order = evolve(an_order("true"), **fields)
    await gateway.send(order)
    ended = await gateway.until_ended(order.instance_id)
    assert ended.reason == "start_error" and ended.error_message is not None and message in ended.error_message


async def test_script_without_first_line_and_script_with_missing_interpreter(tmp_path: Path, gateway: Gateway) -> None:
    for name, text, part in (("bare", "echo\n", "executable format"), ("odd", "#!/no/such\n", "the interpreter")):
        path = tmp_path / name
        path.write_text(text)
        path.chmod(0o755)
        ended = await gateway.run(str(path))
        assert ended.reason == "start_error" and ended.error_message is not None and part in ended.error_message


async def test_too_large_arguments_are_a_start_error(gateway: Gateway) -> None:
    ended = await gateway.run("true", "x" * 200_000)
    assert ended.reason == "start_error" and "larger than the system allows" in (ended.error_message or "")


async def test_program_is_found_on_the_path_of_the_order_first(tmp_path: Path, gateway: Gateway) -> None:
    own = tmp_path / "bin"
    own.mkdir()
    (own / "greet").write_text("#!/bin/sh\necho from-own-path\n")
    (own / "greet").chmod(0o755)
    ended = await gateway.run("greet", environment={"PATH": f"{own}:/usr/bin:/bin"})
    assert gateway.output(ended.instance_id) == b"from-own-path\n"


async def test_time_limit_ends_the_whole_tree(gateway: Gateway) -> None:
    ended = await gateway.run("bash", "-c", "sleep 300 & sleep 300", timeout_seconds=0.2)
    assert ended.reason == "timeout" and ended.error_message == "ended after its time limit of 0.2 s (timeout)"
    assert ended.signal == 15 and ended.exit_code == 143
    assert process_tree.marked(ended.instance_id) == []


async def test_stop_ends_the_whole_tree_and_is_a_cancellation(gateway: Gateway) -> None:
    order = an_order("bash", "-c", "sleep 300 & echo up; wait")
    await gateway.send(order)
    await gateway.until_output(order.instance_id, b"up")
    await gateway.stop(order.instance_id)
    ended = await gateway.until_ended(order.instance_id)
    assert ended.reason == "cancelled" and ended.error_message == "ended on request: test"
    assert process_tree.marked(order.instance_id) == []


async def test_sigterm_that_is_ignored_is_followed_by_sigkill(gateway: Gateway) -> None:
    order = an_order("bash", "-c", "trap '' TERM; echo up; while true; do sleep 0.1; done")
    await gateway.send(order)
    await gateway.until_output(order.instance_id, b"up")
    await gateway.stop(order.instance_id, grace_seconds=0.2)
    ended = await gateway.until_ended(order.instance_id)
    assert (ended.reason, ended.exit_code, ended.signal) == ("cancelled", 137, 9)
    assert process_tree.marked(order.instance_id) == []


async def test_a_stopped_process_can_be_cancelled(gateway: Gateway) -> None:
    order = an_order("bash", "-c", "echo up; kill -STOP $$; sleep 300")
    await gateway.send(order)
    await gateway.until_output(order.instance_id, b"up")
    await gateway.stop(order.instance_id)
    assert (await gateway.until_ended(order.instance_id)).reason == "cancelled"


async def test_descendants_that_left_the_session_are_ended_too(gateway: Gateway) -> None:
    """A daemon: its own session, its parent dead. Only its environment connects it with the instance."""
    order = an_order("bash", "-c", "(setsid sleep 300 >/dev/null 2>&1 &) ; echo up; sleep 300")
    await gateway.send(order)
    await gateway.until_output(order.instance_id, b"up")
    await gateway.stop(order.instance_id)
    await gateway.until_ended(order.instance_id)
    assert process_tree.marked(order.instance_id) == []


async def test_what_a_finished_program_leaves_running_is_ended_and_the_program_stays_successful(
    gateway: Gateway,
) -> None:
    ended = await gateway.run("bash", "-c", "sleep 300 & (setsid sleep 300 &) ; echo done")
    assert ended.reason is None and gateway.output(ended.instance_id) == b"done\n"
    assert process_tree.marked(ended.instance_id) == []


async def test_flood_is_cut_marked_and_its_digest_covers_everything(gateway: Gateway) -> None:
    script = "import sys\nfor n in range(3000): sys.stdout.write(f'{n:09}' * 1000 + '\\n')"
    whole = b"".join(f"{n:09}".encode() * 1000 + b"\n" for n in range(3000))
    ended = await gateway.run("python3", "-c", script, output_bytes_max=1_000_000)
    assert ended.reason is None and ended.output is not None
    told = ended.output["stdout"]
    assert told["bytes"] == len(whole) and told["sha256"] == hashlib.sha256(whole).hexdigest()
    assert told["kept"] == 1_000_000 and ended.output["dropped"] == len(whole) - 1_000_000
    marker = f"\n[hetuflow: output cut, {len(whole) - 1_000_000} bytes dropped]\n".encode()
    await gateway.until(lambda: len(gateway.output(ended.instance_id)) == told["shipped"])
    assert gateway.output(ended.instance_id) == whole[:1_000_000] + marker


async def test_binary_output_arrives_byte_for_byte(gateway: Gateway) -> None:
    ended = await gateway.run("python3", "-c", "import sys; sys.stdout.buffer.write(bytes(range(256)) * 1000)")
    await gateway.until(lambda: len(gateway.output(ended.instance_id)) == 256_000)
    assert gateway.output(ended.instance_id) == bytes(range(256)) * 1000


async def test_both_streams_keep_the_order_of_arrival(gateway: Gateway, tmp_path: Path) -> None:
    """What is written to both at the same time has no order: each write waits until the one before it has arrived."""
    os.mkfifo(tmp_path / "go")
    script = "import os, sys\nwith open(sys.argv[1], 'rb', 0) as go:\n for n in range(10): os.write(1 + n % 2, b'%d\\n' % n); go.read(1)"
    order = an_order("python3", "-c", script, str(tmp_path / "go"))
    await gateway.send(order)
    lines = [b"%d\n" % n for n in range(10)]
    with await trio.to_thread.run_sync(lambda: open(tmp_path / "go", "wb", 0)) as go:
        for count in range(1, 11):
            await gateway.until(lambda count=count: len(gateway.order_of_output(order.instance_id)) == count)
            go.write(b"x")
    await gateway.until_ended(order.instance_id)
    assert [data for _, data in gateway.order_of_output(order.instance_id)] == lines


async def test_output_that_is_not_wanted_is_discarded(gateway: Gateway) -> None:
    ended = await gateway.run("bash", "-c", "echo x", capture_output=False)
    assert ended.reason is None and ended.output is None and gateway.output(ended.instance_id) == b""


async def test_output_is_live(gateway: Gateway) -> None:
    order = an_order("bash", "-c", "echo first; sleep 300")
    await gateway.send(order)
    await gateway.until_output(order.instance_id, b"first\n")
    assert gateway.of(Ended, order.instance_id) == []
    await gateway.stop(order.instance_id)
    await gateway.until_ended(order.instance_id)


async def until_measured(world: World, instance_id: str, at_least: int = 1) -> int:
    """The program's process id, when a sample of its memory says so much."""
    pid = (await world.gateway.until_started(instance_id)).pid
    assert isinstance(world.runner, SystemProcesses) and pid is not None
    with trio.fail_after(60):
        while world.runner.memory_peak_of(pid) < at_least:  # noqa: ASYNC110 - a sample is nobody's news
            await trio.sleep(0.01)
    return pid


async def test_cpu_time_and_memory_of_the_process_are_measured(world: World, tmp_path: Path) -> None:
    """The program stays until a sample has seen its memory: this process may be as large, then the kernel cannot tell."""
    os.mkfifo(tmp_path / "go")
    script = "import sys, time\nblock = bytearray(400 * 2**20)\nwhile time.process_time() < 0.15: pass\n"
    order = an_order("python3", "-c", f"{script}open(sys.argv[1]).read()", str(tmp_path / "go"))
    await world.gateway.send(order)
    await until_measured(world, order.instance_id, 400 * 2**20)
    await trio.to_thread.run_sync((tmp_path / "go").write_bytes, b"")
    ended = await world.gateway.until_ended(order.instance_id)
    assert ended.metrics is not None
    assert ended.metrics["cpu_time"] >= 0.15
    assert 400 * 2**20 < ended.metrics["memory_peak"] < 500 * 2**20


async def test_a_program_is_measured_soon_however_long_another_has_run(world: World, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "go")
    first, second = (an_order("cat", str(tmp_path / "go")) for _ in range(2))
    await world.gateway.send(first)
    pid = await until_measured(world, first.instance_id)
    assert isinstance(world.runner, SystemProcesses)
    world.runner._running[pid].sample_deadline = trio.current_time() + 1000
    await trio.sleep(0.3)  # so that the sampler sleeps towards that deadline
    await world.gateway.send(second)
    await until_measured(world, second.instance_id)
    await trio.to_thread.run_sync((tmp_path / "go").write_bytes, b"")
    for order in (first, second):
        await world.gateway.stop(order.instance_id)
        await world.gateway.until_ended(order.instance_id)


async def test_memory_below_the_agents_own_is_not_the_agents_own(world: World, tmp_path: Path) -> None:
    """After vfork the kernel's figure starts at the size of the parent. The program stays until it was measured."""
    ballast = bytearray(100 * 2**20)
    os.mkfifo(tmp_path / "go")
    order = an_order("cat", str(tmp_path / "go"))
    await world.gateway.send(order)
    await until_measured(world, order.instance_id)
    await trio.to_thread.run_sync((tmp_path / "go").write_bytes, b"")
    ended = await world.gateway.until_ended(order.instance_id)
    assert ended.metrics is not None and 0 < ended.metrics["memory_peak"] < 20 * 2**20
    assert psutil.Process().memory_info().rss > len(ballast)


async def test_five_hundred_programs_leave_no_zombie_and_no_open_file(gateway: Gateway) -> None:
    await gateway.run("true")
    before = len(os.listdir("/proc/self/fd"))
    orders = [an_order("true") for _ in range(500)]
    waiting = list(orders)
    running: list[str] = []
    while waiting or running:
        while waiting and len(running) < 16:
            await gateway.send(waiting[0])
            running.append(waiting.pop(0).instance_id)
        ended = await gateway.until_ended(running.pop(0))
        assert ended.reason is None, ended
    assert len(os.listdir("/proc/self/fd")) == before
    assert [child for child in psutil.Process().children() if child.status() == "zombie"] == []


@pytest.mark.parametrize(
    ("program", "args", "expected"),
    [
        ("bash", ("-c", "echo $((6 * 7))"), b"42\n"),
        ("python3", ("-c", "print(6 * 7)"), b"42\n"),
        ("node", ("-e", "console.log(6 * 7)"), b"42\n"),
        ("perl", ("-e", "print 6 * 7"), b"42"),
    ],
)
async def test_interpreters(gateway: Gateway, program: str, args: tuple[str, ...], expected: bytes) -> None:
    if shutil.which(program) is None:
        pytest.skip(f"{program} is not installed")
    ended = await gateway.run(program, *args)
    assert ended.reason is None, ended
    assert gateway.output(ended.instance_id) == expected


async def test_java(gateway: Gateway) -> None:
    if shutil.which("java") is None:
        pytest.skip("java is not installed")
    ended = await gateway.run("java", "-version")
    assert ended.reason is None and b"version" in gateway.output(ended.instance_id, "stderr")
