"""As whom and how politely a program runs, in the terms of the operating system."""

from __future__ import annotations

import os
import pwd
from collections.abc import Mapping
from typing import Final

from attrs import frozen

from hetuflow.ports.processes import StartError

_BEST_EFFORT, _IDLE = 2, 3
_LEVEL_DEFAULT: Final = 4
_LEVEL_MAX: Final = 7


@frozen(slots=True)
class User:
    """Of this machine, as it is now."""

    name: str
    uid: int
    gid: int
    groups: tuple[int, ...]
    home: str
    shell: str


def find_user(name: str) -> User | None:
    """Whom a program is to run as; None = as this process. Raises `StartError`."""
    if not name:
        return None
    try:
        entry = pwd.getpwnam(name)
    except (KeyError, ValueError) as exc:
        raise StartError(f"run_as: there is no user {name!r} on this machine") from exc
    if entry.pw_uid == os.geteuid():
        return None
    if os.geteuid() != 0:
        own = pwd.getpwuid(os.geteuid()).pw_name
        raise StartError(f"run_as: {name!r} is not allowed, because the agent runs as {own!r}; only root may be others")
    groups = tuple(os.getgrouplist(name, entry.pw_gid))
    return User(entry.pw_name, entry.pw_uid, entry.pw_gid, groups, entry.pw_dir, entry.pw_shell)


def environment_of(user: User | None, environment: Mapping[str, str]) -> Mapping[str, str]:
    """With who and where the user is, unless the job has set that: then it is not what the agent's own user has."""
    if user is None:
        return environment
    agents = _account(pwd.getpwuid(os.geteuid()))  # of root: nobody else becomes others
    theirs = {"HOME": user.home, "USER": user.name, "LOGNAME": user.name, "SHELL": user.shell or "/bin/sh"}
    changed = {name: value for name, value in theirs.items() if environment.get(name) in (None, agents[name])}
    return {**environment, **changed}


def _account(entry: pwd.struct_passwd) -> Mapping[str, str]:
    return {
        "HOME": entry.pw_dir,
        "USER": entry.pw_name,
        "LOGNAME": entry.pw_name,
        "SHELL": entry.pw_shell or "/bin/sh",
    }


def io_priority(ionice: str) -> tuple[int, int] | None:
    """(class, level) of "idle", "best-effort" or "best-effort:0" to ":7"; None = as this process. Raises `StartError`."""
    if not ionice:
        return None
    name, _, level = ionice.partition(":")
    if name == "idle" and not level:
        return _IDLE, 0
    if name == "best-effort" and (level or ":" not in ionice):
        if not level:
            return _BEST_EFFORT, _LEVEL_DEFAULT
        if level.isdecimal() and int(level) <= _LEVEL_MAX:
            return _BEST_EFFORT, int(level)
    raise StartError(f"ionice: {ionice!r} is not allowed, use idle, best-effort, or best-effort:0 to best-effort:7")
