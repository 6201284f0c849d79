"""What can be asked of the lease of a slot."""

from __future__ import annotations

from collections.abc import Sequence

from attrs import frozen

from hetuflow.domain.decider import Guard


@frozen(slots=True, kw_only=True)
class TakeLease:
    """`over`: only from these holders, or when nobody holds it; None = whoever holds it. `guards`: what gives the right."""

    slot: int
    server_id: str
    over: Sequence[str] | None = None
    guards: Sequence[Guard] = ()


@frozen(slots=True, kw_only=True)
class ReleaseLease:
    slot: int
    server_id: str
