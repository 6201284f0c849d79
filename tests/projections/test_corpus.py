"""The tables fold every event that was ever released, in both interpreters, to the same rows."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from projections.fold import Tables
from projections.tables import ALL_TABLES
from tests.projections.sql import Scratch, scratch
from tests.support.corpus import corpus
from tests.support.postgres import Server

pytestmark = pytest.mark.postgres


@pytest.fixture
def folding(any_postgres: Server) -> Iterator[Scratch]:
    url = any_postgres.fresh_database()
    with scratch(url, ALL_TABLES.values()) as opened:
        yield opened
    any_postgres.drop(url)


def test_sql_and_python_fold_the_corpus_to_the_same_rows_up_to_every_position(folding: Scratch) -> None:
    events = corpus()
    folding.load(events)
    expected = Tables(ALL_TABLES)
    shown = dict.fromkeys(ALL_TABLES, 0)
    for event in events:
        expected.apply([event])
        for name, table in ALL_TABLES.items():
            if event.type in table.event_types:
                rows = expected.folds[name].rows()
                assert folding.fold(table, event.position) == rows, (name, event)
                shown[name] += len(rows)
    assert all(shown.values()), f"no row of {[name for name, count in shown.items() if not count]}"
    for name, table in ALL_TABLES.items():
        assert folding.apply(table, [0, len(events) // 2, len(events)]) == expected.folds[name].rows(), name
