"""What people see: progress, what is wrong with its details, and the table at the end."""

from __future__ import annotations

import json
import os
import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from tests.faults.rounds import RECOVERY_SECONDS_MAX, OfFeature, Result

DETAILS_MAX = 20


def of(kind: str, results: Sequence[Result]) -> Mapping[str, Any]:
    """The sums of one kind (or of all) as numbers."""
    recoveries = [result.recovery_seconds for result in results if result.recovery_seconds is not None]
    verdicts = [result.verdict for result in results]
    return {
        "kind": kind,
        "rounds": len(results),
        "faults": sum(result.injected for result in results),
        "expected": sum(verdict.expected for verdict in verdicts),
        "satisfied": sum(verdict.satisfied for verdict in verdicts),
        "missed": sum(len(verdict.missed) for verdict in verdicts),
        "extra": sum(len(verdict.extra) for verdict in verdicts),
        "incomplete": sum(len(verdict.incomplete) for verdict in verdicts),
        "repeated": sum(len(verdict.repeated) for verdict in verdicts),
        "recovery_p50_seconds": round(statistics.median(recoveries), 3) if recoveries else None,
        "recovery_max_seconds": round(max(recoveries), 3) if recoveries else None,
        "late": sum(not result.is_prompt for result in results),
        "left_or_wrong": sum(len(result.wrong) for result in results),
    }


def sums(results: Sequence[Result]) -> list[Mapping[str, Any]]:
    """A row per kind in the order of their first rounds, and one for all."""
    kinds = dict.fromkeys(result.kind for result in results)
    rows = [of(kind, [result for result in results if result.kind == kind]) for kind in kinds]
    return [*rows, of("all", results)]


COLUMNS = {
    "kind": "kind",
    "rounds": "rounds",
    "faults": "faults",
    "expected": "fires",
    "satisfied": "satisfied",
    "missed": "missed",
    "extra": "extra",
    "incomplete": "incomplete",
    "repeated": "repeated",
    "recovery_p50_seconds": "p50 s",
    "recovery_max_seconds": "max s",
    "late": "late",
    "left_or_wrong": "left",
}
WIDE_ONLY = ("rounds", "incomplete", "repeated", "late")
WIDE = 122
KIND_WIDTH_NARROW = 22


def table(results: Sequence[Result], width: int) -> Table:
    """The sums as a table: p50 and max are of the recovery."""
    shown = Table(title="Faults of real processes", title_justify="left", padding=0, box=SIMPLE_HEAD)
    columns = [column for column in COLUMNS if width >= WIDE or column not in WIDE_ONLY]
    for column in columns:
        if column == "kind":
            shown.add_column(COLUMNS[column], no_wrap=True, max_width=None if width >= WIDE else KIND_WIDTH_NARROW)
        else:
            shown.add_column(COLUMNS[column], justify="right", no_wrap=True, min_width=max(5, len(COLUMNS[column])))
    *rows, total = sums(results)
    for row in (*rows, total):
        if row is total:
            shown.add_section()
        bad = row["missed"] or row["extra"] or row["left_or_wrong"] or row["late"]
        shown.add_row(*(_cell(row[column]) for column in columns), style="red" if bad else None)
    return shown


def features(results: Sequence[Result]) -> list[Mapping[str, Any]]:
    """What the rounds say of each feature, as numbers."""
    by_name: dict[str, list[OfFeature]] = {}
    for result in results:
        for it in result.features:
            by_name.setdefault(it.name, []).append(it)
    return [_of_feature(name, its) for name, its in by_name.items()]


def _of_feature(name: str, its: Sequence[OfFeature]) -> Mapping[str, Any]:
    recoveries = [it.recovery_seconds for it in its if it.recovery_seconds is not None]
    return {
        "feature": name,
        "rounds": len(its),
        "expected": sum(it.expected for it in its),
        "tasks": sum(it.tasks for it in its),
        "missed": sum(it.missed for it in its),
        "extra": sum(it.extra for it in its),
        "broken": sum(len(it.broken) for it in its),
        "recovery_p50_seconds": round(statistics.median(recoveries), 3) if recoveries else None,
        "recovery_max_seconds": round(max(recoveries), 3) if recoveries else None,
    }


def features_table(results: Sequence[Result]) -> Table:
    """Tasks are those that ran; recovery is until the feature's next start, so it includes its own pauses."""
    shown = Table(title="By what was asked for", title_justify="left", padding=0, box=SIMPLE_HEAD)
    rows = features(results)
    for number, column in enumerate(rows[0] if rows else ()):
        shown.add_column(COLUMNS.get(column, column), justify="right" if number else "left", no_wrap=True)
    for row in rows:
        bad = row["missed"] or row["extra"] or row["broken"]
        shown.add_row(*(_cell(value) for value in row.values()), style="red" if bad else None)
    return shown


def _cell(value: Any) -> str:
    return "-" if value is None else f"{value:.2f}" if isinstance(value, float) else str(value)


def line(result: Result) -> str:
    """One round in one line."""
    verdict = result.verdict
    least, most = result.lateness_seconds
    recovery = "-" if result.recovery_seconds is None else f"{result.recovery_seconds:.2f} s"
    said = f"{'ok ' if result.is_clean else 'BAD'} {result.kind}: {verdict.satisfied} of {verdict.expected} satisfied"
    said += f", {len(verdict.incomplete)} incomplete, recovery {recovery}"
    said += f", longest pause {result.pause_seconds:.1f} s, fires {least:+.1f} to {most:+.1f} s, round {result.seconds:.0f} s"
    if verdict.repeated:
        said += f", {len(verdict.repeated)} repeated"
    return f"{said}; {result.measured}" if result.measured else said


def details(result: Result) -> list[str]:
    """Every missed and extra run, and everything else that is wrong."""
    verdict = result.verdict
    found = [f"missed: {slot}" for slot in verdict.missed[:DETAILS_MAX]]
    found += [f"extra: {extra}" for extra in verdict.extra[:DETAILS_MAX]]
    missed = {slot.nominal for slot in verdict.missed}
    found += [f"incomplete: {run}" for run in verdict.incomplete if run.nominal in missed][:DETAILS_MAX]
    found += [f"wrong: {text}" for text in result.wrong]
    return found


def lateness(result: Result) -> list[str]:
    """What is to be said about a recovery that was too slow."""
    if result.is_prompt:
        return []
    if result.recovery_seconds is None:
        return ["late: nothing ran after the fault was over"]
    seconds = f"{result.recovery_seconds:.1f} s after the fault was over; {RECOVERY_SECONDS_MAX:.0f} s are allowed"
    return [f"late: the first run came {seconds} (load {result.load:.1f} on {os.cpu_count()} cores)"]


def answers(result: Result) -> str:
    """What clients were told, the most frequent first."""
    told = ", ".join(f"{count} × {answer}" for answer, count in result.answers.most_common(6))
    return f"    clients: {told}; slowest answer {result.worst_answer_seconds:.1f} s"


def show(console: Console, result: Result, *, with_answers: bool) -> None:
    console.print(line(result), markup=False, highlight=False)
    if with_answers or not result.is_clean:
        console.print(answers(result), markup=False, highlight=False)
    for text in (*details(result), *lateness(result)):
        console.print(f"    {text}", markup=False, highlight=False)


def as_json(results: Sequence[Result]) -> str:
    return json.dumps(
        {
            "sums": sums(results),
            "features": features(results),
            "details": [[result.kind, *details(result), *lateness(result)] for result in results],
        }
    )
