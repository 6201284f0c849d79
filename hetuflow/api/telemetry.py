"""Y4: the server's figures as Prometheus text 0.0.4, in a registry of their own.

What is counted here (requests) is kept by prometheus_client; what others count (events, tasks, lateness) is read when
somebody asks. Units are seconds, bytes and counts; the names are the paths of Y2 joined by `_`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from attrs import define, field, frozen
from prometheus_client import CollectorRegistry, Counter, ProcessCollector, generate_latest
from prometheus_client import Histogram as RequestHistogram
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric

from hetuflow.measure import BOUNDS_SECONDS, Histogram

CONTENT_TYPE = b"text/plain; version=0.0.4; charset=utf-8"
METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS"})
NO_ROUTE = "none"
"""The route of a request that no endpoint answers: paths are the clients' own, and would never end."""


@frozen(slots=True, kw_only=True)
class Figures:
    """What is read at a scrape. `counts`: the answer of Y2, None when the database does not answer."""

    counts: Mapping[str, Any] | None
    uptime_seconds: int
    version: str
    server_id: str
    connections: int
    open_streams: int
    queue: Mapping[str, int]
    commands: int
    conflicts: int
    append_seconds: Histogram
    lateness_seconds: Histogram
    is_deciding: bool = True
    clock_offset_seconds: float | None = None
    """None: not measured yet."""


@define(slots=True)
class Telemetry:
    """Counts requests, and writes everything down."""

    registry: CollectorRegistry = field(factory=CollectorRegistry)
    _requests: Counter = field(init=False)
    _seconds: RequestHistogram = field(init=False)

    def __attrs_post_init__(self) -> None:
        ProcessCollector(registry=self.registry)
        self._requests = Counter(
            "hetuflow_http_requests", "Requests answered", ["method", "route", "status"], registry=self.registry
        )
        self._seconds = RequestHistogram(
            "hetuflow_http_request_seconds",
            "From the request's head to the start of its answer",
            ["route"],
            buckets=BOUNDS_SECONDS,
            registry=self.registry,
        )

    def answered(self, method: str, route: str, status: int, seconds: float) -> None:
        self._requests.labels(method if method in METHODS else "other", route, str(status)).inc()
        self._seconds.labels(route).observe(seconds)

    def exposition(self, figures: Figures) -> bytes:
        once = CollectorRegistry()
        once.register(_Collected(figures))
        return generate_latest(once) + generate_latest(self.registry)


@frozen(eq=False)
class _Collected:
    figures: Figures

    def collect(self) -> Iterator[Metric]:
        figures = self.figures
        info = GaugeMetricFamily("hetuflow_info", "Always 1", labels=["version", "server_id"])
        info.add_metric([figures.version, figures.server_id], 1)
        yield info
        yield _gauge("uptime_seconds", "Since the start of this server", figures.uptime_seconds)
        yield _gauge("database_up", "Whether the database answers", int(figures.counts is not None))
        yield _gauge("scheduler_deciding", "1: this server decides, 0: it stands by", int(figures.is_deciding))
        if figures.clock_offset_seconds is not None:
            offset = figures.clock_offset_seconds
            yield _gauge("clock_offset_seconds", "The clock of this server minus that of the database", offset)
        yield _gauge("database_connections", "Connections to the database that are open", figures.connections)
        yield _gauge("http_open_streams", "Event streams that are being read", figures.open_streams)
        yield _by_label("queue", "Work in hand, by what it waits for", "kind", figures.queue)
        yield _counter("commands", "Commands decided", figures.commands)
        yield _counter("append_conflicts", "Appends that lost a race", figures.conflicts)
        yield _histogram("append_seconds", "From the request to append events to their commit", figures.append_seconds)
        yield _histogram(
            "schedule_lateness_seconds", "From the due moment to the committed decision", figures.lateness_seconds
        )
        if figures.counts is not None:
            yield from _counts(figures.counts)


def _counts(counts: Mapping[str, Any]) -> Iterator[Metric]:
    yield _gauge("events_position", "Head of the log", counts["events"]["position"])
    yield _counter("events_appended", "Events appended by this server", counts["events"]["appended_total"])
    yield _by_label("tasks", "Tasks by status", "status", counts["tasks"])
    yield _by_label("task_instances", "Task instances by status", "status", counts["task_instances"])
    for name, text in _AGENTS.items():
        yield _gauge(f"agents_{name}", text, counts["agents"][name])
    schedules = counts["schedules"]
    yield _gauge("schedules_enabled", "Schedules with status Enabled", schedules["enabled"])
    yield _counter("schedules_fired", "Fires decided by this server", schedules["fired_total"])
    yield _counter("schedules_skipped", "Fires skipped by this server", schedules["skipped_total"])
    projections: Mapping[str, Mapping[str, int]] = counts["projections"]
    for member, text in (("position", "Position that it shows"), ("lag_events", "Events it is behind the log")):
        values = {name: each[member] for name, each in projections.items()}
        yield _by_label(f"projection_{member}", text, "projection", values)
    gateway = counts["gateway"]
    yield _gauge("gateway_active_connections", "Agents connected to this server", gateway["active_connections"])
    for name, text in _GATEWAY.items():
        yield _counter(f"gateway_{name}", text, gateway[f"total_{name}"])
    yield _counter("http_errors", "Answers outside 2xx", counts["http"]["errors_total"])


_AGENTS = {
    "total": "Agents known",
    "online": "Agents online",
    "offline": "Agents offline",
    "slots": "Slots of the agents online",
    "slots_free": "Slots that nothing runs on",
}
_GATEWAY = {
    "connections": "Connections accepted",
    "messages_sent": "Messages sent to agents",
    "messages_received": "Messages received from agents",
}


def _gauge(name: str, text: str, value: float) -> Metric:
    return GaugeMetricFamily(f"hetuflow_{name}", text, value=value)


def _counter(name: str, text: str, value: float) -> Metric:
    return CounterMetricFamily(f"hetuflow_{name}", text, value=value)


def _by_label(name: str, text: str, label: str, values: Mapping[str, float]) -> Metric:
    family = GaugeMetricFamily(f"hetuflow_{name}", text, labels=[label])
    for key, value in values.items():
        family.add_metric([key], value)
    return family


def _histogram(name: str, text: str, measured: Histogram) -> Metric:
    buckets: Iterable[tuple[str, float]] = [
        ("+Inf" if bound == float("inf") else str(bound), float(count)) for bound, count in measured.cumulative()
    ]
    return HistogramMetricFamily(f"hetuflow_{name}", text, buckets=list(buckets), sum_value=measured.sum)
