"""Random lives of a job, a server and a lease, each against an outside model that reads events only."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from hetuflow.domain.commands import (
    AffirmServer,
    CreateJob,
    CreateTask,
    DeleteJob,
    DisableJob,
    EnableJob,
    LoseServer,
    ReleaseLease,
    RemoveServer,
    SealJob,
    StartServer,
    StopServer,
    TakeLease,
    UnsealJob,
    UpdateJob,
    UpdateServer,
)
from hetuflow.domain.decider import Guard
from hetuflow.domain.enums import JobStatus
from hetuflow.domain.events import (
    JobCreated,
    JobDeleted,
    JobDisabled,
    JobEnabled,
    JobSealed,
    JobUnsealed,
    JobUpdated,
    LeaseReleased,
    LeaseTaken,
    ServerLost,
    ServerRemoved,
    ServerStarted,
    ServerStopped,
    ServerUpdated,
)
from hetuflow.domain.job import JOB, SEAL_SECONDS, snapshot
from hetuflow.domain.lease import LEASE
from hetuflow.domain.rejection import Rejected
from hetuflow.domain.server import SERVER
from hetuflow.domain.task import TASK
from tests.support.given import Given, Outcome, given
from tests.support.stored import stored

SERVERS = ["server-1", "server-2", "server-3"]


class Life(RuleBasedStateMachine):
    """A stream: its commands are decided and folded, every event is shown to `sees`."""

    decider: Any

    @initialize()
    def begin(self) -> None:
        self.at: Given = given(self.decider)
        self.events: list[Any] = []
        self.setup_model()

    def setup_model(self) -> None:
        raise NotImplementedError

    def sees(self, event: Any) -> None:
        raise NotImplementedError

    def do(self, command: Any, refused: str | None = None) -> Outcome:
        """`refused`: the code with which it must be refused; None: it must not."""
        outcome = self.at.when(command)
        assert (outcome.rejected.code if outcome.rejected else None) == refused, f"{command}: {outcome.rejected!r}"
        for event in outcome.decision.events:
            self.sees(event)
        self.events += outcome.decision.events
        self.at = outcome.next()
        return outcome

    @rule(seconds=st.sampled_from([0, 1, SEAL_SECONDS - 1, SEAL_SECONDS, 60]))
    def time_passes(self, seconds: float) -> None:
        self.at = self.at.after(seconds)

    def teardown(self) -> None:
        if hasattr(self, "events"):
            assert given(self.decider, *stored(self.events)).state == self.at.state


class JobMachine(Life):
    decider = JOB

    def setup_model(self) -> None:
        self.status: int | None = None
        self.is_deleted = False
        self.enabled_at: datetime | None = None
        self.sealed_at: datetime | None = None
        self.members: dict[str, Any] = {}

    @property
    def absent(self) -> str | None:
        return "not_found" if self.status is None or self.is_deleted else None

    def sees(self, event: Any) -> None:
        assert not self.is_deleted, "an event after the deletion"
        assert (self.status is None) is (type(event) is JobCreated)
        match event:
            case JobCreated():
                self.status = event.status
                self.enabled_at = self.at.now if event.status == JobStatus.ENABLED else None
                self.members = {"name": event.name, "cmd": event.config["cmd"]}
            case JobUpdated():
                self.members = {"name": event.name, "cmd": event.config["cmd"]}
            case JobEnabled():
                assert self.status != JobStatus.ENABLED, "enabled twice: fires would be forgotten"
                self.status, self.enabled_at = int(JobStatus.ENABLED), self.at.now
            case JobDisabled():
                assert self.status != event.status
                self.status = event.status
            case JobSealed():
                self.sealed_at = self.at.now
            case JobUnsealed():
                self.sealed_at = None
            case JobDeleted():
                self.is_deleted = True

    @rule(status=st.sampled_from([100, 99]))
    def create(self, status: int) -> None:
        refused = None if self.status is None else "already_exists"
        self.do(CreateJob(job_id="j", name="a", config={"cmd": "x"}, status=status), refused)

    @rule(name=st.sampled_from(["a", "b"]), cmd=st.sampled_from(["x", "y"]), status=st.sampled_from([None, 99, 100]))
    def edit(self, name: str, cmd: str, status: int | None) -> None:
        changes = {"name": name, "command": cmd, **({} if status is None else {"status": status})}
        outcome = self.do(UpdateJob(changes=changes), self.absent)
        if outcome.rejected is None:
            assert self.members == {"name": name, "cmd": cmd}
            outcome.when(UpdateJob(changes=changes)).then_nothing()

    @rule(is_on=st.booleans())
    def switch(self, is_on: bool) -> None:
        command = EnableJob() if is_on else DisableJob()
        outcome = self.do(command, self.absent)
        if outcome.rejected is None:
            assert (self.status == JobStatus.ENABLED) is is_on
            outcome.when(command).then_nothing()

    @rule()
    def seal(self) -> None:
        self.do(SealJob(), self.absent)

    @rule()
    def unseal(self) -> None:
        had = self.sealed_at is not None
        outcome = self.do(UnsealJob(), self.absent)
        assert outcome.rejected is not None or bool(outcome.decision) is had

    @precondition(lambda self: len(self.events) > 4)
    @rule(
        under=st.sampled_from(["no seal", "the seal", "the seal", "another seal"]),
        seconds=st.sampled_from([0, SEAL_SECONDS - 1, SEAL_SECONDS]),
    )
    def delete(self, under: str, seconds: float) -> None:
        """`seconds` after the seal, when it is one."""
        if self.sealed_at is not None:
            self.at = self.at.at(max(self.at.now, self.sealed_at + timedelta(seconds=seconds)))
        sealed_at = self.sealed_at
        if under == "another seal" and sealed_at is not None:
            sealed_at -= timedelta(microseconds=1)
        if under == "no seal" or sealed_at is None:
            self.do(DeleteJob(), self.absent)
            return
        lapsed = self.at.now >= sealed_at + timedelta(seconds=SEAL_SECONDS)
        conflict = "version_conflict" if lapsed or under == "another seal" else None
        self.do(DeleteJob(sealed_at=sealed_at), self.absent or conflict)

    @rule()
    def make_a_task_of_it(self) -> None:
        """None of a deleted job, none while a seal holds; each guards the version that it was copied from."""
        try:
            job = snapshot(self.at.state, len(self.events))
        except Rejected:
            assert self.status is None
            return
        made = given(TASK).at(self.at.now).when(CreateTask(task_id="t", job=job, trigger="run"))
        is_sealed = self.sealed_at is not None and self.at.now < self.sealed_at + timedelta(seconds=SEAL_SECONDS)
        if is_sealed:
            made.then_rejected("version_conflict")
        elif self.is_deleted:
            made.then_rejected("not_found")
        else:
            assert made.rejected is None and made.decision.guards == (Guard("job-j", len(self.events)),)

    @invariant()
    def it_is_what_its_events_say(self) -> None:
        state = self.at.state
        assert state.exists is (self.absent is None)
        assert (state.status, state.enabled_at, state.sealed_at) == (self.status, self.enabled_at, self.sealed_at)


class ServerMachine(Life):
    decider = SERVER

    def setup_model(self) -> None:
        self.lives = 0
        self.is_active = self.is_known = False
        self.bound: tuple[str, ...] = ()
        self.description: str | None = None

    def sees(self, event: Any) -> None:
        match event:
            case ServerStarted():
                assert not self.is_active, "a life begins before the one before has ended"
                assert tuple(event.bind_namespaces) == self.bound, "a start forgets what was set"
                self.lives, self.is_active, self.is_known = self.lives + 1, True, True
            case ServerStopped() | ServerLost():
                assert self.is_active, "a life ended twice"
                self.is_active = False
            case ServerUpdated():
                assert self.is_known
                self.bound, self.description = tuple(event.bind_namespaces), event.description
            case ServerRemoved():
                assert self.is_known and not self.is_active
                self.is_known, self.bound, self.description = False, (), None

    @rule()
    def start(self) -> None:
        was_active, lives = self.is_active, self.lives
        outcome = self.do(StartServer(server_id="server-1", name="a", address="127.0.0.1:1", version="0.1"))
        kinds = [type(event) for event in outcome.decision.events]
        assert kinds == ([ServerLost] if was_active else []) + [ServerStarted] and self.lives == lives + 1

    @rule(kind=st.sampled_from([StopServer, LoseServer]))
    def end(self, kind: type[Any]) -> None:
        was_active = self.is_active
        outcome = self.do(kind())
        assert bool(outcome.decision) is was_active and not self.is_active

    @rule()
    def affirm(self) -> None:
        before = self.at.state
        outcome = self.do(AffirmServer())
        assert bool(outcome.decision) is self.is_active and self.at.state == before, "a beat changes something"

    @rule(names=st.sampled_from([(), ("a",), ("a", "b")]), description=st.sampled_from([None, "x"]))
    def edit(self, names: tuple[str, ...], description: str | None) -> None:
        command = UpdateServer(changes={"bind_namespaces": list(names), "description": description})
        outcome = self.do(command, None if self.is_known else "not_found")
        if self.is_known:
            assert (self.bound, self.description) == (names, description)
            outcome.when(command).then_nothing()

    @rule()
    def remove(self) -> None:
        self.do(RemoveServer(), "not_found" if not self.is_known else "server_active" if self.is_active else None)

    @invariant()
    def it_is_what_its_events_say(self) -> None:
        state = self.at.state
        assert (state.exists, state.is_active) == (self.is_known, self.is_active)
        assert (state.bind_namespaces, state.description) == (self.bound, self.description)


class LeaseMachine(Life):
    """Three servers that take one slot from each other, each with the guard of its own taking."""

    decider = LEASE

    def setup_model(self) -> None:
        self.holder: str | None = None
        self.epochs: dict[str, int] = {}

    def sees(self, event: Any) -> None:
        match event:
            case LeaseTaken():
                self.holder = event.server_id
                self.epochs[event.server_id] = len(self.events) + 1
            case LeaseReleased():
                assert event.server_id == self.holder, "somebody else's lease was released"
                self.holder = None

    @rule(server=st.sampled_from(SERVERS), over=st.none() | st.lists(st.sampled_from(SERVERS), unique=True, max_size=2))
    def take(self, server: str, over: list[str] | None) -> None:
        may = over is None or self.holder in (None, server, *over)
        guards = (Guard(f"server-{server}", 3),)
        command = TakeLease(slot=7, server_id=server, over=over, guards=guards)
        outcome = self.do(command, None if may else "lease_held")
        if may:
            assert self.holder == server and outcome.decision.guards == guards
            assert len(outcome.decision.events) == 1, "a taking that is no event fences nobody"

    @rule(server=st.sampled_from(SERVERS))
    def release(self, server: str) -> None:
        held = self.holder == server
        assert bool(self.do(ReleaseLease(slot=7, server_id=server)).decision) is held

    @invariant()
    def only_the_holder_has_a_guard_that_holds(self) -> None:
        """The guard of a decision names the version of the taker's own event: whatever came since refuses it."""
        valid = [server for server, epoch in self.epochs.items() if epoch == len(self.events)]
        assert valid == ([] if self.holder is None else [self.holder])
        assert self.at.state.holder_id == self.holder


TestJobMachine, TestServerMachine, TestLeaseMachine = JobMachine.TestCase, ServerMachine.TestCase, LeaseMachine.TestCase
TestJobMachine.settings = settings(max_examples=80, stateful_step_count=30, deadline=None)
TestServerMachine.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)
TestLeaseMachine.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)
