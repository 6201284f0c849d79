"""The simulated cluster: one seed (`--seed 7`), a range on all cores (`--seeds 200 --first 1`), or the proof of the judges
(`--mutations`). Exit status 1 when a promise was violated, a seed hung, or a long run did not reach everything."""

from __future__ import annotations

import argparse
import json
import logging
import os
import sys

from tests.simulation.corpus import corpus
from tests.simulation.fleet import Result
from tests.simulation.range_run import failure_as_json, run_range
from tests.simulation.report import lines_of

SEEDS_DEFAULT = 3000
HANG_SECONDS = 300.0
"""Real time for one seed: a hundred times what one takes on a machine that is not loaded."""


def main() -> int:
    options = argparse.ArgumentParser(prog="python -m tests.simulation", description=__doc__)
    options.add_argument("--seed", type=int, help="this seed alone: prints what it reached and the hash of its log")
    options.add_argument("--seeds", type=int, default=SEEDS_DEFAULT, help=f"so many of them ({SEEDS_DEFAULT})")
    options.add_argument("--first", type=int, default=1, help="the first of them (1)")
    options.add_argument("--corpus", action="store_true", help="the seeds that failed once")
    options.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="processes at once (one per core)")
    options.add_argument("--hang-seconds", type=float, default=HANG_SECONDS, help=f"for one seed ({HANG_SECONDS:g})")
    options.add_argument("--require-coverage", action=argparse.BooleanOptionalAction, default=None)
    options.add_argument("--json", action="store_true", help="print the account as JSON")
    options.add_argument(
        "--small", action="store_true", help="with --seed: few agents and a short time, as in the suite"
    )
    options.add_argument("--verbose", action="store_true", help="with --seed: the log lines of server and agents")
    options.add_argument(
        "--mutations", nargs="?", const="", metavar="NAME", help="prove the judges: all, or those named so"
    )
    given = options.parse_args()
    if given.seeds < 1 or given.jobs < 1:
        options.error("--seeds and --jobs must be at least 1")
    if given.mutations is not None:
        from tests.simulation.proof import prove

        return prove(given.mutations, jobs=given.jobs)
    if given.seed is not None:
        return run_one(given.seed, is_small=given.small, as_json=given.json, verbose=given.verbose)
    seeds = [entry.seed for entry in corpus()] if given.corpus else range(given.first, given.first + given.seeds)
    return run_range(
        seeds,
        jobs=given.jobs,
        seconds_max=given.hang_seconds,
        as_json=given.json,
        require_coverage=given.require_coverage,
    )


def run_one(seed: int, *, is_small: bool, as_json: bool, verbose: bool) -> int:
    """One seed, in this process."""
    from tests.simulation.scenario import simulate

    logging.basicConfig(level=logging.INFO if verbose else logging.CRITICAL + 1, format="%(name)s: %(message)s")
    outcome = simulate(seed, is_small=is_small)
    failed = bool(outcome.verdict.violations)
    if as_json:
        account = failure_as_json(Result(seed, 0.0, outcome), is_small=is_small)
        more = {"log": outcome.hash, "events": outcome.events, "faults": outcome.faults, "reached": outcome.reached}
        print(json.dumps({**account, **more}, indent=2))
    else:
        print(outcome, flush=True)
        if failed:
            print(*lines_of(outcome), sep="\n")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
