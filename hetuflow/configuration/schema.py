"""What a program can be told, as data; and the error that tells people what is wrong with what they said."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from difflib import get_close_matches
from typing import Any

from attrs import Factory, field, frozen

from hetuflow.configuration.kinds import Kind

ENVIRONMENT_PREFIX = "HETUFLOW_"


class ConfigurationError(Exception):
    """The configuration is wrong. `problems` are all of them, in the order of the sources; one line each."""

    def __init__(self, problems: Sequence[Problem]) -> None:
        self.problems = tuple(problems)
        super().__init__("\n".join(map(str, self.problems)))


@frozen(slots=True)
class Problem:
    """One mistake: `field` as `table.key` (or the file), `source` where it stands, `message` given value and remedy."""

    field: str
    source: str
    message: str

    def __str__(self) -> str:
        return f"{self.field} ({self.source}): {self.message}"


@frozen(slots=True)
class Setting:
    """One setting, in the file `key` in `[table]`, in the environment `HETUFLOW_<TABLE>__<KEY>`.

    `low` and `high` bound numbers and durations (seconds), both included; `choices` are the words of a CHOICE;
    `aliases` are further environment names, weaker than its own. `check` may raise `NotAllowed` for what the kind does
    not know. `default` is not checked. `unset` is how people read that there is no value.
    """

    table: str
    key: str
    kind: Kind
    default: Any
    help: str
    aliases: tuple[str, ...] = field(default=(), kw_only=True)
    low: float | None = field(default=None, kw_only=True)
    high: float | None = field(default=None, kw_only=True)
    choices: tuple[str, ...] = field(default=(), kw_only=True)
    check: Callable[[Any], None] | None = field(default=None, kw_only=True)
    unset: str = field(default="none", kw_only=True)

    @property
    def name(self) -> str:
        return f"{self.table}.{self.key}"

    @property
    def environment_name(self) -> str:
        return f"{ENVIRONMENT_PREFIX}{self.table}__{self.key}".upper()


@frozen(slots=True, kw_only=True)
class Schema:
    """What a program can be told.

    `free_tables` hold any names with text values; `check_free`(table, name) may raise `NotAllowed`. `foreign_tables` belong to the other program, in the file named:
    variables of theirs are left to it, a table of theirs in this file is a mistake. `unused_environment` are variables
    that are accepted without effect.
    """

    settings: tuple[Setting, ...]
    free_tables: tuple[str, ...] = ()
    check_free: Callable[[str, str], None] | None = None
    foreign_tables: Mapping[str, str] = Factory(dict)
    unused_environment: tuple[str, ...] = ()

    @property
    def tables(self) -> list[str]:
        return [*dict.fromkeys(setting.table for setting in self.settings), *self.free_tables]

    def find(self, table: str, key: str) -> Setting | None:
        return next((s for s in self.settings if s.table == table and s.key == key), None)


def nearest(name: str, known: Iterable[str]) -> str | None:
    """Return the known name that resembles `name` most, ignoring case, `_` and `-`; None when none does."""
    by_plain: dict[str, str] = {}
    for candidate in known:
        by_plain.setdefault(_plain(candidate), candidate)
    close = get_close_matches(_plain(name), by_plain, n=1, cutoff=0.6)
    return by_plain[close[0]] if close else None


def _plain(name: str) -> str:
    return name.casefold().replace("_", "").replace("-", "")
