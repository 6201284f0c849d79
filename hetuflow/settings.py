"""The server's settings: declared once, as data, and read into typed values.

`load_server_settings` is the only entrance. Every key, its default and its meaning stand in `_SETTINGS`; the groups below
give them types. What a setting needs from the outside world (the file, the environment) is handed in.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import platformdirs
from attrs import field, frozen

from hetuflow.configuration import (
    LOGGING_SETTINGS,
    Configuration,
    ConfigurationError,
    Kind,
    LoggingSettings,
    NotAllowed,
    Problem,
    Schema,
    Setting,
    read_configuration_file,
    resolve,
    without_password,
)
from hetuflow.domain.cron import UnknownTimeZone
from hetuflow.domain.cron_zone import check_zone

SERVER_FILE = "config.toml"

_HOST = re.compile(r"[A-Za-z0-9.-]{1,253}(:[0-9]{1,5})?|\[[0-9A-Fa-f:.]+\](:[0-9]{1,5})?")


@frozen(slots=True)
class ListenerSettings:
    """The table `[server]`. `id` None = generated once and kept in `state_dir`; `max_connections` 0 = no limit."""

    http_port: int
    websocket_port: int
    host: str
    max_connections: int
    id: str | None
    name: str
    allowed_origins: tuple[str, ...]
    allowed_hosts: tuple[str, ...]
    static_dir: Path | None
    state_dir: Path
    read_only: bool


@frozen(slots=True)
class DatabaseSettings:
    """`url` None = none was given; `max_lifetime` in seconds."""

    url: str | None = field(repr=lambda url: repr(url and without_password(url)))
    pool_size: int
    max_lifetime: float


@frozen(slots=True)
class SchedulerSettings:
    """`tick_interval` in seconds, the longest sleep; `max_concurrent_tasks` 0 = no limit; `namespace_limits` as
    `name=number`; `event_depth_max` is the loop guard of event schedules; the others in seconds."""

    tick_interval: float
    max_concurrent_tasks: int
    namespace_limits: tuple[str, ...]
    priority_ageing: float
    timezone: str
    server_lost_after: float
    clock_offset_max: float
    event_depth_max: int


@frozen(slots=True)
class RetentionSettings:
    """Whole days (UTC); 0 = for ever."""

    output_days: int
    artifact_days: int


@frozen(slots=True)
class ServerSettings:
    """Everything the server can be told; `configuration` also knows where each value came from."""

    logging: LoggingSettings
    server: ListenerSettings
    database: DatabaseSettings
    scheduler: SchedulerSettings
    retention: RetentionSettings
    configuration: Configuration = field(eq=False, repr=False)


def server_schema() -> Schema:
    """Return what the server can be told. The default directories are those of the user who asks."""
    state_dir = platformdirs.user_state_path("hetuflow") / "server"
    listeners = (
        Setting("server", "http_port", Kind.INTEGER, 8080, "port of the REST API; 0 = any free one", low=0, high=65_535),
        Setting("server", "websocket_port", Kind.INTEGER, 8081, "port for agents; 0 = any free one", low=0, high=65_535),
        Setting("server", "host", Kind.TEXT, "127.0.0.1", "address both listen on; loopback only", check=_check_host),
        Setting("server", "max_connections", Kind.INTEGER, 1000, "agents connected at once; 0 = no limit",
                low=0, high=1_000_000),
        Setting("server", "id", Kind.IDENTITY, None, "id of this server; generated and kept when not given"),
        Setting("server", "name", Kind.TEXT, "hetuflow-server", "name of this server"),
        Setting("server", "allowed_origins", Kind.TEXTS, (), "origins of browsers let in beside our own",
                check=_check_origins),
        Setting("server", "allowed_hosts", Kind.TEXTS, (), "names that requests may address beside loopback",
                check=_check_hosts),
        Setting("server", "static_dir", Kind.PATH, None, "directory of a browser client to serve"),
        Setting("server", "state_dir", Kind.PATH, state_dir, "identity of the server; readable by its owner only"),
        Setting("server", "read_only", Kind.BOOLEAN, False,
                "only show what is in the log: nothing is scheduled, no agent is let in, every write is refused"),
    )  # fmt: skip
    database = (
        Setting("database", "url", Kind.URL, None, "PostgreSQL, as postgresql://user:password@host:5432/database",
                aliases=("DATABASE_URL",), check=_check_database_url),
        Setting("database", "pool_size", Kind.INTEGER, 20, "connections to it", low=1, high=1000),
        Setting("database", "max_lifetime", Kind.DURATION, 3600.0, "seconds a connection lives", low=1),
    )  # fmt: skip
    scheduler = (
        Setting("scheduler", "tick_interval", Kind.DURATION, 1.0, "longest sleep of the scheduler; not its precision",
                low=0.01, high=3600),
        Setting("scheduler", "max_concurrent_tasks", Kind.INTEGER, 0, "tasks at once in the whole cluster; 0 = no limit",
                low=0, high=1_000_000_000),
        Setting("scheduler", "namespace_limits", Kind.TEXTS, (), "tasks at once by namespace in the whole cluster, as"
                " name=number; *=number for each other one; the same on all servers of a database",
                check=_check_namespace_limits),
        Setting("scheduler", "priority_ageing", Kind.DURATION, 300.0, "waiting that is worth one point of priority; 0 ="
                " only priority counts; the same on all servers of a database", low=0, high=31_536_000),
        Setting("scheduler", "timezone", Kind.TEXT, "UTC", "time zone of schedules without their own", check=_check_zone),
        Setting("scheduler", "server_lost_after", Kind.DURATION, 10.0, "silence after which another server takes over;"
                " the same on all servers of a database", low=2, high=600),
        Setting("scheduler", "clock_offset_max", Kind.DURATION, 5.0, "beyond this offset between the server's clock and"
                " PostgreSQL's nothing is fired", low=0.1, high=3600),
        Setting("scheduler", "event_depth_max", Kind.INTEGER, 8, "event schedules in one chain; beyond it an event makes no"
                " task", low=1, high=1000),
    )  # fmt: skip
    retention = (
        Setting("retention", "output_days", Kind.INTEGER, 0, "what instances printed is kept for so many whole days, then"
                " dropped; 0 = for ever; the same on all servers of a database", low=0, high=36_500),
        Setting("retention", "artifact_days", Kind.INTEGER, 0, "the same for the files that they left", low=0, high=36_500),
    )  # fmt: skip
    return Schema(
        settings=LOGGING_SETTINGS + listeners + database + scheduler + retention,
        foreign_tables=dict.fromkeys(("agent", "executor", "labels", "metadata", "policy"), "agent.toml"),
        unused_environment=("REDIS_URL",),
    )


def load_server_settings(
    file: Path | None, environ: Mapping[str, str], flags: Mapping[str, Any], *, read_text: Callable[[Path], str]
) -> ServerSettings:
    """Return the settings: defaults < file < environment < flags.

    Args:
      file: `config.toml`; None = the one in the user's configuration directory, if there is one.
      flags: `table.key` -> value; None = not given.
      read_text: returns a file's content, raises `OSError` (or `UnicodeDecodeError`) as `Path.read_text` does.
    Raises:
      ConfigurationError: with every mistake.
    """
    path, text = read_configuration_file(file, platformdirs.user_config_path("hetuflow") / SERVER_FILE, read_text)
    configuration = resolve(server_schema(), file=path, text=text, environ=environ, flags=flags)
    _check_ports(configuration)
    return ServerSettings(
        logging=configuration.group(LoggingSettings, "logging"),
        server=configuration.group(ListenerSettings, "server"),
        database=configuration.group(DatabaseSettings, "database"),
        scheduler=configuration.group(SchedulerSettings, "scheduler"),
        retention=configuration.group(RetentionSettings, "retention"),
        configuration=configuration,
    )


def _check_ports(configuration: Configuration) -> None:
    http, websocket = (configuration.values[f"server.{name}_port"] for name in ("http", "websocket"))
    if http.value == websocket.value != 0:
        message = f"{websocket.value} is not allowed, use another port than server.http_port"
        raise ConfigurationError([Problem("server.websocket_port", websocket.source, message)])


def _check_host(host: str) -> None:
    try:
        is_loopback = ipaddress.ip_address(host).is_loopback
    except ValueError:
        is_loopback = host.casefold() == "localhost"
    if not is_loopback:
        raise NotAllowed(
            "a loopback address (127.0.0.1, ::1, localhost): this version does not authenticate anyone, so it must not "
            "listen for other machines; put a proxy that authenticates in front"
        )


def _check_origins(origins: tuple[str, ...]) -> None:
    for origin in origins:
        try:
            parts = urlsplit(origin)
            is_origin = parts.scheme in ("http", "https") and f"{parts.scheme}://{parts.netloc}" == origin
            is_origin = is_origin and bool(_HOST.fullmatch(parts.netloc)) and (parts.port or 1) > 0
        except ValueError:  # a port that is no number, a broken IPv6 address
            is_origin = False
        if not is_origin:
            raise NotAllowed(f"origins like https://example.org or http://localhost:3000, without a path ({origin!r})")


def _check_hosts(hosts: tuple[str, ...]) -> None:
    for host in hosts:
        if not _HOST.fullmatch(host):
            raise NotAllowed(f"host names like scheduler.example.org, with or without a port ({host!r})")


def _check_database_url(url: str) -> None:
    try:
        is_postgresql = urlsplit(url).scheme in ("postgresql", "postgres")
    except ValueError:
        is_postgresql = False
    if not is_postgresql:
        raise NotAllowed("postgresql://user:password@host:5432/database")


def namespace_limits(texts: tuple[str, ...]) -> dict[str, int]:
    """`name=number` as a mapping.

    Raises:
      ValueError: one is not that, or a namespace is named twice.
    """
    found: dict[str, int] = {}
    for text in texts:
        name, _, number = text.rpartition("=")
        if not 1 <= len(name) <= 64 or not number.isascii() or not number.isdigit() or int(number) > 1_000_000:
            raise ValueError(text)
        if name in found:
            raise ValueError(f"{name} twice")
        found[name] = int(number)
    return found


def _check_namespace_limits(texts: tuple[str, ...]) -> None:
    try:
        namespace_limits(texts)
    except ValueError as problem:
        raise NotAllowed(f"name=number with a number 0-1000000, each namespace once ({problem})") from None


def _check_zone(name: str) -> None:
    try:
        check_zone(name)
    except UnknownTimeZone as error:
        hint = f", did you mean {error.nearest!r}?" if error.nearest else ""
        raise NotAllowed(f"an IANA time zone such as 'Europe/Berlin' or 'UTC'{hint}") from error
