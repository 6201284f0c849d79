"""`--concurrency`, `--key`, `--rate`, and `limits` of manifests, without a server."""

from __future__ import annotations

from typing import Any

import click
import pytest

from hetuflow.cli.limits import KeyText, RateText, read_limits, shown


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("10/60s", {"count": 10, "per_seconds": 60}),
        ("1/m", {"count": 1, "per_seconds": 60}),
        ("3 / 1h30m", {"count": 3, "per_seconds": 5400}),
        ("5/90", {"count": 5, "per_seconds": 90}),
    ],
)
def test_a_rate(text: str, value: Any) -> None:
    assert RateText().convert(text, None, None) == value


@pytest.mark.parametrize("text", ["10", "/m", "x/m", "10/", "10/y", "-1/m"])
def test_what_is_no_rate_is_refused(text: str) -> None:
    with pytest.raises(click.BadParameter):
        RateText().convert(text, None, None)


def test_keys() -> None:
    assert KeyText().convert("db-main", None, None) == "db-main"
    assert KeyText().convert("licence=5", None, None) == {"name": "licence", "concurrency": 5}
    with pytest.raises(click.BadParameter, match="NAME or NAME=N"):
        KeyText().convert("licence=x", None, None)


def test_limits_of_a_manifest() -> None:
    assert read_limits({"concurrency": 2, "rate": "1/m"}) == {"concurrency": 2, "rate": {"count": 1, "per_seconds": 60}}
    for wrong, message in [
        ({"concurency": 1}, "concurency: .*did you mean 'concurrency'"),
        ({"keys": ["a", "a"]}, r"keys\[1\]: names the key 'a' a second time"),
        ({"rate": "often"}, "is not COUNT/DURATION"),
        (3, "must be an object"),
    ]:
        with pytest.raises(ValueError, match=message):
            read_limits(wrong)


def test_shown_in_one_line() -> None:
    config = {
        "limits": {
            "concurrency": 2,
            "keys": ["db", {"name": "l", "concurrency": 5}],
            "rate": {"count": 1, "per_seconds": 60},
        },
        "resource_limits": {"max_execution_time_secs": 5},
    }
    assert shown(config) == (
        "2 at once; 1 at once of all with key db; 5 at once of all with key l; 1 starts in 60 s; max_execution_time_secs 5"
    )
    assert shown({"limits": None, "resource_limits": None}) is None
