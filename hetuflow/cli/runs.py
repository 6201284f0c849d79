"""What the commands that make a task share: their options, the body of the request, and what is done afterwards."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import click

from hetuflow.cli import render
from hetuflow.cli.client import Client
from hetuflow.cli.editing import assign, assignments
from hetuflow.cli.options import key_option, pairs

F = TypeVar("F", bound=Callable[..., Any])


def run_options(command: F) -> F:
    """What `job run`, `schedule run` and `task create` share."""
    for option in reversed(
        [
            click.option(
                "-p",
                "--param",
                multiple=True,
                metavar="NAME=VALUE",
                help="Reaches the program as HETUFLOW_PARAM_<NAME>.",
            ),
            click.option("-e", "--env", multiple=True, metavar="NAME=VALUE", help="An environment variable."),
            click.option("--name", help="A name for the task [default: the job's]."),
            click.option("--priority", type=int, help="Larger runs first."),
            click.option("--set", "set_", multiple=True, metavar="MEMBER=VALUE", help="Any other member of the task."),
            click.option("--wait", is_flag=True, help="Wait for the end, print the output; the exit status tells."),
            click.option("--follow", is_flag=True, help="As --wait, but print the output as it comes."),
            key_option,
        ]
    ):
        command = option(command)
    return command


def run_body(given: dict[str, Any]) -> dict[str, Any]:
    body: dict[str, Any] = {}
    for member, value in (
        ("parameters", pairs(given["param"], "--param") or None),
        ("environment", pairs(given["env"], "--env") or None),
        ("name", given["name"]),
        ("priority", given["priority"]),
    ):
        if value is not None:
            body[member] = value
    for path, value in assignments(given["set_"]):
        assign(body, path, value)
    return body


def after_run(client: Client, task_id: str, given: dict[str, Any], json_: bool, *, of_flow: bool = False) -> None:
    """Wait or follow as asked; else say what was made. `of_flow`: the task begins a flow run."""
    if given["follow"] or given["wait"]:
        from hetuflow.cli.waiting import follow_to_the_end, wait_for_the_end

        (follow_to_the_end if given["follow"] and not json_ else wait_for_the_end)(client, task_id, json_)
    elif json_:
        render.as_json({"id": task_id})
    else:
        flow_run_id = client.get(f"/tasks/{task_id}").get("flow_run_id") if of_flow else None
        if flow_run_id:
            click.echo(f"started flow run {flow_run_id}")
            click.echo(f"see what becomes of it:  hetuflow flows show {flow_run_id}")
            return
        click.echo(f"created task {task_id}")
        click.echo(f"see what becomes of it:  hetuflow task show {task_id}")
