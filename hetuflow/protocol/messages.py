"""The published language between agent and server.

Compatibility: a new field always has a default; a tag is never reused; a receiver ignores fields and tags it does not
know. Times are RFC 3339 text in UTC, durations seconds, sizes bytes, ids text.

Agent -> server *reports* (`Started`, `Ended`, `Observed`) are events: journaled on the agent's disk before they are sent, sent again
until acknowledged, acknowledged only after the server's commit, told apart by `event_id`. Server -> agent messages are
commands. The rest keeps the connection honest.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from enum import StrEnum
from typing import Any

from attrs import Factory, frozen

PROTOCOL_VERSION = 2
"""What is spoken here. 2 added: how a program is run and under what (`Dispatch`), `Hello.features`, `Ended.artifacts`,
the reasons memory, cpu and processes."""

PROTOCOL_VERSION_MIN = 1
"""The oldest that is understood. Two that differ speak the older one's: `Welcome.protocol`."""

LEASE_SECONDS = 120.0
"""Of an agent that does not say which it wants."""

AGENT_ID_RULE = "1 to 64 of A-Z a-z 0-9 . _ -, and neither . nor .."
_AGENT_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")


def is_agent_id(text: str) -> bool:
    """Whether an agent may be called so: the id is part of addresses, paths and stream names."""
    return _AGENT_ID.fullmatch(text) is not None and text not in (".", "..")


class Message:
    """Base of all messages, for typing only."""

    __slots__ = ()


class KnownState(StrEnum):
    """How far an instance has come on its agent."""

    ACCEPTED = "accepted"
    RUNNING = "running"
    ENDED = "ended"


@frozen(slots=True, kw_only=True)
class Known:
    """An instance that the agent holds: accepted, running, or ended with a report not yet acknowledged."""

    task_id: str
    instance_id: str
    epoch: int
    state: str


# --- agent -> server -----------------------------------------------------------------------------------------------


@frozen(slots=True, kw_only=True)
class Hello(Message):
    """The first message of a connection. `known` is complete: what it lacks, the agent does not have.

    `incarnation` grows at every start of the agent; of two agents with one id the one that is connected and answers
    keeps it, else the higher one gets it. `life` is drawn at the start and kept in memory only: an equal incarnation
    with another life is another start, whose state directory was lost or copied; "" = not told. `last_acked` is the
    highest sequence for which the agent has an acknowledgement.
    `store_id` is that of the last welcome, kept across starts; "" = there was none.
    """

    agent_id: str
    name: str
    boot_id: str
    incarnation: int
    version: str
    host: str
    slots: int
    protocol: int = PROTOCOL_VERSION
    """The oldest that the agent speaks: a server of protocol 1 takes no other than 1."""
    protocol_max: int = 0
    """The newest that the agent speaks; 0 = `protocol`."""
    labels: Mapping[str, str] = Factory(dict)
    metadata: Mapping[str, str] = Factory(dict)
    lost_after_seconds: float = LEASE_SECONDS
    """The lease that the agent is configured for; the server's welcome says what it gets, which is bounded."""
    heartbeat_interval: float = 0.0
    """How often it is configured to beat; the server says how often it does. 0 = not told."""
    last_acked: int = 0
    known: tuple[Known, ...] = ()
    known_complete: bool = True
    """False on the wire when `KnownPage`s follow; a `Session` joins them, its users never see it."""
    life: str = ""
    store_id: str = ""
    features: tuple[str, ...] = ()
    """What it can do beyond running a program: keeper, limits, manners, policies, files, artifacts, python, wasm,
    executors. A task that needs one of them comes only to agents that have it."""
    protected_labels: tuple[str, ...] = ()
    """Names of labels, or patterns of them, of which placement goes by the agent's word, whatever is set over the API."""


@frozen(slots=True, kw_only=True)
class KnownPage(Message):
    """More of a hello's `known`, when one frame cannot hold it. Made and joined by `Session`."""

    known: tuple[Known, ...]
    last: bool


@frozen(slots=True, kw_only=True)
class Heartbeat(Message):
    """Proof that the agent's work loop turns. `known`: every `check_interval` also all that the agent holds."""

    sequence: int
    metrics: Mapping[str, float] = Factory(dict)
    known: tuple[Known, ...] | None = None


@frozen(slots=True, kw_only=True)
class Started(Message):
    """Report: the process of the instance runs. `isolation`: how it is kept apart ("session")."""

    event_id: str
    sequence: int
    task_id: str
    instance_id: str
    epoch: int
    started_at: str
    pid: int | None = None
    isolation: str | None = None


@frozen(slots=True, kw_only=True)
class Ended(Message):
    """Report: the instance is over on the agent and its process tree gone. `reason` None = exit code 0.

    `reason` is one of exit_code, signal, timeout, memory, cpu, processes, output, artifact, lost, start_error, cancelled,
    rejected; memory, cpu, processes and artifact since protocol 2. "rejected" and "start_error" mean that nothing ran; after "rejected" the same instance may be dispatched again with a new epoch.
    `signal` n comes with `exit_code` 128 + n. `metrics`: cpu_time (s), memory_peak, disk_read, disk_write, network_in,
    network_out (bytes; 0 = not measured). `output`: per stream (`stdout`, `stderr`) `bytes` written by the process,
    `kept` of them, `shipped` bytes in `Output` chunks (kept and marker), `sha256` of all that was written; and
    `dropped` bytes in total. `artifacts`: the files that were kept, each `path`, `bytes` and `sha256`,
    and those that were not, each `path` (or the glob that fits none) and `problem`.
    """

    event_id: str
    sequence: int
    task_id: str
    instance_id: str
    epoch: int
    completed_at: str
    reason: str | None = None
    started_at: str | None = None
    duration_seconds: float | None = None
    error_message: str | None = None
    exit_code: int | None = None
    signal: int | None = None
    metrics: Mapping[str, float] | None = None
    output: Mapping[str, Any] | None = None
    artifacts: tuple[Mapping[str, Any], ...] = ()


@frozen(slots=True, kw_only=True)
class Output(Message):
    """Captured bytes. At least once; idempotent by (instance, stream, offset). `seq` orders the chunks of both streams.

    What is sent again has the same offset, length and `seq`, also when a later life of the agent sends it.
    """

    instance_id: str
    task_id: str
    epoch: int
    stream: str
    offset: int
    seq: int
    at: str
    data: bytes


@frozen(slots=True, kw_only=True)
class Observed(Message):
    """Report: something happened on the agent's machine. `type` is file.created, file.modified or file.deleted of a file
    that `WatchFiles` asks for, or watch.started or watch.failed of a directory. `data`: see docs/reference/scheduling.md.
    """

    event_id: str
    sequence: int
    type: str
    at: str
    data: Mapping[str, Any] = Factory(dict)


@frozen(slots=True, kw_only=True)
class ArtifactPart(Message):
    """Bytes of a file that an instance was to leave behind. At least once; the server keeps them in order, without gaps.

    `path` is relative to the instance's directory. `collected_at`, `bytes_total` and `sha256` (hex) are of the whole file and the same
    in all of its parts; a file without bytes is one part without data.
    """

    instance_id: str
    task_id: str
    epoch: int
    path: str
    collected_at: str
    bytes_total: int
    sha256: str
    offset: int
    data: bytes


@frozen(slots=True, kw_only=True)
class FetchPart(Message):
    """Send these bytes of a file of the server's: answered by one `FilePart` with this `token`.

    `url`: /api/v1/files/<id>, or /api/v1/task-instances/item/<id>/artifacts/<path>. Tokens are this connection's.
    """

    token: int
    instance_id: str
    url: str
    offset: int = 0
    length: int = 128 * 1024


@frozen(slots=True, kw_only=True)
class UsagePoint:
    """What an instance's process tree uses, `elapsed_seconds` after its start. CPU, bytes read and written, the peak and
    pressure (seconds) are since its start; 0 = not measured."""

    elapsed_seconds: float
    cpu_seconds: float = 0.0
    memory_bytes: int = 0
    memory_peak_bytes: int = 0
    disk_read_bytes: int = 0
    disk_write_bytes: int = 0
    processes: int = 0
    cpu_pressure_seconds: float = 0.0
    memory_pressure_seconds: float = 0.0


@frozen(slots=True, kw_only=True)
class InstanceUsage:
    """Of one instance: its `latest` figures, and the `points` to keep that were not sent before."""

    instance_id: str
    epoch: int
    latest: UsagePoint
    points: tuple[UsagePoint, ...] = ()


@frozen(slots=True, kw_only=True)
class Usage(Message):
    """With a heartbeat, what the running instances use. Best effort: what is lost with a connection is not sent again."""

    instances: tuple[InstanceUsage, ...]


@frozen(slots=True, kw_only=True)
class Condition(Message):
    """What people want to know of an agent beyond its hello: told after each welcome, and when it has changed.

    `facts`: version, protocol, python, started_at, boot_id, isolation, limits, keeper, features, policy, work_dir, refusal (why
    it takes nothing now, if so), and what
    comes later; texts, numbers, arrays and objects of them.
    """

    facts: Mapping[str, Any] = Factory(dict)


@frozen(slots=True, kw_only=True)
class LogLines(Message):
    """The answer to a `Command` FetchLog: lines of the agent's own log, the oldest first.

    `first`: the number of the first; numbers grow by one per line and go on in the agent's next life. `problem`: why
    there are none.
    """

    id: str
    first: int = 0
    lines: tuple[str, ...] = ()
    problem: str = ""


# --- server -> agent -----------------------------------------------------------------------------------------------


@frozen(slots=True, kw_only=True)
class Welcome(Message):
    """The agent is connected. `store_id` names the event store and its restore generation.

    `protocol`: the older one's of the two; what is newer is not to be said on this connection.
    """

    session: str
    server_id: str
    lease_seconds: float
    heartbeat_interval: float
    check_interval: float
    server_time: str
    store_id: str = ""
    protocol: int = 1


@frozen(slots=True, kw_only=True)
class Refused(Message):
    """No, or no longer. The server closes the connection with this code and reason."""

    code: int
    reason: str


@frozen(slots=True, kw_only=True)
class HeartbeatAck(Message):
    """The lease is renewed. `heartbeat_interval`: from now on so many seconds between two heartbeats; 0 = as before."""

    sequence: int
    heartbeat_interval: float = 0.0


@frozen(slots=True, kw_only=True)
class HeartbeatHeard(Message):
    """The heartbeat has arrived, and the lease is *not* renewed: the server may not, as it says."""

    sequence: int
    reason: str = ""


@frozen(slots=True, kw_only=True)
class FileGiven:
    """A file that the program finds in its directory. `content` None: it is fetched from `url`. `mode`: its permissions."""

    path: str
    content: bytes | None = None
    url: str = ""
    mode: int = 0o600


@frozen(slots=True, kw_only=True)
class ArtifactWanted:
    """Files of the directory that are kept after the run. `bytes_max` 0 = as the agent allows."""

    glob: str
    bytes_max: int = 0
    optional: bool = False


@frozen(slots=True, kw_only=True)
class Dispatch(Message):
    """Run one instance. Valid only on the connection it came by. `environment` is final.

    `timeout_seconds` 0 = no limit; `output_bytes_max` bounds stdout and stderr together. `working_dir` "" = a directory
    of its own. `on_disconnect` is stop or continue; `lost_after_seconds` 0 = the session's lease, which bounds the run
    when it says stop. `*_max` 0 = no limit, `cpu_cores_max` 0.8 = 80 % of one core. `executor` "" = a plain program;
    else python, wasm or the name of an installed one, with its `executor_options` and the task's `parameters`.
    """

    task_id: str
    job_id: str
    instance_id: str
    epoch: int
    attempt: int
    cmd: str
    args: tuple[str, ...] = ()
    environment: Mapping[str, str] = Factory(dict)
    timeout_seconds: float = 0
    capture_output: bool = True
    output_bytes_max: int = 10 * 1024 * 1024
    scheduled_at: str = ""
    working_dir: str = ""
    stdin: bytes = b""
    kill_grace_seconds: float = 10.0
    on_disconnect: str = "stop"
    lost_after_seconds: float = 0.0
    run_as: str = ""
    umask: int = 0o077
    nice: int = 0
    ionice: str = ""
    memory_bytes_max: int = 0
    cpu_cores_max: float = 0.0
    processes_max: int = 0
    files: tuple[FileGiven, ...] = ()
    artifacts: tuple[ArtifactWanted, ...] = ()
    executor: str = ""
    executor_options: Mapping[str, Any] = Factory(dict)
    parameters: Mapping[str, Any] = Factory(dict)


@frozen(slots=True, kw_only=True)
class Stop(Message):
    """End the process tree of the instance: SIGTERM, `grace_seconds`, SIGKILL. No effect when it is not held."""

    instance_id: str
    epoch: int
    reason: str = ""
    grace_seconds: float = 10.0


@frozen(slots=True, kw_only=True)
class Forget(Message):
    """The server knows these instances ended: no report is wanted; what still runs of them is ended in silence."""

    instance_ids: tuple[str, ...]


@frozen(slots=True, kw_only=True)
class Ack(Message):
    """These reports are committed (or known to be)."""

    sequences: tuple[int, ...]


@frozen(slots=True, kw_only=True)
class OutputAck(Message):
    """All bytes of the stream before `offset_end` are stored."""

    instance_id: str
    stream: str
    offset_end: int


@frozen(slots=True, kw_only=True)
class ArtifactStored(Message):
    """All bytes of the artifact before `offset_end` are stored: go on there. `problem`: it can never be stored, give it up."""

    instance_id: str
    epoch: int
    path: str
    offset_end: int
    problem: str = ""


@frozen(slots=True, kw_only=True)
class FilePart(Message):
    """The answer to `FetchPart`. `bytes_total` and `sha256` (hex) are of the whole file.

    `problem`: there is no such file, in a sentence. `is_coming`: it is on its way to the server, ask again later.
    """

    token: int
    offset: int = 0
    bytes_total: int = 0
    sha256: str = ""
    data: bytes = b""
    problem: str = ""
    is_coming: bool = False


@frozen(slots=True, kw_only=True)
class Standing(Message):
    """How the server counts this agent: told when that is not what the hello declared, and whenever it changes.

    `labels` are those that placement goes by, which an operator may have set over the declared ones. `draining`: nothing
    new is sent, what runs goes on; `reason` is the operator's.
    """

    labels: Mapping[str, str] = Factory(dict)
    draining: bool = False
    reason: str = ""


@frozen(slots=True, kw_only=True)
class Command(Message):
    """An operator's word to this agent. `kind`: Shutdown 1, UpdateConfig 2, ClearCache 3, FetchMetrics 4, CancelTask 7, FetchLog 8.

    `timestamp`: epoch ms. A shutdown ends the running work. UpdateConfig takes `heartbeat_interval` and
    `check_interval` (s), for this connection; FetchMetrics asks for a heartbeat now; CancelTask is only told: the server
    sends `Stop` by itself. FetchLog {`lines`, `after`} is answered with `LogLines`: the last lines, at most so many, with a
    number greater than `after`.
    """

    id: str
    kind: int
    timestamp: int = 0
    payload: Mapping[str, Any] = Factory(dict)


@frozen(slots=True, kw_only=True)
class FileWatch:
    """Files whose absolute path fits the glob; `types` of file.created, file.modified, file.deleted."""

    glob: str
    types: tuple[str, ...]


@frozen(slots=True, kw_only=True)
class WatchFiles(Message):
    """Observe these files and no others, from now on, also while there is no connection; until another one says else."""

    watches: tuple[FileWatch, ...] = ()


# --- both ways -----------------------------------------------------------------------------------------------------


@frozen(slots=True, kw_only=True)
class Ping(Message):
    token: str


@frozen(slots=True, kw_only=True)
class Pong(Message):
    token: str


@frozen(slots=True, kw_only=True)
class Shutdown(Message):
    """The sender is stopping: no dispatch any more; reports, output and acknowledgements still flow."""

    reason: str


Report = Started | Ended
"""Of an instance."""

Told = Started | Ended | Observed
"""What is journaled, sent again and acknowledged."""

TAGS: Mapping[int, type[Message]] = {
    1: Hello,
    2: KnownPage,
    3: Heartbeat,
    4: Started,
    5: Ended,
    6: Output,
    7: Observed,
    8: ArtifactPart,
    9: FetchPart,
    10: Usage,
    11: Condition,
    12: LogLines,
    20: Welcome,
    21: Refused,
    22: HeartbeatAck,
    23: Dispatch,
    24: Stop,
    25: Forget,
    26: Ack,
    27: OutputAck,
    28: Standing,
    29: HeartbeatHeard,
    30: Command,
    31: WatchFiles,
    32: ArtifactStored,
    33: FilePart,
    40: Ping,
    41: Pong,
    42: Shutdown,
}
"""Number on the wire -> message. Never reused; 1-19 agent, 20-39 server, 40-59 both."""
