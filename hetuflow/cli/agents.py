"""`hetuflow agents …`: where tasks run."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import click
from rich.text import Text

from hetuflow.cli import render
from hetuflow.cli.client import Client
from hetuflow.cli.editing import edit_options, update_body
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
    return " ".join(f"{name}={value}" for name, value in sorted(row["capabilities"]["labels"].items()))


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
    """Show one agent."""
    row = resolve(client, AGENT, agent_, as_of=as_of_)
    if not as_of_:
        row = client.get(f"/agents/{row['id']}")
    if json_:
        render.as_json(row)
        return
    numbers, metrics, drain = row["statistics"], row["metrics"] or {}, row["drain"] or {}
    render.fields(
        row,
        [
            ("id", lambda r: r["id"]),
            ("name", lambda r: r["name"]),
            ("namespace", lambda r: r["namespace_id"]),
            ("description", lambda r: r["description"]),
            ("status", state),
            ("drained", lambda _: render.At(drain.get("since"))),
            ("drain reason", lambda _: drain.get("reason")),
            ("address", lambda r: r["address"]),
            ("last heard", lambda r: render.At(r["last_heartbeat_at"])),
            ("slots", lambda r: f"{r['running_instances']} of {r['capabilities']['max_concurrent_tasks']} in use"),
            ("labels", label_text),
            (
                "reported",
                lambda r: r["reported_labels"] if r["reported_labels"] != r["capabilities"]["labels"] else None,
            ),
            ("metadata", lambda r: r["capabilities"]["metadata"]),
            ("config", lambda r: r["config"]),
            ("tasks", lambda _: f"{numbers['success_tasks']} succeeded, {numbers['failure_tasks']} failed"),
            ("in a row", lambda _: f"{n} failures" if (n := numbers["consecutive_failures"]) else None),
            ("mean run", lambda _: f"{numbers['avg_response_ms']:.0f} ms" if numbers["total_tasks"] else None),
            ("load", lambda _: _load(metrics)),
            ("created", lambda r: render.At(r["created_at"])),
        ],
    )


def _load(metrics: render.Row) -> str | None:
    if not metrics:
        return None
    return ", ".join(f"{name} {metrics[f'{name}_usage']:.0f} %" for name in ("cpu", "memory", "disk"))


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
        labels = row["capabilities"]["labels"]
        wanted = {name: value for name, value in labels.items() if not name.startswith("sys.")}
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
    else:
        click.echo("\n".join(f"{name}={value}" for name, value in sorted(found.items())) or "no labels")


@agents.command(name="drain")
@agent_argument
@click.option("--reason", help="Kept, and shown to people.")
@talks_to_server
def drain(client: Client, agent_: str, reason: str | None, json_: bool) -> None:
    """Give an agent nothing new; what runs on it ends in peace."""
    row = resolve(client, AGENT, agent_)
    answer = client.post(f"/agents/{row['id']}/drain", {"reason": reason} if reason else None)
    if json_:
        render.as_json(answer)
        return
    click.echo(f"agent {row['id']} drains; {row['running_instances']} still run on it")


@agents.command(name="undrain")
@agent_argument
@talks_to_server
def undrain(client: Client, agent_: str, json_: bool) -> None:
    """Let a drained agent take tasks again."""
    row = resolve(client, AGENT, agent_)
    answer = client.post(f"/agents/{row['id']}/undrain")
    render.as_json(answer) if json_ else click.echo(f"agent {row['id']} takes tasks again")


@agents.command(name="remove")
@agent_argument
@click.option("--cascade", is_flag=True, help="Cancel what is open on it, instead of refusing.")
@yes_option
@talks_to_server
def remove(client: Client, agent_: str, cascade: bool, yes: bool, json_: bool) -> None:
    """Forget an agent and close its connection; it may register again. AGENT is a whole id or name."""
    row = resolve(client, AGENT, agent_, exactly=True)
    confirm(f"remove agent {row['id']}?", yes)
    answer = client.delete(f"/agents/{row['id']}", cascade="cancel" if cascade else None)
    render.as_json(answer) if json_ else click.echo(f"removed agent {row['id']}")
