"""Which jobs a job follows, on the command line: options that say it, and lines that show it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import click

from hetuflow.cli.client import Client
from hetuflow.cli.names import JOB, resolve
from hetuflow.cli.upstream import read_upstream_job
from hetuflow.domain.flow_graph import Match


def upstream_options() -> Sequence[Callable[[Any], Any]]:
    return (
        click.option(
            "--upstream",
            multiple=True,
            metavar="JOB[:CONDITION]",
            help="Follow this job in a flow run, once its task has succeeded, failed or finished; may be repeated.",
        ),
        click.option(
            "--upstream-match",
            type=click.Choice([str(each) for each in Match]),
            help="All of them must have ended so, or any one [default: all].",
        ),
    )


def upstream_change(client: Client, given: dict[str, Any], stored: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """The member `upstream` from the options that were given; empty when none was."""
    jobs, match = given["upstream"], given["upstream_match"]
    if jobs:
        try:
            wanted = [read_upstream_job(text) for text in jobs]
        except ValueError as exc:
            raise click.BadParameter(str(exc), param_hint="--upstream") from None
        found = [{"job_id": resolve(client, JOB, each["job"])["id"], "on": each["on"]} for each in wanted]
    elif match and stored and stored["upstream"]:
        found = stored["upstream"]["jobs"]
    elif match:
        raise click.UsageError("--upstream-match needs --upstream")
    else:
        return {}
    return {"upstream": {"jobs": found, **({"match": match} if match else {})}}


def follows(client: Client, upstream: Mapping[str, Any] | None, as_of: str | None) -> str | None:
    """`all of: extract (succeeded), load (failed)`."""
    if upstream is None:
        return None
    ids = [each["job_id"] for each in upstream["jobs"]]
    names = {row["id"]: row["name"] for row in client.rows("jobs", where={"id": {"$in": ids}}, limit=100, as_of=as_of)}
    shown = [f"{names.get(each['job_id'], each['job_id'] + ' (deleted)')} ({each['on']})" for each in upstream["jobs"]]
    return (f"{upstream['match']} of: " if len(shown) > 1 else "") + ", ".join(shown)


def followed_by(client: Client, job_id: str, as_of: str | None) -> str:
    where = {"upstream": {"$contains": {"jobs": [{"job_id": job_id}]}}}
    return ", ".join(row["name"] for row in client.rows("jobs", where=where, limit=20, as_of=as_of))
