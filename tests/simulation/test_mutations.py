"""The quick ones of the deliberate bugs are caught; `make mutations` has all."""

from __future__ import annotations

import logging

import pytest

from tests.simulation.calm import played
from tests.simulation.mutations import MUTATIONS, Mutation
from tests.simulation.proof import proof_of
from tests.simulation.test_checkers import INVARIANTS


@pytest.mark.parametrize("mutation", [each for each in MUTATIONS if each.quick], ids=lambda each: each.name)
def test_a_deliberate_bug_is_caught(mutation: Mutation, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.CRITICAL)
    proof = proof_of(mutation)
    assert proof.seed is not None, f"{mutation.breaks}: no seed of {list(mutation.seeds)} tells"


@pytest.mark.parametrize("mutation", [each for each in MUTATIONS if each.script], ids=lambda each: each.name)
def test_without_its_bug_a_short_run_violates_nothing(mutation: Mutation, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.CRITICAL)
    assert mutation.script is not None
    for seed in list(mutation.seeds)[:3]:
        assert played(seed, mutation.script).violations == []


def test_every_invariant_has_a_bug_that_proves_its_judge() -> None:
    assert {each.expected for each in MUTATIONS} == INVARIANTS | {"L3"}
