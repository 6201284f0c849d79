"""How one value is chosen among four sources: defaults < file < environment < flags.

Nothing is dropped silently: a name that no setting claims is a mistake, and all mistakes are collected before one is
raised.
"""

from __future__ import annotations

import tomllib
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, TypeVar

from attrs import Factory, field, fields, frozen

from hetuflow.configuration.kinds import NotAllowed, parse, redacted, shown
from hetuflow.configuration.schema import ENVIRONMENT_PREFIX, ConfigurationError, Problem, Schema, Setting, nearest

T = TypeVar("T")

TASK_PARAMETER_PREFIX = "HETUFLOW_PARAM_"
"""Variables that the agent gives to tasks: parameters, not settings, whatever underscores they contain."""


@frozen(slots=True)
class Resolved:
    """A setting's value and the source it came from: `default`, `file <path>`, `environment <name>`, `flag`."""

    setting: Setting
    value: Any
    source: str

    @property
    def text(self) -> str:
        """The value for people; a password in a URL is hidden."""
        return self.setting.unset if self.value is None else shown(self.setting.kind, self.value)


@frozen(slots=True)
class Configuration:
    """Every value of a schema. `free` are the entries of the free tables, as table -> name -> (value, source).

    `unused_environment` are the variables that were given and have no effect: the caller logs them once.
    """

    values: Mapping[str, Resolved]
    free: Mapping[str, Mapping[str, tuple[str, str]]] = Factory(dict)
    unused_environment: tuple[str, ...] = ()

    def __getitem__(self, name: str) -> Any:
        """The value of `table.key`."""
        return self.values[name].value

    def entries(self, table: str) -> dict[str, str]:
        """The entries of a free table."""
        return {name: value for name, (value, _) in self.free.get(table, {}).items()}

    def group(self, kind: type[T], table: str) -> T:
        """Build the attrs class `kind` from the table; its fields are named as the keys."""
        names = [attribute.name for attribute in fields(kind)]  # type: ignore[arg-type]
        return kind(**{name: self[f"{table}.{name}"] for name in names})

    def rows(self) -> list[tuple[str, str, str]]:
        """Return (name, value, source) of every value in the order declared, passwords hidden."""
        rows = [(name, resolved.text, resolved.source) for name, resolved in self.values.items()]
        for table, entries in self.free.items():
            rows += [(f"{table}.{name}", value, source) for name, (value, source) in entries.items()]
        return rows


def resolve(
    schema: Schema,
    *,
    file: Path | None = None,
    text: str = "",
    environ: Mapping[str, str] | None = None,
    flags: Mapping[str, Any] | None = None,
) -> Configuration:
    """Return the value of every setting.

    Args:
      file: where `text` (TOML) was read from; only named in sources and errors.
      environ: the process environment; a variable that is empty counts as not set.
      flags: `table.key` -> value as the command line parsed it; None = not given.
    Raises:
      ConfigurationError: with every mistake in every source.
    """
    reading = _Reading(schema)
    reading.read_file(f"file {file}" if file else "file", text)
    reading.read_environment(environ or {})
    reading.read_flags(flags or {})
    if reading.problems:
        raise ConfigurationError(reading.problems)
    return Configuration(reading.values, reading.free, tuple(reading.unused))


def read_configuration_file(
    file: Path | None, usual_file: Path, read_text: Callable[[Path], str]
) -> tuple[Path | None, str]:
    """Return the file and its content: `file`, which must be readable, or else `usual_file`, which may be missing.

    Raises:
      ConfigurationError: the file cannot be read, or is not UTF-8.
    """
    path = usual_file if file is None else file
    try:
        return path, read_text(path)
    except (FileNotFoundError, NotADirectoryError) as error:
        if file is None:
            return None, ""
        raise _unreadable(path, error) from error
    except (OSError, UnicodeDecodeError) as error:
        raise _unreadable(path, error) from error


def _unreadable(path: Path, error: OSError | UnicodeDecodeError) -> ConfigurationError:
    reason = error.strerror if isinstance(error, OSError) and error.strerror else "not a UTF-8 text file"
    return ConfigurationError([Problem(str(path), "configuration file", f"cannot be read: {reason}")])


def _hint(name: str, known: Iterable[str]) -> str:
    names = list(known)
    near = nearest(name, names)
    return f"did you mean {near}?" if near else f"known: {', '.join(names)}"


@frozen(slots=True)
class _Reading:
    """The values so far; a later source replaces an earlier one."""

    schema: Schema
    values: dict[str, Resolved] = field(init=False)
    free: dict[str, dict[str, tuple[str, str]]] = field(init=False)
    unused: list[str] = Factory(list)
    problems: list[Problem] = Factory(list)

    @values.default
    def _defaults(self) -> dict[str, Resolved]:
        return {setting.name: Resolved(setting, setting.default, "default") for setting in self.schema.settings}

    @free.default
    def _empty_tables(self) -> dict[str, dict[str, tuple[str, str]]]:
        return {table: {} for table in self.schema.free_tables}

    def read_file(self, source: str, text: str) -> None:
        try:
            document = tomllib.loads(text)
        except tomllib.TOMLDecodeError as error:
            self.problems.append(Problem("TOML", source, f"not valid: {error}"))
            return
        for table, content in document.items():
            if table in self.schema.foreign_tables:
                self._problem(f"[{table}]", source, f"this table belongs in {self.schema.foreign_tables[table]}")
            elif table not in self.schema.tables:
                self._unknown_table(table, content, source)
            elif not isinstance(content, dict):
                self._problem(table, source, f"{content!r} is not allowed, write a table [{table}]")
            else:
                for key, value in content.items():
                    self._read_key(table, key, value, source)

    def _read_key(self, table: str, key: str, value: object, source: str) -> None:
        if table in self.schema.free_tables:
            self._set_free(table, key, value, source)
        elif setting := self.schema.find(table, key):
            self._set(setting, value, source)
        else:
            keys = [setting.key for setting in self.schema.settings if setting.table == table]
            hint = f"[{key}] is a table of its own" if key in self.schema.tables else _hint(key, keys)
            self._problem(f"{table}.{key}", source, f"unknown key, {hint}")

    def _unknown_table(self, table: str, content: object, source: str) -> None:
        if isinstance(content, dict):
            self._problem(f"[{table}]", source, f"unknown table, {_hint(table, self.schema.tables)}")
            return
        owner = next((setting.name for setting in self.schema.settings if setting.key == table), None)
        remedy = f"did you mean {owner}?" if owner else f"put it into one of {', '.join(self.schema.tables)}"
        self._problem(table, source, f"a value outside of every table, {remedy}")

    def read_environment(self, environ: Mapping[str, str]) -> None:
        given = {name: value for name, value in environ.items() if value}
        for setting in self.schema.settings:
            for name in (*reversed(setting.aliases), setting.environment_name):  # the strongest comes last
                if name in given:
                    self._set(setting, given[name], f"environment {name}", is_text=True)
        for name in sorted(given):
            self._read_variable(name, given[name])
        self.unused.extend(name for name in self.schema.unused_environment if name in given)

    def _read_variable(self, name: str, value: str) -> None:
        """A variable that no setting claimed: an entry of a free table, another program's, or a mistake."""
        if not name.startswith(ENVIRONMENT_PREFIX) or "__" not in name or name.startswith(TASK_PARAMETER_PREFIX):
            return
        table, _, key = name.removeprefix(ENVIRONMENT_PREFIX).lower().partition("__")
        if table in self.schema.foreign_tables:
            return
        if table in self.schema.free_tables and key:
            self._set_free(table, key, value, f"environment {name}")
            return
        known = [setting.environment_name for setting in self.schema.settings]
        if name not in known:
            same = {setting.key: setting.environment_name for setting in self.schema.settings if setting.table == table}
            if near := nearest(key, same):  # by the key alone: with its table every name is near to every other
                hint = f"did you mean {same[near]}?"
            else:
                hint = f"known: {', '.join(same.values())}" if same else _hint(name, known)
            self._problem(name, "environment", f"unknown setting, {hint}")

    def read_flags(self, flags: Mapping[str, Any]) -> None:
        for name, value in flags.items():
            if value is None:
                continue
            resolved = self.values.get(name)
            if resolved is None:
                self._problem(name, "flag", f"unknown setting, {_hint(name, self.values)}")
            else:
                self._set(resolved.setting, value, "flag", is_text=isinstance(value, str))

    def _set(self, setting: Setting, given: object, source: str, *, is_text: bool = False) -> None:
        try:
            value = parse(setting.kind, given, setting.low, setting.high, setting.choices, is_text=is_text)
            if setting.check is not None:
                setting.check(value)
        except NotAllowed as error:
            self._problem(setting.name, source, f"{redacted(setting.kind, given)} is not allowed, use {error.allowed}")
        else:
            self.values[setting.name] = Resolved(setting, value, source)

    def _set_free(self, table: str, key: str, value: object, source: str) -> None:
        if not isinstance(value, str):
            self._problem(f"{table}.{key}", source, f"{value!r} is not allowed, use a text in quotes")
            return
        try:
            if self.schema.check_free is not None:
                self.schema.check_free(table, key)
        except NotAllowed as error:
            self._problem(f"{table}.{key}", source, f"this name is not allowed, use {error.allowed}")
        else:
            self.free[table][key] = (value, source)

    def _problem(self, name: str, source: str, message: str) -> None:
        self.problems.append(Problem(name, source, message))
