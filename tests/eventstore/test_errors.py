"""What PostgreSQL says becomes what callers can act on."""

from __future__ import annotations

import asyncpg
import pytest

from eventstore.errors import StoreFull, StoreTimeout, StoreUnavailable
from eventstore.postgres.errors import translate, translated, was_refused


def test_a_full_disk_is_said_so_and_nothing_was_written() -> None:
    with pytest.raises(StoreFull) as raised, translated():
        raise asyncpg.DiskFullError('could not extend file "base/1/2": No space left on device')
    assert str(raised.value).startswith("The database has no space left on its disk (could not extend file")
    assert isinstance(raised.value, StoreUnavailable) and was_refused(raised.value)


def test_other_lacks_are_not_about_the_disk() -> None:
    assert type(translate(asyncpg.TooManyConnectionsError("too many clients"))) is StoreUnavailable
    assert type(translate(asyncpg.QueryCanceledError("statement timeout"))) is StoreTimeout
