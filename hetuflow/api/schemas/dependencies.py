"""What a task waits for, as requests say it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from enum import StrEnum
from typing import Any

from attrs import frozen

from hetuflow.api.coded import Word
from hetuflow.api.jsontext import shown
from hetuflow.api.kinds import INVALID, Array, Schema, Uuid, refuse
from hetuflow.api.objects import check_free
from hetuflow.api.problems import Problems
from hetuflow.domain.flow_graph import Match, On

DEPENDENCIES_MAX = 1000
"""Tasks that one task may wait for; as many as a batch makes."""


class OnFailure(StrEnum):
    CANCEL = "cancel"
    RUN = "run"


_IDS = Array(Uuid(), high=DEPENDENCIES_MAX)
_ON_FAILURE = Word(OnFailure)
_MATCH = Word(Match)
_ON = Word(On)
_OWN = ("task_ids", "on_failure", "on", "match")


@frozen(slots=True)
class Dependencies:
    """`{"task_ids": […], "on_failure": …, "on": {…}, "match": …}` with members of the client's own, or the ids alone."""

    phrase: str = 'an object with "task_ids", or an array of UUIDs'

    def parse(self, value: Any, path: str, problems: Problems) -> Any:
        if isinstance(value, list):
            ids = _IDS.parse(value, path, problems)
            return INVALID if ids is INVALID else _settled(ids, OnFailure.CANCEL, {}, {})
        if not isinstance(value, dict):
            return refuse(self, value, path, problems)
        others = {name: inner for name, inner in value.items() if name not in _OWN}
        ids, on_failure = value.get("task_ids"), value.get("on_failure")
        parsed = [
            [] if ids is None else _IDS.parse(ids, f"{path}.task_ids", problems),
            OnFailure.CANCEL if on_failure is None else _ON_FAILURE.parse(on_failure, f"{path}.on_failure", problems),
            _conditions(value, path, problems),
            others if check_free(others, path, problems) else INVALID,
        ]
        if any(each is INVALID for each in parsed):
            return INVALID
        for task_id in parsed[2].get("on", ()):
            if task_id not in parsed[0]:
                problems.add(f"{path}.on.{task_id}", "is none of the task_ids")
                return INVALID
        return _settled(*parsed)

    def schema(self) -> Schema:
        ids: Schema = _IDS.schema()
        return {
            "anyOf": [
                {
                    "type": "object",
                    "properties": {
                        "task_ids": ids,
                        "on_failure": _ON_FAILURE.schema(),
                        "on": {
                            "type": "object",
                            "propertyNames": Uuid().schema(),
                            "additionalProperties": _ON.schema(),
                            "description": "how single ones of the tasks must have ended; the others as `on_failure`"
                            " says: `succeeded` (cancel) or `finished` (run)",
                        },
                        "match": {
                            **_MATCH.schema(),
                            "description": "`all` (default) of the tasks must have ended so, or `any` of them",
                        },
                    },
                    "additionalProperties": True,
                },
                ids,
            ],
            "description": "not dispatched before all of these have ended; when one did not succeed, `cancel` (default)"
            " cancels this task too, `run` runs it. `on` and `match` say it more precisely: a task whose conditions can"
            " no longer be met is cancelled (cause `dependency_unmet`)",
        }


def _conditions(value: Mapping[str, Any], path: str, problems: Problems) -> Any:
    """The members `on` and `match` as far as they are given."""
    found: dict[str, Any] = {}
    if (match := value.get("match")) is not None:
        found["match"] = _MATCH.parse(match, f"{path}.match", problems)
    if (on := value.get("on")) is not None:
        if not isinstance(on, dict):
            problems.add(f"{path}.on", f"must be an object of task id and condition, got {shown(on)}")
            return INVALID
        conditions = {}
        for name, condition in on.items():
            task_id = Uuid().parse(name, f"{path}.on", problems)
            conditions[task_id] = _ON.parse(condition, f"{path}.on.{name}", problems)
        found["on"] = INVALID if INVALID in (*conditions, *conditions.values()) else conditions
    return INVALID if INVALID in found.values() else _as_text(found)


def _as_text(found: Mapping[str, Any]) -> dict[str, Any]:
    text: dict[str, Any] = {}
    if "on" in found:
        text["on"] = {task_id: str(condition) for task_id, condition in found["on"].items()}
    if "match" in found:
        text["match"] = str(found["match"])
    return text


def _settled(
    ids: Sequence[str], on_failure: str, conditions: Mapping[str, Any], others: Mapping[str, Any]
) -> dict[str, Any]:
    return {**others, "task_ids": list(dict.fromkeys(ids)), "on_failure": str(on_failure), **conditions}


def ids_of(dependencies: Mapping[str, Any] | None) -> Sequence[str]:
    return (dependencies or {}).get("task_ids") or ()
