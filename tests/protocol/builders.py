"""Messages of every type: one sample each for the corpus, and strategies for the properties."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from attrs import evolve, fields
from hypothesis import strategies as st

from hetuflow.protocol.messages import (
    TAGS,
    Ack,
    ArtifactPart,
    ArtifactStored,
    ArtifactWanted,
    Command,
    Condition,
    Dispatch,
    Ended,
    FetchPart,
    FileGiven,
    FilePart,
    FileWatch,
    Forget,
    Heartbeat,
    HeartbeatAck,
    HeartbeatHeard,
    Hello,
    InstanceUsage,
    Known,
    KnownPage,
    LogLines,
    Message,
    Observed,
    Output,
    OutputAck,
    Ping,
    Pong,
    Refused,
    Shutdown,
    Standing,
    Started,
    Stop,
    Usage,
    UsagePoint,
    WatchFiles,
    Welcome,
)

KNOWN = Known(task_id="task-1", instance_id="instance-1", epoch=3, state="running")

SAMPLES: Mapping[str, Message] = {
    "hello": Hello(
        agent_id="agent-1",
        name="builder",
        boot_id="boot-1",
        incarnation=7,
        version="0.1.0",
        host="host-1",
        slots=16,
        protocol=1,
        labels={"os": "linux", "größe": "ü"},
        metadata={"rack": "4"},
        last_acked=41,
        known=(KNOWN,),
    ),
    "known_page": KnownPage(known=(KNOWN, KNOWN), last=True),
    "heartbeat": Heartbeat(sequence=9, metrics={"cpu_usage": 12.5, "active_tasks": 3}, known=(KNOWN,)),
    "started": Started(
        event_id="0198-1",
        sequence=42,
        task_id="task-1",
        instance_id="instance-1",
        epoch=3,
        started_at="2026-01-05T08:00:00.000001Z",
        pid=4711,
        isolation="session",
    ),
    "ended": Ended(
        event_id="0198-2",
        sequence=43,
        task_id="task-1",
        instance_id="instance-1",
        epoch=3,
        completed_at="2026-01-05T08:00:01.000000Z",
        reason="signal",
        started_at="2026-01-05T08:00:00.000001Z",
        duration_seconds=0.999999,
        error_message="ended by signal 9",
        exit_code=137,
        signal=9,
        metrics={"cpu_time": 0.25, "memory_peak": 1048576},
        output={"stdout": {"bytes": 3, "kept": 3, "shipped": 3, "sha256": "ab"}, "dropped": 0},
    ),
    "output": Output(
        instance_id="instance-1",
        task_id="task-1",
        epoch=3,
        stream="stderr",
        offset=1024,
        seq=5,
        at="2026-01-05T08:00:00.500000Z",
        data=bytes(range(256)),
    ),
    "artifact_part": ArtifactPart(
        instance_id="instance-1",
        task_id="task-1",
        epoch=3,
        path="out/größe.bin",
        collected_at="2026-01-05T08:00:01.000000Z",
        bytes_total=1280,
        sha256="ab" * 32,
        offset=1024,
        data=bytes(range(256)),
    ),
    "fetch_part": FetchPart(
        token=5, instance_id="instance-1", url="/api/v1/files/" + "cd" * 32, offset=131072, length=65536
    ),
    "artifact_stored": ArtifactStored(
        instance_id="instance-1", epoch=3, path="out/größe.bin", offset_end=1280, problem="no such day"
    ),
    "file_part": FilePart(
        token=5, offset=131072, bytes_total=131080, sha256="cd" * 32, data=b"12345678", problem="gone", is_coming=True
    ),
    "usage": Usage(
        instances=(
            InstanceUsage(
                instance_id="instance-1",
                epoch=3,
                latest=UsagePoint(elapsed_seconds=12.5, cpu_seconds=3.25, memory_bytes=4096, processes=2),
                points=(
                    UsagePoint(
                        elapsed_seconds=10.25,
                        cpu_seconds=2.5,
                        memory_bytes=4096,
                        memory_peak_bytes=8192,
                        disk_read_bytes=512,
                        disk_write_bytes=1024,
                        processes=3,
                        cpu_pressure_seconds=0.5,
                        memory_pressure_seconds=0.25,
                    ),
                ),
            ),
        )
    ),
    "condition": Condition(facts={"isolation": "cgroup2", "limits": ["memory:cgroup2"], "policy": {"min_nice": 5}}),
    "log_lines": LogLines(id="0198-9", first=41, lines=("a line", "eine größere"), problem="none"),
    "welcome": Welcome(
        session="0123456789abcdef",
        server_id="server-1",
        lease_seconds=120.0,
        heartbeat_interval=30.0,
        check_interval=10.0,
        server_time="2026-01-05T08:00:00Z",
        store_id="store-1/0",
    ),
    "refused": Refused(code=4003, reason="another connection of this agent took over"),
    "heartbeat_ack": HeartbeatAck(sequence=9),
    "dispatch": Dispatch(
        task_id="task-1",
        job_id="job-1",
        instance_id="instance-1",
        epoch=3,
        attempt=2,
        cmd="bash",
        args=("-c", 'echo "$X"', ""),
        environment={"X": "1 2"},
        timeout_seconds=3600,
        capture_output=True,
        output_bytes_max=10485760,
        scheduled_at="2026-01-05T08:00:00Z",
    ),
    "stop": Stop(instance_id="instance-1", epoch=3, reason="cancelled by operator", grace_seconds=2.5),
    "forget": Forget(instance_ids=("instance-1", "instance-2")),
    "ack": Ack(sequences=(42, 43)),
    "heartbeat_heard": HeartbeatHeard(sequence=12, reason="the database is away"),
    "output_ack": OutputAck(instance_id="instance-1", stream="stdout", offset_end=2048),
    "ping": Ping(token="abc"),
    "pong": Pong(token="abc"),
    "command": Command(id="0198-9", kind=2, timestamp=1767600000000, payload={"check_interval": 5}),
    "observed": Observed(
        event_id="0f0e0d0c0b0a09080706050403020100",
        sequence=9,
        type="file.created",
        at="2026-01-05T08:00:07.000000Z",
        data={"path": "/in/a.csv", "size": 7, "agent_id": "agent-1"},
    ),
    "watch_files": WatchFiles(watches=(FileWatch(glob="/in/*.csv", types=("file.created", "file.deleted")),)),
    "standing": Standing(labels={"env": "staging"}, draining=True, reason="new disk"),
    "shutdown": Shutdown(reason="maintenance"),
}
"""As of protocol 1: what a message lacks that is newer has its default."""

SAMPLES_2: Mapping[str, Message] = {
    "hello": evolve(
        SAMPLES["hello"],  # type: ignore[type-var]
        protocol_max=2,
        features=("keeper", "limits"),
        protected_labels=("os",),
        life="life-1",
        store_id="store-1/0",
    ),
    "welcome": evolve(SAMPLES["welcome"], protocol=2),  # type: ignore[type-var]
    "ended": evolve(
        SAMPLES["ended"],  # type: ignore[type-var]
        reason="memory",
        artifacts=({"path": "out/report.csv", "bytes": 12, "sha256": "cd"},),
    ),
    "dispatch": evolve(
        SAMPLES["dispatch"],  # type: ignore[type-var]
        working_dir="/srv/app",
        stdin=b"hello\n",
        kill_grace_seconds=30.0,
        on_disconnect="continue",
        lost_after_seconds=600.0,
        run_as="worker",
        umask=0o027,
        nice=5,
        ionice="best-effort:7",
        memory_bytes_max=512 * 1024 * 1024,
        cpu_cores_max=0.8,
        processes_max=64,
        files=(
            FileGiven(path="conf/app.ini", content=b"[app]\n", mode=0o640),
            FileGiven(path="data.bin", url="https://example.org/data.bin"),
        ),
        artifacts=(ArtifactWanted(glob="out/*.csv", bytes_max=1048576, optional=True),),
        executor="wasm",
        executor_options={"module": "/opt/plugin.wasm", "memory_mb": 64},
        parameters={"day": "2026-01-31", "n": 3},
    ),
}
"""What protocol 2 added to."""

_text = st.text(st.characters(codec="utf-8"), max_size=20)
_count = st.integers(0, 2**63)
_real = st.floats(allow_nan=False, allow_infinity=False)
_known = st.builds(Known, task_id=_text, instance_id=_text, epoch=_count, state=_text)
_point = st.builds(
    UsagePoint,
    elapsed_seconds=_real,
    cpu_seconds=_real,
    memory_bytes=_count,
    memory_peak_bytes=_count,
    disk_read_bytes=_count,
    disk_write_bytes=_count,
    processes=_count,
    cpu_pressure_seconds=_real,
    memory_pressure_seconds=_real,
)
_usage = st.builds(
    InstanceUsage, instance_id=_text, epoch=_count, latest=_point, points=st.lists(_point, max_size=3).map(tuple)
)
_BY_TYPE: Mapping[str, st.SearchStrategy[Any]] = {
    "str": _text,
    "str | None": st.none() | _text,
    "int": _count,
    "int | None": st.none() | _count,
    "float": _real,
    "float | None": st.none() | _real,
    "bool": st.booleans(),
    "bytes": st.binary(max_size=100),
    "tuple[str, ...]": st.lists(_text, max_size=3).map(tuple),
    "tuple[InstanceUsage, ...]": st.lists(_usage, max_size=3).map(tuple),
    "tuple[int, ...]": st.lists(_count, max_size=3).map(tuple),
    "tuple[FileGiven, ...]": st.lists(
        st.builds(FileGiven, path=_text, content=st.none() | st.binary(max_size=20), mode=st.integers(0, 0o777)),
        max_size=3,
    ).map(tuple),
    "tuple[ArtifactWanted, ...]": st.lists(
        st.builds(ArtifactWanted, glob=_text, bytes_max=_count, optional=st.booleans()), max_size=3
    ).map(tuple),
    "tuple[Mapping[str, Any], ...]": st.lists(st.dictionaries(_text, _count | _text, max_size=3), max_size=3).map(
        tuple
    ),
    "tuple[FileWatch, ...]": st.lists(
        st.builds(FileWatch, glob=_text, types=st.just(("file.created",))), max_size=3
    ).map(tuple),
    "tuple[Known, ...]": st.lists(_known, max_size=3).map(tuple),
    "tuple[Known, ...] | None": st.none() | st.lists(_known, max_size=3).map(tuple),
    "Mapping[str, str]": st.dictionaries(_text, _text, max_size=3),
    "Mapping[str, float]": st.dictionaries(_text, _real, max_size=3),
    "Mapping[str, float] | None": st.none() | st.dictionaries(_text, _real, max_size=3),
    "Mapping[str, Any]": st.dictionaries(_text, _count | _text | st.none(), max_size=3),
    "Mapping[str, Any] | None": st.none() | st.dictionaries(_text, _count | _text | st.none(), max_size=3),
}


def a_message_of(kind: type[Message]) -> st.SearchStrategy[Message]:
    return st.builds(kind, **{a.name: _BY_TYPE[str(a.type)] for a in fields(kind)})  # type: ignore[arg-type]


any_message: st.SearchStrategy[Message] = st.sampled_from(sorted(TAGS)).flatmap(lambda tag: a_message_of(TAGS[tag]))
