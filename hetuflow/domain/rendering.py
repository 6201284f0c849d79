"""The templates of a job's arguments: when they are on, what they may name, and what comes of them for one task.

They are on where the config declares `params`: in a job that does not, `{{` is text, as it always was. They are rendered
when the task is made, and again when it is edited while it waits; what came of it is in the event. So a task runs what it
was made to run, whatever the job or the template engine has become, and a try is like the one before: only what differs
from try to try (`HETUFLOW_ATTEMPT`, …) is left to the environment.

The engine is not imported before it is needed: the command line, which has the domain too, does without it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any

from attrs import fields, frozen

from hetuflow.domain.config import JSON
from hetuflow.domain.environment import rfc3339
from hetuflow.domain.events import TaskCreated
from hetuflow.domain.parameters import Unfit, effective
from hetuflow.domain.rejection import Rejected

TASK_NAMES = ("id", "name", "namespace", "trigger", "priority", "schedule_id", "scheduled_at", "nominal_at")
JOB_NAMES = ("id",)


@frozen(slots=True)
class Prepared:
    """What a task is made with. `rendered` is None when nothing in its arguments is a template.

    `unfit` is not empty: it cannot run. Paths are those of the members (`parameters.day`, `config.args[1]`).
    """

    parameters: JSON
    rendered: JSON | None
    unfit: tuple[Unfit, ...] = ()


@frozen(slots=True, kw_only=True)
class About:
    """What templates may say of the task besides its parameters."""

    task_id: str
    job_id: str
    name: str
    namespace_id: str
    trigger: str
    priority: int
    schedule_id: str | None
    scheduled_at: datetime
    nominal_at: datetime | None

    @classmethod
    def of(cls, spec: TaskCreated) -> About:
        return cls(**{field: getattr(spec, field) for field in _ABOUT})

    def context(self, parameters: JSON) -> dict[str, Mapping[str, Any]]:
        task = {
            "id": self.task_id,
            "name": self.name,
            "namespace": self.namespace_id,
            "trigger": self.trigger,
            "priority": self.priority,
            "schedule_id": self.schedule_id,
            "scheduled_at": rfc3339(self.scheduled_at),
            "nominal_at": rfc3339(self.nominal_at or self.scheduled_at),
        }
        return {"params": parameters, "task": task, "job": {"id": self.job_id}}


_ABOUT = tuple(field.name for field in fields(About))


def template_faults(config: JSON) -> list[Unfit]:
    """What is wrong with the templates of an effective config; paths from the config."""
    declared = config.get("params")
    if declared is None or not any("{{" in arg for arg in config["args"]):
        return []
    from hetuflow import templates

    names = {"params": tuple(declared), "task": TASK_NAMES, "job": JOB_NAMES}
    found = templates.faults(config["cmd"], config["args"], names)
    return [Unfit(f"args[{fault.index}]", fault.message, fault.suggestion) for fault in found]


def checked_templates(config: JSON) -> JSON:
    """Return an effective `config`.

    Raises:
      Rejected: `invalid`, naming every argument whose template is wrong.
    """
    found = template_faults(config)
    if found:
        raise refusal([Unfit(f"config.{each.path}", each.message, each.suggestion) for each in found])
    return config


def refusal(unfit: Sequence[Unfit]) -> Rejected:
    """All that does not fit, as the answer to whoever asked."""
    first = unfit[0]
    problems = [{"path": each.path, "message": each.message, "suggestion": each.suggestion} for each in unfit]
    return Rejected("invalid", f"{first.path}: {first.message}", {"path": first.path, "problems": problems})


def prepare(config: JSON, given: JSON, about: About, passed: Iterable[str] | None) -> Prepared:
    """Hold the values against the declarations and render the arguments.

    Args:
      config: effective, its templates without faults.
      passed: undeclared names that pass; None: all.
    """
    declared = config.get("params")
    if declared is None:
        return Prepared(given, None)
    parameters, unfit = effective(declared, given, passed=passed)
    if unfit:
        return Prepared(given, None, tuple(Unfit(f"parameters.{u.path}", u.message, u.suggestion) for u in unfit))
    if not any("{{" in arg for arg in config["args"]):
        return Prepared(parameters, None)
    from hetuflow import templates

    try:
        rendered = templates.render(config["cmd"], config["args"], about.context(parameters))
    except templates.TemplateError as wrong:
        return Prepared(parameters, None, (Unfit("config.args", str(wrong)),))
    return Prepared(parameters, {"args": list(rendered.args), "variables": dict(rendered.variables)})
