"""The quick ones of the deliberate bugs are caught; `make mutations` has all."""

from __future__ import annotations

import logging

import pytest

from tests.simulation.calm import Script, played
from tests.simulation.mutations import MUTATIONS, Mutation
from tests.simulation.proof import proof_of
from tests.simulation.test_checkers import INVARIANTS


@pytest.mark.parametrize("mutation", [each for each in MUTATIONS if each.quick], ids=lambda each: each.name)
def test_a_deliberate_bug_is_caught(mutation: Mutation, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.CRITICAL)
    proof = proof_of(mutation)
    assert proof.seed is not None, f"{mutation.breaks}: no seed of {list(mutation.seeds)} tells"


SCRIPTS = {each.script: each for each in MUTATIONS if each.script is not None}
"""Each once, although several bugs use it."""


@pytest.mark.parametrize("script", SCRIPTS, ids=[each.name for each in SCRIPTS.values()])
def test_without_its_bug_a_short_run_violates_nothing(script: Script, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.CRITICAL)
    assert played(1, script).violations == []


def test_every_invariant_has_a_bug_that_proves_its_judge() -> None:
    assert {each.expected for each in MUTATIONS} == INVARIANTS | {"L3"}
