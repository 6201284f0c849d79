"""The proof of the judges: run a seed with a deliberate bug in the system, and see that its judge speaks."""

from __future__ import annotations

import multiprocessing
import time
import traceback
from collections.abc import Sequence

from attrs import evolve, frozen
from rich.console import Console
from rich.table import Table

from tests.simulation.calm import played
from tests.simulation.checkers import Verdict
from tests.simulation.mutations import MUTATIONS, Mutation


@frozen(slots=True)
class Proof:
    """`seed` is the one that caught the bug; None: none of those tried. `others`: what other judges said of it."""

    mutation: str
    seed: int | None
    tried: int
    first_words: str
    others: tuple[str, ...]
    crashes: tuple[str, ...]
    seconds: float = 0.0
    """Of CPU, all tried seeds together."""


def proof_of(mutation: Mutation) -> Proof:
    """Try the seeds in turn until the judge of the expected invariant speaks."""
    began = time.process_time()
    proof = _tried(mutation)
    return evolve(proof, seconds=time.process_time() - began)


def _verdict(mutation: Mutation, seed: int) -> Verdict:
    from tests.simulation.scenario import simulate

    return simulate(seed).verdict if mutation.script is None else played(seed, mutation.script)


def _tried(mutation: Mutation) -> Proof:
    others: set[str] = set()
    crashes = []
    for tried, seed in enumerate(mutation.seeds, 1):
        try:
            with mutation.patch():
                verdict = _verdict(mutation, seed)
        except Exception:
            crashes.append(f"seed {seed}: {traceback.format_exc(limit=-4)}")
            continue
        others |= verdict.promises - {mutation.expected}
        said = [str(each) for each in verdict.violations if each.promise == mutation.expected]
        if said:
            return Proof(mutation.name, seed, tried, said[0], tuple(sorted(others)), tuple(crashes))
    return Proof(mutation.name, None, len(mutation.seeds), "", tuple(sorted(others)), tuple(crashes))


def named(name: str) -> Proof:
    """For a worker process, which looks the mutation up by itself: patches are not sent."""
    import logging

    logging.getLogger().setLevel(logging.CRITICAL + 1)
    return proof_of(next(each for each in MUTATIONS if each.name == name))


def prove(part: str, *, jobs: int) -> int:
    """Prove all mutations whose name or invariant has `part` in it; prints a table; returns the exit status."""
    chosen: Sequence[Mutation] = [each for each in MUTATIONS if part in each.name or part == each.expected]
    console = Console()
    if not chosen:
        console.print(f"no mutation has {part!r} in its name; there are: {', '.join(each.name for each in MUTATIONS)}")
        return 2
    table = Table(
        "invariant", "deliberate bug", "caught by seed", "tried", "CPU s", "what the judge said", "others that spoke"
    )
    missed = []
    with multiprocessing.get_context("spawn").Pool(jobs) as pool:
        for mutation, proof in zip(chosen, pool.imap(named, [each.name for each in chosen]), strict=True):
            seed = "[red]never[/red]" if proof.seed is None else str(proof.seed)
            words = proof.first_words[:90]
            table.add_row(
                mutation.expected,
                mutation.breaks,
                seed,
                str(proof.tried),
                f"{proof.seconds:.1f}",
                words,
                " ".join(proof.others),
            )
            console.print(f"{mutation.expected} {mutation.name}: {seed} ({proof.seconds:.1f} s)")
            if proof.seed is None:
                missed.append(mutation.name)
                console.print(*proof.crashes[:1], markup=False)
    console.print(table)
    if missed:
        console.print(f"NOT CAUGHT: {', '.join(missed)}", markup=False)
    return 1 if missed else 0
