"""Why a task is as it is: the explanation of the API, as sentences."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import click

from hetuflow.cli import render
from hetuflow.cli.client import Client
from hetuflow.cli.events import echo
from hetuflow.cli.listing import as_of_option
from hetuflow.cli.names import newest_task
from hetuflow.cli.options import talks_to_server
from hetuflow.domain.enums import TaskStatus


@click.command(name="explain")
@click.argument("task_", metavar="TASK")
@as_of_option
@talks_to_server
def explain(client: Client, task_: str, as_of_: str | None, json_: bool) -> None:
    """Say why a task exists, what it waits for, where it can run, and why it ended as it did.

    TASK is an id or its beginning, or a name: the newest task of that name.
    """
    show_explanation(client, newest_task(client, task_, as_of=as_of_), as_of_, json_)


def show_explanation(client: Client, row: Mapping[str, Any], as_of: str | None, json_: bool) -> None:
    answer = client.get(f"/tasks/{row['id']}/explain", as_of=as_of)
    if json_:
        render.as_json(answer)
        return
    out = render.console()
    out.print(answer["summary"], style="bold" if out.is_terminal else "", soft_wrap=True)
    out.print()
    cause = answer["cause"]
    render.fields(
        answer,
        [
            ("task", lambda r: f"{r['task_id']}  {row['name']}"),
            ("status", lambda r: render.status(TaskStatus, r["status"])),
            ("as of", lambda r: f"{render.when(r['at'])}, position {r['position']}"),
            ("trigger", lambda _: cause.get("trigger")),
            ("schedule", lambda _: cause.get("schedule_id")),
            ("due", lambda _: render.At(cause.get("nominal_at"))),
            ("caused by", lambda _: f"event {p}" if (p := cause.get("event_position")) else None),
            ("who", lambda _: cause.get("principal")),
            ("request", lambda _: cause.get("request_id")),
        ],
    )
    if cause.get("chain"):
        out.print("\nhow it came about")
        echo(cause["chain"], json_=False, with_stream=True)
    if answer["waiting_for"]:
        out.print("\nwaiting for")
        for wait in answer["waiting_for"]:
            until = f", until {render.when(wait['until'])}" if wait.get("until") else ""
            out.print(f"  {wait['message']} (since {render.when(wait['since'])}{until})", soft_wrap=True)
    if answer["agents"]:
        out.print("\nagents")
        for agent in answer["agents"]:
            sign = render.word("ok") if agent["eligible"] else agent.get("message") or agent.get("code")
            out.print(f"  {agent['agent_id']}: ", sign, sep="", soft_wrap=True)
    if placed := answer.get("placed"):
        out.print("\nwhy there")
        out.print(f"  {placed['message']} (attempt {placed['attempt']}, position {placed['position']})", soft_wrap=True)
    if answer.get("skipped"):
        out.print("\nmoments of its schedule that made no task")
        for skip in answer["skipped"]:
            out.print(f"  {skip['message']} (position {skip['position']})", soft_wrap=True)
    ended = answer.get("ended")
    if ended:
        out.print("\nhow it ended")
        who = ended.get("principal")
        who = f" (by {who})" if who and who not in ended["message"] else ""
        out.print(f"  {ended['message']}{who}", soft_wrap=True)
        if ended.get("instance_id"):
            dropped, written = ended.get("output_dropped"), ended.get("output_bytes")
            cut = f" (cut at its limit: {dropped} of {written} bytes are missing)" if dropped else ""
            out.print(f"  its output: hetuflow task logs {row['id']}{cut}", soft_wrap=True)
    click.echo(nl=False)
