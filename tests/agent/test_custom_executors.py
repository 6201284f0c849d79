"""Executors of other packages: what their function may do and fail at, and the example as somebody installs it."""

from __future__ import annotations

import os
import shutil
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest
import trio

from agent.executors import features, installed
from agent.executors.api import OptionProblem, Order, Program, options
from hetuflow.ports.processes import StartError

ROOT = Path(__file__).parents[2]
EXAMPLE = ROOT / "examples/executors/hetuflow-executor-sql"

MODULE = """
import os, sys, time
from agent.executors.api import Order, OptionProblem, Program

def good(order):
    print("printed by a good one")
    return Program(argv=[order.cmd, *order.args, order.options["a"], order.parameters["b"]], environment={"X": order.environment["Y"]}, stdin=b"\\0\\xff")

def named(order):
    raise OptionProblem("executor_options.a must be a string,\\n got 1")

def raises(order):
    raise KeyError("missing")

def leaves(order):
    sys.exit("not today")

def dies(order):
    print("about to", file=sys.stderr)
    os._exit(9)

def killed(order):
    os.kill(os.getpid(), 11)

def hangs(order):
    time.sleep(300)

def floods(order):
    print("x" * 5_000_000)
    return Program(argv=("x" * 2_000_000,))

def empty(order):
    return Program(argv=())

def text(order):
    return Program(argv="ls -l")

def nothing(order):
    pass

def number(order):
    return Program(argv=("a", 1))

def variables(order):
    return Program(argv=("a",), environment={"A": 1})

def stdin(order):
    return Program(argv=("a",), stdin="text")

constant = 42
"""
NAMES = [
    *("good", "named", "raises", "leaves", "dies", "killed", "hangs", "floods", "empty", "text", "nothing"),
    *("number", "variables", "stdin", "constant"),
]


def a_package(directory: Path, name: str, entries: dict[str, str], code: str = MODULE) -> None:
    """As an installer leaves it."""
    info = directory / f"{name}-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
    lines = [f"{entry} = {target}" for entry, target in entries.items()]
    (info / "entry_points.txt").write_text("\n".join(["[hetuflow.executors]", *lines, ""]))
    (directory / f"{name}.py").write_text(code)


@pytest.fixture
def packages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where packages are installed, and found by this process."""
    directory = tmp_path / "packages"
    directory.mkdir()
    monkeypatch.syspath_prepend(str(directory))
    return directory


@pytest.fixture
def several(packages: Path) -> None:
    entries = {name: f"several:{name}" for name in NAMES}
    a_package(
        packages,
        "several",
        {**entries, "gone": "several:gone", "unimportable": "no_such_module:x", "python": "several:good"},
    )


AN_ORDER = Order(
    task_id="t-1",
    job_id="j-1",
    instance_id="i-1",
    cmd="echo",
    args=("1",),
    options={"a": "2"},
    parameters={"b": "3"},
    environment={"Y": "z"},
)


async def refused(name: str, **fields: float) -> str:
    with pytest.raises(StartError) as caught:
        await installed.prepare(name, AN_ORDER, **fields)
    return str(caught.value)


async def test_the_program_is_what_the_function_says(several: None) -> None:
    program = await installed.prepare("good", AN_ORDER)
    assert program == Program(argv=("echo", "1", "2", "3"), environment={"X": "z"}, stdin=b"\0\xff")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("named", "executor_options.a must be a string, got 1"),
        ("raises", "KeyError: 'missing'"),
        ("leaves", "not today"),
        ("dies", "it ended with exit code 9: about to"),
        ("killed", "it ended with signal 11"),
        ("floods", "its program is described in more than 1048576 bytes"),
        ("empty", "TypeError: argv must be strings, the program first, got ()"),
        ("text", "TypeError: argv must be strings, the program first, got 'ls -l'"),
        ("number", "TypeError: argv must be strings, the program first, got ('a', 1)"),
        ("nothing", "TypeError: it returned None, no agent.executors.api.Program"),
        ("variables", "TypeError: environment must have strings as names and values"),
        ("stdin", "TypeError: stdin must be bytes, or None"),
        ("constant", "TypeError: the entry point is no function but 42"),
        ("gone", "AttributeError: module 'several' has no attribute 'gone'"),
        ("unimportable", "ModuleNotFoundError: No module named 'no_such_module'"),
    ],
)
async def test_what_it_does_wrong_is_told_with_its_name(name: str, message: str, several: None) -> None:
    assert await refused(name) == f"executor {name!r}: {message}"


async def test_one_that_hangs_is_given_up(several: None) -> None:
    assert await refused("hangs", deadline_seconds=0.5) == "executor 'hangs': it did not answer within 0.5 s"


async def test_one_that_hangs_is_ended_with_its_instance(several: None) -> None:
    with trio.move_on_after(0.5) as patience:
        await installed.prepare("hangs", AN_ORDER)
    assert patience.cancelled_caught


async def test_one_that_is_not_installed_is_told_with_the_nearest(several: None, packages: Path) -> None:
    message = await refused("god")
    assert message.startswith(
        "executor 'god' is not installed on this agent; the nearest known one is 'good' (installed: constant, "
    )
    assert "'python'" in await refused("pyton")


async def test_where_none_is_installed(packages: Path) -> None:
    assert await refused("sql") == "executor 'sql' is not installed on this agent (none is installed)"


async def test_two_packages_with_one_name(packages: Path) -> None:
    for name in ("one", "two"):
        a_package(packages, name, {"sql": f"{name}:good"})
    assert await refused("sql") == "executor 'sql': several packages bring it: one, two"


def test_our_own_names_are_ours(several: None) -> None:
    assert "python" not in features.names() and set(NAMES) < set(features.names())


# --- options ---------------------------------------------------------------------------------------------------------

KNOWN = {"text": str, "flag": bool, "count": int, "share": float, "many": list, "table": dict, "either": (str, int)}


def test_options_that_fit_come_through() -> None:
    given = {"text": "a", "flag": True, "count": 1, "share": 2, "many": [1], "table": {"a": 1}, "either": 3}
    assert options({**given, "text": None, "many": (1,)}, KNOWN) == {
        **{k: v for k, v in given.items() if k != "text"},
        "many": (1,),
    }


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"tekst": "a"}, "executor_options.tekst is not known; the nearest known one is 'text'"),
        ({"zzz": 1}, "executor_options.zzz is not known; known are text, flag, count, share, many, table, either"),
        ({"text": 1}, "executor_options.text must be a string, got 1"),
        ({"count": True}, "executor_options.count must be an integer, got True"),
        ({"share": True}, "executor_options.share must be a number, got True"),
        ({"count": 1.5}, "executor_options.count must be an integer, got 1.5"),
        ({"flag": 1}, "executor_options.flag must be true or false, got 1"),
        ({"either": 1.5}, "executor_options.either must be a string or an integer, got 1.5"),
        ({"text": None}, "executor_options.text is required: a string"),
    ],
)
def test_options_that_do_not_fit_are_named(given: dict[str, object], message: str) -> None:
    with pytest.raises(OptionProblem) as caught:
        options(given, KNOWN, required=("text",) if message.endswith("a string") and "required" in message else ())
    assert str(caught.value) == message


# --- the example -----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="session")
def example(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The example, installed by pip as its reader would, into a directory of its own."""
    target = tmp_path_factory.mktemp("example")
    source = tmp_path_factory.mktemp("source") / EXAMPLE.name
    subprocess.run(["cp", "-r", EXAMPLE, source], check=True)  # a build leaves files beside its source
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-index", "--no-build-isolation", "--no-deps"]
    subprocess.run(
        [*command, "--target", target, source], check=True, env={**os.environ, "PIP_DISABLE_PIP_VERSION_CHECK": "1"}
    )
    return target


async def said_by(order: Order, example: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.syspath_prepend(str(example))
    program = await installed.prepare("sql", order)
    done = await trio.run_process(list(program.argv), stdin=program.stdin or b"", capture_stdout=True)
    return done.stdout.decode()


def an_sql_order(**options: object) -> Order:
    return Order(
        task_id="t", job_id="j", instance_id="i", options=options, parameters={"least": 2, "name": "a'; drop table t"}
    )


@pytest.fixture
def database(tmp_path: Path) -> str:
    with sqlite3.connect(tmp_path / "shop.db") as connection:
        connection.execute("create table orders (id integer, who text)")
        connection.executemany("insert into orders values (?, ?)", [(1, "Ann"), (2, "Bob, jr."), (3, "Cy")])
    connection.close()
    return f"sqlite:///{tmp_path}/shop.db"


async def test_the_example_puts_out_rows(example: Path, database: str, monkeypatch: pytest.MonkeyPatch) -> None:
    sql = "select id, who, :name as n from orders where id >= :least"
    order = an_sql_order(database=database, sql=sql)
    assert (
        await said_by(order, example, monkeypatch)
        == "id,who,n\n2,\"Bob, jr.\",a'; drop table t\n3,Cy,a'; drop table t\n"
    )
    order = an_sql_order(database=database, sql="select who from orders where id = :least", format="json")
    assert await said_by(order, example, monkeypatch) == '{"who": "Bob, jr."}\n'


async def test_the_example_does_not_show_a_password(example: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(example))
    order = an_sql_order(database="postgresql://u:se%20cret@h:5433/d", sql="select :'name'")
    program = await installed.prepare("sql", order)
    assert "cret" not in " ".join(program.argv) and program.stdin == b"select :'name'"
    assert program.environment == {
        "PGHOST": "h",
        "PGPORT": "5433",
        "PGUSER": "u",
        "PGPASSWORD": "se cret",
        "PGDATABASE": "d",
    }


@pytest.mark.postgres
async def test_the_example_speaks_to_postgresql(
    example: Path, postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if shutil.which("psql") is None:
        pytest.skip("this machine has no psql")
    monkeypatch.syspath_prepend(str(example))
    order = an_sql_order(database=postgres_url, sql="select :'name' as name, :least + 1 as more")
    program = await installed.prepare("sql", order)
    environment = {**os.environ, **program.environment}
    done = await trio.run_process(program.argv, stdin=program.stdin or b"", capture_stdout=True, env=environment)
    assert done.stdout.decode() == "name,more\na'; drop table t,3\n"


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"sql": "select 1"}, "executor_options.database is required: a string"),
        ({"databse": "x"}, "executor_options.databse is not known; the nearest known one is 'database'"),
        (
            {"database": "mysql://x", "sql": "s"},
            "executor_options.database must begin with sqlite:///, postgresql:// or postgres://",
        ),
        (
            {"database": "sqlite:///x", "sql": "s", "format": "xml"},
            "executor_options.format must be one of csv, json, got 'xml'",
        ),
    ],
)
async def test_the_example_names_options_that_do_not_fit(
    given: dict[str, str], message: str, example: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(example))
    with pytest.raises(StartError) as caught:
        await installed.prepare("sql", an_sql_order(**given))
    assert str(caught.value).startswith(f"executor 'sql': {message}")
