"""What each run writes about itself: one line when it starts, while it runs, and when it ends; a file per agent.

The program is a few lines of bash that append with one write each (O_APPEND), so that neither a kill nor a full disk of
PostgreSQL can tear what was said before. It knows its agent from its working directory, `<work_dir>/<agent>/<instance>`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path

from attrs import evolve, frozen

TICK_SECONDS = 0.25
"""A run that ends without a word was alive at its last tick: what started before that overlapped with it."""

PROGRAM = r"""
agent=${PWD%/*}
file="$FAULTS_LINES/${agent##*/}.lines"
mark=${HETUFLOW_PARAM_MARK:-${HETUFLOW_PARAM_PATH:-${HETUFLOW_SEAT:-}}}
say() {
  printf '%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\n' "$1" "$FAULTS_JOB" "$HETUFLOW_SCHEDULED_AT" "$HETUFLOW_TASK_ID" \
    "$HETUFLOW_INSTANCE_ID" "$HETUFLOW_EPOCH" "$HETUFLOW_ATTEMPT" "$EPOCHREALTIME" "$mark" >> "$file"
}
say start
for pause in $FAULTS_PAUSES; do
  sleep "$pause"
  say tick
done
if [ "$FAULTS_FAILS" = "$HETUFLOW_ATTEMPT" ]; then say fail; exit 7; fi
say end
"""


def environment(directory: Path, job: str, seconds: float, fails: int | None) -> dict[str, str]:
    """Of a job whose runs last about so many seconds; `fails`: the attempt that is to exit with status 7."""
    pauses = [TICK_SECONDS] * int(seconds / TICK_SECONDS)
    rest = seconds - sum(pauses)
    return {
        "FAULTS_LINES": str(directory),
        "FAULTS_JOB": job,
        "FAULTS_PAUSES": " ".join(f"{pause:.3f}" for pause in (*pauses, *([rest] if rest > 0.001 else []))),
        "FAULTS_FAILS": "" if fails is None else str(fails),
        "LC_ALL": "C",
    }


@frozen(kw_only=True)
class Run:
    """One process. `seen`: the newest line; `outcome`: "end", "fail", or None when it was ended from outside.
    `mark`: what tells it from others of its job: the event, file or flow run that it is of, the seat of a daemon."""

    agent: str
    job: str
    nominal: datetime
    task: str
    instance: str
    epoch: int
    attempt: int
    start: float
    seen: float
    outcome: str | None = None
    mark: str = ""

    @property
    def is_complete(self) -> bool:
        return self.outcome == "end"

    def __str__(self) -> str:
        what = {"end": "complete", "fail": "failed as told"}.get(self.outcome or "", "incomplete")
        return (
            f"{self.job} {self.nominal:%H:%M:%S.%f} task {self.task} instance {self.instance} epoch {self.epoch}"
            f" on {self.agent}: {self.start:.3f} to {self.seen:.3f}, {what}"
        )


class Garbled(Exception):
    """A line that no run of ours writes."""


def parse(agent: str, text: str) -> list[Run]:
    """The runs in an agent's file, in the order of their starts. Raises `Garbled`."""
    runs: dict[tuple[str, str], Run] = {}
    for number, line in enumerate(text.splitlines(), 1):
        try:
            what, job, nominal, task, instance, epoch, attempt, at, mark = line.split("\t")
            key, instant = (instance, epoch), float(at)
            if what == "start":
                if key in runs:  # the same dispatch started twice: two runs, and the verdict sees them overlap or not
                    runs[(instance, f"{epoch} before line {number}")] = runs.pop(key)
                runs[key] = Run(
                    agent=agent,
                    job=job,
                    nominal=datetime.fromisoformat(nominal),
                    task=task,
                    instance=instance,
                    epoch=int(epoch),
                    attempt=int(attempt),
                    start=instant,
                    seen=instant,
                    mark=mark,
                )
            elif what in ("tick", "end", "fail"):
                runs[key] = evolve(runs[key], seen=instant, outcome=None if what == "tick" else what)
            else:
                raise ValueError(what)
        except (ValueError, KeyError) as exc:
            raise Garbled(f"{agent}.lines, line {number}: {line!r} ({exc})") from exc
    return sorted(runs.values(), key=lambda run: run.start)


def read(directory: Path) -> list[Run]:
    """All runs of all agents."""
    runs: list[Run] = []
    for path in sorted(directory.glob("*.lines")):
        runs += parse(path.stem, path.read_text())
    return sorted(runs, key=lambda run: run.start)


def by_task(runs: Sequence[Run]) -> Mapping[str, Sequence[Run]]:
    tasks: dict[str, list[Run]] = {}
    for run in runs:
        tasks.setdefault(run.task, []).append(run)
    return tasks
