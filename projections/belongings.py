"""What lies on a table besides its rows: people's indexes, partitions, grants and views. A rebuild carries them over."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from attrs import frozen

from eventstore.postgres.database import Connection
from projections.ddl import index_name
from projections.definition import Table
from projections.errors import RebuildRefused
from projections.expressions import quoted

_INDEXES = """
SELECT i.relname::text AS name, t.relname::text AS on_table, pg_get_indexdef(i.oid) AS definition
  FROM pg_index x JOIN pg_class i ON i.oid = x.indexrelid JOIN pg_class t ON t.oid = x.indrelid
 WHERE (x.indrelid = $1::regclass OR x.indrelid IN (SELECT inhrelid FROM pg_inherits WHERE inhparent = $1::regclass))
   AND NOT x.indisprimary
   AND NOT EXISTS (SELECT FROM pg_inherits WHERE inhrelid = i.oid)  -- an index of a partition made by its parent's
 ORDER BY i.relname
"""
_PARTITIONS = """
SELECT c.oid, c.relname::text AS name, c.relkind::text AS kind, pg_get_expr(c.relpartbound, c.oid) AS bound,
       quote_ident(pg_get_userbyid(c.relowner)) AS owner
  FROM pg_inherits JOIN pg_class c ON c.oid = inhrelid
 WHERE inhparent = $1::regclass ORDER BY c.relname
"""
_GRANTS = """
SELECT c.oid::regclass::text AS name, a.privilege_type AS privilege, a.is_grantable,
       CASE WHEN a.grantee = 0 THEN 'PUBLIC' ELSE quote_ident(pg_get_userbyid(a.grantee)) END AS grantee
  FROM pg_class c, aclexplode(c.relacl) a
 WHERE c.oid = ANY($1::oid[]) AND a.grantee <> c.relowner
 ORDER BY 1, 4, 2
"""
_VIEWS = """
WITH RECURSIVE dependent AS (
  SELECT $1::regclass::oid AS oid, 0 AS depth
  UNION
  SELECT r.ev_class, d.depth + 1
    FROM dependent d JOIN pg_depend p ON p.refobjid = d.oid AND p.classid = 'pg_rewrite'::regclass
    JOIN pg_rewrite r ON r.oid = p.objid
   WHERE r.ev_class <> d.oid AND d.depth < 20
)
SELECT c.oid, c.oid::regclass::text AS name, c.relkind::text AS kind, pg_get_viewdef(c.oid) AS definition,
       quote_ident(pg_get_userbyid(c.relowner)) AS owner
  FROM (SELECT oid, max(depth) AS depth FROM dependent WHERE depth > 0 GROUP BY oid) d JOIN pg_class c USING (oid)
 ORDER BY d.depth, c.oid
"""
_REFERENCES = """
SELECT conname::text AS name, conrelid::regclass::text AS on_table FROM pg_constraint
 WHERE contype = 'f' AND confrelid = $1::regclass AND conparentid = 0
"""
_OWN = (
    "SELECT c.oid, n.nspname::text AS schema, quote_ident(pg_get_userbyid(c.relowner)) AS owner FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace"
    " WHERE c.oid = $1::regclass"
)


@frozen(slots=True)
class Index:
    name: str
    on_table: str
    definition: str

    def on_schema(self, schema: str) -> str:
        """Its definition for the table of the same name in another schema; for a partitioned one, with its partitions."""
        target = f" ON {quoted(schema)}.{quoted(self.on_table)} USING "
        return re.sub(r' ON (ONLY )?((\w+|"[^"]+")\.)?(\w+|"[^"]+") USING ', lambda _: target, self.definition, count=1)


@frozen(slots=True)
class View:
    name: str
    is_materialized: bool
    definition: str
    owner: str


@frozen(slots=True)
class Belongings:
    """Of one table.

    `owners`: of it and its partitions; `partitions`: their bounds, without the default one; `nested`: those that have
    partitions themselves; `grants`: statements, also for partitions and views; `views`: in the order of their making.
    """

    schema: str
    owners: Mapping[str, str]
    indexes: Sequence[Index]
    partitions: Mapping[str, str]
    nested: Sequence[str]
    grants: Sequence[str]
    views: Sequence[View]
    references: Sequence[str]

    def index_statements(self, schema: str, table: Table) -> Sequence[str]:
        """People's indexes, for the table of the same name in a schema."""
        ours = {index_name(table, columns) for columns in table.indexes}
        return [index.on_schema(schema) for index in self.indexes if index.name not in ours]

    def missing_since(self, earlier: Belongings, table: Table) -> Sequence[str]:
        """Indexes that people made while the fresh table was filled."""
        known = {index.name for index in earlier.indexes}
        ours = {index_name(table, columns) for columns in table.indexes}
        return [index.on_schema(self.schema) for index in self.indexes if index.name not in known | ours]

    def drop_view_statements(self) -> Sequence[str]:
        return [f"DROP VIEW {view.name}" for view in reversed(self.views)]

    def given_again(self) -> Sequence[str]:
        """Views and grants, once the table stands under its name again."""
        views = [
            statement
            for view in self.views
            for statement in (
                f"CREATE VIEW {view.name} AS {view.definition}",
                f"ALTER VIEW {view.name} OWNER TO {view.owner}",
            )
        ]
        return [*views, *self.grants]


async def look_up(connection: Connection, name: str) -> Belongings:
    """What lies on the live table of that name."""
    own = (await connection.fetch(_OWN, name))[0]
    views = await connection.fetch(_VIEWS, name)
    partitions = await connection.fetch(_PARTITIONS, name)
    grants = await connection.fetch(_GRANTS, [own["oid"], *(row["oid"] for row in (*views, *partitions))])
    return Belongings(
        schema=own["schema"],
        owners={name: own["owner"], **{row["name"]: row["owner"] for row in partitions}},
        indexes=[
            Index(row["name"], row["on_table"], row["definition"]) for row in await connection.fetch(_INDEXES, name)
        ],
        partitions={row["name"]: row["bound"] for row in partitions if row["bound"] != "DEFAULT"},
        nested=[row["name"] for row in partitions if row["kind"] == "p"],
        grants=[
            f"GRANT {row['privilege']} ON {row['name']} TO {row['grantee']}"
            + (" WITH GRANT OPTION" if row["is_grantable"] else "")
            for row in grants
        ],
        views=[View(row["name"], row["kind"] == "m", row["definition"], row["owner"]) for row in views],
        references=[f"{row['name']} on {row['on_table']}" for row in await connection.fetch(_REFERENCES, name)],
    )


def refuse_what_cannot_be_carried(name: str, owned: Belongings) -> None:
    """Raise `RebuildRefused` when something depends on the table that would have to go with it."""
    materialized = [view.name for view in owned.views if view.is_materialized]
    blocking = [
        *(f"materialized view {view}" for view in materialized),
        *(f"foreign key {reference}" for reference in owned.references),
        *(f"partitions of partition {partition}" for partition in owned.nested),
    ]
    if blocking:
        raise RebuildRefused(
            f"{name} cannot be rebuilt while it carries {', '.join(blocking)}: drop that, rebuild, and make it again"
        )
