"""`hetuflow agents log`: the agent's own log, which the agent is asked for."""

from __future__ import annotations

import time

import click

from hetuflow.cli import render
from hetuflow.cli.client import Client, patiently
from hetuflow.cli.names import AGENT, resolve
from hetuflow.cli.options import talks_to_server

LINES_AT_ONCE = 1000
FOLLOW_SECONDS = 1.0


@click.command(name="log")
@click.argument("agent_", metavar="AGENT")
@click.option(
    "-n", "--lines", type=click.IntRange(0, LINES_AT_ONCE), default=200, show_default=True, help="Last lines."
)
@click.option("-f", "--follow", is_flag=True, help="Go on with what comes, until Ctrl-C.")
@talks_to_server
def log(client: Client, agent_: str, lines: int, follow: bool, json_: bool) -> None:
    """Print an agent's own log. The agent is asked for it, so it has to be connected. With --json: JSON lines.

    \b
    Examples:
      hetuflow agents log agent-01 -n 50
      hetuflow agents log agent-01 -f
    """
    path = f"/agents/{resolve(client, AGENT, agent_)['id']}/log"
    page = client.get(path, lines=max(lines, 1))
    _print(page, page["lines"][-lines:] if lines else [], json_)
    while follow:
        time.sleep(FOLLOW_SECONDS)
        after = page["next"]
        page = patiently(lambda: client.get(path, after=after, lines=LINES_AT_ONCE))  # noqa: B023 - asked at once
        if page["lines"] and page["first"] > after + 1:
            click.echo(f"({page['first'] - after - 1} lines were gone already)", err=True)
        _print(page, page["lines"], json_)


def _print(page: render.Row, lines: list[str], json_: bool) -> None:
    first = page["first"] + len(page["lines"]) - len(lines)
    for number, line in enumerate(lines, first):
        render.as_json_line({"number": number, "line": line}) if json_ else click.echo(line)
