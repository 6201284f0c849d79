"""One error out of a group of one: nurseries wrap what a person should read plainly."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def lone(*kinds: type[BaseException]) -> Iterator[None]:
    """Re-raise the first exception of these kinds that a group holds; anything else passes unchanged."""
    try:
        yield
    except BaseExceptionGroup as group:
        matching = group.subgroup(lambda exc: isinstance(exc, kinds))
        if matching is None:
            raise
        raise first_leaf(matching) from None


def first_leaf(exc: BaseException) -> BaseException:
    while isinstance(exc, BaseExceptionGroup):
        exc = exc.exceptions[0]
    return exc
