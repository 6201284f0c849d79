"""What a job follows, as people write it: `extract`, `extract:failed`, `other-namespace/extract:finished`. Pure.

In files and plans an upstream job is known as the jobs of files are: by `namespace/name`, or by its id where that is
written. What is sent has the ids.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from hetuflow.cli.names import is_uuid
from hetuflow.cli.options import nearest_hint
from hetuflow.domain.flow_graph import Match, On, cycle_in, in_order

Row = Mapping[str, Any]
WORDS = [str(on) for on in On]


def read_upstream_job(text: str) -> dict[str, str]:
    """`JOB` or `JOB:CONDITION`. A name that has a colon itself is followed by one more, and the condition.

    Raises:
      ValueError: with what is allowed.
    """
    name, colon, condition = text.rpartition(":")
    if not colon:
        name, condition = text, str(On.SUCCEEDED)
    if condition.lower() not in WORDS:
        hint = nearest_hint(condition, WORDS)
        raise ValueError(f"{text!r}: the condition must be one of {', '.join(WORDS)}{f'; {hint}' if hint else ''}")
    if not name:
        raise ValueError(f"{text!r}: names no job")
    return {"job": name, "on": condition.lower()}


def read_upstream(value: Any) -> dict[str, Any] | None:
    """As a file has it: a list of jobs, or an object with `jobs` and `match`; None when it names none.

    Raises:
      ValueError: with what is allowed.
    """
    match: Any = str(Match.ALL)
    if isinstance(value, dict):
        if unknown := [name for name in value if name not in ("jobs", "match")]:
            raise ValueError(f"unknown member {unknown[0]!r}; there are: jobs, match")
        value, match = value.get("jobs"), value.get("match", match)
    if str(match).lower() not in frozenset(Match):
        raise ValueError(f"match must be one of {', '.join(Match)}, got {match!r}")
    if not isinstance(value, list):
        raise ValueError(f"must be a list of jobs, or an object with jobs and match, got {value!r}")
    jobs = [_read_one(one) for one in value]
    names = [job["job"] for job in jobs]
    if twice := [name for name in names if names.count(name) > 1]:
        raise ValueError(f"{twice[0]} is named twice")
    return {"jobs": jobs, "match": str(match).lower()} if jobs else None


def _read_one(one: Any) -> dict[str, str]:
    if isinstance(one, str):
        return read_upstream_job(one)
    if isinstance(one, dict) and isinstance(one.get("job"), str) and one.keys() <= {"job", "on"}:
        return read_upstream_job(f"{one['job']}:{one.get('on', On.SUCCEEDED)}")
    raise ValueError(f"must be a job, as NAME or NAME:CONDITION, or an object with job and on, got {one!r}")


def labelled(upstream: Row | None, namespace: str) -> dict[str, Any] | None:
    """With every job as `namespace/name`, or as its id where that is written; in one order, whatever was written."""
    if upstream is None:
        return None
    jobs = [{"job": _label(each["job"], namespace), "on": each["on"]} for each in upstream["jobs"]]
    return {"jobs": sorted(jobs, key=lambda each: each["job"]), "match": upstream["match"]}


def _label(text: str, namespace: str) -> str:
    if is_uuid(text):
        return text.lower()
    return text if "/" in text else f"{namespace}/{text}"


def stored_as_labels(upstream: Row | None, wanted: Row | None, label_of: Mapping[str, str]) -> dict[str, Any] | None:
    """What is stored, with its jobs named as `labelled` names them; those that the file has by id, by id."""
    if upstream is None:
        return None
    by_id = {each["job"] for each in (wanted or {}).get("jobs") or ()}
    jobs = [
        {"job": job_id if (job_id := each["job_id"]) in by_id else label_of.get(job_id, job_id), "on": each["on"]}
        for each in upstream["jobs"]
    ]
    return {"jobs": sorted(jobs, key=lambda each: each["job"]), "match": upstream["match"]}


def sent(upstream: Row | None, id_of: Callable[[str], str]) -> dict[str, Any] | None:
    """As the API has it. `id_of`: label -> id; whatever it raises is raised."""
    if upstream is None:
        return None
    jobs = [{"job_id": id_of(each["job"]), "on": each["on"]} for each in upstream["jobs"]]
    return {"jobs": jobs, "match": upstream["match"]}


def written(upstream: Row | None, namespace: str, label_of: Mapping[str, str]) -> Any:
    """As an exported file has it: the shortest form that reads back as the same. A job that is gone is left out."""
    if upstream is None:
        return None
    jobs = []
    for each in upstream["jobs"]:
        label = label_of.get(each["job_id"])
        if label is None:
            continue
        name = label.removeprefix(f"{namespace}/")
        name = label if "/" in name or is_uuid(name) else name
        jobs.append(name if each["on"] == On.SUCCEEDED and ":" not in name else f"{name}:{each['on']}")
    if not jobs:
        return None
    return jobs if upstream["match"] == Match.ALL else {"jobs": jobs, "match": upstream["match"]}


def labels_of(rows: Iterable[Row]) -> dict[str, str]:
    """The label of each stored job: its id where several have one name."""
    found: dict[str, list[str]] = {}
    for row in rows:
        found.setdefault(f"{row['namespace_id']}/{row['name']}", []).append(row["id"])
    return {job_id: label if len(ids) == 1 else job_id for label, ids in found.items() for job_id in ids}


def first_those_followed(labels: Sequence[str], follows: Mapping[str, Sequence[str]]) -> tuple[list[str], list[str]]:
    """The labels, each after those it follows; and a circle among them, empty when there is none."""
    known = set(labels)
    within = {label: [other for other in follows[label] if other in known] for label in labels}
    circle = cycle_in(labels, lambda each: within[each])
    return (list(labels), list(reversed(circle))) if circle else (in_order(labels, within), [])
