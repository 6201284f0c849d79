"""Many seeds on all cores: worker processes, one seed at a time each; one that hangs is killed and reported.

Every worker is a fresh interpreter with its own seed for the hashes of strings, so that a run that is repeated (one in
`REPEAT_EVERY`) is repeated elsewhere.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import time
import traceback
from collections import deque
from collections.abc import Iterable, Iterator
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess

from attrs import define, field, frozen

from tests.simulation.outcome import Outcome

REPEAT_EVERY = 50
SPAWN = multiprocessing.get_context("spawn")


@frozen(slots=True)
class Result:
    """What became of one seed. Exactly one of `outcome` and `problem` (a crash, a hang, two hashes) is set."""

    seed: int
    real_seconds: float
    outcome: Outcome | None = None
    problem: str | None = None

    @property
    def is_good(self) -> bool:
        return self.outcome is not None and not self.outcome.verdict.violations


@define(eq=False)
class Worker:
    process: SpawnProcess
    pipe: Connection
    seed: int | None = None
    began: float = 0.0


def work(pipe: Connection) -> None:
    """A worker's life: a seed in, a result out. Interrupts are the parent's to handle."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    import logging

    from tests.simulation.scenario import simulate

    logging.getLogger().setLevel(logging.CRITICAL + 1)
    while True:
        try:
            seed = pipe.recv()
        except EOFError:
            return
        began = time.monotonic()
        try:
            result = Result(seed, 0.0, simulate(seed))
        except BaseException:
            result = Result(seed, 0.0, problem="the run crashed:\n" + traceback.format_exc(limit=-12))
        try:
            pipe.send((result, time.monotonic() - began))
        except OSError:
            return


@define(eq=False)
class Fleet:
    """`seconds_max`: real time for one seed. A context manager: nothing is left running after it."""

    seconds_max: float
    jobs: int = field(factory=lambda: os.cpu_count() or 1)
    _workers: list[Worker] = field(factory=list)
    _hashes: dict[int, str] = field(factory=dict)
    _repeats: dict[int, int] = field(factory=dict)

    def __enter__(self) -> Fleet:
        return self

    def __exit__(self, *_: object) -> None:
        for worker in self._workers:
            worker.process.kill()
            worker.pipe.close()
        for worker in self._workers:
            worker.process.join()

    def run(self, seeds: Iterable[int]) -> Iterator[Result]:
        """Yield the results as they come, each seed once; a repeated run shows only when its hash differs."""
        waiting = deque(twice(seeds))
        self._workers = [self._spawned() for _ in range(min(self.jobs, len(waiting)))]
        idle = deque(self._workers)
        while waiting or any(worker.seed is not None for worker in self._workers):
            while waiting and idle:
                self._give(idle.popleft(), waiting.popleft())
            for worker, result in self._answers():
                if worker.process.is_alive() and worker in self._workers:
                    idle.append(worker)
                else:
                    idle.append(self._replaced(worker))
                if (shown := self._compared(result)) is not None:
                    yield shown

    def _spawned(self) -> Worker:
        here, there = SPAWN.Pipe()
        process = SPAWN.Process(target=work, args=(there,), daemon=True)
        process.start()
        there.close()
        return Worker(process, here)

    def _replaced(self, worker: Worker) -> Worker:
        worker.process.kill()
        worker.process.join()
        worker.pipe.close()
        fresh = self._spawned()
        self._workers[self._workers.index(worker)] = fresh
        return fresh

    def _give(self, worker: Worker, seed: int) -> None:
        worker.seed, worker.began = seed, time.monotonic()
        worker.pipe.send(seed)

    def _answers(self) -> list[tuple[Worker, Result]]:
        """Wait for the next answers, or for the next deadline."""
        busy = {worker.pipe: worker for worker in self._workers if worker.seed is not None}
        first = min(worker.began for worker in busy.values()) + self.seconds_max
        ready = wait(list(busy), timeout=max(0.0, first - time.monotonic()))
        found = [(busy[pipe], self._received(busy[pipe])) for pipe in ready if isinstance(pipe, Connection)]
        now = time.monotonic()
        for worker in busy.values():
            if worker.seed is not None and now - worker.began >= self.seconds_max:
                problem = f"hung: no result within {self.seconds_max:g} s; it was killed"
                found.append((worker, Result(worker.seed, now - worker.began, problem=problem)))
                worker.seed = None
                worker.process.kill()
                worker.process.join()
        return found

    def _received(self, worker: Worker) -> Result:
        seed, worker.seed = worker.seed, None
        assert seed is not None
        try:
            result, seconds = worker.pipe.recv()
        except (EOFError, OSError):
            worker.process.join()
            return Result(seed, 0.0, problem=f"its process ended with status {worker.process.exitcode}")
        return Result(seed, seconds, result.outcome, result.problem)

    def _compared(self, result: Result) -> Result | None:
        """The first of two equal runs, both of two that differ."""
        if result.outcome is None:
            return result
        found = self._hashes.setdefault(result.seed, result.outcome.hash)
        if found != result.outcome.hash:
            problem = f"two runs differ: log {found} and {result.outcome.hash}"
            return Result(result.seed, result.real_seconds, problem=problem)
        if is_repeated(result.seed):
            if (count := self._repeats.get(result.seed, 0)) == 1:
                return None
            self._repeats[result.seed] = count + 1
        return result


def is_repeated(seed: int) -> bool:
    return seed % REPEAT_EVERY == 0


def twice(seeds: Iterable[int]) -> Iterator[int]:
    """The seeds, those that are repeated two times."""
    for seed in seeds:
        yield seed
        if is_repeated(seed):
            yield seed
