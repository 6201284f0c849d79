"""The agent's settings: declared once, as data, and read into typed values.

`load_agent_settings` is the only entrance; what it needs from the outside world (the file, the environment) is handed in.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import platformdirs
from attrs import evolve, field, frozen

from agent.clean_up import FreeSpace
from agent.containment import ISOLATIONS
from agent.labels import SYSTEM_PREFIX
from agent.policy import Policy
from agent.policy_settings import POLICY_SETTINGS, check_variables
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
)

AGENT_FILE = "agent.toml"
DEFAULT_WORK_DIR = Path("/tmp/hetuflow")

_WEBSOCKET_SCHEMES = {"ws": "ws", "wss": "wss", "http": "ws", "https": "wss"}


@frozen(slots=True)
class ConnectionSettings:
    """The table `[agent]`. Intervals and `lost_after_seconds` are seconds; `max_concurrent_tasks` are the slots.

    `id` None = generated once and kept in `state_dir`; `name` None = the id.
    """

    id: str | None
    name: str | None
    server_url: str
    heartbeat_interval: float
    task_check_interval: float
    max_concurrent_tasks: int
    state_dir: Path
    lost_after_seconds: float

    @property
    def websocket_url(self) -> str:
        """`server_url` as WebSocket base addresses, separated by commas: HTTP base URLs are accepted too."""
        return ",".join(_websocket_address(url) for url in _addresses(self.server_url))


@frozen(slots=True)
class ExecutorSettings:
    """Where instances work; `cleanup_interval` in seconds. `environment_allow`: names that programs get of the agent's own.

    `environments_…`: of Python, see `agent.executors.environments`; the timeout is seconds.
    """

    work_dir: Path
    cleanup_enabled: bool
    cleanup_interval: float
    disk_free_min: str
    isolation: str
    environment_allow: tuple[str, ...]
    environments_dir: Path | None
    environments_max: int
    environment_build_timeout: float


@frozen(slots=True)
class AgentSettings:
    """Everything the agent can be told; `configuration` also knows where each value came from."""

    logging: LoggingSettings
    agent: ConnectionSettings
    executor: ExecutorSettings
    policy: Policy
    labels: Mapping[str, str] = field(hash=False)
    metadata: Mapping[str, str] = field(hash=False)
    configuration: Configuration = field(eq=False, repr=False)


def agent_schema() -> Schema:
    """Return what the agent can be told. The default directories are those of the user who asks."""
    state_dir = platformdirs.user_state_path("hetuflow") / "agent"
    connection = (
        Setting("agent", "id", Kind.IDENTITY, None, "id of this agent; generated and kept when not given"),
        Setting("agent", "name", Kind.TEXT, None, "name of this agent; its id when not given"),
        Setting("agent", "server_url", Kind.TEXT, "ws://127.0.0.1:8081", "base address of the server; of several,"
                " separated by commas, each is tried in turn",
                aliases=("SERVER_URL",), check=_check_server_url),
        Setting("agent", "heartbeat_interval", Kind.DURATION, 30.0, "at most a quarter of lost_after_seconds where it is not given; the server shortens it for a short lease, and lengthens it when very many agents are connected", low=0.1, high=3600),
        Setting("agent", "task_check_interval", Kind.DURATION, 10.0, "between comparisons of what runs with the server",
                low=0.1, high=86_400),
        Setting("agent", "max_concurrent_tasks", Kind.INTEGER, 5, "slots: tasks at once", low=1, high=100_000),
        Setting("agent", "state_dir", Kind.PATH, state_dir, "identity and journal; readable by their owner only"),
        Setting("agent", "lost_after_seconds", Kind.DURATION, 120.0, "silence after which the agent counts as lost;"
                " the server allows 5 s to 1 h",
                low=1, high=86_400),
    )  # fmt: skip
    executor = (
        Setting("executor", "work_dir", Kind.PATH, DEFAULT_WORK_DIR, "a directory per agent, in it one per instance"),
        Setting("executor", "cleanup_enabled", Kind.BOOLEAN, True, "remove old working directories"),
        Setting("executor", "cleanup_interval", Kind.DURATION, 3600.0, "between two removals", low=1),
        Setting("executor", "disk_free_min", Kind.TEXT, "100MB", "free space that must be left at work_dir, as 500MB, 2GiB"
                " or 5%: below it old working directories go before their time, then nothing new is taken in; 0 = no bound",
                check=_check_free_space),
        Setting("executor", "isolation", Kind.CHOICE, "auto", "what keeps programs together and within limits: control groups"
                " where they can be had, these or no start, or none at all; for keepers that start anew",
                choices=ISOLATIONS),
        Setting("executor", "environment_allow", Kind.TEXTS, (), "variables of the agent's own environment that programs"
                " get, as names or patterns; beside PATH, LANG, LC_ALL, TZ and TMPDIR", check=check_variables),
        Setting("executor", "environments_dir", Kind.PATH, None, "environments of Python that jobs ask for, a directory per agent;"
                " readable by the users that tasks run as",
                unset="`~/.cache/hetuflow/environments`, of root `/var/cache/hetuflow/environments`"),
        Setting("executor", "environments_max", Kind.INTEGER, 20, "environments that are kept although nobody uses them",
                low=0, high=100_000),
        Setting("executor", "environment_build_timeout", Kind.DURATION, 600.0, "what building one may take", low=1,
                high=86_400),
    )  # fmt: skip
    return Schema(
        settings=LOGGING_SETTINGS + connection + executor + POLICY_SETTINGS,
        free_tables=("labels", "metadata"),
        check_free=_check_label,
        foreign_tables=dict.fromkeys(("server", "database", "scheduler", "retention"), "config.toml"),
        unused_environment=("REDIS_URL",),
    )


def load_agent_settings(
    file: Path | None, environ: Mapping[str, str], flags: Mapping[str, Any], *, read_text: Callable[[Path], str]
) -> AgentSettings:
    """Return the settings: defaults < file < environment < flags.

    Args:
      file: `agent.toml`; None = the one in the user's configuration directory, if there is one.
      flags: `table.key` -> value; None = not given.
      read_text: returns a file's content, raises `OSError` (or `UnicodeDecodeError`) as `Path.read_text` does.
    Raises:
      ConfigurationError: with every mistake.
    """
    path, text = read_configuration_file(file, platformdirs.user_config_path("hetuflow") / AGENT_FILE, read_text)
    configuration = resolve(agent_schema(), file=path, text=text, environ=environ, flags=flags)
    configuration = _within_the_lease(configuration)
    return AgentSettings(
        logging=configuration.group(LoggingSettings, "logging"),
        agent=configuration.group(ConnectionSettings, "agent"),
        executor=configuration.group(ExecutorSettings, "executor"),
        policy=configuration.group(Policy, "policy"),
        labels=configuration.entries("labels"),
        metadata=configuration.entries("metadata"),
        configuration=configuration,
    )


def check_label_name(name: str) -> None:
    """Raises `NotAllowed` for a name that the agent gives itself."""
    if name.startswith(SYSTEM_PREFIX):
        raise NotAllowed(f"another one: those that begin with {SYSTEM_PREFIX} are set by the agent itself")


def _check_free_space(text: str) -> None:
    try:
        FreeSpace.parse(text)
    except ValueError:
        raise NotAllowed("a size such as 500MB or 2GiB, or a share of the disk such as 5%") from None


def _check_label(table: str, name: str) -> None:
    if table == "labels":
        check_label_name(name)


def _within_the_lease(configuration: Configuration) -> Configuration:
    """A heartbeat that nobody chose follows a lease that somebody did: a quarter of it, as the server would have it."""
    heartbeat = configuration.values["agent.heartbeat_interval"]
    lease = configuration.values["agent.lost_after_seconds"]
    if heartbeat.source == "default" and heartbeat.value > lease.value / 4:
        shorter = evolve(heartbeat, value=lease.value / 4)
        return evolve(configuration, values={**configuration.values, "agent.heartbeat_interval": shorter})
    if heartbeat.value >= lease.value:
        message = f"{heartbeat.value:g} s is not allowed, use less than agent.lost_after_seconds ({lease.text})"
        raise ConfigurationError([Problem("agent.heartbeat_interval", heartbeat.source, message)])
    return configuration


def _addresses(server_url: str) -> list[str]:
    return [url.strip() for url in server_url.split(",")]


def _websocket_address(url: str) -> str:
    """Without a slash at its end."""
    scheme, _, rest = url.partition("://")
    return f"{_WEBSOCKET_SCHEMES[scheme.lower()]}://{rest.rstrip('/')}"


def _check_server_url(server_url: str) -> None:
    for url in _addresses(server_url):
        _check_address(url)


def _check_address(url: str) -> None:
    try:
        parts = urlsplit(url)
        is_address = parts.scheme in _WEBSOCKET_SCHEMES and bool(parts.hostname) and (parts.port or 1) > 0
    except ValueError:  # a port that is no number, a broken IPv6 address
        is_address = False
    if not is_address or parts.query or parts.fragment:
        raise NotAllowed(
            "an address like ws://127.0.0.1:8081 or https://scheduler.example.org; several are separated by commas"
        )
