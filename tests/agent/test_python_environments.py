"""Environments of Python, built for real by both installers from packages that the test makes, without a network."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import trio
import uv

from agent.executors import python
from agent.executors.environments import Environments
from agent.host import base_environment
from agent.policy import PlainFacts
from hetuflow.ports.processes import StartError
from tests.support.wheels import a_source_package, a_wheel

INSTALLERS = ("uv", "pip")
PYTHON = os.path.realpath(sys.executable)
MODULE = "import sys\nVERSION = '1.0'\ndef main():\n    print('greeting', *sys.argv[1:])\n"


@pytest.fixture(params=INSTALLERS)
def installer(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def shelf(tmp_path: Path) -> Path:
    """Where packages come from."""
    directory = tmp_path / "shelf"
    a_wheel(directory, "greeting", code=MODULE, program="greet")
    a_wheel(directory, "greeting", "2.0", code=MODULE.replace("1.0", "2.0"))
    return directory


@pytest.fixture
def kept(installer: str, tmp_path: Path, shelf: Path, monkeypatch: pytest.MonkeyPatch) -> Environments:
    return an_agents(tmp_path, installer, shelf, monkeypatch)


def an_agents(tmp_path: Path, installer: str, shelf: Path, monkeypatch: pytest.MonkeyPatch) -> Environments:
    """The environments of an agent whose machine has this installer, and whose packages are on this shelf."""
    programs = tmp_path / "programs"
    programs.mkdir(exist_ok=True)
    for name, target in {"python3": PYTHON, "uv": uv.find_uv_bin()}.items():
        if name != "uv" or installer == "uv":
            (programs / name).symlink_to(os.path.realpath(target))
    for name in ("sync", "rm"):
        (programs / name).symlink_to(str(shutil.which(name)))
    monkeypatch.setenv("PATH", str(programs))
    monkeypatch.setattr(sys, "executable", str(programs / "python3"))
    for name, value in {
        "PIP_NO_INDEX": "1",
        "PIP_FIND_LINKS": str(shelf),
        "UV_OFFLINE": "1",
        "UV_NO_INDEX": "1",
        "UV_FIND_LINKS": str(shelf),
    }.items():
        monkeypatch.setenv(name, value)
    return Environments(str(tmp_path / "environments"), {**base_environment(), "HOME": str(tmp_path)})


def said_by(*command: str) -> str:
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


def said_in(directory: str, code: str) -> str:
    return said_by(f"{directory}/bin/python", "-c", code)


async def test_it_has_what_is_required_and_nothing_else(kept: Environments) -> None:
    directory = await kept.take("i-1", "", ["greeting==1.0"])
    assert said_in(directory, "import greeting; print(greeting.VERSION)") == "1.0"
    assert said_by(f"{directory}/bin/greet", "you") == "greeting you"
    assert said_in(directory, "import importlib.util as u; print(u.find_spec('pip'))") == "None"
    assert await trio.Path(directory, "requirements.txt").read_text() == "greeting==1.0\n"


async def test_the_same_requirements_are_built_once(kept: Environments) -> None:
    first = await kept.take("i-1", "", ["greeting==1.0"])
    assert await kept.take("i-2", "", ["greeting==1.0"]) == first
    assert await kept.take("i-3", "", ["greeting==2.0"]) != first


async def test_those_who_want_it_at_once_wait_for_one_build(kept: Environments) -> None:
    found: list[str] = []

    async def take(number: int) -> None:
        found.append(await kept.take(f"i-{number}", "", ["greeting==1.0"]))

    async with trio.open_nursery() as nursery:
        for number in range(8):
            nursery.start_soon(take, number)
    assert len(found) == 8 and len(set(found)) == 1
    assert builds(kept) == [os.path.basename(found[0])]


async def test_when_the_builder_is_cancelled_the_next_one_builds(kept: Environments) -> None:
    found: list[str] = []
    leaver = trio.CancelScope()

    async def leave() -> None:
        with leaver:
            await kept.take("i-1", "", ["greeting==1.0"])

    async def stay() -> None:
        found.append(await kept.take("i-2", "", ["greeting==1.0"]))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(leave)
        await trio.testing.wait_all_tasks_blocked()
        nursery.start_soon(stay)
        await trio.testing.wait_all_tasks_blocked()
        leaver.cancel()
    assert leaver.cancelled_caught
    assert builds(kept) == [os.path.basename(found[0])], "and the first one's is removed"


async def test_a_failed_build_says_why_and_leaves_nothing(kept: Environments, installer: str) -> None:
    failures: list[str] = []

    async def take(number: int) -> None:
        with pytest.raises(StartError) as caught:
            await kept.take(f"i-{number}", "", ["no-such-package"])
        failures.append(str(caught.value))

    async with trio.open_nursery() as nursery:
        for number in range(3):
            nursery.start_soon(take, number)
    assert len(failures) == 3 and len(set(failures)) == 1
    assert failures[0].startswith("python: the environment could not be built: ")
    assert "no-such-package" in failures[0] and installer in failures[0]
    assert builds(kept) == []


async def test_a_source_package_is_not_run(kept: Environments, shelf: Path, tmp_path: Path) -> None:
    proof = tmp_path / "it-ran"
    a_source_package(shelf, "sourceful", proof)
    with pytest.raises(StartError, match="sourceful"):
        await kept.take("i-1", "", ["sourceful"])
    assert not proof.exists()


async def test_a_build_that_takes_too_long_is_ended(kept: Environments, tmp_path: Path, installer: str) -> None:
    """The interpreter says who it is, as it is asked first; what builds with it never ends by itself."""
    slow = tmp_path / "programs" / "slow"
    slow.write_text(f"""#!/bin/sh\n[ "$1" = -I ] && echo '["{slow}", "3.42"]' && exit\nexec /bin/sleep 300\n""")
    slow.chmod(0o755)
    programs = {"python3", "uv"} if installer == "uv" else {"python3"}
    for name in sorted(programs):
        (tmp_path / "programs" / name).unlink()
        (tmp_path / "programs" / name).symlink_to(slow)
    hurried = Environments(kept.root, base_environment(), build_seconds_max=1)
    with pytest.raises(StartError, match=r"was not built within 1 s \(executor\.environment_build_timeout\)"):
        await hurried.take("i-1", "", ["greeting"])
    assert builds(kept) == []


async def test_what_a_crash_left_half_is_not_used_and_is_cleaned(kept: Environments) -> None:
    await kept.take("i-1", "", ["greeting==1.0"])
    whole = builds(kept)
    os.makedirs(f"{kept.root}/build/0123-half/bin")
    os.symlink("build/0123-half", f"{kept.root}/build/0123-half.link")
    assert await kept.clean_up({"i-1"}) == 2
    assert builds(kept) == whole


async def test_the_longest_unused_go_and_those_in_use_stay(kept: Environments) -> None:
    used = await kept.take("i-used", "", [])
    old = await kept.take("i-old", "", ["greeting==1.0"])
    new = await kept.take("i-new", "", ["greeting==2.0"])
    for directory, age in ((used, 3), (old, 2), (new, 1)):
        os.utime(directory, (1000 - age, 1000 - age))
    assert await kept.clean_up({"i-used"}, kept_max=1) == 1
    assert sorted(builds(kept)) == sorted(map(os.path.basename, (used, new)))
    assert await kept.clean_up({"i-used"}, kept_max=0) == 1
    assert await kept.take("i-4", "", []) == used
    assert await kept.clean_up((), kept_max=0) == 1 and builds(kept) == []
    again = await kept.take("i-5", "", ["greeting==1.0"])
    assert again != old and said_in(again, "import greeting") == ""


async def test_an_environment_whose_interpreter_is_gone_is_built_anew(kept: Environments) -> None:
    first = await kept.take("i-1", "", [])
    os.unlink(f"{first}/bin/python")
    second = await kept.take("i-2", "", [])
    assert second != first and said_in(second, "print(1)") == "1"


async def test_a_version_that_is_not_there(kept: Environments) -> None:
    with pytest.raises(StartError, match=r"python\.version: program 'python3\.99' was not found on the PATH"):
        await kept.take("i-1", "3.99", [])


async def test_a_program_that_is_no_interpreter(kept: Environments, tmp_path: Path) -> None:
    fake = tmp_path / "programs" / "python3.98"
    fake.write_text("#!/bin/sh\necho hello; exit 4\n")
    fake.chmod(0o755)
    with pytest.raises(StartError, match=r"python3\.98 is no Python interpreter \(exit code 4\): hello"):
        await kept.take("i-1", "3.98", [])


async def test_a_root_that_cannot_be_made(tmp_path: Path, kept: Environments) -> None:
    (tmp_path / "file").write_text("")
    blocked = Environments(str(tmp_path / "file" / "environments"), base_environment())
    with pytest.raises(StartError, match=r"no environment can be made below .*Not a directory"):
        await blocked.take("i-1", "", [])


async def test_the_jobs_variables_do_not_reach_the_installer(kept: Environments, tmp_path: Path) -> None:
    """Else a job would choose where the agent takes packages from."""
    job = {
        "PATH": os.environ["PATH"],
        "PIP_FIND_LINKS": "/no/such",
        "UV_FIND_LINKS": "/no/such",
        "PYTHONHOME": "/no/such",
    }
    found = await python.prepare({"requirements": ["greeting==2.0"]}, "i-1", str(tmp_path), job, kept, PlainFacts())
    assert found["VIRTUAL_ENV"].startswith(kept.root) and "PYTHONHOME" not in found
    assert found["PATH"] == f"{found['VIRTUAL_ENV']}/bin:{job['PATH']}"
    assert found["PIP_FIND_LINKS"] == "/no/such", "the program has them as the job says"


async def test_requirements_in_a_file_of_the_instance(kept: Environments, tmp_path: Path) -> None:
    (tmp_path / "requirements.txt").write_text("# ours\ngreeting==2.0\n")
    given = {"requirements_file": "requirements.txt"}
    found = await python.prepare(given, "i-1", str(tmp_path), {}, kept, PlainFacts())
    assert said_in(found["VIRTUAL_ENV"], "import greeting; print(greeting.VERSION)") == "2.0"
    assert await kept.take("i-2", "", ["greeting==2.0"]) == found["VIRTUAL_ENV"]


@pytest.mark.parametrize("installer", ["pip"], indirect=True)
@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda path: None, r"python\.requirements_file \(r\) cannot be read: No such file"),
        (lambda path: path.mkdir(), r"python\.requirements_file \(r\) is no file"),
        (lambda path: os.mkfifo(path), r"python\.requirements_file \(r\) is no file"),
        (lambda path: path.write_bytes(b"\xff"), r"python\.requirements_file \(r\) is no text in UTF-8"),
        (lambda path: path.write_bytes(b"#" * 300_000), r"python\.requirements_file \(r\) is larger than 262144 bytes"),
        (lambda path: path.write_text("-e .\n"), r"python\.requirements_file \(r\): line 1 is an option"),
    ],
)
async def test_a_file_that_is_none(
    make: Callable[[Path], object], message: str, kept: Environments, tmp_path: Path
) -> None:
    make(tmp_path / "r")
    with pytest.raises(StartError, match=message):
        await python.prepare({"requirements_file": "r"}, "i-1", str(tmp_path), {}, kept, PlainFacts())


@pytest.mark.parametrize("installer", ["uv"], indirect=True)
async def test_an_environment_that_exists_is_taken_as_it_is(kept: Environments, tmp_path: Path) -> None:
    own = await kept.take("i-1", "", ["greeting==1.0"])
    found = await python.prepare({"venv": own}, "i-2", str(tmp_path), {"PATH": "/bin"}, kept, PlainFacts())
    assert json.dumps(found) == json.dumps({"PATH": f"{own}/bin:/bin", "VIRTUAL_ENV": own})
    with pytest.raises(StartError, match=r"python\.venv: /no/such is no environment of Python on this agent"):
        await python.prepare({"venv": "/no/such"}, "i-3", str(tmp_path), {}, kept, PlainFacts())


async def test_removing_waits_for_nobody_without_the_program(
    kept: Environments, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "defpath", "/no/such")
    await kept.take("i-1", "", [])
    assert await kept.clean_up((), kept_max=0) == 1 and builds(kept) == []


def builds(kept: Environments) -> list[str]:
    return sorted(os.listdir(Path(kept.root, "build")))
