"""From one life of a real agent to the next: the keeper keeps what runs, whoever is killed."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import trio

from agent import journal, process_tree
from agent.keeper.place import Place
from hetuflow.protocol.messages import Ended, KnownState, Output, Started
from tests.agent.gateway import an_order
from tests.agent.machine import PATIENCE_SECONDS, ROOT, Machine, is_alive, machine, run_agent

__all__ = ["machine"]

LINES = "for n in $(seq {first} {last}); do echo line $n; done"


def in_two_parts(go: Path) -> str:
    """Prints lines, waits until somebody opens the pipe, prints the others."""
    return f"{LINES.format(first=1, last=300)}; read x < {go}; {LINES.format(first=301, last=600)}"


ALL_LINES = b"".join(b"line %d\n" % n for n in range(1, 601))


def check_result(machine: Machine, instance_id: str, expected: bytes) -> None:
    """One result, of all that was printed, without a gap and with its digest."""
    reports = machine.gateway.of(Ended, instance_id)
    assert len({report.event_id for report in reports}) == 1  # type: ignore[attr-defined]
    [started] = {report.event_id for report in machine.gateway.of(Started, instance_id)}  # type: ignore[attr-defined]
    ended = reports[0]
    assert isinstance(ended, Ended) and started
    assert ended.reason is None and ended.output is not None, ended
    assert machine.gateway.output(instance_id) == expected
    assert ended.output["stdout"]["sha256"] == hashlib.sha256(expected).hexdigest()
    chunks: dict[int, set[tuple[int, bytes]]] = {}
    for message in machine.gateway.of(Output, instance_id):
        assert isinstance(message, Output)
        chunks.setdefault(message.seq, set()).add((message.offset, message.data))
    assert all(len(each) == 1 for each in chunks.values()), "what is sent again is the same"


async def let_go(go: Path) -> None:
    await trio.to_thread.run_sync(go.write_bytes, b"on\n")


@pytest.mark.parametrize("lines", ["few", "many"])
async def test_a_run_outlives_kill_9_of_its_agent(machine: Machine, lines: str) -> None:
    """Few lines are in no file, many are."""
    go = machine.root / "go"
    os.mkfifo(go)
    script = in_two_parts(go) if lines == "many" else f"echo one; read x < {go}; echo two"
    expected, first = (ALL_LINES, b"line 300\n") if lines == "many" else (b"one\ntwo\n", b"one\n")
    agent = await machine.start_agent()
    order = an_order("bash", "-c", script)
    await machine.gateway.send(order)
    await machine.gateway.until_output(order.instance_id, first)
    started = await machine.gateway.until_started(order.instance_id)
    keeper = machine.keeper()
    await machine.kill(agent)
    await machine.start_agent()
    hello = machine.gateway.hellos[-1]
    assert hello.incarnation == 2
    assert [(each.instance_id, each.epoch, each.state) for each in hello.known] == [
        (order.instance_id, 1, KnownState.RUNNING)
    ]
    assert machine.keeper() == keeper and is_alive(started.pid)
    await let_go(go)
    await machine.gateway.until_ended(order.instance_id)
    await machine.gateway.until(lambda: len(machine.gateway.output(order.instance_id)) == len(expected))
    check_result(machine, order.instance_id, expected)


async def test_what_ends_while_there_is_no_agent_is_reported_once(machine: Machine) -> None:
    go = machine.root / "go"
    os.mkfifo(go)
    agent = await machine.start_agent()
    order = an_order("bash", "-c", in_two_parts(go))
    await machine.gateway.send(order)
    started = await machine.gateway.until_started(order.instance_id)
    await machine.kill(agent)
    await let_go(go)
    with trio.fail_after(PATIENCE_SECONDS):
        while is_alive(started.pid):  # noqa: ASYNC110 - another's child has no event
            await trio.sleep(0.02)
    await machine.start_agent()
    await machine.gateway.until_ended(order.instance_id)
    await machine.gateway.until(lambda: len(machine.gateway.output(order.instance_id)) == len(ALL_LINES))
    check_result(machine, order.instance_id, ALL_LINES)
    assert (await machine.gateway.run("true")).reason is None
    assert len(machine.gateway.of(Ended, order.instance_id)) == 1


async def test_restart_keep_leaves_the_work_running(machine: Machine) -> None:
    go = machine.root / "go"
    os.mkfifo(go)
    agent = await machine.start_agent()
    order = an_order("bash", "-c", in_two_parts(go))
    await machine.gateway.send(order)
    await machine.gateway.until_output(order.instance_id, b"line 300\n")
    told = json.loads(await restart(machine, "--keep", "--json"))
    assert told["restarted"] and told["pid"] == agent.pid and told["how"] == "keep"
    assert (told["before"]["incarnation"], told["after"]["incarnation"]) == (1, 2)
    assert told["after"]["running"] == 1
    assert machine.gateway.hellos[-1].incarnation == 2
    await let_go(go)
    await machine.gateway.until_ended(order.instance_id)
    await machine.gateway.until(lambda: len(machine.gateway.output(order.instance_id)) == len(ALL_LINES))
    check_result(machine, order.instance_id, ALL_LINES)


async def test_restart_keep_replaces_an_idle_keeper_of_another_version(machine: Machine) -> None:
    await machine.start_agent()
    assert (await machine.gateway.run("true")).reason is None
    before = machine.keeper()
    identity = Place(str(machine.root / "state")).identity
    told = json.loads(await trio.Path(identity).read_text())
    await trio.Path(identity).write_text(json.dumps({**told, "version": "0.0.1"}))
    await restart(machine, "--keep")
    after = machine.keeper()
    assert after.pid != before.pid and after.version == before.version != "0.0.1"
    assert (await machine.gateway.run("true")).reason is None


async def test_restart_drain_finishes_what_runs_and_takes_nothing_new(machine: Machine) -> None:
    go = machine.root / "go"
    os.mkfifo(go)
    await machine.start_agent()
    order, late = an_order("bash", "-c", in_two_parts(go)), an_order("true")
    await machine.gateway.send(order)
    await machine.gateway.until_output(order.instance_id, b"line 300\n")
    command = [sys.executable, "-m", "agent", "--state-dir", str(machine.root / "state"), "restart", "--drain"]
    said = ""
    restarting = await trio.lowlevel.open_process(command, cwd=ROOT, stdout=subprocess.PIPE)
    assert restarting.stdout is not None
    with trio.fail_after(PATIENCE_SECONDS):
        while "1 running task left" not in said:
            said += (await restarting.stdout.receive_some()).decode()
        await machine.gateway.send(late)
        rejected = await machine.gateway.until_ended(late.instance_id)
        assert (rejected.reason, rejected.error_message) == ("rejected", "the agent restarts")
        await let_go(go)
        while more := await restarting.stdout.receive_some():
            said += more.decode()
        assert await restarting.wait() == 0
    check_result(machine, order.instance_id, ALL_LINES)
    lines = said.splitlines()
    assert "takes nothing new, and restarts when what it runs has ended" in lines[0]
    assert lines[-1] == "connected" and "life 2 has begun" in lines[-2]
    assert (await machine.gateway.run("true")).reason is None


async def restart(machine: Machine, *options: str) -> str:
    command = [sys.executable, "-m", "agent", "restart", *options, "--state-dir", str(machine.root / "state")]
    done = await trio.run_process(command, cwd=ROOT, capture_stdout=True, capture_stderr=True, check=False)
    assert done.returncode == 0, done.stderr
    return str(done.stdout.decode())


def test_restart_says_what_is_missing(tmp_path: Path) -> None:
    def said(*options: str) -> tuple[int, str]:
        command = [sys.executable, "-m", "agent", "restart", *options, "--state-dir", str(tmp_path)]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
        return done.returncode, (done.stderr + done.stdout).strip()

    assert said("--keep") == (1, f"hetuflow-agent: no agent has run in {tmp_path}: name its directory with --state-dir")
    status, text = said()
    assert status == 2 and "say --keep (running tasks go on) or --drain" in text
    (tmp_path / "agent.json").write_text('{"pid": 4194304, "start_time": "1"}')
    assert said("--drain", "--json")[0] == 1 and "does not run" in said("--drain", "--json")[1]


async def test_an_agent_that_stays_away_longer_than_the_lease_finds_its_work_ended(machine: Machine) -> None:
    machine.gateway.lease_seconds = 3.0
    machine.gateway.heartbeat_interval = 0.5
    agent = await machine.start_agent()
    order = an_order("bash", "-c", "trap '' TERM; echo up; while true; do sleep 0.1; done")
    await machine.gateway.send(order)
    await machine.gateway.until_output(order.instance_id, b"up")
    await machine.kill(agent)
    with trio.fail_after(PATIENCE_SECONDS):
        while process_tree.marked(order.instance_id):  # noqa: ASYNC110 - another's child has no event
            await trio.sleep(0.05)
    await machine.start_agent()
    ended = await machine.gateway.until_ended(order.instance_id)
    assert ended.reason == "lost" and "the length of the lease (3 s)" in (ended.error_message or "")
    assert (await machine.gateway.run("true")).reason is None
    assert len(machine.gateway.of(Ended, order.instance_id)) == 1


async def test_a_job_that_continues_outlives_every_lease(machine: Machine) -> None:
    machine.gateway.lease_seconds = 1.0
    machine.gateway.heartbeat_interval = 0.2
    go = machine.root / "go"
    os.mkfifo(go)
    agent = await machine.start_agent()
    goes_on = an_order("bash", "-c", f"echo up; read x < {go}; echo down", on_disconnect="continue")
    ends = an_order("bash", "-c", "echo up; sleep 300")
    await machine.gateway.send(goes_on, ends)
    for order in (goes_on, ends):
        await machine.gateway.until_output(order.instance_id, b"up")
    machine.gateway.welcomes = False
    await machine.gateway.cut()
    with trio.fail_after(PATIENCE_SECONDS):
        while process_tree.marked(ends.instance_id):  # noqa: ASYNC110 - another's child has no event
            await trio.sleep(0.05)
    assert process_tree.marked(goes_on.instance_id)
    await machine.kill(agent)
    machine.gateway.welcomes = True
    await machine.start_agent()
    assert (await machine.gateway.until_ended(ends.instance_id)).reason == "lost"
    await let_go(go)
    await machine.gateway.until_output(goes_on.instance_id, b"down")
    check_one_success(await machine.gateway.until_ended(goes_on.instance_id))


def check_one_success(ended: Ended) -> None:
    assert (ended.reason, ended.exit_code) == (None, 0), ended


async def test_a_killed_keeper_takes_its_processes_with_it_and_a_new_one_takes_its_place(machine: Machine) -> None:
    """Also what has left the session, and what has cleaned its environment."""
    await machine.start_agent()
    orders = [
        an_order("bash", "-c", "setsid sleep 300 & trap '' TERM; echo up; while true; do sleep 0.1; done"),
        an_order("env", "-i", "bash", "-c", "sleep 300 & echo up; wait"),
    ]
    await machine.gateway.send(*orders)
    for order in orders:
        await machine.gateway.until_output(order.instance_id, b"up")
    pids = [(await machine.gateway.until_started(order.instance_id)).pid for order in orders]
    keeper = machine.keeper()
    os.kill(keeper.pid, signal.SIGKILL)
    for order in orders:
        ended = await machine.gateway.until_ended(order.instance_id)
        assert ended.reason == "lost" and "the keeper was killed" in (ended.error_message or "")
    assert not any(is_alive(pid) for pid in pids)
    assert process_tree.marked(orders[0].instance_id) == []
    done = [await machine.gateway.run("true") for _ in range(5)]
    assert [ended.reason for ended in done] == [None] * 5, "all slots are free"
    assert machine.keeper() != keeper and len(machine.gateway.hellos) == 1


async def test_when_agent_keeper_and_switch_are_killed_the_next_life_ends_what_is_left(machine: Machine) -> None:
    agent = await machine.start_agent()
    order = an_order("bash", "-c", "setsid sleep 300 & trap '' TERM; echo up; while true; do sleep 0.1; done")
    await machine.gateway.send(order)
    await machine.gateway.until_output(order.instance_id, b"up")
    keeper = machine.keeper()
    os.kill(keeper.watchdog_pid, signal.SIGKILL)
    os.kill(keeper.pid, signal.SIGKILL)
    await machine.kill(agent)
    await machine.start_agent()
    ended = await machine.gateway.until_ended(order.instance_id)
    assert ended.reason == "lost" and "the keeper was killed" in (ended.error_message or "")
    assert process_tree.marked(order.instance_id) == []


async def test_a_keeper_goes_with_an_agent_that_stops(machine: Machine) -> None:
    agent = await machine.start_agent()
    assert (await machine.gateway.run("true")).reason is None
    keeper = machine.keeper()
    agent.terminate()
    with trio.fail_after(PATIENCE_SECONDS):
        assert await agent.wait() == 0
        while is_alive(keeper.pid) or is_alive(keeper.watchdog_pid):  # noqa: ASYNC110 - another's child has no event
            await trio.sleep(0.02)


async def test_a_machine_that_was_restarted_is_told_from_an_agent_that_was(machine: Machine) -> None:
    agent = await machine.start_agent()
    order = an_order("bash", "-c", "echo up; sleep 300")
    await machine.gateway.send(order)
    await machine.gateway.until_output(order.instance_id, b"up")
    await machine.kill(agent)
    machine.end_keepers()
    with trio.fail_after(PATIENCE_SECONDS):
        while process_tree.marked(order.instance_id):  # noqa: ASYNC110 - another's child has no event
            await trio.sleep(0.02)
    state = machine.root / "state"
    (state / "boot-id").write_text("another\n")
    (state / "keeper.log").unlink()  # which is not fsynced
    await machine.start_agent()
    ended = await machine.gateway.until_ended(order.instance_id)
    assert (ended.reason, ended.error_message) == ("lost", "the machine restarted")


async def test_the_keeper_is_started_with_the_isolation_that_is_set(machine: Machine) -> None:
    config = machine.root / "agent.toml"
    config.write_text('[executor]\nisolation = "session"\n')
    await machine.start_agent("--config", str(config))
    assert machine.keeper().isolation == "session"
    order = an_order("true")
    await machine.gateway.send(order)
    assert (await machine.gateway.until_started(order.instance_id)).isolation == "session"


async def test_a_life_that_ended_before_all_was_sorted_out_leaves_it_to_the_next(machine: Machine) -> None:
    """The first one after the start of the machine had no keeper: nobody has been told yet what has become of the work."""
    agent = await machine.start_agent()
    machine.gateway.acks_reports = False
    order = an_order("bash", "-c", "sleep 300")
    await machine.gateway.send(order)
    await machine.gateway.until_started(order.instance_id)
    await machine.kill(agent)
    machine.end_keepers()
    state = machine.root / "state"
    (state / "boot-id").write_text("another\n")
    (state / "keeper.log").unlink()  # which is not fsynced; nor is the start in the journal
    forget_starts(state / "journal")
    (state / "keeper.log").mkdir()
    async with trio.open_nursery() as nursery:
        failed = await nursery.start(run_agent, [sys.executable, "-m", "agent", *machine.options()])
        with trio.fail_after(PATIENCE_SECONDS):
            assert await failed.wait() != 0
    (state / "keeper.log").rmdir()
    machine.gateway.acks_reports = True
    await machine.start_agent()
    ended = await machine.gateway.until_ended(order.instance_id)
    assert (ended.reason, ended.error_message) == ("lost", "the machine restarted")


def forget_starts(path: Path) -> None:
    """As a crash of the machine leaves a journal that was synced when its instances were accepted."""
    kept = [record for record, _ in journal._parse(path.read_bytes()) if not isinstance(record, journal.Running)]
    path.write_bytes(b"".join(map(journal._frame, kept)))
