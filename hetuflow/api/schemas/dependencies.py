"""What a task waits for, as requests say it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from enum import StrEnum
from typing import Any

from attrs import frozen

from hetuflow.api.coded import Word
from hetuflow.api.kinds import INVALID, Array, Schema, Uuid, refuse
from hetuflow.api.objects import check_free
from hetuflow.api.problems import Problems

DEPENDENCIES_MAX = 1000
"""Tasks that one task may wait for; as many as a batch makes."""


class OnFailure(StrEnum):
    CANCEL = "cancel"
    RUN = "run"


_IDS = Array(Uuid(), high=DEPENDENCIES_MAX)
_ON_FAILURE = Word(OnFailure)


@frozen(slots=True)
class Dependencies:
    """`{"task_ids": […], "on_failure": …}` with members of the client's own, or the ids alone."""

    phrase: str = 'an object with "task_ids", or an array of UUIDs'

    def parse(self, value: Any, path: str, problems: Problems) -> Any:
        if isinstance(value, list):
            ids = _IDS.parse(value, path, problems)
            return INVALID if ids is INVALID else _settled(ids, OnFailure.CANCEL, {})
        if not isinstance(value, dict):
            return refuse(self, value, path, problems)
        others = {name: inner for name, inner in value.items() if name not in ("task_ids", "on_failure")}
        ids, on_failure = value.get("task_ids"), value.get("on_failure")
        parsed = [
            [] if ids is None else _IDS.parse(ids, f"{path}.task_ids", problems),
            OnFailure.CANCEL if on_failure is None else _ON_FAILURE.parse(on_failure, f"{path}.on_failure", problems),
            others if check_free(others, path, problems) else INVALID,
        ]
        return INVALID if any(each is INVALID for each in parsed) else _settled(*parsed)

    def schema(self) -> Schema:
        ids: Schema = _IDS.schema()
        return {
            "anyOf": [
                {
                    "type": "object",
                    "properties": {"task_ids": ids, "on_failure": _ON_FAILURE.schema()},
                    "additionalProperties": True,
                },
                ids,
            ],
            "description": "not dispatched before all of these have ended; when one did not succeed, `cancel` (default)"
            " cancels this task too, `run` runs it",
        }


def _settled(ids: Sequence[str], on_failure: str, others: Mapping[str, Any]) -> dict[str, Any]:
    return {**others, "task_ids": list(dict.fromkeys(ids)), "on_failure": str(on_failure)}


def ids_of(dependencies: Mapping[str, Any] | None) -> Sequence[str]:
    return (dependencies or {}).get("task_ids") or ()
