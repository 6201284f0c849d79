"""A keeper that is a process, with programs that are."""

from __future__ import annotations

import fcntl
import os
import shutil
import signal
import subprocess
import sys
import termios
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trio

from agent import process_tree
from agent.keeper.client import Attached
from agent.keeper.frames import framed
from agent.keeper.loop import lease_now
from agent.keeper.messages import Attach, End, Finished, Grew, Lease, Leave, Probe, Settled
from agent.keeper.place import Place, read_identity
from agent.keeper.starting import KeeperBusy, start_keeper
from agent.keeping import KeeperError
from agent.spool import FoundSpool
from hetuflow.ports.real import SystemDisk, SystemIds
from tests.agent.keeper.real import Conversation, Site, open_site, own, until_dead, until_no_process

ROOT = Path(__file__).parents[3]

pytestmark = pytest.mark.skipif(not process_tree.HAS_PROC, reason="needs /proc")


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    with open_site(tmp_path) as site:
        yield site


async def test_output_input_and_exit_code(site: Site) -> None:
    async with site.link() as agent:
        await agent.start("cat; echo problem >&2; exit 3", own("k1"), stdin=b"given\n")
        end = await agent.finished(own("k1"))
        assert (end.reason, end.exit_code) == ("exit_code", 3)
        small = b"".join(e.data for e in agent.heard if isinstance(e, Grew))
        spool = FoundSpool(SystemDisk(), "-", small)
        assert end.output is not None and spool.summary()["stdout"] == end.output["stdout"]
        assert (spool.tallies()[1].written, spool.tallies()[2].written) == (6, 8)


async def test_what_runs_survives_its_agent_and_goes_on_writing(site: Site) -> None:
    async with site.link() as agent:
        await agent.start("echo one; read line < go; echo $line; exit 5", own("k2"), directory=_with_fifo(site))
        keeper = agent.keeper_pid
        await agent.until(lambda e: isinstance(e, Grew))
    await trio.to_thread.run_sync((site.directory / "go").write_text, "two\n")
    async with site.link() as agent:
        assert agent.keeper_pid == keeper
        [held] = agent.held
        end = held.finished or await agent.finished(own("k2"))
        assert end.exit_code == 5
        small = held.small + b"".join(e.data for e in agent.heard if isinstance(e, Grew))
        assert FoundSpool(SystemDisk(), "-", small).tallies()[1].written == len("one\ntwo\n")


def _with_fifo(site: Site) -> str:
    os.mkfifo(site.directory / "go")
    return str(site.directory)


async def test_a_killed_keeper_takes_its_programs_with_it_and_is_replaced(site: Site) -> None:
    """Also what has left the session and cleaned its environment: its parent is the dead-man's switch."""
    hidden = site.directory / "hidden"
    script = f"(setsid env -i /bin/sh -c 'echo $$ > {hidden}; exec sleep 1000' &) ; (exit 0); sleep 1000"
    async with site.link() as agent:
        await agent.start(script, own("k3"))
        await agent.start("echo done", own("k4"))
        await agent.finished(own("k4"))
        with trio.fail_after(10):
            while not hidden.exists() or not hidden.read_text().strip():  # noqa: ASYNC110
                await trio.sleep(0.02)
        slipped, keeper = int(hidden.read_text()), agent.keeper_pid
        agent.heard.clear()
        os.kill(keeper, signal.SIGKILL)
        attached = await agent.until(lambda e: isinstance(e, Attached))
        assert isinstance(attached, Attached) and attached.restarted and attached.pid != keeper and attached.why
        held = {each.launched.instance_id: each for each in attached.instances}
        assert held[own("k4")].finished is not None and held[own("k4")].finished.exit_code == 0
        end = held[own("k3")].finished or await agent.finished(own("k3"))
        assert (end.reason, end.message) == ("lost", "the keeper was killed, and its processes with it")
        await until_no_process(own("k3"))
        await until_dead(slipped)


async def test_of_two_keepers_that_are_started_at_once_one_runs(site: Site) -> None:
    place, said = Place(site.state_dir), []

    async def start() -> None:
        try:
            await start_keeper(
                place, version="1.2.3", boot_id=site.boot_id, ids=SystemIds(), agent_id="a", isolation="auto"
            )
            said.append("ready")
        except KeeperBusy:
            said.append("busy")

    with trio.fail_after(60):
        async with trio.open_nursery() as nursery:
            for _ in range(4):
                nursery.start_soon(start)
    assert sorted(said) == ["busy", "busy", "busy", "ready"]
    async with site.link() as agent:
        found = read_identity(SystemDisk(), place)
        assert found is not None and agent.keeper_pid == found.pid
        await agent.start("exit 0", own("k9"))
        assert (await agent.finished(own("k9"))).exit_code == 0


async def test_an_agent_waits_for_a_keeper_that_is_just_starting(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """It has the lock and has not said who it is: the agent before was killed in between."""
    monkeypatch.setattr("agent.keeper.client.TRIES_MAX", 2)
    place = Place(site.state_dir)
    fd = os.open(place.lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    fcntl.flock(fd, fcntl.LOCK_EX)

    async def let_go() -> None:
        with trio.fail_after(60):
            while b"another keeper" not in (SystemDisk().read(place.complaints) or b""):  # noqa: ASYNC110
                await trio.sleep(0.02)
            await trio.sleep(1)
        os.close(fd)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(let_go)
        async with site.link() as agent:
            await agent.start("exit 0", own("k10"))
            assert (await agent.finished(own("k10"))).exit_code == 0


async def test_only_the_process_that_is_meant_gets_a_signal(site: Site) -> None:
    async with site.link() as agent:
        started = process_tree.identity(agent.keeper_pid)
        assert started is not None
        with pytest.raises(ProcessLookupError):
            process_tree.send_to(agent.keeper_pid, str(int(started) + 1), signal.SIGKILL)
        assert (await agent.start("sleep 1000", own("k11"))).pid
        process_tree.send_to(agent.keeper_pid, started, signal.SIGKILL)
        await until_dead(agent.keeper_pid)


async def test_an_idle_keeper_of_another_version_is_replaced(site: Site) -> None:
    async with site.link(version="1") as agent:
        first = agent.keeper_pid
    async with site.link(version="1") as agent:
        assert agent.keeper_pid == first
    async with site.link(version="2") as agent:
        second = agent.keeper_pid
        assert second != first
        await until_dead(first)
        await agent.start("echo done", own("v1"))
        assert (await agent.finished(own("v1"))).exit_code == 0
        agent.link.send(Settled(ended=((own("v1"), 1),)))
        await agent.link.flush()
    async with site.link(version="2", isolation="session") as agent:
        assert agent.keeper_pid != second and agent.held == ()


async def test_a_keeper_of_another_version_that_holds_something_is_replaced_when_it_holds_nothing(site: Site) -> None:
    directory = _with_fifo(site)
    async with site.link(version="1") as agent:
        first = agent.keeper_pid
        await agent.start("read line < go; exit 5", own("v2"), directory=directory)
    async with site.link(version="2") as agent:
        assert agent.keeper_pid == first and len(agent.held) == 1
        await trio.to_thread.run_sync((site.directory / "go").write_text, "on\n")
        assert (await agent.finished(own("v2"))).exit_code == 5
        agent.heard.clear()
        agent.link.send(Settled(ended=((own("v2"), 1),)))
        late = site.launch("exit 6", own("v3"))
        agent.link.send(late)
        if isinstance(await agent.until(lambda e: isinstance(e, Attached | Finished)), Attached):
            agent.link.send(late)  # the old one was gone before it read that
        assert (await agent.finished(own("v3"))).exit_code == 6
        agent.link.send(Settled(ended=((own("v3"), 1),)))
        attached = await agent.until(lambda e: isinstance(e, Attached))
        assert isinstance(attached, Attached) and attached.restarted and not attached.why
        assert attached.pid != first and attached.instances == ()


async def test_a_stopped_keeper_is_killed_and_replaced(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("agent.keeper.client.PROBE_SECONDS", 0.1)
    async with site.link() as agent:
        await agent.start("sleep 1000", own("k5"))
        keeper = agent.keeper_pid
        agent.heard.clear()
        os.kill(keeper, signal.SIGSTOP)
        attached = await agent.until(lambda e: isinstance(e, Attached))
        assert isinstance(attached, Attached) and attached.pid != keeper and "not answered" in attached.why
        [held] = attached.instances
        assert (held.finished or await agent.finished(own("k5"))).reason == "lost"
        await until_no_process(own("k5"))


async def test_with_agent_and_keeper_stopped_nothing_outlives_its_lease(site: Site) -> None:
    async with site.link() as agent:
        agent.renew()
        await agent.start("trap '' TERM; setsid sleep 1000 & sleep 1000", own("k6"), lease_seconds=3.0)
        await agent.start("sleep 1000", own("k7"), lease_seconds=0.0)
        keeper = agent.keeper_pid
        os.kill(keeper, signal.SIGSTOP)
    await until_no_process(own("k6"))
    assert process_tree.marked(own("k7"))
    os.kill(keeper, signal.SIGCONT)
    async with site.link() as agent:
        assert agent.keeper_pid == keeper
        held = {each.launched.instance_id: each for each in agent.held}
        assert (held[own("k6")].finished or await agent.finished(own("k6"))).reason == "lost"
        agent.link.send(End(instance_id=own("k7"), epoch=1, reason="cancelled", message="enough"))
        assert (await agent.finished(own("k7"))).reason == "cancelled"


async def test_what_an_agent_that_was_killed_had_launched_runs(site: Site) -> None:
    """SIGKILL right after the launches were written: some are still in the socket when the next agent comes."""
    count = 40
    process = await trio.lowlevel.open_process(
        [sys.executable, "-c", _DOOMED_AGENT, str(site.directory), str(count)], stdout=subprocess.PIPE, cwd=ROOT
    )
    assert process.stdout is not None
    with trio.fail_after(60):
        assert await process.stdout.receive_some(1) == b"."
    process.kill()
    await process.wait()
    await process.stdout.aclose()
    site.incarnation = 1
    async with site.link() as agent:
        held = {each.launched.instance_id: each for each in agent.held}
        assert len(held) == count
        for name, each in held.items():
            assert (each.finished or await agent.finished(name)).exit_code == 0
        assert len((site.directory / "ran").read_text().split()) == count


_DOOMED_AGENT = """
import sys, trio
from pathlib import Path
from tests.agent.keeper.real import Site
async def main():
    site = Site(Path(sys.argv[1]))
    async with site.link() as agent:
        for number in range(int(sys.argv[2])):
            agent.link.send(site.launch(f"echo {number} >> ran", f"d{number}"))
        await agent.link.flush()
        print(".", end="", flush=True)
        await trio.sleep_forever()
trio.run(main)
"""


async def test_with_keeper_and_switch_killed_the_next_keeper_ends_what_is_left(site: Site) -> None:
    async with site.link() as agent:
        launched = await agent.start("setsid sleep 1000 & sleep 1000", own("k20"))
        keeper, watchdog = agent.keeper_pid, agent.watchdog_pid
        os.kill(watchdog, signal.SIGSTOP)
        agent.heard.clear()
        os.kill(keeper, signal.SIGKILL)
        os.kill(watchdog, signal.SIGKILL)
        attached = await agent.until(lambda e: isinstance(e, Attached))
        assert isinstance(attached, Attached)
        [held] = attached.instances
        assert held.launched == launched
        assert (held.finished or await agent.finished(own("k20"))).reason == "lost"
        await until_no_process(own("k20"))


async def test_a_switch_that_was_killed_is_replaced(site: Site) -> None:
    async with site.link() as agent:
        await agent.start("sleep 1000", own("k21"))
        os.kill(agent.watchdog_pid, signal.SIGKILL)
        await until_dead(agent.watchdog_pid)
        await agent.start("echo; sleep 1000", own("k22"))
        [replacement] = await _children(agent.keeper_pid, "watchdog.py")
        with trio.fail_after(60):
            while _told_watchdog(site) != replacement:  # noqa: ASYNC110 - a file tells
                await trio.sleep(0.02)
        os.kill(agent.keeper_pid, signal.SIGSTOP)  # nothing can be said to it in its last breath
        os.kill(agent.keeper_pid, signal.SIGKILL)
        await until_dead(replacement)
        assert not process_tree.marked(own("k21")) and not process_tree.marked(own("k22"))


def _told_watchdog(site: Site) -> int:
    """Who it is, for those who look into the state directory."""
    found = read_identity(SystemDisk(), Place(site.state_dir))
    assert found is not None
    return found.watchdog_pid


async def _children(pid: int, word: str) -> list[int]:
    with trio.fail_after(60):
        while True:
            pids = process_tree.read_proc(f"/proc/{pid}/task/{pid}/children").split()
            found = [
                int(child) for child in pids if word.encode() in process_tree.read_proc(f"/proc/{int(child)}/cmdline")
            ]
            if found:
                return found
            await trio.sleep(0.02)


@pytest.mark.skipif(sys.platform != "linux", reason="looks into a pipe of another process")
async def test_a_switch_that_was_stopped_believes_no_old_news(site: Site) -> None:
    """It is told late of a renewal, and kills nobody for it. However slow the machine is: with a longer lease it is in time."""
    async with site.link() as agent:
        for lease_seconds in (3.0, 12.0, 48.0):
            agent.renew()
            begun, name = lease_now(), own(f"k23-{lease_seconds:g}")
            await agent.start("sleep 1000", name, lease_seconds=lease_seconds)
            await _until_all_is_read(agent.watchdog_pid)
            os.kill(agent.watchdog_pid, signal.SIGSTOP)
            agent.link.send(Lease(renewed_at=begun + 3600))
            await agent.start("exit 0", f"{name}-next")  # the keeper has heard of the renewal, and has said so
            while lease_now() < begun + lease_seconds:  # noqa: ASYNC110 - the clock of leases is not trio's
                await trio.sleep(0.1)
            was_in_time = bool(
                process_tree.marked(name)
            )  # else the keeper has ended it, before it heard of the renewal
            os.kill(agent.watchdog_pid, signal.SIGCONT)
            await _until_all_is_read(agent.watchdog_pid)
            if was_in_time:
                break
        assert process_tree.marked(name)
        agent.link.send(End(instance_id=name, epoch=1, reason="cancelled", message=""))
        assert (await agent.finished(name)).reason == "cancelled"


async def _until_all_is_read(pid: int) -> None:
    """Nothing is in a pipe that this process reads."""
    pipes = []
    for name in os.listdir(f"/proc/{pid}/fd"):
        is_read = int(process_tree.read_proc(f"/proc/{pid}/fdinfo/{name}").split()[3], 8) & os.O_ACCMODE == os.O_RDONLY
        if is_read and os.readlink(f"/proc/{pid}/fd/{name}").startswith("pipe:"):
            pipes.append(os.open(f"/proc/{pid}/fd/{name}", os.O_RDONLY | os.O_NONBLOCK))
    assert pipes
    try:
        with trio.fail_after(60):
            while any(int.from_bytes(fcntl.ioctl(fd, termios.FIONREAD, bytes(4)), sys.byteorder) for fd in pipes):  # noqa: ASYNC110
                await trio.sleep(0.02)
    finally:
        for fd in pipes:
            os.close(fd)


async def test_a_flood_costs_the_keeper_no_memory(site: Site) -> None:
    async with site.link() as agent:
        size = 100 * 2**20
        await agent.start(f"head -c {size} /dev/zero", own("k8"), output_bytes_max=2**20)
        end = await agent.finished(own("k8"))
        assert end.output is not None
        assert end.output["stdout"]["bytes"] == size and end.output["dropped"] == size - 2**20
        assert _rss(agent.keeper_pid, "VmHWM") < 32 * 2**20
        assert (site.directory / f"{own('k8')}.1.out").stat().st_size < 2**20 + 64 * 1024


async def test_an_agent_that_does_not_read_holds_nothing_up(site: Site) -> None:
    async with site.link() as agent:
        for number in range(300):
            agent.link.send(site.launch("yes | head -c 30000", f"f{number}"))
        await agent.link.flush()
        with trio.fail_after(60):  # nobody takes an event meanwhile, and they all end
            while any(_running(site, number) for number in range(300)):  # noqa: ASYNC110
                await trio.sleep(0.05)
        for number in range(300):
            assert (await agent.finished(f"f{number}")).reason is None


def _running(site: Site, number: int) -> bool:
    path = site.directory / f"f{number}.1.out"
    return not path.exists() or path.stat().st_size < 30000


async def test_a_state_directory_with_a_long_name(tmp_path: Path) -> None:
    directory = tmp_path / ("d" * 100) / ("e" * 100)
    directory.mkdir(parents=True)
    with open_site(directory) as site:
        async with site.link() as agent:
            await agent.start("exit 4", own("k9"))
            assert (await agent.finished(own("k9"))).exit_code == 4


async def test_a_keeper_goes_when_it_was_left_and_takes_its_switch_along(site: Site) -> None:
    async with site.link() as agent:
        await agent.start("exit 0", own("k10"))
        await agent.finished(own("k10"))
        agent.link.send(Settled(ended=((own("k10"), 1),)))
        agent.link.send(Leave())
        keeper, watchdog = agent.keeper_pid, agent.watchdog_pid
        with pytest.raises(trio.EndOfChannel):
            await agent.until(lambda e: False)
        await until_dead(keeper)
        await until_dead(watchdog)


async def test_sigterm_ends_everything_and_the_exits_are_found_afterwards(site: Site) -> None:
    async with site.link() as agent:
        await agent.start("trap 'exit 7' TERM; while :; do sleep 0.05; done", own("k11"))
        keeper = agent.keeper_pid
    os.kill(keeper, signal.SIGTERM)
    await until_dead(keeper)
    async with site.link() as agent:
        [held] = agent.held
        assert held.finished is not None
        assert (held.finished.reason, held.finished.message) == ("lost", "the keeper was stopped")


async def test_a_terminal_does_not_reach_it_and_its_programs_can_be_interrupted(site: Site) -> None:
    async with site.link() as agent:
        for number in (signal.SIGHUP, signal.SIGINT):
            os.kill(agent.keeper_pid, number)
        await agent.start("kill -INT $$; sleep 1000", own("k12"))
        assert (await agent.finished(own("k12"))).signal == signal.SIGINT


def _rss(pid: int, name: str) -> int:
    text = process_tree.read_proc(f"/proc/{pid}/status").decode()
    return int(text.split(f"{name}:")[1].split()[0]) * 1024


async def test_what_keeper_and_switch_take(site: Site) -> None:
    async with site.link() as agent:
        assert _rss(agent.keeper_pid, "VmRSS") < 26 * 2**20
        assert _rss(agent.watchdog_pid, "VmRSS") < 14 * 2**20


def test_the_keeper_imports_no_event_loop_and_no_client() -> None:
    script = "import agent.keeper.__main__, sys; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    forbidden = {"trio", "structlog", "httpx", "psutil", "asyncio", "logging", "click"}
    assert not forbidden & set(done.stdout.split())


async def test_strangers_and_nonsense_disturb_nobody(site: Site) -> None:
    async with site.link() as agent:
        for said in (b"GET / HTTP/1.1\r\n\r\n", framed(Probe(token=1)), b"\x00\x00\x00\x02\x93\x01", b""):
            async with _connected(site) as stranger:
                await stranger.send_all(said)
                if said:
                    assert await _closed(stranger)
        await agent.start("exit 0", own("k30"))
        assert (await agent.finished(own("k30"))).exit_code == 0


async def test_an_older_incarnation_is_turned_away_and_a_newer_one_takes_over(site: Site) -> None:
    async with site.link() as agent:
        await agent.start("sleep 1000", own("k31"))
        async with _connected(site) as older:
            await older.send_all(framed(Attach(agent_id="a", incarnation=0, version="0")))
            assert await _closed(older)
        async with _connected(site) as newer:
            await newer.send_all(framed(Attach(agent_id="a", incarnation=9, version="9")))
            assert await newer.receive_some(100)
            await until_event(agent)


async def until_event(agent: Conversation) -> None:
    """The link notices that another one has taken its place."""
    with trio.fail_after(60):
        while agent.link.is_attached:  # noqa: ASYNC110
            await trio.sleep(0.01)


async def test_an_agent_that_is_turned_away_says_so_and_kills_no_keeper(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("agent.keeper.client.DEATH_SECONDS_MAX", 0.2)
    async with site.link() as agent:
        keeper = agent.keeper_pid
    site.incarnation = -1
    with pytest.raises(KeeperError, match="does not take this agent"):
        async with site.link():
            pass
    site.incarnation = 5
    async with site.link() as agent:
        assert agent.keeper_pid == keeper


@asynccontextmanager
async def _connected(site: Site) -> AsyncIterator[trio.SocketStream]:
    stream = await trio.open_unix_socket(Place(site.state_dir).socket)
    async with stream:
        yield stream


async def _closed(stream: trio.SocketStream) -> bool:
    with trio.fail_after(60):
        try:
            return await stream.receive_some(1) == b""
        except trio.BrokenResourceError:
            return True


async def test_a_keeper_that_does_not_start_wipes_out_nothing_that_one_that_runs_has_said(site: Site) -> None:
    place = Place(site.state_dir)
    async with site.link() as agent:
        file = SystemDisk().open_append(place.complaints)
        file.append(b"of the one that runs\n")
        file.close()
        given = {"version": "1.2.3", "boot_id": site.boot_id, "agent_id": "a", "isolation": "auto"}
        with pytest.raises(KeeperBusy):
            await start_keeper(place, ids=SystemIds(), **given)
        said = SystemDisk().read(place.complaints) or b""
        assert b"of the one that runs" in said and b"another keeper holds" in said
        agent.link.send(Leave())
        await agent.link.flush()
        await until_dead(agent.keeper_pid)
    async with site.link():
        assert b"of the one that runs" not in (SystemDisk().read(place.complaints) or b"")


async def test_the_keeper_of_a_state_directory_that_was_copied_is_left_alone(site: Site, tmp_path: Path) -> None:
    """The copy says who the keeper of the original is, and what that runs."""
    async with site.link() as agent:
        launched = await agent.start("sleep 1000", own("k50"))
        with open_site(tmp_path / "copy") as copy:
            for name in ("keeper.json", "keeper.lock", "keeper.log"):
                shutil.copy(Path(site.state_dir, name), copy.state_dir)
            async with copy.link() as other:
                assert other.keeper_pid != agent.keeper_pid
                [held] = other.held
                assert held.finished is not None and held.finished.reason == "lost"
                assert "copied" in (held.finished.message or "")
                assert (await other.start("exit 0", own("k51"))).pid
                await other.finished(own("k51"))
        assert process_tree.identity(launched.pid) == launched.identity
        await agent.start("exit 0", own("k52"))


async def test_a_keeper_is_not_guilty_of_what_it_had_no_time_to_read(site: Site) -> None:
    """All that waits for a keeper is told at once when there is one, each with as much standard input as an order may bring."""
    count, given = 300, b"x" * 250_000
    async with site.link() as agent:
        keeper = agent.keeper_pid
        for number in range(count):
            agent.link.send(site.launch("wc -c", own(f"k70-{number}"), stdin=given))
        for number in range(count):
            assert (await agent.finished(own(f"k70-{number}"))).reason is None
        assert agent.keeper_pid == keeper
