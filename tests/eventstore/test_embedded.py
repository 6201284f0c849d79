"""The embedded PostgreSQL: starts, survives being killed, and refuses in one line that says what to do."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from eventstore.errors import StartError
from hetuflow.embedded.errors import (
    DataDirInUse,
    DataDirOfOtherOwner,
    DataDirOfOtherVersion,
    EmbeddedPostgresMissing,
    PortInUse,
    PostgresFailed,
)
from hetuflow.embedded.postgres import DATABASE, PORT_FIRST, EmbeddedPostgres, embedded_postgres, open_embedded_postgres
from tests.support.postgres import SETTINGS, SYSTEM_BINARIES, fast_directory, query, run_sql


@pytest.fixture(scope="module")
def made_once() -> Iterator[Path]:
    """An initialised directory, stopped: initdb takes half a second."""
    with tempfile.TemporaryDirectory(prefix="hetuflow-test-", dir=fast_directory()) as directory:
        data_dir = Path(directory) / "pg"
        with embedded_postgres(data_dir, settings=SETTINGS):
            pass
        yield data_dir


@pytest.fixture
def data_dir(made_once: Path) -> Iterator[Path]:
    owner = made_once.stat()
    with tempfile.TemporaryDirectory(prefix="hetuflow-test-", dir=fast_directory()) as directory:
        copy = Path(directory) / "pg"
        shutil.copytree(made_once, copy)
        for path in (copy, *copy.rglob("*")):
            os.chown(path, owner.st_uid, owner.st_gid)
        yield copy


@pytest.fixture
def busy_port() -> Iterator[int]:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        yield listener.getsockname()[1]


async def test_a_server_is_made_on_a_missing_directory_and_keeps_its_data(tmp_path: Path) -> None:
    data_dir = tmp_path / "deep" / "er" / "pg"
    async with open_embedded_postgres(data_dir) as server:
        assert server.url == f"postgresql://postgres@127.0.0.1:{server.port}/{DATABASE}"
        assert server.port >= PORT_FIRST and server.data_dir == data_dir
        await query(server.url, "create table t as select 7 as n")
        settings = await query(
            server.url,
            "select name, setting from pg_settings where name in ('fsync', 'synchronous_commit', 'data_checksums')",
        )
        assert {row["name"]: row["setting"] for row in settings} == {
            "fsync": "on",
            "synchronous_commit": "on",
            "data_checksums": "on",
        }
        assert [row[0] for row in await query(server.url, "show server_encoding")] == ["UTF8"]
    assert not (data_dir / "postmaster.pid").exists()
    async with open_embedded_postgres(data_dir) as server:
        assert [row["n"] for row in await query(server.url, "select n from t")] == [7]


def test_ctrl_c_at_the_terminal_does_not_reach_the_server(data_dir: Path) -> None:
    with embedded_postgres(data_dir, settings=SETTINGS) as server:
        assert os.getsid(server.pid) == server.pid != os.getsid(0)
        assert os.getpgid(server.pid) != os.getpgid(0)


def test_two_servers_take_two_ports(data_dir: Path, made_once: Path) -> None:
    with (
        embedded_postgres(data_dir, settings=SETTINGS) as one,
        embedded_postgres(made_once, settings=SETTINGS) as two,
    ):
        assert one.port != two.port


def test_a_given_port_that_is_taken_is_named_before_anything_is_made(tmp_path: Path, busy_port: int) -> None:
    with pytest.raises(PortInUse, match=str(busy_port)), embedded_postgres(tmp_path / "pg", port=busy_port):
        pass
    assert not (tmp_path / "pg").exists()


def test_a_killed_server_recovers_at_the_next_start(data_dir: Path) -> None:
    with embedded_postgres(data_dir, settings=SETTINGS) as server:
        run_sql(server.url, "create table t as select 7 as n")
        os.kill(server.pid, signal.SIGKILL)
    assert (data_dir / "postmaster.pid").exists()
    with embedded_postgres(data_dir, settings=SETTINGS) as server:
        assert run_sql(server.url, "select n from t")[0]["n"] == 7


def test_a_server_left_by_a_killed_process_is_taken_over_and_stopped(data_dir: Path) -> None:
    orphan = EmbeddedPostgres(data_dir, settings=SETTINGS)
    orphan.start()
    os.close(orphan._lock)  # what the kernel does when the process that held it is killed
    orphan._lock = -1
    with embedded_postgres(data_dir, settings=SETTINGS) as server:
        assert (server.pid, server.port) == (orphan.pid, orphan.port)
        assert run_sql(server.url, "select 1")[0][0] == 1
    assert orphan._process is not None and orphan._process.wait(10) == 0


def test_a_pid_file_that_names_another_process_is_not_believed(data_dir: Path) -> None:
    """After a restart of a container the number belongs to somebody else: here to us."""
    (data_dir / "postmaster.pid").write_text(f"{os.getpid()}\n{data_dir}\n1\n5432\n\n127.0.0.1\n\nready\n")
    with embedded_postgres(data_dir, settings=SETTINGS) as server:
        assert server.pid != os.getpid()


def test_a_directory_that_another_process_uses_is_refused(data_dir: Path) -> None:
    with (
        embedded_postgres(data_dir, settings=SETTINGS) as server,
        pytest.raises(DataDirInUse, match=str(os.getpid())),
        embedded_postgres(data_dir),
    ):
        pass
    assert server.pid


def test_a_directory_of_another_version_is_refused(data_dir: Path) -> None:
    (data_dir / "PG_VERSION").write_text("15\n")
    with (
        pytest.raises(DataDirOfOtherVersion, match=r"made by PostgreSQL 15, this one is \d\d"),
        embedded_postgres(data_dir),
    ):
        pass


def test_a_directory_of_another_owner_is_refused(data_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hetuflow.embedded.installation.os.geteuid", lambda: 12345)
    with pytest.raises(DataDirOfOtherOwner, match="12345"), embedded_postgres(data_dir):
        pass


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a directory away")
def test_under_root_the_server_runs_as_the_owner_of_the_directory(data_dir: Path) -> None:
    for path in (data_dir, *data_dir.rglob("*")):
        os.chown(path, 12345, 12345)
    with embedded_postgres(data_dir, settings=SETTINGS) as server:
        assert Path(f"/proc/{server.pid}").stat().st_uid == 12345
    for path in (data_dir, *data_dir.rglob("*")):
        os.chown(path, 0, 0)
    with pytest.raises(DataDirOfOtherOwner, match="belongs to user 0"), embedded_postgres(data_dir):
        pass


def test_a_directory_with_other_files_is_refused(tmp_path: Path) -> None:
    (tmp_path / "pg").mkdir()
    (tmp_path / "pg" / "thesis.txt").write_text("do not overwrite")
    with pytest.raises(DataDirInUse, match="other files"), embedded_postgres(tmp_path / "pg"):
        pass
    assert (tmp_path / "pg" / "thesis.txt").exists()


def test_binaries_that_are_not_there_are_named(tmp_path: Path) -> None:
    with (
        pytest.raises(EmbeddedPostgresMissing, match=str(tmp_path)),
        embedded_postgres(tmp_path / "pg", binaries=tmp_path),
    ):
        pass


def test_a_server_that_does_not_start_says_why_and_leaves_nothing_running(data_dir: Path) -> None:
    server = EmbeddedPostgres(data_dir, settings={**SETTINGS, "shared_buffers": "1"})
    with pytest.raises(PostgresFailed, match="shared_buffers") as refused:
        server.start()
    assert "\n" not in str(refused.value) and isinstance(refused.value, StartError)
    assert not server._alive()


@pytest.mark.skipif(not (SYSTEM_BINARIES / "postgres").exists(), reason=f"no PostgreSQL in {SYSTEM_BINARIES}")
def test_the_systems_binaries_can_be_used(tmp_path: Path) -> None:
    with embedded_postgres(tmp_path / "pg", binaries=SYSTEM_BINARIES, settings=SETTINGS) as server:
        assert run_sql(server.url, "show server_version_num")[0][0].startswith("15")
