"""`hetuflow dev`, `make demo` and wrong environments: whole processes, as a person starts them."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import httpx
import psutil
import pytest

from hetuflow.cli.cluster import free_port
from tests.support.dev import running_dev

ROOT = Path(__file__).parent.parent.parent


def hetuflow(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    env = {name: value for name, value in os.environ.items() if not name.startswith(("HETUFLOW", "DATABASE_URL"))}
    return subprocess.run(
        [sys.executable, "-m", "hetuflow.cli.main", *arguments],
        capture_output=True,
        text=True,
        timeout=120,
        env=env | environment,
    )


def test_demo_tells_its_story_and_succeeds(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "hetuflow.cli.demo"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=180,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
    )
    assert done.returncode == 0, done.stdout + done.stderr
    for expected in ("succeeded", "failed", "cancelled", "TaskRetryScheduled", "Hello from hetuflow!", "next:"):
        assert expected in done.stdout


def test_ctrl_c_stops_cleanly_and_the_data_are_there_at_the_next_start(tmp_path: Path) -> None:
    data = tmp_path / "data"
    with running_dev(data) as dev:
        created = httpx.post(f"{dev.url}/api/v1/jobs/item", json={"name": "kept"}).json()
        assert dev.stop() == 0
        assert "Traceback" not in dev.log.read_text()
    with running_dev(data) as dev:
        assert httpx.get(f"{dev.url}/api/v1/jobs/item/{created['id']}").json()["name"] == "kept"


def test_a_closed_terminal_stops_everything(tmp_path: Path) -> None:
    with running_dev(tmp_path / "data") as dev:
        dev.process.send_signal(signal.SIGHUP)
        assert dev.process.wait(60) == 0
        with pytest.raises(httpx.TransportError):
            httpx.get(dev.url)


def test_kill_9_leaves_no_server_and_the_next_start_goes_on(tmp_path: Path) -> None:
    data = tmp_path / "data"
    with running_dev(data) as dev:
        created = httpx.post(f"{dev.url}/api/v1/jobs/item", json={"name": "kept"}).json()
        children = psutil.Process(dev.process.pid).children()
        ours = [child for child in children if "hetuflow" in " ".join(child.cmdline()) or "agent" in child.cmdline()]
        assert len(ours) == 2
        dev.process.kill()
        dev.process.wait()
        assert not psutil.wait_procs(ours, timeout=30)[1]
    with running_dev(data, same_database=True) as dev:
        assert httpx.get(f"{dev.url}/api/v1/jobs/item/{created['id']}").json()["name"] == "kept"


def test_a_port_in_use_is_one_line_and_exit_status_2(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        done = hetuflow("dev", "--data-dir", str(tmp_path / "data"), "--http-port", port)
    assert done.returncode == 2 and port in done.stderr and _is_one_line(done)


def test_an_unreachable_database_is_one_line_and_exit_status_2(tmp_path: Path) -> None:
    url = "postgresql://postgres@127.0.0.1:1/hetuflow"
    for verb in (["server", "--state-dir", str(tmp_path / "state")], ["migrate"], ["projections", "list"]):
        done = hetuflow(*verb, "--database-url", url)
        assert done.returncode == 2 and "127.0.0.1:1" in done.stderr and _is_one_line(done), done.stderr


def test_a_database_without_schema_says_migrate(postgres_url: str, tmp_path: Path) -> None:
    done = hetuflow("server", "--database-url", postgres_url, "--state-dir", str(tmp_path / "state"))
    assert done.returncode == 2 and "hetuflow migrate" in done.stderr and _is_one_line(done), done.stderr


def test_wrong_settings_name_the_key_the_value_and_what_is_allowed(tmp_path: Path) -> None:
    done = hetuflow("server", "--database-url", "postgresql://x@127.0.0.1/y", HETUFLOW_SERVER__HTTP_PORT="many")
    assert done.returncode == 2 and "http_port" in done.stderr and "many" in done.stderr
    file = tmp_path / "config.toml"
    file.write_text("[server]\nhttp_prot = 1\n")
    done = hetuflow("config", "show", "--config", str(file))
    assert done.returncode == 2 and "http_port" in done.stderr


def test_a_data_directory_of_another_version_is_refused(tmp_path: Path) -> None:
    data = tmp_path / "data"
    with running_dev(data) as dev:
        assert dev.stop() == 0
    (data / "postgres" / "PG_VERSION").write_text("12\n")
    done = hetuflow(
        "dev", "--data-dir", str(data), "--http-port", str(free_port()), "--websocket-port", str(free_port())
    )
    assert done.returncode == 2 and "12" in done.stderr and "Traceback" not in done.stderr, done.stderr


def test_a_data_directory_of_another_owner_is_refused(tmp_path: Path) -> None:
    data = tmp_path / "data"
    (data / "postgres").mkdir(parents=True)
    (data / "postgres" / "PG_VERSION").write_text("18\n")
    other = 12345 if os.geteuid() == 0 else None
    if other is None:
        pytest.skip("only root can give a directory to somebody else")
    os.chown(data / "postgres", other, other)
    done = hetuflow(
        "dev", "--data-dir", str(data), "--http-port", str(free_port()), "--websocket-port", str(free_port())
    )
    assert done.returncode == 2 and "Traceback" not in done.stderr, done.stderr


def _is_one_line(done: subprocess.CompletedProcess[str]) -> bool:
    return "Traceback" not in done.stderr and len(done.stderr.strip().splitlines()) == 1
