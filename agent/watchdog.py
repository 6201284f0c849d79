"""What ends the processes of an agent that was killed: a shell that waits for a pipe to close.

An agent that is killed (kill -9, out of memory) cannot end its processes, and nobody enforces its lease any more until it
is started again: the server gives the work to others meanwhile. The kernel's own means, a death signal, can only be asked
for by the process itself, and posix_spawn does not. So one `sh` per agent (1 to 3.5 MiB, no CPU) blocks in `read`; when
the pipe closes without a goodbye it ends what carries the agent's mark in its environment: SIGTERM, ten seconds, SIGKILL.

Not found is what has cleaned its environment: the agent's next start ends that, see `recovery`.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
from collections.abc import Iterator
from typing import Final

import structlog

from agent import process_tree

log = structlog.get_logger()

MARK: Final = "HETUFLOW_AGENT_MARK"
"""Environment variable of every process that the agent starts; its value is drawn at the start of the agent."""
GOODBYE_SECONDS_MAX: Final = 2.0

_PATH: Final = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_SCRIPT: Final = """
trap '' HUP INT TERM
read -r goodbye && exit 0
round=0
while [ $round -lt 30 ]; do
    pids=$(grep -slF "$1" /proc/[0-9]*/environ | tr -dc '0-9\\n')
    [ -z "$pids" ] && exit 0
    if [ $round -ge 10 ]; then kill -KILL $pids; else
        [ $round -eq 0 ] && kill -TERM $pids
        kill -CONT $pids
    fi
    sleep 1
    round=$((round + 1))
done
"""


@contextlib.contextmanager
def watch(mark: str) -> Iterator[int | None]:
    """Watch over this process for the length of the block; the watchdog's pid, or None where there can be none.

    `mark`: a value of `MARK` that no other environment contains. The block must not end before the processes have.
    """
    if not process_tree.HAS_PROC:
        yield None
        return
    try:
        shell = subprocess.Popen(
            ["/bin/sh", "-c", _SCRIPT, "hetuflow-watchdog", f"{MARK}={mark}"],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            cwd="/",
            env={"PATH": os.environ.get("PATH", _PATH)},
            start_new_session=True,  # a Ctrl-C is for the agent
        )
    except OSError as exc:
        log.warning("no watchdog: processes outlive an agent that is killed", error=str(exc))
        yield None
        return
    try:
        yield shell.pid
    finally:
        with contextlib.suppress(subprocess.TimeoutExpired):
            shell.communicate(b"goodbye\n", timeout=GOODBYE_SECONDS_MAX)
