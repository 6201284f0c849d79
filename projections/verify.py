"""Are the tables what the log says? Each is compared with a fresh fold, row by row, at one moment.

One transaction at REPEATABLE READ sees a checkpoint and the rows that belong to it; the fold goes up to that position
into a temporary table, and what is in one and not in the other is counted, both ways. Nothing is changed, nobody waits.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence

from attrs import frozen

from eventstore.postgres.database import Connection, Database
from projections.compile_sql import FOLD_SETTINGS, fold_statement, removals_statement
from projections.definition import Table
from projections.expressions import quoted
from projections.tables import ALL_TABLES, LIVE, LIVE_TABLES, OPEN_WORK_CHECKPOINT

EXAMPLES_MAX = 5
VERIFY_SECONDS_MAX = 6 * 3600.0


@frozen(slots=True, kw_only=True)
class Verified:
    """`missing`: rows of the fold that the table does not have as they are; `unexpected`: rows that only the table has.

    `examples`: keys of such rows. `digest`: of all rows of the table, the same for the same rows.
    """

    name: str
    position: int
    rows: int
    missing: int
    unexpected: int
    examples: Sequence[str]
    digest: str

    @property
    def is_same(self) -> bool:
        return not self.missing and not self.unexpected


async def verify(database: Database, names: Sequence[str] = tuple(ALL_TABLES)) -> Sequence[Verified]:
    """Compare the tables of these projections with folds of the log.

    Raises:
      KeyError: no such projection. StoreUnavailable, StoreTimeout, SqlError.
    """
    tables = {name: ALL_TABLES[name] for name in dict.fromkeys(names)}
    found = []
    for name, table in tables.items():
        found.append(await database.run(_verifying(name, table), timeout_seconds=VERIFY_SECONDS_MAX))
    return found


def _verifying(name: str, table: Table) -> Callable[[Connection], Awaitable[Verified]]:
    return lambda connection: _verify(connection, name, table)


async def _verify(connection: Connection, name: str, table: Table) -> Verified:
    """In the database thread, on a connection of its own."""
    await connection.execute("BEGIN ISOLATION LEVEL REPEATABLE READ")
    checkpoint = LIVE if name in LIVE_TABLES else OPEN_WORK_CHECKPOINT
    position: int = await connection.fetchval("SELECT position FROM checkpoints WHERE name = $1", checkpoint) or 0
    for setting, value in FOLD_SETTINGS.items():
        await connection.fetch("SELECT set_config($1, $2, true)", setting, value)
    removals = await connection.fetchval(removals_statement(table, until=position))
    fold = fold_statement(table, until=position, removals=removals)
    await connection.execute(f"CREATE TEMP TABLE verifying ON COMMIT DROP AS {fold}")
    columns = ", ".join(quoted(column) for column in table.column_names)
    live, fresh = f"SELECT {columns} FROM {quoted(table.name)}", f"SELECT {columns} FROM verifying"
    missing, lacking = await _difference(connection, table, fresh, live)
    unexpected, extra = await _difference(connection, table, live, fresh)
    rows: int = await connection.fetchval(f"SELECT count(*) FROM {quoted(table.name)}")
    digest: str = await connection.fetchval(
        f"SELECT md5(coalesce(string_agg(md5(t::text), '' ORDER BY md5(t::text)), '')) FROM ({live}) AS t"
    )
    await connection.execute("COMMIT")
    return Verified(
        name=name,
        position=position,
        rows=rows,
        missing=missing,
        unexpected=unexpected,
        examples=sorted({*lacking, *extra})[:EXAMPLES_MAX],
        digest=digest,
    )


async def _difference(connection: Connection, table: Table, one: str, other: str) -> tuple[int, Sequence[str]]:
    """How many rows only `one` has, and some of their keys."""
    only = f"({one} EXCEPT ALL {other}) AS only_here"
    count: int = await connection.fetchval(f"SELECT count(*) FROM {only}")
    if not count:
        return 0, []
    keys = await connection.fetch(f"SELECT {quoted(table.key)}::text FROM {only} LIMIT {EXAMPLES_MAX}")
    return count, [row[0] for row in keys]
