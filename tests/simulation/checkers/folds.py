"""L3 and L4: the fold of the log is what actors, tables and clients showed.

The only judges that use the system's own functions, for that is what they are about.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from hetuflow.actors import Reading
from hetuflow.actors.catalogue import event_codec
from hetuflow.domain.decider import Address
from hetuflow.domain.deciders import DECIDERS
from projections.fold import Tables
from tests.simulation.observed import digest_of

if TYPE_CHECKING:
    from tests.simulation.checkers.evidence import Evidence, Log
    from tests.simulation.checkers.verdict import Verdict


def check_states(log: Log, readings: Mapping[Address, Reading[Any]], verdict: Verdict) -> None:
    """L3: the state of every actor is the fold of its stream."""
    codec = event_codec()
    for name, stream in log.streams.items():
        address = Address.of_stream(name)
        decider = DECIDERS[address.category]
        state = decider.initial
        for event in stream:
            state = decider.evolve(state, codec.decode(event))
        reading = readings.get(address)
        verdict.note("states compared")
        if reading is None or reading.version != len(stream) or reading.state != state:
            verdict.fail("L3", f"the actor of {name} is not the fold of its stream", streams=[name])


def check_rows(readings: Mapping[Address, Reading[Any]], tables: Tables, verdict: Verdict) -> None:
    """L3: the tables show what the actors say of themselves."""
    tasks, instances = tables.folds["tasks"].rows(), tables.folds["task_instances"].rows()
    schedules = tables.folds["schedules"].rows()
    for address, reading in readings.items():
        state = reading.state
        if address.category == "task" and state.exists:
            shown = tasks[address.id]
            _same(verdict, address, "status", int(state.status), shown["status"])
            _same(verdict, address, "retry_count", state.retry_count, shown["retry_count"])
            _same(verdict, address, "instance", state.instance.instance_id, str(shown["instance_id"]))
            for instance in (*state.past, state.instance):
                row = instances[instance.instance_id]
                _same(verdict, address, "instance status", int(instance.status), row["status"])
                _same(verdict, address, "epoch", instance.epoch, row["epoch"])
        elif address.category == "schedule" and state.exists:
            shown = schedules[address.id]
            _same(verdict, address, "status", int(state.status), shown["status"])
            _same(verdict, address, "fire_count", state.fire_count, shown["fire_count"])
            _same(verdict, address, "next_run_at", state.next_run_at, shown["next_run_at"])


def _same(verdict: Verdict, address: Address, what: str, state: object, row: object) -> None:
    verdict.note("rows compared")
    if state != row:
        verdict.fail(
            "L3", f"{what} of {address.stream_id} is {state!r}, the table says {row!r}", streams=[address.stream_id]
        )


def check_prefixes(evidence: Evidence, verdict: Verdict) -> None:
    """L4: the fold of a prefix is the state that a client was shown then."""
    shown: dict[str, dict[int, set[str]]] = defaultdict(lambda: defaultdict(set))
    for live in evidence.observed.live_states:
        shown[live.stream][live.version].add(live.digest)
    codec = event_codec()
    for name, versions in shown.items():
        decider = DECIDERS[Address.of_stream(name).category]
        state = decider.initial
        stream = evidence.log.streams.get(name, [])
        if max(versions) > len(stream):
            verdict.fail("L4", f"{name} was shown at version {max(versions)}, it has {len(stream)}", streams=[name])
        for version in range(len(stream) + 1):
            if version:
                state = decider.evolve(state, codec.decode(stream[version - 1]))
            if version in versions:
                verdict.note("prefixes folded")
                if versions[version] != {digest_of(state)}:
                    what = f"{name} was shown otherwise at version {version} than its events say"
                    verdict.fail("L4", what, streams=[name])
