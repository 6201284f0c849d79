"""Files put, given to a job, left behind and downloaded; old days dropped: as a person types it."""

from __future__ import annotations

import os
from pathlib import Path

from tests.cli.conftest import Shell, until
from tests.support.dev import Dev


def an_instance(hetuflow: Shell, name: str, *options: str, script: str) -> str:
    """The id of one that has ended, with all of its files on the server."""
    hetuflow("job", "create", name, "--max-retries", "0", *options, "--", "bash", "-c", script)
    task = hetuflow.json("job", "run", name)["id"]
    row = until(lambda: [t for t in hetuflow.json("instance", "list", "--task", task) if t["completed_at"]])[0]
    until(lambda: hetuflow.json("instance", "artifacts", row["id"])["complete"])
    return str(row["id"])


def test_a_file_goes_in_and_comes_out_again(hetuflow: Shell, tmp_path: Path) -> None:
    model = tmp_path / "model.bin"
    model.write_bytes(os.urandom(300_000))
    url = hetuflow("files", "put", str(model)).strip()
    (row,) = [each for each in hetuflow.json("files", "list") if each["url"] == url]
    assert row["bytes"] == 300_000
    instance = an_instance(
        hetuflow,
        "files-in-out",
        *("--file", f"model.bin=@{url}", "--file", "a.txt=hello", "--artifact", "out", "--artifact", "a.txt"),
        script="mkdir -p out/deep; cp model.bin out/deep/copy.bin",
    )
    table = hetuflow("instance", "artifacts", instance)
    assert "out/deep/copy.bin" in table and "300 kB" in table and "here" in table
    hetuflow("instance", "download", instance, "-o", str(tmp_path / "got"))
    assert (tmp_path / "got" / "out" / "deep" / "copy.bin").read_bytes() == model.read_bytes()
    assert (tmp_path / "got" / "a.txt").read_text() == "hello"
    assert not list((tmp_path / "got").rglob("*.part"))
    assert hetuflow("instance", "download", instance, "a.txt", "-o", "-") == "hello"
    missing = hetuflow.run("instance", "download", instance, "nothing")
    assert missing.returncode == 3 and "instance artifacts" in missing.stderr
    hetuflow("files", "get", row["id"][:12], "-o", str(tmp_path / "again"))
    assert (tmp_path / "again").read_bytes() == model.read_bytes()
    assert hetuflow.run("files", "delete", row["id"], "--yes").returncode == 0
    assert hetuflow.run("files", "get", row["id"]).returncode == 3


def test_an_address_that_is_no_file_of_the_servers_is_not_taken_for_a_local_file(hetuflow: Shell) -> None:
    bad = hetuflow.run("job", "create", "bad-url", "--file", "x=@/api/v1/files/aaaa", "--", "true")
    assert bad.returncode == 2 and "must be a file of the server (/api/v1/files/<id>" in bad.stderr


def test_a_job_without_a_program_is_a_module_or_an_executor(hetuflow: Shell, tmp_path: Path) -> None:
    module = tmp_path / "empty.wasm"
    module.write_bytes(b"\0asm\1\0\0\0")
    bare = hetuflow.run("job", "create", "no-program")
    assert bare.returncode == 2 and "Missing argument '-- PROGRAM [ARG]...'" in bare.stderr
    for name, options, member in (
        ("wasm-inline", ("--wasm", f"@{module}"), {"wasm": {"module": {"base64": "AGFzbQEAAAA="}}}),
        ("wasm-there", ("--wasm", "/srv/score.wasm"), {"wasm": {"module": "/srv/score.wasm"}}),
        ("wasm-set", ("--set", "config.wasm.module=/srv/score.wasm"), {"wasm": {"module": "/srv/score.wasm"}}),
        ("executed", ("--executor", "sql"), {"executor": "sql"}),
    ):
        hetuflow("job", "create", name, *options)
        assert hetuflow.json("job", "show", name)["config"].items() >= member.items()
    hetuflow("job", "create", "packages", "--requirement", "rich==14.0.0", "--", "python", "-c", "import rich")
    assert hetuflow.json("job", "show", "packages")["config"]["python"] == {"requirements": ["rich==14.0.0"]}


def test_what_is_missing_says_so(hetuflow: Shell) -> None:
    hetuflow("job", "create", "files-missing", "--max-retries", "0", "--artifact", "report.csv", "--", "true")
    task = hetuflow.json("job", "run", "files-missing")["id"]
    row = until(lambda: [t for t in hetuflow.json("instance", "list", "--task", task) if t["completed_at"]])[0]
    assert row["reason"] == "artifact"
    assert "report.csv" in (table := hetuflow("instance", "artifacts", row["id"])) and "no file fits" in table
    assert hetuflow.json("instance", "download", row["id"]) == []


def test_old_days_are_shown_before_they_are_dropped(hetuflow: Shell, dev: Dev) -> None:
    url = ("--database-url", dev.database_url)
    assert hetuflow.run("db", "prune", *url).returncode == 2  # nobody said how old
    assert hetuflow("db", "prune", "--output-days", "30", "--dry-run", *url) == "nothing is that old\n"
    dropped = hetuflow.json("db", "prune", "--output-days", "30", "--artifact-days", "30", *url)
    assert dropped == {"dry_run": False, "dropped": [], "bytes": 0}
