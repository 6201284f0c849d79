"""`hetuflow agents …`: where tasks run."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import click
from rich.text import Text

from hetuflow.cli import agent_state, render
from hetuflow.cli.agent_log import log
from hetuflow.cli.client import Client
from hetuflow.cli.draining import drain, undrain
from hetuflow.cli.editing import edit_options, update_body
from hetuflow.cli.label_selector import counted_labels, own_labels, without_found
from hetuflow.cli.listing import Wanted, as_of_option, label_option, labels, list_options, show_list, status_condition
from hetuflow.cli.names import AGENT, resolve
from hetuflow.cli.options import Group, Json, confirm, key_option, pairs, talks_to_server, yes_option
from hetuflow.domain.enums import AgentStatus

F = TypeVar("F", bound=Callable[..., Any])


@click.group(cls=Group, name="agents", default="list")
def agents() -> None:
    """Agents: where tasks run. Without a verb: list them.

    AGENT is an id, a name, or the beginning of one.
    """


def agent_argument(command: F) -> F:
    from hetuflow.cli.completion import complete_agents

    return click.argument("agent_", metavar="AGENT", shell_complete=complete_agents)(command)


def state(row: render.Row) -> Text:
    """Online, draining or offline."""
    if row["draining"] and row["status"] == AgentStatus.ONLINE:
        return render.word("draining")
    return render.status(AgentStatus, row["status"])


def label_text(row: render.Row) -> str:
    """Those that placement goes by, without what the agent has found out itself."""
    return agent_state.text(own_labels(row))


COLUMNS = [
    render.Column("ID", lambda row: row["id"]),
    render.Column("STATUS", state),
    render.Column(
        "SLOTS", lambda row: f"{row['running_instances']}/{row['capabilities']['max_concurrent_tasks']}", right=True
    ),
    render.Column("DONE", lambda row: row["statistics"]["success_tasks"], right=True, drop=2),
    render.Column("FAILED", lambda row: row["statistics"]["failure_tasks"], right=True, drop=1),
    render.Column("LAST HEARD", lambda row: render.ago(row["last_heartbeat_at"], render.now())),
    render.Column("ADDRESS", lambda row: row["address"], drop=3),
    render.Column("LABELS", label_text, wrap=True),
]


@agents.command(name="list")
@click.option("--online", is_flag=True, help="Only those connected now.")
@click.option(
    "--status",
    "status_",
    multiple=True,
    type=click.Choice(["online", "offline"], case_sensitive=False),
    help="Only agents in this status.",
)
@click.option("--draining", is_flag=True, help="Only those that take nothing new.")
@label_option("agents with this label")
@list_options(times=False, default=100)
@talks_to_server
def list_(
    client: Client,
    json_: bool,
    online: bool,
    status_: tuple[str, ...],
    draining: bool,
    label: tuple[str, ...],
    **given: Any,
) -> None:
    """List agents: where tasks run."""
    where: dict[str, Any] = status_condition(["online"] if online else status_)
    if draining:
        where["draining"] = {"$eq": True}
    if label:
        where["labels"] = {"$contains": labels(label)}
    show_list(
        client,
        "agents",
        Wanted.of(given),
        where,
        COLUMNS,
        json_=json_,
        empty="no agents; start one with `hetuflow agent`",
    )


@agents.command(name="show")
@agent_argument
@as_of_option
@talks_to_server
def show(client: Client, agent_: str, as_of_: str | None, json_: bool) -> None:
    """Show one agent: its session, labels, limits and policy, and what it runs now.

    \b
    Examples:
      hetuflow agents show agent-01
      hetuflow agents show agent-01 --json | jq .state.facts.policy
    """
    row = resolve(client, AGENT, agent_, as_of=as_of_)
    now = None
    if not as_of_:
        row = client.get(f"/agents/{row['id']}")
        now = client.get(f"/agents/{row['id']}/state")
    if json_:
        render.as_json(row if now is None else {**row, "state": now})
        return
    render.fields(row, agent_state.fields(row, now, state))
    if now is not None and now["running"]:
        click.echo()
        render.table(now["running"], agent_state.RUNNING_COLUMNS, empty="")


agents.add_command(log)


@agents.command(name="create")
@click.argument("name")
@click.option("--id", "id_", help="Its id [default: a new one].")
@click.option("--slots", type=click.IntRange(0), help="Tasks at once.")
@click.option("--label", multiple=True, metavar="NAME=VALUE", help="May be repeated.")
@click.option("--description")
@click.option("--namespace")
@click.option("--config", "config_", type=Json(), help="A free object.")
@key_option
@talks_to_server
def create(
    client: Client,
    name: str,
    json_: bool,
    id_: str | None,
    slots: int | None,
    label: tuple[str, ...],
    description: str | None,
    namespace: str | None,
    config_: Any,
    key: str | None,
) -> None:
    """Register an agent before it connects. Agents that just connect register themselves."""
    body = {
        "id": id_,
        "name": name,
        "max_concurrent_tasks": slots,
        "labels": pairs(label, "--label") or None,
        "description": description,
        "namespace_id": namespace,
        "config": config_,
    }
    created = client.post("/agents/create", {name: value for name, value in body.items() if value is not None}, key=key)
    render.as_json(created) if json_ else click.echo(f"created agent {created['id']}")


@agents.command(name="update")
@agent_argument
@click.option("--name")
@click.option("--description")
@click.option("--namespace")
@edit_options
@talks_to_server
def update(
    client: Client,
    agent_: str,
    json_: bool,
    set_: tuple[str, ...],
    clear: tuple[str, ...],
    namespace: str | None,
    **given: Any,
) -> None:
    """Change what is known about an agent."""
    row = resolve(client, AGENT, agent_)
    answer = client.put(f"/agents/{row['id']}", update_body(row, {**given, "namespace_id": namespace}, set_, clear))
    render.as_json(answer) if json_ else click.echo(f"updated agent {row['id']}")


@agents.command(name="labels")
@agent_argument
@click.argument("changes", nargs=-1, metavar="[NAME=VALUE | NAME-]...")
@click.option("--reset", is_flag=True, help="Back to what the agent itself declares.")
@talks_to_server
def labels_(client: Client, agent_: str, changes: tuple[str, ...], reset: bool, json_: bool) -> None:
    """Show or change an agent's labels: NAME=VALUE sets one, NAME- removes it. They hold over reconnections.

    \b
    Examples:
      hetuflow agents labels agent-01 gpu=true region=east spot-
      hetuflow agents labels agent-01 --reset
    """
    row = resolve(client, AGENT, agent_)
    if changes and reset:
        raise click.UsageError("give either labels or --reset")
    if reset:
        client.put(f"/agents/{row['id']}", {"labels": None, "update_mask": ["labels"]})
    elif changes:
        wanted = without_found(row["capabilities"]["labels"])
        for text in changes:
            if text.endswith("-") and "=" not in text:
                wanted.pop(text[:-1], None)
            else:
                wanted.update(pairs((text,), "NAME=VALUE"))
        client.put(f"/agents/{row['id']}", {"labels": wanted})
    if changes or reset:
        row = client.get(f"/agents/{row['id']}")
    found = row["capabilities"]["labels"]
    if json_:
        render.as_json(found)
        return
    click.echo("\n".join(f"{name}={value}" for name, value in sorted(found.items())) or "no labels")
    vain = sorted(name for name, value in found.items() if counted_labels(row).get(name) != value)
    if vain:
        click.echo(f"({', '.join(vain)}: without effect, only the agent itself can say that)", err=True)


agents.add_command(drain)
agents.add_command(undrain)


@agents.command(name="remove")
@agent_argument
@click.option("--cascade", is_flag=True, help="Cancel what is open on it, instead of refusing.")
@yes_option
@talks_to_server
def remove(client: Client, agent_: str, cascade: bool, yes: bool, json_: bool) -> None:
    """Forget an agent and close its connection; it may register again. AGENT is a whole id or name."""
    row = resolve(client, AGENT, agent_, exactly=True)
    confirm(f"remove agent {row['id']}?", yes)
    client.delete(f"/agents/{row['id']}", cascade="cancel" if cascade else None)
    render.deleted(row["id"], f"removed agent {row['id']}", json_=json_)
