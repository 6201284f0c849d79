"""Completion in the shell: the script to load, and names of jobs, schedules and agents from the server."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import click

from hetuflow.cli.client import DEFAULT_SERVER, is_loopback

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem

PATIENCE_SECONDS = 0.5
"""A key press must not hang: a server that takes longer completes nothing."""

NAMES_MAX = 50

SHELLS = ("bash", "zsh", "fish")


@click.command(name="completion")
@click.argument("shell", type=click.Choice(SHELLS))
def completion(shell: str) -> None:
    """Print the script that completes commands, options and names of jobs.

    \b
    bash: add to ~/.bashrc:   eval "$(hetuflow completion bash)"
    zsh:  add to ~/.zshrc:    eval "$(hetuflow completion zsh)"
    fish: hetuflow completion fish > ~/.config/fish/completions/hetuflow.fish
    """
    from click.shell_completion import get_completion_class

    from hetuflow.cli.main import main

    found = get_completion_class(shell)
    assert found is not None  # click brings these three
    click.echo(found(main, {}, "hetuflow", "_HETUFLOW_COMPLETE").source())


def complete_jobs(ctx: click.Context, _: click.Parameter, incomplete: str) -> list[CompletionItem]:
    return _names(ctx, "jobs", incomplete)


def complete_schedules(ctx: click.Context, _: click.Parameter, incomplete: str) -> list[CompletionItem]:
    return _names(ctx, "schedules", incomplete)


def complete_agents(ctx: click.Context, _: click.Parameter, incomplete: str) -> list[CompletionItem]:
    return _names(ctx, "agents", incomplete, member="id")


def complete_calendars(ctx: click.Context, _: click.Parameter, incomplete: str) -> list[CompletionItem]:
    return _names(ctx, "calendars", incomplete, member="id")


def _names(ctx: click.Context, collection: str, incomplete: str, member: str = "name") -> list[CompletionItem]:
    """Names that begin so; none when the server is slow, away, or says anything unexpected."""
    from click.shell_completion import CompletionItem

    try:
        return [CompletionItem(name) for name in _ask(_server(ctx), collection, incomplete, member)]
    except Exception:  # a completion that speaks is worse than none
        return []


def _server(ctx: click.Context) -> str:
    return str(ctx.params.get("server") or os.environ.get("HETUFLOW_SERVER") or DEFAULT_SERVER).rstrip("/")


def _ask(server: str, collection: str, incomplete: str, member: str) -> list[str]:
    """By urllib: httpx takes twice as long to import as the server to answer."""
    import json
    from urllib.request import ProxyHandler, Request, build_opener

    body: dict[str, Any] = {"page": {"limit": NAMES_MAX, "order_bys": [member]}}
    if incomplete:
        body["filter"] = {member: {"$startsWith": incomplete}}
    request = Request(
        f"{server}/api/v1/{collection}/query", json.dumps(body).encode(), {"Content-Type": "application/json"}
    )
    opener = build_opener(ProxyHandler({})) if is_loopback(server) else build_opener()
    with opener.open(request, timeout=PATIENCE_SECONDS) as answer:
        rows = json.load(answer)["result"]
    return [str(row[member]) for row in rows if row[member]]
