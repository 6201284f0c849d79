"""`hetuflow export jobs`: what there is, in the format that `apply` reads."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import click

from hetuflow.cli import render
from hetuflow.cli.calendar_plan import calendar_as_written
from hetuflow.cli.client import Client
from hetuflow.cli.listing import as_of_option
from hetuflow.cli.manifest import JOB_DEFAULTS, MARKER, SCHEDULE_DEFAULTS
from hetuflow.cli.names import JOB, resolve
from hetuflow.cli.options import Group, talks_to_server
from hetuflow.cli.plan import owner_of
from hetuflow.cli.upstream import labels_of
from hetuflow.cli.upstream import written as written_upstream
from hetuflow.domain.config import DEFAULTS
from hetuflow.domain.daemon_rules import DEFAULTS as DAEMON_DEFAULTS
from hetuflow.domain.enums import ScheduleKind, ScheduleStatus

Row = Mapping[str, Any]


@click.group(cls=Group, name="export")
def export() -> None:
    """Export: write what there is as files."""


@export.command(name="jobs")
@click.argument("jobs_", metavar="[JOB]...", nargs=-1)
@click.option("--namespace", help="Only jobs of this namespace.")
@click.option("--owner", help="Only jobs that apply made for this owner.")
@click.option("-o", "--output", type=click.Path(dir_okay=False, path_type=Path), help="A file instead of stdout.")
@as_of_option
@talks_to_server
def jobs(
    client: Client,
    json_: bool,
    jobs_: tuple[str, ...],
    namespace: str | None,
    owner: str | None,
    output: Path | None,
    as_of_: str | None,
) -> None:
    """Write jobs with their schedules and the calendars of these as YAML (--json: JSON), which `hetuflow apply` reads.

    All of them, or those named. Applied again it changes nothing. Members that have their default are left out.
    """
    if jobs_:
        rows: Sequence[Row] = [resolve(client, JOB, text, as_of=as_of_) for text in jobs_]
    else:
        where = {"namespace_id": {"$eq": namespace}} if namespace else {}
        rows = client.rows(
            "jobs", where=where, limit=1_000_000, order=["namespace_id", "name", "created_at"], as_of=as_of_
        )
    rows = [row for row in rows if owner is None or owner_of(row) == owner]
    schedules = client.rows("schedules", where={}, limit=1_000_000, order=["created_at"], as_of=as_of_)
    known = labels_of(client.rows("jobs", where={}, limit=1_000_000, as_of=as_of_) if _follow(rows) else rows)
    value: dict[str, Any] = {"jobs": as_written(rows, schedules, known)}
    if calendars := _calendars(client, rows, schedules, as_of_):
        value = {"calendars": calendars, **value}
    if output is not None:
        import json

        output.write_text(
            json.dumps(value, indent=2, ensure_ascii=False) if json_ else as_yaml(value), encoding="utf-8"
        )
        click.echo(f"wrote {len(rows)} jobs to {output}", err=True)
    elif json_:
        render.as_json(value)
    else:
        click.echo(as_yaml(value), nl=False)


def _follow(jobs: Sequence[Row]) -> bool:
    return any(row["upstream"] for row in jobs)


def _calendars(
    client: Client, jobs: Sequence[Row], schedules: Sequence[Row], as_of: str | None
) -> Sequence[Mapping[str, Any]]:
    """Those that the schedules of these jobs refer to."""
    ids = {row["id"] for row in jobs}
    names = {name for one in schedules if one["job_id"] in ids for name in one.get("exclude_calendars") or ()}
    if not names:
        return []
    rows = client.rows("calendars", where={"id": {"$in": sorted(names)}}, limit=1_000_000, order=["id"], as_of=as_of)
    return [calendar_as_written(row) for row in rows]


def as_written(jobs: Sequence[Row], schedules: Sequence[Row], label_of: Mapping[str, str]) -> list[dict[str, Any]]:
    """Jobs as the files have them. An id is written only where the name does not tell which one is meant.

    Args:
      label_of: of every job that one of them follows, as `upstream.labels_of` has it.
    """
    keys = Counter((row["namespace_id"], row["name"]) for row in jobs)
    found = []
    for row in jobs:
        own = [one for one in schedules if one["job_id"] == row["id"]]
        names = Counter(one["name"] for one in own)
        written = _job(row, with_id=keys[row["namespace_id"], row["name"]] > 1)
        if upstream := written_upstream(row["upstream"], row["namespace_id"], label_of):
            written["upstream"] = upstream
        if own:
            written["schedules"] = [_schedule(s, with_id=not s["name"] or names[s["name"]] > 1) for s in own]
        found.append(written)
    return found


def _job(row: Row, *, with_id: bool) -> dict[str, Any]:
    written: dict[str, Any] = {"id": row["id"]} if with_id else {}
    written["name"] = row["name"]
    if row["namespace_id"] != JOB_DEFAULTS["namespace_id"]:
        written["namespace"] = row["namespace_id"]
    if row["description"] is not None:
        written["description"] = row["description"]
    config = dict(row["config"])
    written["command"] = [config.pop("cmd"), *config.pop("args")]
    config = {n: v for n, v in config.items() if n != MARKER and (n not in DEFAULTS or v != DEFAULTS[n])}
    for name, value, default in (
        ("environment", row["environment"], None),
        ("config", config, {}),
        ("agent", row["agent_id"], None),
    ):
        if value != default:
            written[name] = value
    if row["status"] != JOB_DEFAULTS["status"]:
        written["enabled"] = False
    return written


def _schedule(row: Row, *, with_id: bool) -> dict[str, Any]:
    written: dict[str, Any] = {"id": row["id"]} if with_id else {}
    if row["name"]:
        written["name"] = row["name"]
    kind = ScheduleKind(row["schedule_kind"])
    short = {ScheduleKind.CRON: ("cron", "cron_expression"), ScheduleKind.INTERVAL: ("every", "interval_secs")}.get(
        kind
    )
    if short and row[short[1]] is not None:
        written[short[0]] = row[short[1]]
    elif kind == ScheduleKind.INTERVAL:
        written["once"] = row["start_time"]
    else:
        written["kind"] = kind.name.lower()
    written["timezone"] = row["timezone"]
    for name, default in SCHEDULE_DEFAULTS.items():
        is_written = name in written or (short and name == short[1]) or ("once" in written and name in ("start_time",))
        if "once" in written and name == "max_count" and row[name] == 1:
            continue
        if name == "daemon" and row[name] is not None:
            written[name] = {n: v for n, v in row[name].items() if v != DAEMON_DEFAULTS.get(n)}
        elif name == "status":
            if row[name] != ScheduleStatus.ENABLED:
                written["enabled"] = False
        elif not is_written and row[name] != default:
            written[{"start_time": "start", "end_time": "end"}.get(name, name)] = row[name]
    return written


def as_yaml(value: Any) -> str:
    """YAML in the order given; text of several lines as it is."""
    import yaml

    class Dumper(yaml.SafeDumper):
        def increase_indent(self, flow: bool = False, indentless: bool = False) -> None:
            super().increase_indent(flow, False)

    def text(dumper: yaml.SafeDumper, data: str) -> yaml.ScalarNode:
        style = "|" if "\n" in data else None
        return dumper.represent_scalar("tag:yaml.org,2002:str", data, style=style)

    Dumper.add_representer(str, text)
    return yaml.dump(value, Dumper=Dumper, sort_keys=False, allow_unicode=True, width=120, default_flow_style=False)
