"""Which control groups the keeper uses: the best that it can have, or what its settings insist on."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Callable, Sequence

from agent.containment import cgroup1, cgroup2, files
from agent.containment.calls import clones_into_groups
from agent.containment.leaf import ContainmentError, Groups, KeeperId, keeper_name, keeper_of, process_ceiling, send
from agent.containment.mounts import Hierarchy, hierarchies


def find_hierarchies() -> list[Hierarchy]:
    """Of this process; none where there is no /proc, or no control group in sight."""
    try:
        return hierarchies(
            files.read("/proc/self/mountinfo").decode(errors="surrogateescape"),
            files.read("/proc/self/cgroup").decode(errors="surrogateescape"),
        )
    except OSError:
        return []


def open_groups(isolation: str, agent: str, start: str, found: Sequence[Hierarchy]) -> tuple[Groups | None, str]:
    """The groups of this keeper, or None, and why it is not a better one: "" = it is the best.

    Args:
      isolation: one of `agent.containment.ISOLATIONS`.
      agent: its id, for the name of the keeper's group.
      start: start time of this process, see `agent.process_tree.identity`.
    Raises:
      ContainmentError: groups are insisted on, and there are none to be had.
    """
    if isolation == "session":
        return None, ""
    name, ceiling = keeper_name(agent, KeeperId(pid_namespace(), os.getpid(), start)), _ceiling()
    reasons: list[str] = []
    second = [each.directory for each in found if each.version == 2]
    with_controllers = [directory for directory in second if cgroup2.controllers_of(cgroup2.base_of(directory))]
    for directory in with_controllers:
        with _noted(reasons):
            return cgroup2.open_groups2(directory, name, ceiling, clones=clones_into_groups()), ""
    with _noted(reasons):
        return cgroup1.open_groups1(found, name, ceiling), "; ".join(reasons)
    for directory in second:  # it holds a tree together, without holding its limits
        if directory not in with_controllers:
            with _noted(reasons):
                groups = cgroup2.open_groups2(directory, name, ceiling, clones=clones_into_groups())
                return groups, "; ".join([*reasons, f"{directory} has no controllers"])
    if isolation == "cgroup":
        raise ContainmentError(f"executor.isolation is cgroup: {'; '.join(reasons) or 'no control groups are mounted'}")
    return None, "; ".join(reasons)


def remove_leftovers(found: Sequence[Hierarchy], is_there: Callable[[int, str], bool]) -> bool:
    """End what keepers that are gone have left in their groups, and remove those; False = not all is gone yet.

    Keepers of other pid namespaces (containers that share these hierarchies) are nobody's to judge: none of their processes
    can be seen from here, and what a namespace that ends leaves has ended with it.

    `is_there`: whether the process with this pid and start time still is.
    """
    done, namespace = True, pid_namespace()
    for each in found:
        base = cgroup2.base_of(each.directory) if each.version == 2 else each.directory
        for name in files.groups(base):
            keeper = keeper_of(name)
            if keeper is None or keeper.namespace != namespace:
                continue
            if not is_there(keeper.pid, keeper.start):
                done = _remove_tree(f"{base}/{name}") and done
    return done


def pid_namespace() -> str:
    """Of this process; "0" where there are none."""
    try:
        return os.readlink("/proc/self/ns/pid").removeprefix("pid:[").removesuffix("]")
    except OSError:
        return "0"


class _noted(contextlib.AbstractContextManager[None]):
    """Notes why something cannot be had, and goes on."""

    def __init__(self, reasons: list[str]) -> None:
        self._reasons = reasons

    def __exit__(self, kind: object, exc: object, trace: object) -> bool:
        if not isinstance(exc, ContainmentError | OSError):
            return False
        self._reasons.append(str(exc))
        return True


def _remove_tree(path: str) -> bool:
    for name in files.groups(path):
        _kill_all(f"{path}/{name}")
        files.remove_group(f"{path}/{name}")
    return files.remove_group(path)


def _kill_all(path: str) -> None:
    for file, text in (("pids.max", "0"), ("freezer.state", "FROZEN"), ("cgroup.kill", "1")):
        with contextlib.suppress(OSError):
            files.write(f"{path}/{file}", text)
    send(files.pids(f"{path}/cgroup.procs"), signal.SIGKILL)
    with contextlib.suppress(OSError):
        files.write(f"{path}/freezer.state", "THAWED")


def _ceiling() -> int:
    sources = {name: files.number(f"/proc/sys/kernel/{name}") for name in ("pid_max", "threads-max")}
    return process_ceiling(sources)
