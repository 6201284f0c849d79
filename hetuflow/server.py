"""The composition root: which rooms there are, in which order they start, and in which they stop.

`serve` reads as that list. Everything started later is stopped earlier; each step of the stop has a deadline of its own.
"""

from __future__ import annotations

import gc
import json
import logging
import re
import signal
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import trio
from attrs import Factory, evolve, frozen

import projections
from eventstore.errors import EventStoreError, SqlError, StartError, StoreClosed, StoreTimeout, StoreUnavailable
from eventstore.postgres import PostgresSettings, PostgresStore, open_postgres_store
from eventstore.postgres.database import Database
from eventstore.postgres.migrate import EVENTSTORE, Source
from eventstore.postgres.roles import SERVER_ROLE, may_become
from hetuflow.actors import SYSTEM
from hetuflow.api.app import create_app
from hetuflow.api.endings import InstanceEnd, end_of_instance
from hetuflow.api.rooms import Identity, Rooms
from hetuflow.api.rows import ProjectionRows, ProjectionTables
from hetuflow.api.serving import HttpListener
from hetuflow.api.serving import ListenError as HttpListenError
from hetuflow.core import Core, CoreSettings, open_core, open_idle_core
from hetuflow.domain.decider import Address
from hetuflow.domain.enums import ScheduleStatus
from hetuflow.file_room import StoredFiles
from hetuflow.gateway.listener import ListenError as AgentListenError
from hetuflow.gateway.listener import WebSocketListener
from hetuflow.gateway.output import OutputUnavailable
from hetuflow.gateway.settings import GatewaySettings
from hetuflow.logs import configure_logging
from hetuflow.ports.admission import Admission
from hetuflow.ports.clock import Clock
from hetuflow.ports.disk import Disk, DiskError
from hetuflow.ports.ids import Ids
from hetuflow.ports.real import SystemClock, SystemDisk, SystemIds
from hetuflow.ports.state_lock import hold
from hetuflow.protocol.messages import Output
from hetuflow.pruning import Pruning
from hetuflow.settings import ServerSettings, namespace_limits
from hetuflow.usage_room import StoredUsage
from projections.artifacts import PostgresArtifacts
from projections.errors import ProjectionError
from projections.kept_files import PostgresFiles
from projections.output import InvalidOutput, PostgresOutput
from projections.past import PastTables
from projections.queries import fetch
from projections.rebuilds import Rebuilds
from projections.retention import Retention
from projections.runner import Runner, open_runner
from projections.tables import ALL_TABLES
from projections.usage import PostgresUsage

log = logging.getLogger(__name__)

PROJECTIONS: Source = ("projections", Path(projections.__file__).with_name("migrations"))
MIGRATION_SOURCES: Sequence[Source] = (EVENTSTORE, PROJECTIONS)

START_ERRORS = (StartError, HttpListenError, AgentListenError, DiskError)
"""What a person can mend: one line, exit status 2."""

START_SECONDS_MAX = 10.0
"""For the tables to show this server's own start; a stalled projection must not keep it from serving."""

CLIENTS_SECONDS_MAX = 6.0
"""Longer than the HTTP listener's own deadline for requests under way (3 s)."""
REPORTS_SECONDS_MAX = 2.0
AGENTS_SECONDS_MAX = 5.0
"""Longer than a connection may take to close (2 s) and to say so to the log (2 s)."""

SERVER_ID_FILE = "server-id"
_SERVER_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")


class NoDatabase(StartError):
    """No database is configured."""


class CannotStart(StartError):
    """What would be waited out in a running server ends one that starts: somebody looks at it."""


@frozen(slots=True)
class Sockets:
    """The two ports, bound before anything is started: a port in use is found at once."""

    http: HttpListener
    agents: WebSocketListener
    http_port: int
    websocket_port: int


def run(settings: ServerSettings, world: World | None = None) -> int:
    """Run a server until SIGTERM or SIGINT; return the exit status. A second signal ends it at once."""
    configure_logging(settings.logging.level, settings.logging.format)
    for name in settings.configuration.unused_environment:
        log.info("%s is set and has no effect", name)
    status = 0
    try:
        trio.run(_until_signal, settings, world or World())
    except* START_ERRORS as group:
        print(f"Error: {_first(group)}", file=sys.stderr)
        status = 2
    return status


class Life:
    """A server from its first step to its last: before it serves it is simply cancelled, afterwards it stops in order."""

    def __init__(self) -> None:
        self.scope = trio.CancelScope()
        self.stopping = trio.Event()
        self.serves = False

    def started(self, value: object = None) -> None:
        """As a `trio.TaskStatus`: it serves."""
        self.serves = True

    def stop(self) -> None:
        self.stopping.set()
        if not self.serves:
            self.scope.cancel()


async def _until_signal(settings: ServerSettings, world: World) -> None:
    life = Life()
    async with trio.open_nursery() as nursery:
        await nursery.start(_watch_signals, life)
        with life.scope:
            await _serve_or_say_why_not(settings, life, world)
        nursery.cancel_scope.cancel()


async def _serve_or_say_why_not(settings: ServerSettings, life: Life, world: World) -> None:
    """Raises `StartError` for all trouble with the database until it serves; afterwards it is a defect."""
    try:
        await serve(settings, world=world, until=life.stopping.wait, task_status=life)
    except* (EventStoreError, ProjectionError) as group:
        trouble = _first(group)
        if life.serves or isinstance(trouble, StartError):
            raise
        raise CannotStart(f"the server cannot start: {trouble}") from group


async def _watch_signals(life: Life, *, task_status: trio.TaskStatus[None]) -> None:
    with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
        task_status.started()
        async for number in signals:
            name = signal.Signals(number).name
            if life.stopping.is_set():
                log.warning("%s again: ending at once", name)
                signal.signal(number, signal.SIG_DFL)
                signal.raise_signal(number)
            log.info("%s: stopping", name)
            life.stop()


async def serve(
    settings: ServerSettings,
    *,
    world: World | None = None,
    until: Callable[[], Awaitable[object]] = trio.sleep_forever,
    task_status: trio.TaskStatus[Rooms] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Serve until `until` returns, then stop in order; cancelling it is a crash that still closes its files.

    Raises:
      StartError: no usable database. HttpListenError, AgentListenError: a port is in use. DiskError: no state directory.
    """
    world = world or World()
    if settings.database.url is None:
        raise NoDatabase("no database is configured: set DATABASE_URL (postgresql://user:password@host:5432/database)")
    world.disk.make_private_dir(str(settings.server.state_dir))
    with hold(str(settings.server.state_dir), who="server", option="--state-dir"):
        await _serve(settings, _kept_server_id(settings, world.ids, world.disk), world, until, task_status)


async def _serve(
    settings: ServerSettings,
    server_id: str,
    world: World,
    until: Callable[[], Awaitable[object]],
    task_status: trio.TaskStatus[Rooms],
) -> None:
    async with (
        _bound(settings, world) as sockets,
        world.open_store(settings) as store,
        open_runner(store) as runner,
        (open_idle_core if settings.server.read_only else open_core)(
            store,
            OutputSinkOf(output := PostgresOutput(store.database)),
            world.clock,
            world.ids,
            _core_settings(settings, server_id, sockets),
            find_open=OpenStreams(store.database, runner),
            schedules_of=SchedulesOf(store.database, runner),
            followers_of=FollowersOfJobs(store, runner),
            files=(
                files := StoredFiles(
                    PostgresArtifacts(store.database), PostgresFiles(store.database), EndsOfInstances(store)
                )
            ),
            usage=StoredUsage(usage := PostgresUsage(store.database)),
        ) as core,
        trio.open_nursery() as nursery,
    ):
        gc.freeze()  # what is open was loaded, and most of it stays: nobody looks for garbage in it
        if not settings.server.read_only:
            await _react_to_the_past(store.database, core)
        # The first reader sees this server and the sessions it has ended: nobody has written here yet, so no read would wait.
        await runner.reached(await store.head(), START_SECONDS_MAX)
        past = PastTables(store.database)
        nursery.start_soon(past.run)
        rebuilds = Rebuilds(store.database, world.clock.now, lambda: str(world.ids.uuid7()))
        await nursery.start(rebuilds.run)
        rooms = await _rooms(
            settings, server_id, sockets, store, runner, core, output, files, usage, past, rebuilds, world
        )
        if not settings.server.read_only:
            nursery.start_soon(_pruning(settings, store, core).run)
        agents, clients = Listening("agents"), Listening("clients")
        await nursery.start(agents.run, sockets.agents.serve, core.gateway.serve_connection)
        await nursery.start(clients.run, sockets.http.serve, create_app(rooms))
        log.info(
            "hetuflow server %s: REST API on http://%s:%d/api/v1, agents on ws://%s:%d",
            server_id,
            settings.server.host,
            sockets.http_port,
            settings.server.host,
            sockets.websocket_port,
        )
        task_status.started(rooms)
        await until()
        await _stop_intake(core, agents, clients)
        nursery.cancel_scope.cancel()  # what has no end of its own
    log.info("hetuflow server %s has stopped", server_id)


def _pruning(settings: ServerSettings, store: PostgresStore, core: Core) -> Pruning:
    days = {"output": settings.retention.output_days, "artifacts": settings.retention.artifact_days}
    return Pruning(Retention(store.database), days, lambda: core.scheduler.leases.is_deciding)


async def _stop_intake(core: Core, agents: Listening, clients: Listening) -> None:
    """The first half of the stop; the other half is the end of each block in `serve`, from the last to the first:
    the scheduler's duties, leases and the server's goodbye, mailboxes, tables, what is queued for the log, the ports."""
    core.gateway.stop_accepting()
    for what, step, seconds in (
        ("clients under way are answered", clients.end, CLIENTS_SECONDS_MAX),
        ("agents' reports are committed and acknowledged", core.gateway.drained, REPORTS_SECONDS_MAX),
        ("agents are disconnected, and the log knows it", agents.end, AGENTS_SECONDS_MAX),
    ):
        with trio.move_on_after(seconds) as deadline:
            await step()
        if deadline.cancelled_caught:
            log.warning("stopping without waiting longer until %s", what)


class Listening:
    """A listener and its connections, ended on their own."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._scope = trio.CancelScope()
        self._ended = trio.Event()

    async def run(
        self, serve: Callable[..., Awaitable[None]], handler: object, *, task_status: trio.TaskStatus[int]
    ) -> None:
        try:
            with self._scope:
                await serve(handler, task_status=task_status)
        finally:
            self._ended.set()

    async def end(self) -> None:
        self._scope.cancel()
        await self._ended.wait()


_REFERS = "exclude_calendars @> to_jsonb(array[$1::text])"

_CHANGED_CALENDARS = """
select distinct named.id from sched_schedule s
cross join lateral jsonb_array_elements_text(s.exclude_calendars) as named(id)
left join sched_calendar c on c.id = named.id
where s.status = $1 and s.exclude_calendars <> '[]'
  and (c.id is null or coalesce((s.calendar_versions ->> named.id)::integer, 0) < c.version)
order by 1"""
"""Those of which an enabled schedule knew an older version when it last looked for its next run."""


async def _react_to_the_past(database: Database, core: Core) -> None:
    """Schedules whose job was deleted or whose calendar was changed just before the last server died, and that nothing
    else would find."""
    rows = await fetch(
        database,
        "select distinct s.job_id::text from sched_schedule s"
        " where not exists (select from sched_job j where j.id = s.job_id) order by 1",
    )
    for row in rows:
        await core.reactions.job_deleted(row[0], 0, SYSTEM)
    for row in await fetch(database, _CHANGED_CALENDARS, int(ScheduleStatus.ENABLED)):
        await core.reactions.calendar_changed(row[0], 0, SYSTEM)


async def _rooms(
    settings: ServerSettings,
    server_id: str,
    sockets: Sockets,
    store: PostgresStore,
    runner: Runner,
    core: Core,
    output: PostgresOutput,
    files: StoredFiles,
    usage: PostgresUsage,
    past: PastTables,
    rebuilds: Rebuilds,
    world: World,
) -> Rooms:
    return Rooms(
        identity=Identity(
            server_id=server_id,
            server_name=settings.server.name,
            version=_version(),
            started_at=world.clock.now(),
            started=trio.current_time(),
            http_port=sockets.http_port,
            websocket_port=sockets.websocket_port,
            timezone=settings.scheduler.timezone,
            database_version=(await store.database.fetch("show server_version"))[0][0],
            pool_size=settings.database.pool_size,
            allowed_hosts=settings.server.allowed_hosts,
            allowed_origins=settings.server.allowed_origins,
            is_read_only=settings.server.read_only,
            static_dir=None if settings.server.static_dir is None else str(settings.server.static_dir),
        ),
        system=core.system,
        store=store,
        rows=ProjectionRows(store.database, past, runner.reached, runner.status),
        projections=ProjectionTables(runner, rebuilds),
        scheduler=core.scheduler,
        output=output,
        artifacts=files.artifacts,
        files=files.files,
        usage=usage,
        agents=core.gateway,
        clock=core.clock,
        ids=world.ids,
    )


@asynccontextmanager
async def _bound(settings: ServerSettings, world: World) -> AsyncIterator[Sockets]:
    http = HttpListener(settings.server.host, settings.server.http_port)
    admission = Admission.of(settings.server.allowed_hosts, settings.server.allowed_origins)
    agents = world.listen(settings.server.host, settings.server.websocket_port, admission)
    try:
        http_port = http.open()
        yield Sockets(http, agents, http_port, await agents.open())
    finally:
        http.close()


@asynccontextmanager
async def open_store(settings: ServerSettings) -> AsyncIterator[PostgresStore]:
    """The store, as the role that can only append to the log where `migrate` could arrange that."""
    url = settings.database.url or ""
    wanted = PostgresSettings(
        pool_size=settings.database.pool_size, connection_seconds_max=settings.database.max_lifetime
    )
    if await may_become(url, SERVER_ROLE, _OWNED, settings=wanted):
        wanted = evolve(wanted, role=SERVER_ROLE)
    async with open_postgres_store(url, settings=wanted, sources=MIGRATION_SOURCES) as store:
        if wanted.role is not None:
            log.info("the server runs as role %s: it can append to the log and cannot change it", SERVER_ROLE)
        else:
            log.warning(
                "the server runs as its login role: %s does not exist, does not own the tables, or is not open to it",
                SERVER_ROLE,
            )
        yield store


_OWNED = ("projection_tables", *(table.name for table in ALL_TABLES.values()))
"""What the server's role must own to follow the log and to rebuild."""


@frozen(slots=True, kw_only=True)
class World:
    """The ports of a server. Whoever breaks things on purpose hands in others than those of the operating system."""

    clock: Clock = Factory(SystemClock)
    ids: Ids = Factory(SystemIds)
    disk: Disk = Factory(SystemDisk)
    open_store: Callable[[ServerSettings], AbstractAsyncContextManager[PostgresStore]] = open_store
    listen: Callable[[str, int, Admission], WebSocketListener] = WebSocketListener


def _core_settings(settings: ServerSettings, server_id: str, sockets: Sockets) -> CoreSettings:
    return CoreSettings(
        server_name=settings.server.name,
        version=_version(),
        address=f"{settings.server.host}:{sockets.http_port}",
        gateway=GatewaySettings(server_id=server_id, connections_max=settings.server.max_connections),
        tick_seconds=settings.scheduler.tick_interval,
        tasks_max=settings.scheduler.max_concurrent_tasks,
        namespaces_max=namespace_limits(settings.scheduler.namespace_limits),
        ageing_seconds=round(settings.scheduler.priority_ageing),
        server_lost_seconds=settings.scheduler.server_lost_after,
        clock_offset_seconds_max=settings.scheduler.clock_offset_max,
        event_depth_max=settings.scheduler.event_depth_max,
    )


# --- what only the tables know -------------------------------------------------------------------------------------


@frozen(slots=True)
class OpenStreams:
    """Which streams have open work: the table that the server keeps for its own start."""

    database: Database
    runner: Runner

    async def __call__(self, position: int) -> Sequence[Address]:
        await self.runner.open_work_reached(position)
        rows = await fetch(self.database, "select stream_id from open_work order by opened_at, stream_id")
        return [Address.of_stream(row[0]) for row in rows]


@frozen(slots=True)
class SchedulesOf:
    """The schedules of a job, or those that refer to a calendar, that are not deleted."""

    database: Database
    runner: Runner

    async def __call__(self, source: Address, position: int) -> Sequence[str]:
        if await self.runner.reached(position, 10.0) < position:
            raise StoreUnavailable("the tables are behind the log; try again")
        condition = _REFERS if source.category == "calendar" else "job_id = $1::text::uuid"
        rows = await fetch(
            self.database, f"select id::text from sched_schedule where {condition} order by id", source.id
        )
        return [row[0] for row in rows]


@frozen(slots=True)
class FollowersOfJobs:
    """The jobs that name one of these as upstream, as of the head of the log."""

    store: PostgresStore
    runner: Runner

    async def __call__(self, job_ids: Sequence[str]) -> Sequence[str]:
        head = await self.store.head()
        if await self.runner.reached(head, 10.0) < head:
            raise StoreUnavailable("the tables are behind the log; try again")
        wanted = [json.dumps({"jobs": [{"job_id": job_id}]}) for job_id in job_ids]
        rows = await fetch(
            self.store.database,
            "select distinct j.id::text from unnest($1::text[]) as w(upstream) cross join lateral"
            " (select id from sched_job where upstream @> w.upstream::jsonb) as j order by 1",
            wanted,
        )
        return [row[0] for row in rows]


@frozen(slots=True)
class EndsOfInstances:
    """How instances ended, for agents that ask for their files."""

    store: PostgresStore

    async def __call__(self, instance_id: str) -> InstanceEnd | None:
        rows = await fetch(
            self.store.database, "select task_id::text from sched_task_instance where id = $1::text::uuid", instance_id
        )
        return await end_of_instance(self.store, rows[0][0], instance_id) if rows else None


@frozen(slots=True)
class OutputSinkOf:
    """The gateway's port over the projections' store of output."""

    output: PostgresOutput

    async def store(self, chunks: Sequence[Output]) -> None:
        try:
            await self._store(chunks)
        except (StoreUnavailable, StoreTimeout, StoreClosed, SqlError) as exc:
            raise OutputUnavailable(str(exc)) from exc

    async def _store(self, chunks: Sequence[Output]) -> None:
        """Pieces that can never be kept are dropped, alone: sent again for ever, they would hold up all others."""
        try:
            await self.output.store(chunks)
        except InvalidOutput as exc:
            if len(chunks) > 1:
                for chunk in chunks:
                    await self._store([chunk])
            else:
                log.error("output of instance %s is dropped: %s", chunks[0].instance_id, exc)


# --- identity ------------------------------------------------------------------------------------------------------


def _kept_server_id(settings: ServerSettings, ids: Ids, disk: Disk) -> str:
    """The configured id, else the one generated at the first start and kept."""
    if settings.server.id is not None:
        return settings.server.id
    path = f"{settings.server.state_dir}/{SERVER_ID_FILE}"
    kept = (disk.read(path) or b"").decode("ascii", "replace").strip()
    if _SERVER_ID.fullmatch(kept):
        return kept
    server_id = str(ids.uuid7())
    disk.replace(path, f"{server_id}\n".encode())
    return server_id


def _version() -> str:
    try:
        return version("hetuflow")
    except PackageNotFoundError:
        return "unknown"


def _first(exc: BaseException) -> BaseException:
    while isinstance(exc, BaseExceptionGroup):
        exc = exc.exceptions[0]
    return exc
