"""The step of a preparation that belongs to `Dispatch.executor`: what the instance's program is, and what it finds.

Imports an executor when the first order wants it. A directory or a host that an executor opens to a program is put to the
agent's policy like one that the job names itself.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping
from functools import partial
from typing import TYPE_CHECKING, Final

from attrs import evolve, frozen

from agent.policy import Facts, Policy
from agent.preparation import INSTANCE_MARK, Prepared, Step
from hetuflow.ports.processes import StartError
from hetuflow.protocol.messages import Dispatch

if TYPE_CHECKING:
    from agent.executors.environments import Environments

PYTHON: Final = "python"
WASM: Final = "wasm"


@frozen(slots=True, kw_only=True)
class EnvironmentRules:
    """Where environments of Python are kept and how many that nobody uses; seconds that one may take to be built."""

    root: str
    kept_max: int = 20
    build_seconds_max: float = 600.0


class Executors:
    """Of one agent. `base_environment`: what every program of it gets."""

    def __init__(
        self, rules: EnvironmentRules, base_environment: Mapping[str, str], policy: Policy, facts: Facts
    ) -> None:
        self._rules, self._base, self._policy, self._facts = rules, base_environment, policy, facts
        self._kept: Environments | None = None

    @property
    def step(self) -> Step:
        return Step(wanted=lambda order: order.executor != "", take=self._take)

    async def clean_up(self, held: Collection[str]) -> int:
        """Remove environments that nobody has used for long. `held`: ids of the instances that the agent has."""
        return await self._environments.clean_up(held)

    async def _take(self, order: Dispatch, prepared: Prepared) -> Prepared:
        if order.executor == PYTHON:
            return await self._with_python(order, prepared)
        if order.executor == WASM:
            return await self._facts.look(partial(self._with_wasm, order, prepared))
        return await self._with_installed(order, prepared)

    async def _with_python(self, order: Dispatch, prepared: Prepared) -> Prepared:
        from agent.executors import python

        for member in ("venv", "requirements_file"):
            path = order.executor_options.get(member)
            if isinstance(path, str) and os.path.isabs(path):
                await self._facts.look(partial(self._check_directory, f"python.{member}", path, prepared))
        environment = await python.prepare(
            order.executor_options,
            instance_id=order.instance_id,
            directory=prepared.directory,
            environment=prepared.environment,
            kept=self._environments,
            facts=self._facts,
        )
        return evolve(prepared, environment=environment)

    def _with_wasm(self, order: Dispatch, prepared: Prepared) -> Prepared:
        """Called by a thread, as files are looked at."""
        from agent.executors import wasm

        wanted = wasm.options_of(order.executor_options)
        self._check_directory("wasm.module", wasm.module_path(wanted, prepared.directory), prepared)
        for path in wasm.host_paths(wanted, prepared.directory):
            self._check_directory("wasm.allowed_paths", path, prepared)
        for host in wanted.allowed_hosts:
            refusal = self._policy.check_host("wasm.allowed_hosts", host)
            if refusal is not None:
                raise StartError(str(refusal))
        program = wasm.prepare(wanted, order.parameters, prepared.directory, order.environment)
        environment = {**self._base, INSTANCE_MARK: order.instance_id}
        return evolve(prepared, argv=program.argv, environment=environment, stdin=program.stdin or b"")

    async def _with_installed(self, order: Dispatch, prepared: Prepared) -> Prepared:
        from agent.executors import installed
        from agent.executors.api import Order

        program = await installed.prepare(
            order.executor,
            Order(
                task_id=order.task_id,
                job_id=order.job_id,
                instance_id=order.instance_id,
                attempt=order.attempt,
                cmd=order.cmd,
                args=order.args,
                options=order.executor_options,
                parameters=order.parameters,
                environment=order.environment,
                directory=prepared.directory,
                timeout_seconds=order.timeout_seconds,
            ),
        )
        return evolve(
            prepared,
            argv=program.argv,
            environment={**prepared.environment, **program.environment},
            stdin=prepared.stdin if program.stdin is None else program.stdin,
        )

    @property
    def _environments(self) -> Environments:
        if self._kept is None:
            from agent.executors.environments import Environments

            rules = self._rules
            self._kept = Environments(
                rules.root, self._base, build_seconds_max=rules.build_seconds_max, kept_max=rules.kept_max
            )
        return self._kept

    def _check_directory(self, what: str, path: str, prepared: Prepared) -> None:
        """What lies in the instance's own directory is not put to the policy, unless a link leads out of it."""
        own = self._facts.real(prepared.directory)
        real = self._facts.real(path)
        if real == own or real.startswith(f"{own}/"):
            return
        refusal = self._policy.check_directory(what, path, self._facts)
        if refusal is not None:
            raise StartError(str(refusal))
