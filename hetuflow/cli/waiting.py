"""Waiting for a task: until it has ended, over retries and restarts of the server. The exit status is the task's."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

import click

from hetuflow.cli import render
from hetuflow.cli.client import Client, patiently
from hetuflow.cli.output import echo, follow_output, read_output
from hetuflow.domain.enums import TaskStatus

POLL_SECONDS_MIN, POLL_SECONDS_MAX = 0.1, 1.0
"""How often a waiting command looks again: soon at first, then as people can tell."""


def instances(client: Client, task_id: str, as_of: str | None = None) -> list[Mapping[str, Any]]:
    """Every try of the task, oldest first."""
    where = {"task_id": {"$eq": task_id}}
    order = ["attempt", "created_at"]
    return list(client.rows("task-instances", where=where, limit=10_000, order=order, as_of=as_of))


def wait_for_the_end(client: Client, task_id: str, json_: bool) -> None:
    """Wait until the task is terminal, print its output; fails unless it succeeded."""
    row = _until_terminal(client, task_id)
    tries = patiently(lambda: instances(client, task_id))
    if json_:
        render.as_json({**row, "instances": tries})
    else:
        for chunk in read_output(client, tries[-1]["id"], None)[0]:
            echo(chunk)
    _judge(row, tries)


def follow_to_the_end(client: Client, task_id: str, json_: bool) -> None:
    """Print the output of each try as it comes; fails unless the task succeeded."""
    followed: set[str] = set()
    while True:
        tries = patiently(lambda: instances(client, task_id))
        fresh = [row for row in tries if row["id"] not in followed and not row["external"]]
        for row in fresh:
            followed.add(row["id"])
            if row["attempt"] > 1:
                click.echo(f"try {row['attempt']}:", err=True)
            follow_output(client, row["id"], None, json_)
        if not fresh:
            row = _until_terminal_or_new_try(client, task_id, followed)
            if TaskStatus(row["status"]).is_terminal:
                _judge(row, patiently(lambda: instances(client, task_id)))
                return


def _until_terminal(client: Client, task_id: str) -> Mapping[str, Any]:
    pause = POLL_SECONDS_MIN
    while True:
        row: Mapping[str, Any] = patiently(lambda: client.get(f"/tasks/{task_id}"))
        if TaskStatus(row["status"]).is_terminal:
            return row
        time.sleep(pause)
        pause = min(pause * 1.2, POLL_SECONDS_MAX)


def _until_terminal_or_new_try(client: Client, task_id: str, followed: set[str]) -> Mapping[str, Any]:
    pause = POLL_SECONDS_MIN
    while True:
        row: Mapping[str, Any] = patiently(lambda: client.get(f"/tasks/{task_id}"))
        if TaskStatus(row["status"]).is_terminal or row["instance_id"] not in followed:
            return row
        time.sleep(pause)
        pause = min(pause * 1.2, POLL_SECONDS_MAX)


def _judge(row: Mapping[str, Any], tries: list[Mapping[str, Any]]) -> None:
    if row["status"] != TaskStatus.SUCCEEDED:
        why = next((one["error_message"] for one in reversed(tries) if one["error_message"]), None)
        hint = f"see `hetuflow explain {row['id']}`"
        raise click.ClickException(
            f"task {row['id']} {TaskStatus(row['status']).name.lower()}: {why}; {hint}"
            if why
            else f"task {row['id']} {TaskStatus(row['status']).name.lower()}; {hint}"
        )
