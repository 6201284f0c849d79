"""What can be asked of each actor. Imperative, frozen; parsed and typed before they get here.

Commands carry what the decision needs from elsewhere: the job as a `JobSnapshot`, a slot as a `Placement`.
In updates, `changes` maps member names to new values (already typed); a member that is absent stays.
"""

from __future__ import annotations

from hetuflow.domain.commands.agent import (
    ConnectAgent,
    CreateAgent,
    DisconnectAgent,
    DrainAgent,
    LeftBehind,
    LoseAgent,
    RemoveAgent,
    UndrainAgent,
    UpdateAgent,
)
from hetuflow.domain.commands.backfill import AdvanceBackfill, CancelBackfill, NoteBackfillEnds, StartBackfill
from hetuflow.domain.commands.calendar import (
    CreateCalendar,
    DeleteCalendar,
    SealCalendar,
    UnsealCalendar,
    UpdateCalendar,
)
from hetuflow.domain.commands.daemon import SeatTask, TendDaemon
from hetuflow.domain.commands.external import ReceiveEvent
from hetuflow.domain.commands.flow import CancelFlow, FinishFlow, FlowTaskEnd, RetryFlow, StartFlow
from hetuflow.domain.commands.instance import (
    CreateInstance,
    DeleteInstance,
    LoseInstance,
    Report,
    ReportEnded,
    ReportStarted,
    RequeueInstance,
    UpdateInstance,
)
from hetuflow.domain.commands.job import CreateJob, DeleteJob, DisableJob, EnableJob, SealJob, UnsealJob, UpdateJob
from hetuflow.domain.commands.lease import ReleaseLease, TakeLease
from hetuflow.domain.commands.schedule import (
    CreateSchedule,
    DeleteSchedule,
    DisableSchedule,
    EnableSchedule,
    FireSchedule,
    MatchedEvent,
    NoteTaskEnds,
    ReplanSchedule,
    SuspendSchedule,
    TaskEnd,
    TriggerSchedule,
    UpdateSchedule,
)
from hetuflow.domain.commands.server import (
    AffirmServer,
    LoseServer,
    RemoveServer,
    StartServer,
    StopServer,
    UpdateServer,
)
from hetuflow.domain.commands.snapshots import JSON, CalendarSnapshot, JobSnapshot
from hetuflow.domain.commands.task import (
    CancelTask,
    CreateTask,
    CreateTasks,
    DeleteTask,
    DispatchTask,
    ExpireTask,
    RetryTask,
    SettleDependencies,
    UpdateTask,
)

__all__ = [
    "JSON",
    "AdvanceBackfill",
    "AffirmServer",
    "CalendarSnapshot",
    "CancelBackfill",
    "CancelFlow",
    "CancelTask",
    "ConnectAgent",
    "CreateAgent",
    "CreateCalendar",
    "CreateInstance",
    "CreateJob",
    "CreateSchedule",
    "CreateTask",
    "CreateTasks",
    "DeleteCalendar",
    "DeleteInstance",
    "DeleteJob",
    "DeleteSchedule",
    "DeleteTask",
    "DisableJob",
    "DisableSchedule",
    "DisconnectAgent",
    "DispatchTask",
    "DrainAgent",
    "EnableJob",
    "EnableSchedule",
    "ExpireTask",
    "FinishFlow",
    "FireSchedule",
    "FlowTaskEnd",
    "JobSnapshot",
    "LeftBehind",
    "LoseAgent",
    "LoseInstance",
    "LoseServer",
    "MatchedEvent",
    "NoteBackfillEnds",
    "NoteTaskEnds",
    "ReceiveEvent",
    "ReleaseLease",
    "RemoveAgent",
    "RemoveServer",
    "ReplanSchedule",
    "Report",
    "ReportEnded",
    "ReportStarted",
    "RequeueInstance",
    "RetryFlow",
    "RetryTask",
    "SealCalendar",
    "SealJob",
    "SeatTask",
    "SettleDependencies",
    "StartBackfill",
    "StartFlow",
    "StartServer",
    "StopServer",
    "SuspendSchedule",
    "TakeLease",
    "TaskEnd",
    "TendDaemon",
    "TriggerSchedule",
    "UndrainAgent",
    "UnsealCalendar",
    "UnsealJob",
    "UpdateAgent",
    "UpdateCalendar",
    "UpdateInstance",
    "UpdateJob",
    "UpdateSchedule",
    "UpdateServer",
    "UpdateTask",
]
