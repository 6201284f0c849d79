"""What the machine's owner allows holds, whatever is asked, through whatever links."""

from __future__ import annotations

import os
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from attrs import evolve
from hypothesis import given
from hypothesis import strategies as st

from agent.facts import SystemFacts, system_labels
from agent.policy import MEGABYTE, OPEN, PlainFacts, Policy, Refusal
from hetuflow.protocol.messages import Dispatch
from tests.agent.gateway import an_order

FACTS = PlainFacts()


def order(cmd: str = "backup", **members: Any) -> Dispatch:
    return evolve(an_order(cmd), **members)


def refusal(
    policy: Policy, wanted: Dispatch, facts: Any = FACTS, environment: dict[str, str] | None = None
) -> str | None:
    found = policy.check(wanted, facts, environment or dict(wanted.environment), "/instances/i1")
    return None if found is None else str(found)


# --- what is refused, and the words for it -------------------------------------------------------------------------


def test_where_nothing_is_said_everything_is_allowed_but_another_user() -> None:
    wanted = order("rm", working_dir="/", environment={"LD_PRELOAD": "x"}, executor="python")
    assert refusal(OPEN, wanted) is None
    assert refusal(OPEN, evolve(wanted, run_as="hetuflow")) is None
    assert refusal(OPEN, evolve(wanted, run_as="batch")) == (
        "refused by this agent's policy (policy.allowed_users): run_as 'batch' is not one of hetuflow"
    )


@pytest.mark.parametrize(("policy", "members", "message"), [
    ({"allowed_programs": ("bash", "backups")}, {}, "(policy.allowed_programs): program 'backup' (/usr/bin/backup) is not one "
     "of backups, bash (did you mean backups?)"),
    ({"allowed_programs": ()}, {}, "(policy.allowed_programs): program 'backup' (/usr/bin/backup) is not one of those "
     "allowed, for none is"),
    ({"allowed_programs": ("backup",)}, {"executor": "python"}, "(policy.allowed_executors): executor 'python' is not one of "
     "program"),
    ({"allowed_executors": ("wasm",)}, {}, "(policy.allowed_executors): executor 'program' is not one of wasm"),
    ({"allowed_users": ("batch*",)}, {"run_as": "www"}, "(policy.allowed_users): run_as 'www' is not one of hetuflow, batch*"),
    ({"allowed_directories": ("/srv/data",)}, {"working_dir": "/srv/database"}, "(policy.allowed_directories): working_dir "
     "'/srv/database' is not in /srv/data (did you mean /srv/data?)"),
    ({"denied_environment": ("LD_*",)}, {"environment": {"LD_PRELOAD": "x"}}, "(policy.denied_environment): the job sets "
     "LD_PRELOAD, which is denied (LD_*)"),
    ({"allowed_environment": ("APP_*",)}, {"environment": {"HOME": "/"}}, "(policy.allowed_environment): the job sets HOME, "
     "which is not one of APP_*"),
    ({"allowed_programs": ("backup",)}, {"environment": {"PATH": "/tmp"}}, "(policy.denied_environment): the job sets PATH, "
     "which is denied"),
])  # fmt: skip
def test_a_refusal_names_the_setting_and_what_is_allowed(
    policy: dict[str, Any], members: dict[str, Any], message: str
) -> None:
    found = refusal(Policy(**policy), order(**members))
    assert found == f"refused by this agent's policy {message}"


def test_a_name_of_the_superuser_has_to_be_written_out() -> None:
    assert refusal(Policy(allowed_users=("*",)), order(run_as="root")) is not None
    assert refusal(Policy(allowed_users=("r??t", "roo*")), order(run_as="root")) is not None
    assert refusal(Policy(allowed_users=("*", "root")), order(run_as="root")) is None
    assert refusal(Policy(allowed_users=("*",)), order(run_as="batch")) is None


def test_variables_of_hetuflow_itself_are_never_refused() -> None:
    wanted = order(environment={"HETUFLOW_TASK_ID": "t", "HETUFLOW_PARAM_X": "1"})
    assert refusal(Policy(allowed_environment=(), denied_environment=("*",)), wanted) is None


def test_who_says_which_variables_are_denied_says_all_of_it() -> None:
    wanted = order(environment={"LD_LIBRARY_PATH": "/opt/oracle/lib"})
    assert refusal(Policy(allowed_programs=("backup",), denied_environment=()), wanted) is None
    assert refusal(Policy(allowed_programs=("backup",), allowed_environment=("LD_LIBRARY_PATH",)), wanted) is None
    assert refusal(Policy(allowed_programs=("backup",)), wanted) is not None


def test_a_directory_is_allowed_with_all_below_it_and_by_pattern() -> None:
    plain, pattern = Policy(allowed_directories=("/srv/data/",)), Policy(allowed_directories=("/home/*/jobs",))
    assert refusal(plain, order(working_dir="/srv/data/a/b")) is None
    assert refusal(plain, order(working_dir="/srv/data")) is None
    assert refusal(pattern, order(working_dir="/home/ann/jobs/x")) is None
    assert refusal(pattern, order(working_dir="/home/ann")) is not None
    assert refusal(pattern, order(working_dir="/home/ann/b/jobs")) is not None
    assert refusal(Policy(allowed_directories=()), order()) is None  # its own is not asked about
    assert isinstance(plain.check_directory("wasm.allowed_paths", "/etc", FACTS), Refusal)


# --- ceilings ------------------------------------------------------------------------------------------------------

counts = st.integers(0, 2**40)
ceilings = st.none() | st.integers(1, 2**20)


@given(
    st.builds(
        Policy,
        max_memory_mb=ceilings,
        max_cpu_percent=st.none() | st.floats(0.01, 1000),
        max_processes=ceilings,
        max_execution_time_secs=st.none() | st.floats(1, 10**6),
        max_output_size_bytes=st.none() | st.integers(0, 2**40),
        min_nice=st.integers(-20, 19),
    ),
    st.fixed_dictionaries(
        {
            "memory_bytes_max": counts,
            "cpu_cores_max": st.floats(0, 2000),
            "processes_max": counts,
            "timeout_seconds": st.floats(0, 10**7),
            "output_bytes_max": counts,
            "nice": st.integers(-20, 19),
        }
    ),
)
def test_no_limit_is_above_its_ceiling_and_none_is_raised(policy: Policy, asked: dict[str, float]) -> None:
    wanted = order(**asked)
    lowered = policy.lowered(wanted)
    got = lowered.order
    for name, ceiling, unit in (
        ("memory_bytes_max", policy.max_memory_mb, MEGABYTE),
        ("cpu_cores_max", policy.max_cpu_percent, 1),
        ("processes_max", policy.max_processes, 1),
        ("timeout_seconds", policy.max_execution_time_secs, 1),
    ):
        before, after = getattr(wanted, name), getattr(got, name)
        if ceiling is not None:
            assert 0 < after <= ceiling * unit
        assert after == before or not before or after < before
        assert ceiling is not None or after == before
    assert got.output_bytes_max <= wanted.output_bytes_max
    assert policy.max_output_size_bytes is None or got.output_bytes_max <= policy.max_output_size_bytes
    assert got.nice == max(wanted.nice, policy.min_nice)
    assert policy.lowered(got).order == got and not policy.lowered(got).notes
    assert bool(lowered.notes) == (got != wanted)


def test_the_note_is_said_when_the_lowered_limit_ended_the_run() -> None:
    lowered = Policy(max_memory_mb=512, max_execution_time_secs=60).lowered(
        order(memory_bytes_max=2048 * MEGABYTE, timeout_seconds=0)
    )
    assert lowered.explained("memory", "used 513 MB") == (
        "used 513 MB; this limit is the agent's own (policy.max_memory_mb = 512; the job asks for 2048 MB)"
    )
    assert lowered.explained("timeout", None) == (
        "timeout; this limit is the agent's own (policy.max_execution_time_secs = 60; the job has none)"
    )
    flood = Policy(max_output_size_bytes=1000).lowered(order(output_bytes_max=10_485_760))
    assert "the job asks for 10485760 bytes" in str(flood.explained("output", "cut"))
    assert lowered.explained("signal", "killed") == "killed"
    assert lowered.explained(None, None) is None


# --- programs on a real file system ----------------------------------------------------------------------------------


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """bin/ is the agent's PATH; jobs/ belongs to its owner, anybody/ to anybody."""
    for directory in ("bin", "jobs", "anybody"):
        (tmp_path / directory).mkdir()
    for name in ("bin/shell", "bin/python3.11", "bin/busybox", "jobs/nightly", "anybody/evil"):
        program(tmp_path / name)
    (tmp_path / "bin/python3").symlink_to("python3.11")
    (tmp_path / "bin/sh").symlink_to("busybox")
    (tmp_path / "bin/rm").symlink_to("busybox")
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    return tmp_path


def program(path: Path) -> None:
    path.write_text("#!/bin/sh\n")
    path.chmod(0o755)


def allows(machine: Path, entry: str, cmd: str, **environment: str) -> bool:
    policy = Policy(allowed_programs=(entry.replace("@", str(machine)),), denied_environment=())
    wanted = order(cmd.replace("@", str(machine)), environment=environment)
    return refusal(policy, wanted, SystemFacts()) is None


def test_a_name_is_what_the_agents_own_path_has(machine: Path) -> None:
    assert allows(machine, "shell", "shell") and allows(machine, "shell", "@/bin/shell")
    program(machine / "anybody/shell")
    assert not allows(machine, "shell", "shell", PATH=str(machine / "anybody"))
    assert not allows(machine, "shell", "@/anybody/shell")
    assert allows(machine, "python3*", "python3") and not allows(machine, "python3*", "shell")


def test_a_link_is_what_it_points_at(machine: Path) -> None:
    (machine / "jobs/out").symlink_to(machine / "anybody/evil")
    assert not allows(machine, "@/jobs/*", "@/jobs/out")
    assert allows(machine, "@/jobs/out", "@/jobs/out")  # the owner named this very link
    (machine / "anybody/in").symlink_to(machine / "jobs/nightly")
    assert allows(machine, "@/jobs/*", "@/anybody/in")
    assert allows(machine, "@/bin/python3.11", "python3") and allows(machine, "python3", "python3")
    assert not allows(machine, "python3", "python3.11")


def test_one_name_of_a_program_with_many_is_not_the_others(machine: Path) -> None:
    assert allows(machine, "sh", "sh")
    assert not allows(machine, "sh", "rm") and not allows(machine, "sh", "busybox")


def test_a_pattern_holds_behind_a_directory_that_is_a_link(machine: Path) -> None:
    (machine / "current").symlink_to("jobs")
    assert allows(machine, "@/current/*", "@/current/nightly") and allows(machine, "@/current/*", "@/jobs/nightly")
    assert allows(machine, "@/current/nightly", "@/jobs/nightly")
    assert not allows(machine, "@/current/*", "@/current/../anybody/evil")


@given(
    st.lists(
        st.tuples(st.sampled_from("abcdef"), st.sampled_from(("jobs/x", "out/x", "a", "b", "c", "d", "e", "f"))),
        max_size=6,
    )
)
def test_no_chain_of_links_leads_out_of_what_a_pattern_allows(links: list[tuple[str, str]]) -> None:
    with TemporaryDirectory() as root:
        for directory in ("jobs", "out"):
            (Path(root) / directory).mkdir()
            program(Path(root) / directory / "x")
        for name, target in links:
            for directory in ("jobs", "out"):
                link = Path(root) / directory / name
                if not link.is_symlink():
                    link.symlink_to(target if len(target) == 1 else f"../{target}")
        policy = Policy(allowed_programs=(f"{root}/jobs/**",), denied_environment=())
        for directory in ("jobs", "out"):
            for name in os.listdir(Path(root) / directory):
                path = f"{root}/{directory}/{name}"
                if os.path.exists(path):  # a ring of links cannot be started
                    is_inside = os.path.realpath(path) == os.path.realpath(f"{root}/jobs/x")
                    assert (refusal(policy, order(path), SystemFacts()) is None) == is_inside


# --- labels --------------------------------------------------------------------------------------------------------


def test_an_agent_finds_out_what_it_runs_on() -> None:
    labels = system_labels()
    assert list(labels) == ["sys.os", "sys.arch", "sys.hostname", "sys.cores", "sys.memory_gb"]
    assert labels["sys.os"] == os.uname().sysname.lower() and labels["sys.arch"] == os.uname().machine
    assert 1 <= int(labels["sys.cores"]) <= (os.cpu_count() or 1) and int(labels["sys.memory_gb"]) >= 1
