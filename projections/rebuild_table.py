"""The steps of a rebuild for one table. Each runs in a transaction of the caller, in the database thread.

The fresh table carries a mark, its transaction's id, so that a process whose fresh table was taken away by another
rebuild notices it: between the steps no lock is held.
"""

from __future__ import annotations

from attrs import evolve, frozen

from eventstore.postgres.database import Connection, Database
from projections.belongings import Belongings, look_up, refuse_what_cannot_be_carried
from projections.compile_sql import FOLD_SETTINGS, compile_table, fold_statement, removals_statement
from projections.ddl import create_parent_statement, default_partition, index_statements
from projections.definition import Table, kind_of
from projections.errors import RebuildRefused, RebuildRunning
from projections.expressions import quoted
from projections.follower import apply_range

SCHEMA = "hetuflow_rebuild"

_SET = "SELECT set_config($1, $2, true)"
_LOCK = "SELECT pg_try_advisory_xact_lock(hashtext('hetuflow rebuild'), hashtext($1))"
_MARK = "SELECT obj_description(to_regclass($1), 'pg_class')"


@frozen(slots=True)
class Filled:
    """A fresh table beside the live one: the fold of the log up to `position`."""

    table: Table
    position: int
    mark: str
    belongings: Belongings

    @property
    def fresh(self) -> str:
        return _fresh(self.table)


def _fresh(table: Table) -> str:
    return f"{SCHEMA}.{quoted(table.name)}"


async def fill_table(connection: Connection, table: Table, until: int) -> Filled:
    """Make the fresh table, with everything that lies on the live one.

    Raises:
      RebuildRunning, RebuildRefused.
    """
    await _lock(connection, table)
    owned = await look_up(connection, table.name)
    refuse_what_cannot_be_carried(table.name, owned)
    for name, value in {**FOLD_SETTINGS, "maintenance_work_mem": "256MB"}.items():
        await connection.fetch(_SET, name, value)
    await connection.execute(f"DROP TABLE IF EXISTS {_fresh(table)} CASCADE")
    removals = await connection.fetchval(removals_statement(table, until=until))
    fold = fold_statement(table, until=until, removals=removals)
    if table.partition_by is None:
        await connection.execute(f"CREATE TABLE {_fresh(table)} WITH (fillfactor = 80) AS {fold}")
    else:
        await _fill_partitions(connection, table, fold, owned)
    for statement in (*index_statements(table, SCHEMA), *owned.index_statements(SCHEMA, table)):
        await connection.execute(statement)
    mark: str = await connection.fetchval("SELECT pg_current_xact_id()::text")
    await connection.execute(f"COMMENT ON TABLE {_fresh(table)} IS 'rebuild {mark}'")
    await connection.execute(f"ANALYZE {_fresh(table)}")
    return Filled(table, until, f"rebuild {mark}", owned)


async def _fill_partitions(connection: Connection, table: Table, fold: str, owned: Belongings) -> None:
    default = f"{SCHEMA}.{quoted(default_partition(table))}"
    await connection.execute(f"DROP TABLE IF EXISTS {default}")
    parent = create_parent_statement(table, SCHEMA)
    if not owned.partitions:
        await connection.execute(f"CREATE TABLE {default} WITH (fillfactor = 80) AS {fold}")
        await connection.execute(parent)
        await connection.execute(f"ALTER TABLE {_fresh(table)} ATTACH PARTITION {default} DEFAULT")
        return
    await connection.execute(f"CREATE TEMP TABLE filling ON COMMIT DROP AS {fold}")
    await connection.execute(parent)
    await connection.execute(f"CREATE TABLE {default} PARTITION OF {_fresh(table)} DEFAULT WITH (fillfactor = 80)")
    for name, bound in owned.partitions.items():
        await connection.execute(f"CREATE TABLE {SCHEMA}.{quoted(name)} PARTITION OF {_fresh(table)} {bound}")
    columns = ", ".join(quoted(name) for name in table.column_names)
    await connection.execute(f"INSERT INTO {_fresh(table)} ({columns}) SELECT {columns} FROM filling")


async def catch_up_table(connection: Connection, filled: Filled, until: int) -> Filled:
    """Fold what came after the fill, up to a position, into the fresh table."""
    await _lock(connection, filled.table)
    if await connection.fetchval(_MARK, filled.fresh) != filled.mark:
        raise RebuildRunning(f"{filled.table.name} is being rebuilt by somebody else")
    if until > filled.position:
        await apply_range(connection, compile_table(filled.table, filled.fresh), filled.position, until)
    return evolve(filled, position=max(until, filled.position))


async def swap_table(connection: Connection, filled: Filled) -> None:
    """Let the fresh table take the place of the live one. What people granted or defined on it is given again."""
    table = filled.table
    # Seen again: what was added since the fill is carried too, and what cannot be is refused.
    owned = await look_up(connection, table.name)
    refuse_what_cannot_be_carried(table.name, owned)
    if owned.partitions != filled.belongings.partitions:
        raise RebuildRefused(f"partitions of {table.name} were added or removed during its rebuild: repeat it")
    for statement in owned.drop_view_statements():
        await connection.execute(statement)
    await connection.execute(f"DROP TABLE {quoted(table.name)}")
    await connection.execute(f"COMMENT ON TABLE {_fresh(table)} IS NULL")
    moved = [table.name]
    if table.partition_by is not None:
        moved += [default_partition(table), *filled.belongings.partitions]
    for name in moved:
        await connection.execute(f"ALTER TABLE {SCHEMA}.{quoted(name)} SET SCHEMA {quoted(owned.schema)}")
        await connection.execute(f"ALTER TABLE {quoted(name)} OWNER TO {owned.owners[name]}")
    for statement in owned.missing_since(filled.belongings, table):
        await connection.execute(statement)
    for statement in owned.given_again():
        await connection.execute(statement)


async def has_shape(database: Database, table: Table) -> bool:
    """Has the live table exactly the columns of the definition?"""
    rows = await database.fetch(
        "SELECT attname::text, format_type(atttypid, NULL) FROM pg_attribute"
        " WHERE attrelid = to_regclass($1) AND attnum > 0 AND NOT attisdropped ORDER BY attnum",
        table.name,
    )
    wanted = [(table.key, table.key_kind), *((item.name, kind_of(item)) for item in table.items)]
    longer = {"timestamptz": "timestamp with time zone"}
    return [tuple(row) for row in rows] == [(name, longer.get(kind.value, kind.value)) for name, kind in wanted]


async def _lock(connection: Connection, table: Table) -> None:
    if not await connection.fetchval(_LOCK, table.name):
        raise RebuildRunning(f"{table.name} is being rebuilt by somebody else")
