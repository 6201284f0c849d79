"""`python -m tests.faults`: break a real cluster, and see that nothing is missed, doubled or left."""

from __future__ import annotations

import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path

import click
import trio
from rich.console import Console

from tests.faults import remains, report
from tests.faults.features.feature import Feature
from tests.faults.features.register import FEATURES
from tests.faults.kinds.fault import Fault
from tests.faults.kinds.register import KINDS, SHORT
from tests.faults.rounds import Result, run_all
from tests.support.postgres import fast_directory


def chosen(only: str | None, short: bool) -> list[type[Fault]]:
    if only is None:
        return [KINDS[name] for name in SHORT] if short else list(KINDS.values())
    names = [name.strip() for name in only.split(",")]
    unknown = [name for name in names if name not in KINDS]
    if unknown:
        raise click.BadParameter(f"there is no kind {', '.join(unknown)}; --list shows them", param_hint="--only")
    return [KINDS[name] for name in names]


def worked(names: str) -> list[type[Feature]]:
    """The features of that list; "all" and "none" are lists, too."""
    if names in ("all", "none"):
        return list(FEATURES.values()) if names == "all" else []
    wanted = [name.strip() for name in names.split(",")]
    unknown = [name for name in wanted if name not in FEATURES]
    if unknown:
        known = ", ".join(FEATURES)
        raise click.BadParameter(f"there is no {', '.join(unknown)}; there are {known}", param_hint="--features")
    return [FEATURES[name] for name in wanted]


def tried(kinds: list[type[Fault]], console: Console) -> list[type[Fault]]:
    """Those that this machine can have; the others are named with the reason."""
    here = []
    for kind in kinds:
        reason = kind().unavailable()
        if reason is None:
            here.append(kind)
        else:
            console.print(f"skipped {kind.name}: {reason}", markup=False, highlight=False)
    return here


async def until_told(work: Callable[[], Awaitable[None]]) -> bool:
    """Work until it is done or a signal comes, and stop everything that was started; whether it was done."""
    is_done = False
    with trio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
        async with trio.open_nursery() as nursery:

            async def watch() -> None:
                await anext(aiter(signals))
                nursery.cancel_scope.cancel()

            nursery.start_soon(watch)
            await work()
            is_done = True
            nursery.cancel_scope.cancel()
    return is_done


@click.command("tests.faults", context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--only", metavar="KIND,KIND", help="These kinds only.")
@click.option("--features", default="all", show_default=True, metavar="NAME,NAME", help="What else runs; or none.")
@click.option("--rounds", type=click.IntRange(1), default=1, show_default=True, help="Of each kind.")
@click.option("--short", is_flag=True, help="A few kinds, about a minute.")
@click.option("--seed", type=int, help="Of what is drawn; processes keep their own will.  [default: the time]")
@click.option(
    "--json", "as_json", is_flag=True, help="The sums as JSON on standard output; the rest goes to the other."
)
@click.option("--list", "list_", is_flag=True, help="The kinds, and which cannot be had here.")
@click.option("--keep", is_flag=True, help="Keep the directory with logs and lines also when all is well.")
def main(
    only: str | None, features: str, rounds: int, short: bool, seed: int | None, as_json: bool, list_: bool, keep: bool
) -> None:
    """Break PostgreSQL, servers, agents and what lies between them, while jobs run.

    Every nominal time must have exactly one complete run, solved from files that the runs write themselves. Exit status
    1 when something was missed, doubled, slow to come back or left over.
    """
    console = Console(stderr=as_json, soft_wrap=True, width=None if sys.stdout.isatty() else report.WIDE)
    if list_:
        for kind in KINDS.values():
            reason = kind().unavailable()
            console.print(f"{kind.name:32} {kind.about()}" + (f" [{reason}]" if reason else ""), markup=False)
        return
    kinds = tried(chosen(only, short), console)
    seed = int(time.time()) if seed is None else seed
    directory = Path(tempfile.mkdtemp(prefix=remains.PREFIX, dir=fast_directory()))
    results: list[Result] = []

    def told(result: Result) -> None:
        results.append(result)
        report.show(console, result, with_answers=False)

    def say(text: str) -> None:
        console.print(f"[{time.strftime('%H:%M:%S')}] {text}", markup=False, highlight=False, style="dim")

    console.print(f"seed {seed}, {len(kinds)} kinds, logs in {directory}", markup=False, highlight=False)
    is_clean = False
    try:
        is_whole = trio.run(until_told, partial(run_all, kinds, rounds, seed, directory, told, say, worked(features)))
        is_clean = is_whole and bool(results) and all(result.is_clean for result in results)
    finally:
        if results:
            (console.print(report.table(results, console.width)) if not as_json else print(report.as_json(results)))
            if not as_json:
                console.print(report.features_table(results))
        if is_clean and not keep:
            shutil.rmtree(directory, ignore_errors=True)
        else:
            console.print(f"logs and lines: {directory}", markup=False, highlight=False)
    sys.exit(0 if is_clean else 1)


if __name__ == "__main__":
    main()
