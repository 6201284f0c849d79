"""The command line of `hetuflow-agent`: runs what a hetuflow server tells it to run on this machine."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import click
import structlog
import trio

from agent import host, labels
from agent.clean_up import FreeSpace
from agent.daemon import Farewell
from agent.distributions import version_of
from agent.executors.features import available
from agent.facts import SystemFacts, system_labels
from agent.identity import kept_agent_id
from agent.keeping import KeeperError
from agent.life import begin_anew, keeper_features, live
from agent.log_ring import LogRing
from agent.logs import configure_logging
from agent.preparations import preparations_of
from agent.profile import Profile
from agent.settings import AgentSettings, check_label_name, load_agent_settings
from hetuflow.configuration import ConfigurationError, NotAllowed
from hetuflow.ports.disk import DiskError
from hetuflow.ports.real import SystemDisk, SystemIds
from hetuflow.ports.state_lock import hold

USAGE_ERROR: Final = 2
LOG_DIRECTORY: Final = "log"
"""In the state directory: the last lines of the agent's log, for those who ask for them from afar."""
_LOCK_SUFFIX: Final = "~lock"
"""No agent's id contains the tilde, so no agent's directory is called so."""


@click.group(
    "hetuflow-agent",
    invoke_without_command=True,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@click.option(
    "--config",
    type=click.Path(path_type=Path),
    help="Configuration file.  [default: agent.toml in the user's configuration directory]",
)
@click.option(
    "--server-url",
    metavar="URL[,URL]",
    help="Base address of the server, such as ws://10.0.0.5:8081; of several, each is tried in turn. Also SERVER_URL.",
)
@click.option("--id", "agent_id", metavar="ID", help="Id of this agent.  [default: generated once and kept]")
@click.option("--name", help="Name of this agent.  [default: the id]")
@click.option("--label", metavar="KEY=VALUE", multiple=True, help="A label that jobs can ask for; may be repeated.")
@click.option("--slots", metavar="N", help="Tasks at once.  [default: 5]")
@click.option("--state-dir", metavar="DIR", help="Identity and journal; one agent each.")
@click.option("--work-dir", metavar="DIR", help="A directory per agent, in it one per task.  [default: /tmp/hetuflow]")
@click.option("--log-level", metavar="LEVEL", help="debug, info, warn or error.  [default: info]")
@click.option("--log-format", metavar="FORMAT", help="text or json.  [default: text]")
@click.pass_context
def command(context: click.Context, /, config: Path | None, label: tuple[str, ...], **given: str | None) -> None:
    """Run tasks of a hetuflow server on this machine.

    The agent dials out to the server and listens on nothing. Stop it with Ctrl-C or SIGTERM: running tasks are ended
    (SIGTERM, 10 s, SIGKILL) and count as lost, which uses one of their retries: with none left they fail. Settings come
    from defaults, the configuration file, environment variables (HETUFLOW_AGENT__SERVER_URL and so on) and these
    options; later ones win.
    """
    own_labels = _labels(label)
    try:
        settings = _settings(config, given)
    except ConfigurationError as exc:
        _fail(*str(exc).splitlines())
    if context.invoked_subcommand is not None:
        context.obj = settings
        return
    ring = configure_logging(settings.logging.level, settings.logging.format)
    state_dir = os.path.abspath(settings.agent.state_dir)
    try:
        SystemDisk().make_private_dir(state_dir)
        with hold(state_dir, who="agent", option="--state-dir"):
            farewell = trio.run(_run, settings, state_dir, own_labels, ring)
    except (DiskError, KeeperError) as exc:
        _fail(str(exc))
    except OSError as exc:
        _fail(f"cannot use {state_dir}: {exc.strerror}")
    if farewell is not Farewell.STOPPED:
        begin_anew()


@command.command(name="restart")
@click.option("--keep", "how", flag_value="keep", help="At once; running tasks go on meanwhile, and lose no output.")
@click.option("--drain", "how", flag_value="drain", help="When running tasks have ended; nothing new is taken.")
@click.option("--timeout", type=click.FloatRange(min=0), metavar="SECONDS", help="[default: 60 with --keep, else none]")
@click.option("--state-dir", metavar="DIR", help="Of the agent; also before `restart`, or in the agent's --config.")
@click.option("--json", "json_", is_flag=True, help="One JSON document, at the end.")
@click.pass_obj
def restart_agent(
    settings: AgentSettings, how: str | None, timeout: float | None, state_dir: str | None, json_: bool
) -> None:
    """Restart the agent that runs on this machine, such as after an upgrade, and wait until it is connected again.

    It is found by its state directory. Exit status 1: it is not connected (again).

    \b
    Examples:
      hetuflow-agent restart --keep
      hetuflow-agent restart --drain --state-dir /var/lib/hetuflow/agent
    """
    from agent.restart import restart  # an agent that runs has no use for it

    if how is None:
        raise click.UsageError("say --keep (running tasks go on) or --drain (they are finished first)")
    found = os.path.abspath(state_dir or settings.agent.state_dir)
    sys.exit(restart(found, how, timeout_seconds=timeout, json_=json_))


@command.group(name="policy")
def policy() -> None:
    """What this machine lets a server do: the table [policy] of agent.toml. Asks no server."""


_json = click.option("--json", "json_", is_flag=True, help="One JSON document.")


@policy.command(name="show")
@_json
@click.pass_obj
def show_policy(settings: AgentSettings, json_: bool) -> None:
    """Show what is allowed here, and where each value comes from."""
    from agent import policy_command  # an agent that runs has no use for it

    sys.exit(policy_command.show(settings, json_=json_))


@policy.command(name="check")
@click.option("--job", "file", metavar="FILE", required=True, help="A job, or its config, as JSON; - = standard input.")
@_json
@click.pass_obj
def check_policy(settings: AgentSettings, file: str, json_: bool) -> None:
    """Say whether a job would be let in here, and which of its limits are lowered. Exit status 1: it would not.

    \b
    Examples:
      hetuflow-agent policy check --job backup.json
      hetuflow jobs show backup --json | hetuflow-agent --config /etc/hetuflow/agent.toml policy check --job -
    """
    from agent import policy_command

    sys.exit(policy_command.check(settings, file, json_=json_))


@command.command(name="executors")
@_json
@click.pass_obj
def show_executors(settings: AgentSettings, json_: bool) -> None:
    """List what tasks can be run with here: programs, environments of Python, WebAssembly, executors of packages.

    Asks no server.
    """
    from agent.executors.listing import show

    show(host.base_environment(settings.executor.environment_allow), json_=json_)


async def _run(settings: AgentSettings, state_dir: str, own_labels: Mapping[str, str], ring: LogRing) -> Farewell:
    disk, ids = SystemDisk(), SystemIds()
    _keep_log(ring, disk, f"{state_dir}/{LOG_DIRECTORY}")
    agent_id = settings.agent.id or kept_agent_id(disk, ids, state_dir)
    profile = _profile(settings, state_dir, agent_id, {**settings.labels, **own_labels})
    with _work_dir_held(disk, profile.work_dir):
        base = host.base_environment(settings.executor.environment_allow)
        preparations = preparations_of(settings.executor, profile, base, SystemFacts())
        return await live(profile, disk, ids, base, preparations, ring)


def _keep_log(ring: LogRing, disk: SystemDisk, directory: str) -> None:
    try:
        disk.make_private_dir(directory)
        ring.keep_in(disk, directory)
    except DiskError as problem:  # an agent works without
        structlog.get_logger().warning("the log is not kept on disk", problem=str(problem))


@contextlib.contextmanager
def _work_dir_held(disk: SystemDisk, work_dir: str) -> Iterator[None]:
    """Raises `DiskError` when it cannot be used, `StateInUse` when an agent of this id with another state uses it."""
    root, agent_id = os.path.split(work_dir)
    disk.make_private_dir(root)
    disk.make_private_dir(work_dir)
    with hold(work_dir, who="agent", option="--work-dir", path=f"{root}/{agent_id}{_LOCK_SUFFIX}"):
        yield


def _settings(config: Path | None, given: dict[str, str | None]) -> AgentSettings:
    flags: dict[str, Any] = {
        "agent.server_url": given["server_url"],
        "agent.id": given["agent_id"],
        "agent.name": given["name"],
        "agent.max_concurrent_tasks": given["slots"],
        "agent.state_dir": given["state_dir"],
        "executor.work_dir": given["work_dir"],
        "logging.level": given["log_level"],
        "logging.format": given["log_format"],
    }
    return load_agent_settings(config, os.environ, flags, read_text=_read_text)


def _profile(settings: AgentSettings, state_dir: str, agent_id: str, own_labels: Mapping[str, str]) -> Profile:
    agent, executor = settings.agent, settings.executor
    return Profile(
        agent_id=agent_id,
        name=agent.name or agent_id,
        boot_id=host.boot_id(SystemDisk()),
        host=host.hostname(),
        version=_version(),
        server_url=agent.websocket_url,
        state_dir=state_dir,
        work_dir=os.path.join(os.path.abspath(executor.work_dir), agent_id),
        slots=agent.max_concurrent_tasks,
        labels=labels.declared(own_labels, system_labels()),
        features=(*keeper_features(), *available(host.base_environment(executor.environment_allow))),
        metadata=settings.metadata,
        heartbeat_interval=agent.heartbeat_interval,
        check_interval=agent.task_check_interval,
        lost_after_seconds=agent.lost_after_seconds,
        cleanup_interval=executor.cleanup_interval,
        cleanup_enabled=executor.cleanup_enabled,
        disk_free_min=FreeSpace.parse(executor.disk_free_min),
        policy=settings.policy,
        isolation=executor.isolation,
    )


def _labels(given: tuple[str, ...]) -> dict[str, str]:
    found = {}
    for label in given:
        name, separator, value = label.partition("=")
        if not separator or not name:
            raise click.BadParameter(f"{label!r} is not KEY=VALUE", param_hint="--label")
        try:
            check_label_name(name)
        except NotAllowed as no:
            raise click.BadParameter(f"{label!r}: use {no.allowed}", param_hint="--label") from no
        found[name] = value
    return found


def _version() -> str:
    return version_of("hetuflow") or "0"


def _read_text(path: Path) -> str:
    return path.read_text(encoding="utf-8")


def _fail(*lines: str) -> None:
    for line in lines:
        click.echo(f"hetuflow-agent: {line}", err=True)
    sys.exit(USAGE_ERROR)
