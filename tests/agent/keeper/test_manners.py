"""As whom and how politely a program runs."""

from __future__ import annotations

import os
import pwd
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from agent.containment import calls
from agent.containment.manners import environment_of, find_user, io_priority
from agent.keeper.messages import Manners
from hetuflow.ports.processes import StartError
from tests.support.programs import Bench, children_of_this_process, open_bench, open_to_all

NOBODY = "nobody"
ROOT = Path(__file__).parents[3]
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root may run programs as other users, or raise a priority")


@pytest.fixture(params=["auto", "session"])
def bench(request: pytest.FixtureRequest) -> Iterator[Bench]:
    with open_bench(request.param) as bench:
        yield bench


def said(bench: Bench, *argv: str, manners: Manners, directory: str = "/", **environment: str) -> str:
    tree, heard = bench.launch(*argv, manners=manners, directory=directory, **environment)
    exit_ = bench.finish(tree, heard)
    assert exit_.exit_code == 0, heard.output
    return heard.output[1].decode().strip()


@as_root
def test_another_user_with_its_groups_and_nothing_of_ours(bench: Bench) -> None:
    entry = pwd.getpwnam(NOBODY)
    status = said(bench, "grep", "-E", "^(Uid|Gid|Groups|CapEff)", "/proc/self/status", manners=Manners(run_as=NOBODY))
    found = dict(line.split(":") for line in status.splitlines())
    assert found["Uid"].split() == [str(entry.pw_uid)] * 4
    assert found["Gid"].split() == [str(entry.pw_gid)] * 4
    assert {int(group) for group in found["Groups"].split()} == set(os.getgrouplist(NOBODY, entry.pw_gid))
    assert int(found["CapEff"], 16) == 0


@as_root
def test_who_and_where_the_user_is(bench: Bench) -> None:
    """The agent gives every program its own user's; what the job has set is left as it is."""
    own = pwd.getpwuid(0)
    entry = pwd.getpwnam(NOBODY)
    script = 'echo "$HOME $USER $LOGNAME $SHELL"'
    given = {"HOME": own.pw_dir, "USER": own.pw_name, "SHELL": "/bin/of-the-job"}
    assert said(bench, "bash", "-c", script, manners=Manners(run_as=NOBODY), **given).split() == [
        entry.pw_dir,
        NOBODY,
        NOBODY,
        "/bin/of-the-job",
    ]


@as_root
def test_a_directory_that_the_user_may_not_enter(bench: Bench, tmp_path: Path) -> None:
    tmp_path.chmod(0o700)
    with pytest.raises(StartError, match=f"{tmp_path} cannot be entered by user {NOBODY}: Permission denied"):
        bench.launch("true", manners=Manners(run_as=NOBODY), directory=str(tmp_path))


@as_root
def test_a_program_that_the_user_may_not_execute(bench: Bench, tmp_path: Path) -> None:
    program = tmp_path / "program"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o700)
    open_to_all(tmp_path)
    with pytest.raises(StartError, match=f"cannot be started by user {NOBODY}: Permission denied"):
        bench.launch(str(program), manners=Manners(run_as=NOBODY))


def test_a_user_that_does_not_exist(bench: Bench) -> None:
    with pytest.raises(StartError, match="run_as: there is no user 'no-such-user' on this machine"):
        bench.launch("true", manners=Manners(run_as="no-such-user"))


def test_the_agents_own_user_is_nothing_special(bench: Bench) -> None:
    own = pwd.getpwuid(os.geteuid()).pw_name
    assert find_user(own) is None
    assert said(bench, "id", "-un", manners=Manners(run_as=own)) == own


def test_others_than_root_may_be_nobody_else(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: pwd.getpwnam(NOBODY).pw_uid)
    with pytest.raises(StartError, match="run_as: 'root' is not allowed, because the agent runs as 'nobody'"):
        find_user("root")


def test_an_environment_without_another_user_is_handed_on() -> None:
    given = {"HOME": "/x"}
    assert environment_of(None, given) is given


def test_niceness_is_added_to_the_keepers_own(bench: Bench) -> None:
    assert int(said(bench, "nice", manners=Manners(nice=7))) == os.getpriority(os.PRIO_PROCESS, 0) + 7


@as_root
def test_a_higher_priority_and_another_user_at_once(bench: Bench) -> None:
    """The priority is taken while there is still the right to it."""
    manners = Manners(nice=-5, run_as=NOBODY)
    assert int(said(bench, "nice", manners=manners)) == os.getpriority(os.PRIO_PROCESS, 0) - 5


def test_a_priority_without_the_right_to_it_says_so(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(which: int, who: int, priority: int) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(os, "setpriority", refuse)
    with pytest.raises(StartError, match="nice: -5 cannot be set: Permission denied"):
        bench.launch("true", manners=Manners(nice=-5))


@pytest.mark.skipif(not os.path.exists("/usr/bin/ionice"), reason="ionice is not installed")
@pytest.mark.parametrize(
    ("ionice", "told"),
    [
        ("idle", "idle"),
        ("best-effort", "best-effort: prio 4"),
        ("best-effort:0", "best-effort: prio 0"),
        ("best-effort:7", "best-effort: prio 7"),
    ],
)
def test_priority_of_disk(ionice: str, told: str, bench: Bench) -> None:
    assert said(bench, "ionice", manners=Manners(ionice=ionice)) == told


@pytest.mark.parametrize("ionice", ["realtime", "idle:3", "best-effort:", "best-effort:8", "best-effort:-1", "7"])
def test_priorities_of_disk_that_are_none(ionice: str) -> None:
    with pytest.raises(StartError, match="is not allowed, use idle, best-effort, or best-effort:0 to best-effort:7"):
        io_priority(ionice)


FRESH = """
import sys
from agent.keeper.messages import Manners
from tests.support.programs import open_bench

with open_bench(sys.argv[1]) as bench:
    if sys.argv[2] == "given up":
        bench.system.give_up_privileges()
    for manners in {manners}:
        tree, heard = bench.launch({argv}, manners=manners)
        bench.finish(tree, heard)
        print(heard.output[1].decode().split()[-1])
"""
"""What has given up new privileges never has them again, so each test of that needs a process of its own."""


def in_a_fresh_process(isolation: str, before: str, manners: str, *argv: str) -> list[str]:
    code = FRESH.format(manners=manners, argv=", ".join(map(repr, argv)))
    ran = subprocess.run(
        [sys.executable, "-c", code, isolation, before], cwd=ROOT, capture_output=True, text=True, timeout=60
    )
    assert ran.returncode == 0, ran.stderr
    return ran.stdout.split()


can_gain = pytest.mark.skipif(
    calls.forbids_new_privileges(), reason="these tests run without the right to new privileges"
)


@can_gain
@pytest.mark.parametrize("isolation", ["auto", "session"])
@pytest.mark.parametrize("nice", [0, 1], ids=["posix_spawn", "fork"])
@pytest.mark.parametrize("before", ["given up", "not given up"])
def test_no_new_privileges_unless_they_are_allowed(before: str, nice: int, isolation: str) -> None:
    allowed = f"Manners(nice={nice}, no_new_privs=False)"
    manners = f"[Manners(nice={nice}), {allowed}, Manners(nice={nice}), {allowed}]"
    line = ("grep", "NoNewPrivs", "/proc/self/status")
    assert in_a_fresh_process(isolation, before, manners, *line) == ["1", "0", "1", "0"]


@can_gain
@as_root
def test_a_setuid_program_gains_nothing(tmp_path: Path) -> None:
    """The user that a program runs as stays what it is, whatever that program finds on the disk."""
    program = tmp_path / "id"
    program.write_bytes(Path("/usr/bin/id").read_bytes())
    program.chmod(0o755 | stat.S_ISUID)
    open_to_all(tmp_path)
    manners = "[Manners(run_as='nobody'), Manners(run_as='nobody', no_new_privs=False)]"
    assert in_a_fresh_process("auto", "given up", manners, str(program), "-un") == [NOBODY, "root"]


def test_standard_input_signals_and_descriptors_after_a_fork(bench: Bench) -> None:
    script = "cat; trap -p PIPE; ls /proc/self/fd | wc -l; umask; ps -o sid= -p $$"
    tree, heard = bench.launch("bash", "-c", script, stdin=b"given\n", manners=Manners(nice=1, umask=0o027))
    assert bench.finish(tree, heard).exit_code == 0
    given, descriptors, umask, session = heard.output[1].decode().split()
    assert (given, int(descriptors), umask, int(session)) == ("given", 4, "0027", tree.pid)


@pytest.mark.parametrize("manners", [Manners(no_new_privs=False), Manners()], ids=["posix_spawn", "fork"])
def test_what_cannot_be_executed_says_why(manners: Manners, bench: Bench, tmp_path: Path) -> None:
    program = tmp_path / "program"
    program.write_text("no format at all")
    program.chmod(0o755)
    before, children = len(os.listdir("/proc/self/fd")), children_of_this_process()
    with pytest.raises(StartError, match="has no executable format"):
        bench.launch(str(program), manners=manners)
    with pytest.raises(StartError, match="larger than the system allows"):
        bench.launch("true", "x" * 200_000, manners=manners)
    with pytest.raises(StartError, match="cannot be entered: No such file"):
        bench.launch("true", manners=manners, directory="/no/such")
    assert len(os.listdir("/proc/self/fd")) == before
    assert children_of_this_process() <= children


def test_a_handler_of_the_keeper_is_not_called_in_a_child(bench: Bench) -> None:
    """A signal between fork and exec is the program's, and by default ends it."""
    tree, heard = bench.launch(sys.executable, "-S", "-c", "import time; time.sleep(60)", manners=Manners(nice=1))
    tree.terminate()
    assert bench.finish(tree, heard).signal == 15
