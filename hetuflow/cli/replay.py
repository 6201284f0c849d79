"""`hetuflow replay`: a stream's state event by event, a decision under the debugger, a whole log through the current code."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from hetuflow.cli import render
from hetuflow.cli.history import events_of, fold, print_changes
from hetuflow.cli.options import json_option, server_option, utc_option
from hetuflow.cli.sources import is_interactive, log_options, no_stream, stream_name, with_log

if TYPE_CHECKING:
    from eventstore.event import RecordedEvent
    from eventstore.store import EventStore
    from hetuflow.history.replay import Difference, Question, Replay, Tally
    from hetuflow.history.timeline import Step

READ_EVENTS = 5_000
SHOWN_DIFFERENCES_MAX = 20


@click.command(name="replay")
@click.argument("stream", required=False)
@click.option("--until", type=click.IntRange(1), metavar="POSITION", help="Only up to this position of the log.")
@click.option("--step", "stepwise", is_flag=True, help="Go event by event: n next, p previous, s state, q quit.")
@click.option("--debug", is_flag=True, help="Take the last decision again under pdb (with --until: the one there).")
@click.option("--all", "everything", is_flag=True, help="The whole log; needs --check.")
@click.option("--check", is_flag=True, help="Take every decision again and report those that would differ today.")
@log_options
@server_option
@json_option
@utc_option
def replay(
    stream: str | None,
    until: int | None,
    stepwise: bool,
    debug: bool,
    everything: bool,
    check: bool,
    config_file: Path | None,
    database_url: str | None,
    export_file: Path | None,
    server: str,
    json_: bool,
) -> None:
    """Fold a stream again, event by event, and show how its state changes; nothing is written anywhere.

    A state is folded from what the server tells, or from --database-url or --from-export. --debug and --check need
    the commands too, which only a database or an export holds.

    \b
    Examples:
      hetuflow replay task-01999999-… --step
      hetuflow replay task-01999999-… --until 4711 --debug --from-export incident.jsonl
      hetuflow replay --all --check --database-url postgresql://…
    """
    if everything != (stream is None):
        raise click.UsageError("name a stream, or give --all --check")
    if everything and not check:
        raise click.UsageError("--all needs --check: a whole log has no one state to show")
    if check or debug:
        _run_decisions(stream, until, debug, config_file, database_url, export_file, json_)
        return
    assert stream is not None
    found = fold(events_of(stream, until, config_file, database_url, export_file, server))
    if json_:
        render.as_json([{"position": s.event.position, "type": s.event.type, "state": s.state} for s in found])
    elif stepwise and is_interactive():
        _walk(found)
    else:
        for step in found:
            _print(step, len(found), with_state=step is found[-1])


# --- states -----------------------------------------------------------------------------------------------------------


def _print(step: Step, count: int, *, with_state: bool) -> None:
    from rich.text import Text

    from hetuflow.api.summaries import summary

    out = render.console()
    event = step.event
    out.print(
        Text.assemble(
            (f"{event.version}/{count}  ", "dim"),
            (event.type, "bold"),
            f"  {summary(event.type, step.data)}  ",
            (f"position {event.position}, {render.moment(event.recorded_at.isoformat())}", "dim"),
        ),
        soft_wrap=True,
    )
    print_changes(out, step, indent=4, most=1000)
    if with_state:
        _print_state(step)


def _print_state(step: Step) -> None:
    out = render.console()
    out.print("\nstate", style="bold")
    out.print(json.dumps(step.state, indent=2, ensure_ascii=False, default=str), soft_wrap=True, markup=False)


def _walk(found: Sequence[Step]) -> None:
    """Keys until `q`: the terminal's own, without Enter."""
    at = 0
    _print(found[0], len(found), with_state=False)
    while True:
        click.echo("[n]ext [p]revious [s]tate [q]uit ", nl=False, err=True)
        key = click.getchar()
        click.echo(err=True)
        if key in ("q", "Q", "\x03", "\x04"):
            return
        if key in ("s", "S"):
            _print_state(found[at])
            continue
        moved = at + (
            1
            if key in ("n", "N", " ", "\r", "\n", "\x1b[C", "\x1b[B")
            else -1
            if key in ("p", "P", "\x1b[D", "\x1b[A")
            else 0
        )
        if not 0 <= moved < len(found):
            click.echo("that was the last event" if moved > at else "this is the first event", err=True)
            continue
        if moved != at:
            at = moved
            _print(found[at], len(found), with_state=False)


# --- decisions --------------------------------------------------------------------------------------------------------


def _run_decisions(
    stream: str | None,
    until: int | None,
    debug: bool,
    config_file: Path | None,
    database_url: str | None,
    export_file: Path | None,
    json_: bool,
) -> None:
    name = None if stream is None else stream_name(stream)
    if debug:
        assert name is not None
        found = with_log(config_file, database_url, export_file, lambda store: _question(store, name, until))
        if isinstance(found, str):
            raise click.ClickException(found)
        _debug(*found, json_)
        return
    began = time.perf_counter()
    tally = with_log(config_file, database_url, export_file, lambda store: _check(store, name, until))
    if name is not None and not tally.events:
        raise no_stream(name, until)
    seconds = time.perf_counter() - began
    _report(tally, seconds, json_)
    if tally.different:
        raise click.exceptions.Exit(1)


def _loader(store: EventStore) -> Any:
    async def load(stream_id: str, position: int) -> Sequence[RecordedEvent]:
        return await store.read_stream(stream_id, until_position=position)

    return load


async def _check(store: EventStore, stream: str | None, until: int | None) -> Tally:
    """Every decision of the log, or those of one stream."""
    import sys

    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    from hetuflow.history.replay import Replay, appends

    replayed = Replay(_loader(store))
    head = await store.head() if until is None else min(until, await store.head())
    bar = Progress(
        TextColumn("replaying"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]}"),
        TimeRemainingColumn(),
        console=Console(stderr=True),
        disable=not sys.stderr.isatty(),
        transient=True,
    )
    began, waiting, position = time.perf_counter(), list[Any](), 0
    with bar:
        shown = bar.add_task("", total=head, rate="")
        while position < head:
            batch = await store.read_all(after=position, before=head + 1, limit=READ_EVENTS)
            if not batch:
                break
            position = batch[-1].position
            found = list(appends([*waiting, *batch]))
            waiting = [] if position >= head else list(found.pop())  # the rest of it may follow
            for append in found:
                if stream is None or any(event.stream_id == stream for event in append):
                    await replayed.check(append)
            rate = position / max(1e-6, time.perf_counter() - began)
            bar.update(shown, completed=position, rate=f"{rate:.0f} events/s")
    return replayed.tally


def _report(tally: Tally, seconds: float, json_: bool) -> None:
    if json_:
        from attrs import asdict

        render.as_json({**asdict(tally), "seconds": seconds, "events_per_second": tally.events / max(seconds, 1e-6)})
        return
    rate = tally.events / max(seconds, 1e-6)
    click.echo(
        f"{tally.events} events in {seconds:.1f} s ({rate:.0f} events/s): {tally.decisions} decisions, {tally.same} the same"
        f" today, {tally.different} different, {tally.unrecorded} not checked"
    )
    if tally.unrecorded:
        click.echo("not checked: their command is not in the log (older than the recording of commands, or too large)")
    for difference in tally.differences[:SHOWN_DIFFERENCES_MAX]:
        _print_difference(difference)
    if tally.different > SHOWN_DIFFERENCES_MAX:
        click.echo(f"and {tally.different - SHOWN_DIFFERENCES_MAX} more; --json has them")


def _print_difference(difference: Difference) -> None:
    click.echo(f"position {difference.position}, {difference.stream_id}, {difference.command}: {difference.message}")


async def _question(store: EventStore, stream: str, until: int | None) -> tuple[Question, Replay] | str:
    """The last decision about the stream (up to `until`); a sentence when there is none that can be asked again."""
    from hetuflow.history.recorded_commands import CommandUnknown
    from hetuflow.history.replay import Replay, appends

    events = await store.read_stream(stream, until_position=until)
    if not events:
        return no_stream(stream, until).message
    last = events[-1].position
    around = await store.read_all(after=max(0, last - READ_EVENTS), before=last + READ_EVENTS, limit=2 * READ_EVENTS)
    append = next(found for found in appends(around) if found[0].position <= last <= found[-1].position)
    replayed = Replay(_loader(store))
    try:
        return await replayed.question(append), replayed
    except CommandUnknown as exc:
        return f"position {append[0].position}: {exc}"


def _debug(question: Question, replayed: Replay, json_: bool) -> None:
    """The decider on the recorded command and state: under pdb where there is a terminal."""
    import pdb  # noqa: T100 - debugging is what this command is for

    command, decider = question.command.command, question.decider
    click.echo(f"position {question.position}: {type(command).__name__} was asked of {question.stream_id}", err=True)
    click.echo(f"  at {question.command.decided_at.isoformat()}, version {question.version}", err=True)
    click.echo(f"  recorded: {', '.join(each[1] for each in question.recorded)}", err=True)
    if is_interactive():
        click.echo("  pdb: s steps into the decider; command, state and now are its arguments; c goes on", err=True)
        try:
            pdb.runcall(decider.decide, command, question.state, question.command.decided_at)
        except Exception as exc:
            click.echo(f"  raised {type(exc).__name__}: {exc}", err=True)
    difference = replayed.compare(question)
    if json_:
        render.as_json(
            {
                "position": question.position,
                "stream_id": question.stream_id,
                "command": type(command).__name__,
                "recorded": [each[1] for each in question.recorded],
                "is_same": difference is None,
                "message": None if difference is None else difference.message,
            }
        )
    elif difference is None:
        click.echo("today it decides the same")
    else:
        click.echo(f"today it decides otherwise: {difference.message}")
    if difference is not None:
        raise click.exceptions.Exit(1)
