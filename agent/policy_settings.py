"""The keys of `[policy]`, and what their values may look like."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Final

from hetuflow.configuration import Kind, NotAllowed, Setting, nearest
from hetuflow.glob import has_wildcard

COMMANDS: Final = ("shutdown", "update_config", "clear_cache", "fetch_metrics", "fetch_log")
"""What operators can tell an agent through the server; a cancel is always obeyed."""

_VARIABLE = re.compile(r"[^=\0/\s]+")
_ENTRIES_MAX: Final = 1000
_ENTRY_CHARACTERS_MAX: Final = 4096


def _each(holds: Callable[[str], bool], allowed: str) -> Callable[[Sequence[str]], None]:
    """A check that every entry is one of these; the first that is not is named."""

    def check(entries: Sequence[str]) -> None:
        if len(entries) > _ENTRIES_MAX:
            raise NotAllowed(f"at most {_ENTRIES_MAX} entries")
        for entry in entries:
            if len(entry) > _ENTRY_CHARACTERS_MAX or "\0" in entry or not holds(entry):
                raise NotAllowed(f"{allowed}; {entry[:80]!r} is none")

    return check


def _is_program(entry: str) -> bool:
    return "/" not in entry or entry.startswith("/")


def _check_commands(entries: Sequence[str]) -> None:
    for entry in entries:
        if entry not in COMMANDS and not (has_wildcard(entry)):
            near = nearest(entry, COMMANDS)
            hint = f"; did you mean {near}?" if near else ""
            raise NotAllowed(f"some of {', '.join(COMMANDS)}; {entry!r} is none{hint}")


_anything = _each(bool, "texts")
check_variables = _each(
    lambda entry: _VARIABLE.fullmatch(entry) is not None, "names of variables, or patterns such as APP_*"
)

POLICY_SETTINGS: Final = (
    Setting("policy", "allowed_programs", Kind.TEXTS, None, "programs that jobs may start: names that the agent's own"
            " PATH finds, absolute paths, patterns of either", unset="any",
            check=_each(_is_program, "names without a slash, absolute paths, or patterns of either")),
    Setting("policy", "allowed_executors", Kind.TEXTS, None, "executors that jobs may use, `program` for plain programs;"
            " not given = all, or plain programs only where `allowed_programs` is given",
            unset="as `allowed_programs` says", check=_anything),
    Setting("policy", "allowed_users", Kind.TEXTS, (), "users that jobs may `run_as` beside the agent's own; root only"
            " when it is named", check=_anything),
    Setting("policy", "allowed_directories", Kind.TEXTS, None, "directories that jobs may use beside their own, with all"
            " below them: `working_dir`, paths of executors", unset="any",
            check=_each(lambda entry: entry.startswith("/"), "absolute paths, or patterns of them")),
    Setting("policy", "allowed_hosts", Kind.TEXTS, None, "hosts that a WebAssembly module may ask, as names or patterns",
            unset="any", check=_anything),
    Setting("policy", "allowed_environment", Kind.TEXTS, None, "variables that jobs may set, as names or patterns",
            unset="any", check=check_variables),
    Setting("policy", "denied_environment", Kind.TEXTS, None, "variables that jobs may not set; not given = none, or where"
            " `allowed_programs` is given those that make programs load other code (PATH, LD_*, PYTHON*, …)", unset="as `allowed_programs` says",
            check=check_variables),
    Setting("policy", "max_memory_mb", Kind.INTEGER, None, "most that a job's limit may be, and its limit when it has none",
            low=1, high=2**40),
    Setting("policy", "max_cpu_percent", Kind.NUMBER, None, "the same, as share of one core: 0.8 is 80 % of one", low=0.01,
            high=100_000),
    Setting("policy", "max_processes", Kind.INTEGER, None, "the same, processes and threads of one instance", low=1,
            high=2**22),
    Setting("policy", "max_execution_time_secs", Kind.DURATION, None, "the same, time of one run", low=1, high=10**9),
    Setting("policy", "max_output_size_bytes", Kind.INTEGER, None, "the same, output that is kept of one instance", low=0,
            high=2**50),
    Setting("policy", "min_nice", Kind.INTEGER, 0, "a job with a lower one gets this", low=-20, high=19),
    Setting("policy", "protected_labels", Kind.TEXTS, (), "labels that the server may not change, as names or patterns",
            check=_anything),
    Setting("policy", "allowed_commands", Kind.TEXTS, None, f"which of {', '.join(COMMANDS)} are obeyed", unset="any",
            check=_check_commands),
)  # fmt: skip
"""Named as in the configuration of jobs where a limit is the same thing."""
