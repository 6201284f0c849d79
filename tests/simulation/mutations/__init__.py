"""Deliberate bugs: what each breaks, the patch, and the invariant whose judge must find it within a few seeds.

A judge that never found anything proves nothing. Each entry patches the system (or, for promises that only the store
keeps, the store) while a seed runs; `proof.py` runs them. `quick` ones are part of the suite.
"""

from __future__ import annotations

from collections.abc import Sequence

from tests.simulation.mutations import fires, flows, kinds, log, outside, tasks
from tests.simulation.mutations.kit import Mutation

__all__ = ["MUTATIONS", "Mutation"]

MUTATIONS: Sequence[Mutation] = (
    *fires.MUTATIONS,
    *flows.MUTATIONS,
    *kinds.MUTATIONS,
    *tasks.MUTATIONS,
    *log.MUTATIONS,
    *outside.MUTATIONS,
)
