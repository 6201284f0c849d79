"""The agent as people run it: a process of its own, a WebSocket, signals, kill -9, a command line."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import psutil
import pytest
import trio

from agent import process_tree
from hetuflow.protocol.messages import Ended, Heartbeat, Started
from tests.agent.gateway import an_order
from tests.agent.machine import PATIENCE_SECONDS, ROOT, Machine, machine, run_agent

__all__ = ["machine"]


def agent_command(*args: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "agent", *args],
        cwd=ROOT,
        env={**os.environ, "SERVER_URL": "", **environment},
        capture_output=True,
        text=True,
        timeout=PATIENCE_SECONDS,
        check=False,
    )


async def test_runs_programs_over_a_real_websocket(machine: Machine) -> None:
    await machine.start_agent()
    ended = await machine.gateway.run("bash", "-c", "head -c 1000000 /dev/urandom | base64; echo done >&2")
    assert ended.reason is None and ended.output is not None
    shipped = ended.output["stdout"]["shipped"]
    await machine.gateway.until(lambda: len(machine.gateway.output(ended.instance_id)) == shipped)
    assert machine.gateway.output(ended.instance_id, "stderr") == b"done\n"
    data = machine.gateway.output(ended.instance_id)
    assert hashlib.sha256(data).hexdigest() == ended.output["stdout"]["sha256"]


async def test_sigterm_ends_work_reports_it_and_exits_with_zero(machine: Machine) -> None:
    agent = await machine.start_agent()
    order = an_order("sleep", "300")
    await machine.gateway.send(order)
    await machine.gateway.until_started(order.instance_id)
    agent.send_signal(signal.SIGTERM)
    ended = await machine.gateway.until_ended(order.instance_id)
    assert (ended.reason, ended.error_message) == ("lost", "the agent was stopped")
    with trio.fail_after(PATIENCE_SECONDS):
        assert await agent.wait() == 0
    assert process_tree.marked(order.instance_id) == []


async def test_kill_9_amid_many_tasks_loses_no_outcome(machine: Machine) -> None:
    """Every instance that was told to have started ends, in this life or the next."""
    agent = await machine.start_agent()
    machine.gateway.acks_reports = False
    orders = [an_order("true") for _ in range(4)]
    await machine.gateway.send(*orders)
    await machine.gateway.until_ended(orders[0].instance_id)
    agent.kill()
    await agent.wait()
    machine.gateway.acks_reports = True
    await machine.start_agent()
    for order in orders:
        if machine.gateway.of(Started, order.instance_id):
            await machine.gateway.until_ended(order.instance_id)
    reports = [m for m in machine.gateway.heard if isinstance(m, Ended)]
    ids: dict[tuple[str, str], set[str]] = {}
    for report in reports:
        ids.setdefault((report.instance_id, str(report.reason)), set()).add(report.event_id)
    assert all(len(events) == 1 for events in ids.values()), "a report sent twice keeps its id"


async def test_two_agents_cannot_share_a_state_directory(machine: Machine) -> None:
    agent = await machine.start_agent()
    second = await trio.to_thread.run_sync(lambda: agent_command(*machine.options()))
    assert second.returncode == 2 and second.stdout == ""
    [line] = second.stderr.splitlines()
    assert line == (
        f"hetuflow-agent: another agent (process {agent.pid}) uses {machine.root}/state: "
        "stop it, or give this one its own directory with --state-dir"
    )


async def test_agents_that_share_a_work_directory_touch_nothing_of_each_other(machine: Machine) -> None:
    """With other state, the second would take the first one's output for its own leftovers, and old files for rubbish."""
    await machine.start_agent()
    order = an_order("bash", "-c", "pwd; head -c 100000 /dev/zero; touch up; sleep 300")
    machine.gateway.acks_output = False
    await machine.gateway.send(order)
    await machine.gateway.until_output(order.instance_id, b"\0" * 90_000)
    own = machine.root / "work" / "agent-1"
    spool = own / f"{order.instance_id}.1.out"
    assert machine.gateway.output(order.instance_id).startswith(f"{own}/{order.instance_id}\n".encode())
    old = own / "old"
    old.write_bytes(b"")
    os.utime(old, (0, 0))
    await machine.start_agent("--id", "agent-2", "--state-dir", str(machine.root / "state-2"))
    assert (await machine.gateway.run("true")).reason is None
    assert spool.stat().st_size > 90_000 and old.exists()
    third = await trio.to_thread.run_sync(lambda: agent_command(*machine.options("--state-dir", f"{machine.root}/3")))
    assert third.returncode == 2 and f"uses {own}: stop it, or" in third.stderr
    assert "with --work-dir" in third.stderr and len(third.stderr.splitlines()) == 1


async def test_generated_id_is_kept(machine: Machine) -> None:
    for _ in range(2):
        options = [option for option in machine.options() if option not in ("--id", "agent-1")]
        before = len(machine.gateway.hellos)
        process: trio.Process = await machine.nursery.start(run_agent, [sys.executable, "-m", "agent", *options])
        await machine.gateway.until(lambda: len(machine.gateway.hellos) > before)  # noqa: B023
        process.terminate()
        await process.wait()
    first, second = (hello.agent_id for hello in machine.gateway.hellos)
    assert first == second and len(first) == 36
    assert machine.gateway.hellos[1].name == first


async def test_labels_from_file_and_flags_reach_the_server(machine: Machine) -> None:
    config = machine.root / "agent.toml"
    config.write_text('[labels]\nos = "linux"\nzone = "a"\n[metadata]\nrack = "4"\n')
    await machine.start_agent("--config", str(config), "--label", "zone=b", "--label", "gpu=")
    hello = machine.gateway.hellos[-1]
    given = {name: value for name, value in hello.labels.items() if not name.startswith("sys.")}
    assert given == {"os": "linux", "zone": "b", "gpu": ""} and hello.metadata == {"rack": "4"}
    assert hello.labels["sys.os"] == os.uname().sysname.lower()


async def test_an_idle_agent_is_small(machine: Machine) -> None:
    """The budget: 40 MiB resident. Nothing of the server's, nor a client's, is imported."""
    agent = await machine.start_agent()
    await machine.gateway.run("true")
    assert psutil.Process(agent.pid).memory_info().rss < 40 * 2**20


def test_imports_of_the_agent_are_few() -> None:
    script = (
        "import sys, agent.__main__ as m, json; sys.argv = ['x', '--help']\ntry: m.main()\nexcept SystemExit: pass\n"
    )
    script += "print('MODULES', json.dumps(sorted(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True)
    modules = json.loads(done.stdout.rpartition("MODULES ")[2])
    forbidden = ("httpx", "quart", "hypercorn", "asyncpg", "hetuflow.domain", "eventstore", "projections", "uvloop")
    assert [name for name in modules if name.startswith(forbidden)] == []


# --- the command line ----------------------------------------------------------------------------------------------


def test_help_explains_every_option() -> None:
    done = agent_command("--help")
    assert done.returncode == 0
    assert "count as lost, which uses one of their retries: with none left they fail" in " ".join(done.stdout.split())
    for word in ("--server-url", "--label KEY=VALUE", "--state-dir", "SERVER_URL", "SIGTERM"):
        assert word in done.stdout


@pytest.mark.parametrize(
    ("args", "environment", "part"),
    [
        (("--slots", "many"), {}, "agent.max_concurrent_tasks (flag): 'many' is not allowed"),
        (("--server-url", "ftp://x"), {}, "agent.server_url (flag)"),
        (("--log-level", "loud"), {}, "logging.level (flag): 'loud' is not allowed"),
        (("--config", "/no/such/agent.toml"), {}, "/no/such/agent.toml (configuration file): cannot be read"),
        ((), {"HETUFLOW_AGENT__SLOTS": "1"}, "HETUFLOW_AGENT__SLOTS (environment): unknown setting"),
        (("--label", "novalue"), {}, "'novalue' is not KEY=VALUE"),
        (("--state-dir", "/proc/nowhere"), {}, "cannot create directory /proc/nowhere"),
    ],
)
def test_a_mistake_is_one_line_and_exit_status_2(
    args: tuple[str, ...], environment: dict[str, str], part: str, tmp_path: Path
) -> None:
    given = ("--state-dir", str(tmp_path / "state"), *args)
    done = agent_command(*given, **environment)
    assert done.returncode == 2
    assert part in done.stderr and "Traceback" not in done.stderr
    assert len([line for line in done.stderr.splitlines() if part in line]) == 1


def test_every_mistake_is_told_at_once(tmp_path: Path) -> None:
    done = agent_command("--state-dir", str(tmp_path), "--slots", "0", "--log-format", "xml")
    assert done.returncode == 2
    lines = done.stderr.splitlines()
    assert len(lines) == 2 and all(line.startswith("hetuflow-agent: ") for line in lines)


def test_a_state_directory_that_others_can_read_is_refused(tmp_path: Path) -> None:
    state = tmp_path / "state"
    state.mkdir(mode=0o755)
    done = agent_command("--state-dir", str(state))
    assert done.returncode == 2 and f"chmod 700 {state}" in done.stderr


async def test_json_logs_are_one_object_per_line(machine: Machine) -> None:
    log = machine.root / "log"
    with log.open("wb") as file:

        async def run(task_status: trio.TaskStatus[Any]) -> None:
            command = [sys.executable, "-m", "agent", *machine.options("--log-format", "json", "--log-level", "info")]
            await trio.run_process(command, cwd=ROOT, stderr=file, check=False, task_status=task_status)

        agent: trio.Process = await machine.nursery.start(run)
        await machine.gateway.until(lambda: any(isinstance(m, Heartbeat) for m in machine.gateway.heard))
        agent.terminate()
        await agent.wait()
    events = [json.loads(line)["event"] for line in log.read_text().splitlines()]
    assert events == ["agent started", "connected", "stop requested", "stopping"]
