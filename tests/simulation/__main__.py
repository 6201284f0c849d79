"""`python -m tests.simulation --seed N`: one run, or `--count` of them; exit status 1 when a promise was violated."""

from __future__ import annotations

import argparse
import logging
import sys

from tests.simulation.scenario import simulate


def main() -> None:
    options = argparse.ArgumentParser(prog="python -m tests.simulation", description=__doc__)
    options.add_argument("--seed", type=int, default=1)
    options.add_argument("--count", type=int, default=1, help="that many seeds, one after the other")
    options.add_argument("--verbose", action="store_true", help="show the log lines of server and agents")
    given = options.parse_args()
    logging.basicConfig(level=logging.INFO if given.verbose else logging.CRITICAL + 1, format="%(name)s: %(message)s")
    failed = []
    for seed in range(given.seed, given.seed + given.count):
        outcome = simulate(seed)
        print(outcome, flush=True)
        if outcome.verdict.violations:
            failed.append(seed)
            print(f"  reproduce with: make simulate SEED={seed}", flush=True)
    if failed:
        sys.exit(1)


if __name__ == "__main__":
    main()
