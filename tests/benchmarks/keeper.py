"""The keeper alone, by its socket: what it and its dead-man's switch cost for each program, with sixteen at a time.

Their CPU time says more than the rate, which is the machine's. Without agent and server: what those cost is in `tasks`.
"""

from __future__ import annotations

import os
import socket
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from agent import host, process_tree
from agent.keeper.disk import KeeperDisk
from agent.keeper.frames import Unframer, framed
from agent.keeper.loop import lease_now
from agent.keeper.messages import Attach, Finished, Launch, Lease, Leave, Settled
from agent.keeper.place import Identity, Place, read_identity, short_path
from agent.keeper.starting import start_keeper, until_dead
from hetuflow.ports.real import SystemDisk, SystemIds
from tests.benchmarks.harness import Figure
from tests.benchmarks.tasks import xargs_rate

TOGETHER = 16
WARM_UP = 300
LEASE_SECONDS = 3600.0
VARIABLES = 16
"""As many as an agent hands on, about."""


async def keeper_costs(count: int) -> list[Figure]:
    """`count` times /bin/true."""
    with tempfile.TemporaryDirectory(prefix="hetuflow-bench-") as directory:
        os.makedirs(f"{directory}/state", mode=0o700)
        place, boot_id = Place(f"{directory}/state"), host.boot_id(SystemDisk())
        await start_keeper(place, version="bench", boot_id=boot_id, ids=SystemIds(), agent_id="bench", isolation="auto")
        found = read_identity(KeeperDisk(), place)
        assert found is not None
        with conversation(place, Path(directory)) as talk:
            talk.run(WARM_UP)
            before, began = cpu_seconds_of(found), time.perf_counter()
            talk.run(count)
            seconds = time.perf_counter() - began
            keeper, switch = (after - at for after, at in zip(cpu_seconds_of(found), before, strict=True))
        await until_dead(found, boot_id)
    rate, baseline = count / seconds, xargs_rate(count)
    return [
        Figure("keeper: CPU per /bin/true", f"{keeper / count * 1000:.3f} ms", budget="≤ 0.42 ms"),
        Figure("dead-man's switch: CPU per /bin/true", f"{switch / count * 1000:.3f} ms", budget="≤ 0.02 ms"),
        Figure(
            f"keeper: programs/s, {TOGETHER} at a time", f"{rate:.0f}", f"xargs -P4: {baseline:.0f}", rate / baseline
        ),
    ]


class Conversation:
    """An agent's side of the socket that does nothing but launch and settle."""

    def __init__(self, connection: socket.socket, directory: Path) -> None:
        self._connection, self._directory = connection, directory
        self._unframer = Unframer()
        self._launched = 0
        attach = Attach(agent_id="bench", incarnation=1, version="bench")
        connection.sendall(framed(attach) + framed(Lease(renewed_at=lease_now())))

    def run(self, count: int) -> None:
        """So many programs to their ends, always as many at once as there are left, up to `TOGETHER`."""
        sent = min(TOGETHER, count)
        self._connection.sendall(b"".join(self._launch() for _ in range(sent)))
        left = count
        while left:
            data = self._connection.recv(64 * 1024)
            assert data, "the keeper is gone"
            self._unframer.feed(data)
            ended = [message for message in self._unframer.messages() if isinstance(message, Finished)]
            if not ended:
                continue
            assert all(each.exit_code == 0 for each in ended), ended
            left -= len(ended)
            more = min(len(ended), count - sent)
            sent += more
            said = [framed(Settled(ended=tuple((each.instance_id, each.epoch) for each in ended)))]
            self._connection.sendall(b"".join([*said, *(self._launch() for _ in range(more))]))

    def _launch(self) -> bytes:
        self._launched += 1
        name = f"bench-{os.getpid()}-{self._launched:022d}"
        variables = {f"HETUFLOW_BENCH_{number}": "x" * 30 for number in range(VARIABLES - 2)}
        return framed(
            Launch(
                task_id=f"task-{name}",
                instance_id=name,
                epoch=1,
                argv=("/bin/true",),
                environment={"PATH": os.environ["PATH"], process_tree.MARK: name, **variables},
                directory=str(self._directory),
                spool_path=f"{self._directory}/{name}.1.out",
                lease_seconds=LEASE_SECONDS,
            )
        )


@contextmanager
def conversation(place: Place, directory: Path) -> Iterator[Conversation]:
    """The keeper goes when it ends."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        with short_path(place.socket) as name:
            connection.connect(name)
        yield Conversation(connection, directory)
        connection.sendall(framed(Leave()))
        while connection.recv(64 * 1024):
            pass


def cpu_seconds_of(keeper: Identity) -> tuple[float, float]:
    """Of the keeper and of its switch, to the nanosecond."""
    return _cpu_seconds(keeper.pid), _cpu_seconds(keeper.watchdog_pid)


def _cpu_seconds(pid: int) -> float:
    tasks = os.listdir(f"/proc/{pid}/task")
    return sum(int(Path(f"/proc/{pid}/task/{task}/schedstat").read_text().split()[0]) for task in tasks) / 1e9
