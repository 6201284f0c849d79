"""Whether a server may run as a role that can do less than the login role."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from eventstore.errors import DatabaseUnreachable, StoreUnavailable
from eventstore.postgres.bridge import Bridge
from eventstore.postgres.connection import connect
from eventstore.postgres.errors import translated
from eventstore.postgres.settings import PostgresSettings

SERVER_ROLE = "hetuflow_server"
"""Made by `migrate` where it may: it reads everything and appends to the log, and owns the tables made from it."""

_MAY_BECOME = """
select pg_has_role(r.oid, case when current_setting('server_version_num')::int < 160000 then 'member' else 'set' end)
   and not exists (select from unnest($2::text[]) as t(name)
                    where (select relowner from pg_class where oid = to_regclass(quote_ident(t.name))) is distinct from r.oid)
  from pg_roles r where rolname = $1
"""


async def may_become(url: str, role: str, owned: Sequence[str], *, settings: PostgresSettings | None = None) -> bool:
    """Does the role exist, may the login role become it, and does it own these tables?

    Raises:
      StartError: unreachable, wrong credentials, too old.
      SqlError.
    """

    async def look() -> bool:
        connection: Any = await connect(url, settings or PostgresSettings(), "start")
        try:
            with translated():
                return bool(await connection.fetchval(_MAY_BECOME, role, owned))
        finally:
            connection.terminate()

    async with Bridge() as bridge:
        try:
            return await bridge.call(look)
        except StoreUnavailable as exc:
            raise DatabaseUnreachable(str(exc)) from exc
