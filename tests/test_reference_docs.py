"""The generated reference pages are those of this code."""

from __future__ import annotations

import pytest

from tests.support.reference import DIRECTORY, PAGES


@pytest.mark.parametrize("name", PAGES)
def test_reference_page_is_up_to_date(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert (DIRECTORY / name).read_text() == PAGES[name](), "run `make docs`"
