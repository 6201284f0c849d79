"""An executor for hetuflow: a job is a statement of SQL. Options: `database`, `sql`, `format`."""

from __future__ import annotations

import json
import os
import sys
from urllib.parse import unquote, urlsplit

from agent.executors.api import OptionProblem, Order, Program, options

FORMATS = ("csv", "json")
PSQL = ("psql", "--no-psqlrc", "--quiet", "--set", "ON_ERROR_STOP=1")


def prepare(order: Order) -> Program:
    """The program that runs the statement. Raises `OptionProblem`."""
    given = options(order.options, {"database": str, "sql": str, "format": str}, required=("database", "sql"))
    shape = given.get("format", "csv")
    if shape not in FORMATS:
        raise OptionProblem(f"executor_options.format must be one of {', '.join(FORMATS)}, got {shape!r}")
    kind, _, path = given["database"].partition(":///")
    if kind == "sqlite" and path:
        query = {"sql": given["sql"], "format": shape, "parameters": dict(order.parameters)}
        # The interpreter that the agent runs in, and a file by its path: nothing is imported from the instance's directory.
        program = (sys.executable, "-P", os.path.join(os.path.dirname(__file__), "query.py"), path)
        return Program(argv=program, stdin=json.dumps(query).encode())
    if given["database"].startswith(("postgresql://", "postgres://")):
        if shape != "csv":
            raise OptionProblem(f"executor_options.format {shape!r} is for SQLite: PostgreSQL gives csv")
        bound = [part for name, value in order.parameters.items() for part in ("--set", f"{name}={_text(value)}")]
        argv = (*PSQL, "--csv", *bound, "--file", "-")
        return Program(argv=argv, environment=_connection(given["database"]), stdin=given["sql"].encode())
    raise OptionProblem(
        f"executor_options.database must begin with sqlite:///, postgresql:// or postgres://, got {given['database'][:20]!r}"
    )


def _connection(url: str) -> dict[str, str]:
    """As psql's variables: among the arguments everybody on the machine would see the password."""
    parts = urlsplit(url)
    found = {
        "PGHOST": parts.hostname,
        "PGPORT": parts.port,
        "PGUSER": parts.username,
        "PGPASSWORD": parts.password,
        "PGDATABASE": parts.path.lstrip("/"),
    }
    return {name: unquote(str(value)) for name, value in found.items() if value}


def _text(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value)
