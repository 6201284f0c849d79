"""One agent in full, as people read it: what the API shows of it and what it says of itself."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from hetuflow.cli import render, usage
from hetuflow.cli.label_selector import counted_labels
from hetuflow.domain.placement_labels import FOUND_BY_ITSELF, is_agents_own

Row = Mapping[str, Any]
FEATURE = f"{FOUND_BY_ITSELF}feature."

RUNNING_COLUMNS = [
    render.Column("INSTANCE", lambda row: row["instance_id"], is_id=True),
    render.Column("FOR", lambda row: usage.seconds(row["usage"]["elapsed"]), right=True),
    render.Column("CPU", lambda row: usage.cores(row["usage"]["cpu"]), right=True),
    render.Column("MEMORY", lambda row: usage.size(row["usage"]["memory"]), right=True),
    render.Column("PEAK", lambda row: usage.size(row["usage"]["memory_peak"]), right=True, drop=2),
    render.Column("PROCESSES", lambda row: row["usage"]["processes"], right=True, drop=1),
]


def text(labels: Mapping[str, Any]) -> str:
    return " ".join(f"{name}={value}" for name, value in sorted(labels.items()))


def fields(row: Row, state: Row | None, status: Callable[[Row], Any]) -> list[tuple[str, Callable[[Row], Any]]]:
    """Names and values for `render.fields`. `state` None: of the past, which only the log tells of."""
    numbers, drain = row["statistics"], row["drain"] or {}
    found: list[tuple[str, Callable[[Row], Any]]] = [
        ("id", lambda r: r["id"]),
        ("name", lambda r: r["name"]),
        ("namespace", lambda r: r["namespace_id"]),
        ("description", lambda r: r["description"]),
        ("status", status),
        ("takes nothing", lambda _: None if state is None else state["facts"].get("refusal")),
        ("drained", lambda _: render.At(drain.get("since"))),
        ("drain reason", lambda _: drain.get("reason")),
        ("address", lambda r: r["address"]),
        *(_session(state) if state is not None else ()),
        ("last heard", lambda r: render.At(r["last_heartbeat_at"])),
        ("slots", lambda r: f"{r['running_instances']} of {r['capabilities']['max_concurrent_tasks']} in use"),
        *_labels(row),
        ("metadata", lambda r: r["capabilities"]["metadata"]),
        ("config", lambda r: r["config"]),
        ("tasks", lambda _: f"{numbers['success_tasks']} succeeded, {numbers['failure_tasks']} failed"),
        ("in a row", lambda _: f"{n} failures" if (n := numbers["consecutive_failures"]) else None),
        ("mean run", lambda _: f"{numbers['avg_response_ms']:.0f} ms" if numbers["total_tasks"] else None),
        ("load", lambda r: load(r["metrics"])),
        ("created", lambda r: render.At(r["created_at"])),
    ]
    return found if state is None else [*found, *_facts(state["facts"])]


def _labels(row: Row) -> list[tuple[str, Callable[[Row], Any]]]:
    """Those that count, then whose word they are."""
    counted, given = counted_labels(row), row["capabilities"]["labels"]
    reported, protected = row.get("reported_labels") or {}, row.get("protected_labels") or ()
    own = {name: value for name, value in counted.items() if not name.startswith(FOUND_BY_ITSELF)}
    system = {name: value for name, value in counted.items() if name.startswith(FOUND_BY_ITSELF)}
    plain = {name: value for name, value in system.items() if not name.startswith(FEATURE)}
    vain = {name: value for name, value in given.items() if counted.get(name) != value}
    declared = {name: value for name, value in reported.items() if not name.startswith(FOUND_BY_ITSELF)}
    features = sorted(name.removeprefix(FEATURE) for name in system if name.startswith(FEATURE))
    return [
        ("labels", lambda _: text(own)),
        ("found out", lambda _: text(plain)),
        ("declared", lambda _: text(declared) if declared != own else None),
        ("protected", lambda _: " ".join(protected)),
        ("without effect", lambda _: text({n: v for n, v in vain.items() if is_agents_own(n, protected)})),
        ("features", lambda _: " ".join(features)),
    ]


def _session(state: Row) -> list[tuple[str, Callable[[Row], Any]]]:
    where = None if state["connected"] else "not to this server"
    return [
        ("connected", lambda _: where or render.At(state["connected_at"])),
        ("server", lambda _: state["server_id"]),
        ("session", lambda _: f"{state['session']}, {state['incarnation']}. start" if state["session"] else None),
        ("lease", lambda _: f"{state['lease']:g} s" if state["session"] else None),
        ("version", lambda _: state["version"]),
        ("host", lambda _: state["host"]),
    ]


def _facts(facts: Row) -> list[tuple[str, Callable[[Row], Any]]]:
    policy = facts.get("policy") or {}
    known = {
        "python": facts.get("python"),
        "protocol": facts.get("protocol"),
        "started": render.At(facts.get("started_at")),
        "isolation": facts.get("isolation"),
        "limits": " ".join(map(str, facts.get("limits") or ())),
        "keeper": f"process {pid}" if (pid := facts.get("keeper_pid")) else None,
        "work dir": facts.get("work_dir"),
    }
    rules = {f"policy.{name}": _rule(value) for name, value in sorted(policy.items())}
    return [(name, lambda _, value=value: value) for name, value in {**known, **rules}.items()]  # type: ignore[misc]


def _rule(value: Any) -> str:
    if isinstance(value, list):
        return " ".join(map(str, value)) or "none"
    return str(value)


def load(metrics: Row | None) -> str | None:
    if not metrics:
        return None
    used = ", ".join(f"{name} {metrics[f'{name}_usage']:.0f} %" for name in ("cpu", "memory", "disk"))
    waiting = metrics.get("unacked_reports") or 0
    parts = [used, f"load {metrics['load']:g}" if "load" in metrics else None]
    output = metrics.get("output_waiting_bytes") or 0
    parts.append(f"{waiting} reports wait to be acknowledged" if waiting else None)
    parts.append(f"{usage.size(output)} of output wait to be stored" if output else None)
    return ", ".join(part for part in parts if part)
