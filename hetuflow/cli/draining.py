"""`hetuflow agents drain` and `undrain`: one agent, or all that have a label."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import click

from hetuflow.cli import agent_state, exits, render
from hetuflow.cli.client import Client, Refused
from hetuflow.cli.label_selector import conditions, own_labels, selected
from hetuflow.cli.listing import EVERYTHING
from hetuflow.cli.names import AGENT, resolve
from hetuflow.cli.options import NotThere, confirm, talks_to_server, yes_option
from hetuflow.domain.enums import AgentStatus

F = TypeVar("F", bound=Callable[..., Any])
NAMED_MAX = 10
"""Agents that the question names."""

COLUMNS = [
    render.Column("ID", lambda row: row["id"]),
    render.Column("NAME", lambda row: row["name"] if row["name"] != row["id"] else None, cut=True, drop=1),
    render.Column("WAS", lambda row: row["was"]),
    render.Column("STILL RUN", lambda row: row["running_instances"], right=True),
    render.Column("LABELS", lambda row: agent_state.text(row["labels"]), wrap=True),
]


def whom(command: F) -> F:
    """`[AGENT]` and `--label`."""
    from hetuflow.cli.completion import complete_agents

    command = click.option(
        "--label",
        multiple=True,
        metavar="EXPRESSION",
        help="Agents with this label: env=staging, zone=eu-*, env!=production, gpu, !gpu; several must all hold.",
    )(command)
    return click.argument("agent_", metavar="[AGENT]", required=False, shell_complete=complete_agents)(command)


@click.command(name="drain")
@whom
@click.option("--reason", help="Kept, and shown to people.")
@yes_option
@talks_to_server
def drain(
    client: Client, agent_: str | None, label: tuple[str, ...], reason: str | None, yes: bool, json_: bool
) -> None:
    """Give an agent nothing new (cordon it); what runs on it ends in peace. With --label: all agents that have it.

    \b
    Examples:
      hetuflow agents drain agent-01 --reason "new disk"
      hetuflow agents drain --label env=staging --yes
      hetuflow agents drain --label 'zone=eu-*,!gpu' --json
    """
    body = {"reason": reason} if reason else None
    if (one := _one(client, agent_, label)) is not None:
        client.post(f"/agents/{one['id']}/drain", body)
        if json_:
            render.as_json({"verb": "drain", "agents": [_done(one)], "problems": []})
        else:
            click.echo(f"agent {one['id']} drains; {_still_running(one['running_instances'])}")
        return
    rows = _meant(client, label)
    _ask("drain", rows, yes or json_)
    _each(client, rows, "drain", body, json_=json_)


@click.command(name="undrain")
@whom
@yes_option
@talks_to_server
def undrain(client: Client, agent_: str | None, label: tuple[str, ...], yes: bool, json_: bool) -> None:
    """Let a drained agent take tasks again. With --label: all agents that have it.

    \b
    Examples:
      hetuflow agents undrain agent-01
      hetuflow agents undrain --label env=staging --yes
    """
    if (one := _one(client, agent_, label)) is not None:
        client.post(f"/agents/{one['id']}/undrain")
        if json_:
            render.as_json({"verb": "undrain", "agents": [_done(one)], "problems": []})
        else:
            click.echo(f"agent {one['id']} takes tasks again")
        return
    rows = _meant(client, label)
    _ask("undrain", rows, yes or json_)
    _each(client, rows, "undrain", None, json_=json_)


def _one(client: Client, agent_: str | None, label: tuple[str, ...]) -> render.Row | None:
    """The agent that is named; None when labels select. Raises `UsageError` unless it is one of both."""
    if (agent_ is None) is (not label):
        raise click.UsageError("give either an AGENT or --label")
    return None if agent_ is None else resolve(client, AGENT, agent_)


def _meant(client: Client, label: tuple[str, ...]) -> list[render.Row]:
    """The agents that the labels select. Raises `NotThere` when there is none."""
    conditions(label)  # before anything is asked
    rows = selected(client.rows("agents", where={}, limit=EVERYTHING), label)
    if not rows:
        raise NotThere(f"no agent fits {', '.join(label)}")
    return rows


def _ask(verb: str, rows: list[render.Row], yes: bool) -> None:
    names = ", ".join(str(row["id"]) for row in rows[:NAMED_MAX])
    more = f" and {len(rows) - NAMED_MAX} more" if len(rows) > NAMED_MAX else ""
    confirm(f"{verb} {len(rows)} agent{'s' if len(rows) != 1 else ''} ({names}{more})?", yes)


def _done(row: render.Row) -> dict[str, Any]:
    """What the agent was before."""
    was = "draining" if row["draining"] else AgentStatus(row["status"]).name.lower()
    shown = {"id": row["id"], "name": row["name"], "was": was, "running_instances": row["running_instances"]}
    return {**shown, "labels": own_labels(row)}


def _still_running(count: int) -> str:
    if not count:
        return "nothing runs on it"
    return f"{count} task{' still runs' if count == 1 else 's still run'} on it"


def _each(client: Client, rows: list[render.Row], verb: str, body: Any, *, json_: bool) -> None:
    """Do it to all of them, whatever becomes of one; say which, and end with FAILED when one was refused."""
    done: list[dict[str, Any]] = []
    problems: list[dict[str, Any]] = []
    for row in rows:
        try:
            client.post(f"/agents/{row['id']}/{verb}", body)
        except Refused as no:
            problems.append({"id": row["id"], "problem": no.format_message()})
            continue
        done.append(_done(row))
    if json_:
        render.as_json({"verb": verb, "agents": done, "problems": problems})
    else:
        render.table(done, COLUMNS, empty=f"no agent could be {verb}ed")
        for each in problems:
            click.echo(f"{each['id']}: {each['problem']}", err=True)
    if problems:
        raise SystemExit(exits.FAILED)
