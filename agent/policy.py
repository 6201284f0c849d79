"""What this machine's owner lets a server do here: `[policy]` in `agent.toml`. It wins over whatever the server says.

Pure: what has to be looked up on the machine comes through `Facts`. `check` says why an order is refused, `lowered` brings
its limits down to the ceilings. A policy bounds what the *server* may start; what a program that is allowed then does is
that program's own: who allows `bash` allows everything that its user may do.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from difflib import get_close_matches
from functools import lru_cache
from typing import Any, Final, Protocol, TypeVar

from attrs import Factory, evolve, frozen

from hetuflow.glob import Glob, has_wildcard
from hetuflow.ports.processes import StartError
from hetuflow.protocol.messages import Dispatch

MEGABYTE: Final = 1024 * 1024
PLAIN_PROGRAM: Final = "program"
"""What `allowed_executors` calls an order without an executor."""
OWN_VARIABLES: Final = "HETUFLOW_"
"""Begins the names of variables that hetuflow itself gives to a program: never refused."""
LOADING: Final = (
    "PATH",
    "LD_*",
    "DYLD_*",
    "GCONV_PATH",
    "IFS",
    "ENV",
    "BASH_ENV",
    "BASH_FUNC_*",
    "PYTHON*",
    "PERL5*",
    "RUBY*",
    "NODE_OPTIONS",
    "NODE_PATH",
    "JAVA_TOOL_OPTIONS",
    "JDK_JAVA_OPTIONS",
    "_JAVA_OPTIONS",
)
"""Variables that make one program load another's code: refused by default where programs are restricted."""
SUPERUSER: Final = "root"
SHOWN_MAX: Final = 8
"""Entries that a refusal names."""


T = TypeVar("T")


class Facts(Protocol):
    """What a policy has to know of the machine. All but `look` may have to wait for a file server, and raise `StartError` when
    it does not answer.
    """

    async def look(self, question: Callable[[], T]) -> T:
        """The answer to a question that asks these facts, or for files, without holding anybody up. Raises `StartError` when
        there is none in time.
        """
        ...

    def program(self, name: str, environment: Mapping[str, str], directory: str) -> str:
        """The path that would be started. Raises `StartError`."""
        ...

    def own_program(self, name: str) -> str | None:
        """The path that the agent's own PATH has for this name, as `steps` would begin; None = it has none."""
        ...

    def steps(self, path: str) -> Sequence[str]:
        """The path with its directories resolved, then what it is a link to, and so on; the last is the file itself."""
        ...

    def real(self, path: str) -> str:
        """The path with every link resolved, whether it exists or not."""
        ...

    def user(self) -> str:
        """As whom the agent runs."""
        ...

    def is_superuser(self, name: str) -> bool:
        """Whether the user is called root, or has its number."""
        ...


class PlainFacts:
    """For machines without links, where every program is where it is said to be, and nobody waits."""

    async def look(self, question: Callable[[], T]) -> T:
        return question()

    def program(self, name: str, environment: Mapping[str, str], directory: str) -> str:
        return self.own_program(name) if "/" not in name else f"{directory}/{name}" if name[0] != "/" else name

    def own_program(self, name: str) -> str:
        return f"/usr/bin/{name}"

    def steps(self, path: str) -> Sequence[str]:
        return (path,)

    def real(self, path: str) -> str:
        return path

    def user(self) -> str:
        return "hetuflow"

    def is_superuser(self, name: str) -> bool:
        return name == SUPERUSER


@frozen(slots=True)
class Refusal:
    """Why an order is not carried out: the setting that says so, and a sentence."""

    key: str
    reason: str

    def __str__(self) -> str:
        return f"refused by this agent's policy (policy.{self.key}): {self.reason}"


@frozen(slots=True)
class Lowered:
    """An order within the ceilings. `notes`: what was lowered, by the reason with which that limit ends a run."""

    order: Dispatch
    notes: Mapping[str, str] = Factory(dict)

    def explained(self, reason: str | None, message: str | None) -> str | None:
        """The message of an end, with the note on the limit that brought it about."""
        note = self.notes.get(reason or "")
        return message if note is None else f"{message or reason}; {note}"


@frozen(slots=True, kw_only=True)
class Policy:
    """The table `[policy]`; None = nothing is said about it, an empty tuple = nothing is allowed.

    Sizes are MB or bytes as their names say, times seconds, `max_cpu_percent` a share of one core (0.8 = 80 %).
    """

    allowed_programs: tuple[str, ...] | None = None
    allowed_executors: tuple[str, ...] | None = None
    allowed_users: tuple[str, ...] = ()
    allowed_directories: tuple[str, ...] | None = None
    allowed_hosts: tuple[str, ...] | None = None
    allowed_environment: tuple[str, ...] | None = None
    denied_environment: tuple[str, ...] | None = None
    max_memory_mb: int | None = None
    max_cpu_percent: float | None = None
    max_processes: int | None = None
    max_execution_time_secs: float | None = None
    max_output_size_bytes: int | None = None
    min_nice: int = 0
    protected_labels: tuple[str, ...] = ()
    allowed_commands: tuple[str, ...] | None = None

    def check(self, order: Dispatch, facts: Facts, environment: Mapping[str, str], directory: str) -> Refusal | None:
        """Why the order is refused; None when it is not.

        Args:
          environment: the whole one of the program, the agent's own part included.
          directory: of the instance; the program starts there unless the order says where else.
        Raises:
          StartError: there is no such program, or nobody answers for the files that are to be looked at.
        """
        return (
            self._check_executor(order)
            or self._check_user(order, facts)
            or self.check_directory("working_dir", order.working_dir, facts)
            or self._check_environment(order)
            or self._check_program(order, facts, environment, order.working_dir or directory)
        )

    def looks_at_files(self, order: Dispatch) -> bool:
        """Whether `check` of this order has to: it may wait then, and is put to `Facts.look`."""
        has_directory = self.allowed_directories is not None and order.working_dir != ""
        return has_directory or (self.allowed_programs is not None and not order.executor)

    def lowered(self, order: Dispatch) -> Lowered:
        """The order with its limits brought down to the ceilings."""
        notes: dict[str, str] = {}
        changes: dict[str, Any] = {}
        for reason, name, key, factor, unit in _CEILINGS:
            ceiling = getattr(self, key)
            if ceiling is None:
                continue
            asked, most = getattr(order, name), ceiling * factor
            if asked > most or (not asked and name != "output_bytes_max"):
                changes[name] = most
                wanted = f"the job asks for {_plain(asked / factor)}{unit}" if asked else "the job has none"
                notes[reason] = f"this limit is the agent's own (policy.{key} = {_plain(ceiling)}; {wanted})"
        if order.nice < self.min_nice:
            changes["nice"] = self.min_nice
            notes["nice"] = (
                f"nice is the agent's own (policy.min_nice = {self.min_nice}; the job asks for {order.nice})"
            )
        return Lowered(evolve(order, **changes), notes) if changes else Lowered(order)

    def check_directory(self, what: str, path: str, facts: Facts) -> Refusal | None:
        """Whether a job may use this directory (or a file in it), which is not its own; "" = it names none."""
        if not path or self.allowed_directories is None:
            return None
        real = facts.real(path)
        if _any_fits(self.allowed_directories, lambda entry: self._is_within(real, entry, facts)):
            return None
        return Refusal(
            "allowed_directories", f"{what} {_named(path, real)} is not in {_listed(path, self.allowed_directories)}"
        )

    def check_host(self, what: str, host: str) -> Refusal | None:
        """Whether an executor may open this host, or all that a pattern of hosts stands for, to a job."""
        if self.allowed_hosts is None or any(_covers(entry, host) for entry in self.allowed_hosts):
            return None
        return Refusal("allowed_hosts", f"{what} {host!r} is not one of {_listed(host, self.allowed_hosts)}")

    def allows_command(self, name: str) -> bool:
        """Whether an operator's command is obeyed, by its name in the REST contract, such as `shutdown`."""
        return self.allowed_commands is None or self._any(self.allowed_commands, name)

    def protects_label(self, name: str) -> bool:
        """Whether the server cannot change this label for placement."""
        return self._any(self.protected_labels, name)

    # --- inside ----------------------------------------------------------------------------------------------------

    def _check_executor(self, order: Dispatch) -> Refusal | None:
        allowed = self.allowed_executors
        if allowed is None:
            allowed = ("*",) if self.allowed_programs is None else (PLAIN_PROGRAM,)
        name = order.executor or PLAIN_PROGRAM
        if self._any(allowed, name):
            return None
        return Refusal("allowed_executors", f"executor {name!r} is not one of {_listed(name, allowed)}")

    def _check_user(self, order: Dispatch, facts: Facts) -> Refusal | None:
        """A pattern never stands for the superuser, who has to be named."""
        name = order.run_as
        if not name or name == facts.user():
            return None
        patterns = [entry for entry in self.allowed_users if not (has_wildcard(entry) and facts.is_superuser(name))]
        if self._any(patterns, name):
            return None
        return Refusal(
            "allowed_users", f"run_as {name!r} is not one of {_listed(name, (facts.user(), *self.allowed_users))}"
        )

    def _check_environment(self, order: Dispatch) -> Refusal | None:
        denied = self.denied_environment
        if denied is None:
            is_open = self.allowed_programs is None or self.allowed_environment is not None
            denied = () if is_open else LOADING
        if not denied and self.allowed_environment is None:
            return None
        for name in order.environment:
            if name.startswith(OWN_VARIABLES):
                continue
            if fitting := next((pattern for pattern in denied if _glob(pattern).matches(name)), None):
                named = "" if fitting == name else f" ({fitting})"
                return Refusal("denied_environment", f"the job sets {name}, which is denied{named}")
            if self.allowed_environment is not None and not self._any(self.allowed_environment, name):
                allowed = _listed(name, self.allowed_environment)
                return Refusal("allowed_environment", f"the job sets {name}, which is not one of {allowed}")
        return None

    def _check_program(
        self, order: Dispatch, facts: Facts, environment: Mapping[str, str], directory: str
    ) -> Refusal | None:
        """An executor's program is the agent's own choice; `allowed_executors` is about it."""
        if self.allowed_programs is None or order.executor:
            return None
        path = facts.program(order.cmd, environment, directory)
        steps = facts.steps(path)
        if _any_fits(self.allowed_programs, lambda entry: self._allows_program(entry, steps, facts)):
            return None
        allowed = _listed(order.cmd, self.allowed_programs)
        return Refusal("allowed_programs", f"program {_named(order.cmd, steps[-1])} is not one of {allowed}")

    def _allows_program(self, entry: str, steps: Sequence[str], facts: Facts) -> bool:
        """An entry that names a file allows every link to it, and a link that it names itself. A pattern of paths is about
        the file itself: a link in a directory that is allowed does not reach out of it.

        A name without a slash is the file that the agent's *own* PATH has for it, wherever the job's PATH leads.
        """
        if "/" not in entry:
            glob = _glob(entry)
            names = [(step, step.rpartition("/")[2]) for step in steps]
            return any(glob.matches(name) and facts.own_program(name) == step for step, name in names)
        if has_wildcard(entry):
            return self._resolved(entry, facts).matches(steps[-1])
        return facts.steps(entry)[0] in steps

    def _is_within(self, real: str, entry: str, facts: Facts) -> bool:
        if not has_wildcard(entry):
            root = facts.real(entry).rstrip("/")
            return real == root or real.startswith(f"{root}/")
        glob = self._resolved(entry.rstrip("/"), facts)
        return any(glob.matches(parent) for parent in _upwards(real))

    def _resolved(self, pattern: str, facts: Facts) -> Glob:
        """The pattern, with the links of the directories before its first wildcard resolved."""
        fixed = []
        parts = pattern.split("/")
        while parts and not has_wildcard(parts[0]):
            fixed.append(parts.pop(0))
        return _glob("/".join([facts.real("/".join(fixed) or "/").rstrip("/"), *parts]))

    def _any(self, patterns: Sequence[str], name: str) -> bool:
        return any(_glob(pattern).matches(name) for pattern in patterns)


_glob = lru_cache(maxsize=4096)(Glob)

_CEILINGS: Final = (
    ("memory", "memory_bytes_max", "max_memory_mb", MEGABYTE, " MB"),
    ("cpu", "cpu_cores_max", "max_cpu_percent", 1, ""),
    ("processes", "processes_max", "max_processes", 1, ""),
    ("timeout", "timeout_seconds", "max_execution_time_secs", 1, " s"),
    ("output", "output_bytes_max", "max_output_size_bytes", 1, " bytes"),
)
"""Reason of the end, member of the order, key of the policy, how many of the member's unit are one of the key's, unit."""

OPEN: Final = Policy()
"""Where nothing is said: everything but other users and a nice below 0."""


def _any_fits(entries: Sequence[str], fits: Callable[[str], bool]) -> bool:
    """An entry that lies where nobody answers stands in nobody's way; where no other fits, it is said."""
    unknown: StartError | None = None
    for entry in entries:
        try:
            if fits(entry):
                return True
        except StartError as exc:
            unknown = unknown or exc
    if unknown is not None:
        raise unknown
    return False


def _plain(number: float) -> str:
    """Without a fraction that says nothing, and never as 1e+07."""
    return f"{number:.0f}" if number == int(number) else f"{number:.2f}"


def _covers(entry: str, host: str) -> bool:
    """`?` in an entry is one character, and a pattern that is asked for may stand for more."""
    is_pattern = has_wildcard(host) or "[" in host
    return entry == host or (_glob(entry).matches(host) and not (is_pattern and "?" in entry))


def _listed(wanted: str, allowed: Sequence[str]) -> str:
    """What is allowed, the nearest named first where there are many."""
    if not allowed:
        return "those allowed, for none is"
    near = get_close_matches(wanted, allowed, n=1, cutoff=0.6)
    shown = [*near, *(entry for entry in allowed if entry not in near)][:SHOWN_MAX]
    more = len(allowed) - len(shown)
    hint = f" (did you mean {near[0]}?)" if near else ""
    return ", ".join(shown) + (f" and {more} more" if more > 0 else "") + hint


def _named(given: str, path: str) -> str:
    return repr(given) if given == path else f"{given!r} ({path})"


def _upwards(path: str) -> Iterator[str]:
    """The path and the directories it is in."""
    while path:
        yield path
        path = path.rpartition("/")[0]
