"""The jobs that a job follows, as requests say it."""

from __future__ import annotations

from typing import Any

from hetuflow.api.coded import Word, WordOut
from hetuflow.api.kinds import INVALID, Array, Refined, Uuid
from hetuflow.api.problems import Problems
from hetuflow.api.shapes import Member, Shape
from hetuflow.domain.flow_graph import UPSTREAM_MAX, Match, On

UPSTREAM_JOB = Shape(
    title="UpstreamJob",
    members=[
        Member(name="job_id", kind=Uuid(), write="C!"),
        Member(
            name="on",
            kind=Word(On),
            write="C",
            out=WordOut(On),
            default=str(On.SUCCEEDED),
            doc="how its task must have ended; `finished`: however it ended",
        ),
    ],
)

UPSTREAM = Shape(
    title="Upstream",
    members=[
        Member(name="jobs", kind=Array(UPSTREAM_JOB, high=UPSTREAM_MAX), write="C!"),
        Member(
            name="match",
            kind=Word(Match),
            write="C",
            out=WordOut(Match),
            default=str(Match.ALL),
            doc="whether all of them must have ended so, or one is enough",
        ),
    ],
)


def _each_once(given: Any, path: str, problems: Problems) -> Any:
    """Complete, each job once; without jobs it is null."""
    seen: set[str] = set()
    for index, job in enumerate(given["jobs"]):
        if job["job_id"] in seen:
            problems.add(f"{path}.jobs[{index}].job_id", f"is named twice: {job['job_id']}")
            return INVALID
        seen.add(job["job_id"])
    if not seen:
        return None
    jobs = [{"job_id": job["job_id"], "on": str(job.get("on", On.SUCCEEDED))} for job in given["jobs"]]
    return {"jobs": jobs, "match": str(given.get("match", Match.ALL))}


UPSTREAM_KIND = Refined(UPSTREAM, _each_once)
