"""What every `list` takes: filters, order, how many, and as of when."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

import click
from attrs import frozen

from hetuflow.cli import render
from hetuflow.cli.client import Client
from hetuflow.cli.options import Json, Moment, limit_option, pairs

F = TypeVar("F", bound=Callable[..., Any])

EVERYTHING = 10_000_000


@frozen
class Wanted:
    """The options of a list, apart from its own filters."""

    filter: Any
    sort: Sequence[str]
    limit: int
    all: bool
    as_of: str | None
    since: str | None = None
    until: str | None = None

    @classmethod
    def of(cls, given: dict[str, Any]) -> Wanted:
        """Takes its options out of the arguments of a command."""
        names = ("filter", "sort", "limit", "all", "as_of", "since", "until")
        return cls(**{name: given.pop(f"{name}_", None) for name in names})


def as_of_option(command: F) -> F:
    return click.option(
        "--as-of",
        "as_of_",
        type=Moment(or_position=True),
        metavar="TIME|POSITION",
        help="As it was at a moment (2h = two hours ago, 02:15, RFC 3339) or position of the log.",
    )(command)


def list_options(*, times: bool = True, default: int = 20) -> Callable[[F], F]:
    """`--filter`, `--sort`, `--limit`, `--all`, `--as-of`, and with `times` `--since` and `--until`."""

    def decorate(command: F) -> F:
        command = as_of_option(command)
        command = click.option("--all", "all_", is_flag=True, help="All rows.")(command)
        command = click.option(
            "-n", "--limit", "limit_", type=click.IntRange(1, 100_000), default=default, show_default=True, help="Rows."
        )(command)
        command = click.option(
            "--sort",
            "sort_",
            multiple=True,
            metavar="FIELD",
            help="Order: name, or -created_at for largest first; may be repeated.",
        )(command)
        command = click.option(
            "--filter",
            "filter_",
            type=Json(),
            help="""The API's filter, e.g. '{"name": {"$startsWith": "nightly"}}'.""",
        )(command)
        if times:
            command = click.option("--until", "until_", type=Moment(), help="Only those created until then.")(command)
            command = click.option(
                "--since", "since_", type=Moment(), help="Only those created since: 1h (ago), 22:00, RFC 3339."
            )(command)
        return command

    return decorate


def show_list(
    client: Client,
    collection: str,
    wanted: Wanted,
    where: Mapping[str, Any],
    columns: Sequence[render.Column],
    *,
    json_: bool,
    empty: str,
) -> None:
    """Fetch and print: a table, or one JSON array. What was left out is said on stderr."""
    time_conditions = {}
    if wanted.since:
        time_conditions["$gte"] = wanted.since
    if wanted.until:
        time_conditions["$lte"] = wanted.until
    conditions = merged(wanted.filter, {**where, **({"created_at": time_conditions} if time_conditions else {})})
    order = [name.strip() for text in wanted.sort for name in text.split(",") if name.strip()]
    found = client.find(
        collection,
        where=conditions,
        limit=EVERYTHING if wanted.all else wanted.limit,
        order=order,
        as_of=wanted.as_of,
    )
    if json_:
        render.as_json(found.rows)
        return
    nothing = empty if conditions in ({}, None) and not wanted.as_of else f"no {collection.replace('-', ' ')} like that"
    render.table(found.rows, columns, empty=nothing)
    if len(found.rows) < (found.total or 0):
        click.echo(f"{len(found.rows)} of {found.total}; more with -n or --all", err=True)


def merged(filter_: Any, where: Mapping[str, Any]) -> Any:
    """The `--filter` and the conditions of the other options, both.

    Raises:
      click.UsageError: the filter is not an object or an array of objects.
    """
    if filter_ is None:
        return dict(where)
    if isinstance(filter_, list):
        return [merged(one, where) for one in filter_]
    if not isinstance(filter_, dict):
        raise click.BadParameter("must be an object or an array of objects", param_hint="--filter")
    result = dict(filter_)
    for name, operators in where.items():
        present = result.get(name)
        if not isinstance(present, dict):
            result[name] = operators
        elif clash := next((op for op in operators if op in present and present[op] != operators[op]), None):
            raise click.UsageError(f"--filter and another option both say {clash} of {name}")
        else:
            result[name] = {**present, **operators}
    return result


def status_option(kind: Any, *, what: str) -> Callable[[F], F]:
    """`--status`, by name, repeatable."""
    names = [status.name.lower() for status in kind]
    return click.option(
        "--status",
        "status_",
        multiple=True,
        type=click.Choice(names, case_sensitive=False),
        help=f"Only {what} in this status; may be repeated.",
    )


def status_condition(names: Sequence[str]) -> dict[str, Any]:
    if not names:
        return {}
    return {"status": {"$eq": names[0]} if len(names) == 1 else {"$in": list(names)}}


def label_option(what: str) -> Callable[[F], F]:
    return click.option("--label", multiple=True, metavar="NAME=VALUE", help=f"Only {what}; may be repeated.")


def labels(values: Sequence[str]) -> dict[str, str]:
    return pairs(values, "--label")


__all__ = [
    "Wanted",
    "as_of_option",
    "label_option",
    "labels",
    "limit_option",
    "list_options",
    "merged",
    "show_list",
    "status_condition",
    "status_option",
]
