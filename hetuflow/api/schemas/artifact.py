"""Files: those that instances left behind, and those that are kept for instances to read."""

from __future__ import annotations

from hetuflow.api.kinds import Array, Boolean, Integer, Text, Time
from hetuflow.api.shapes import Member, Shape

ARTIFACT = Shape(
    title="Artifact",
    members=[
        Member(name="path", kind=Text(), doc="in the instance's directory; of what was not found, the glob"),
        Member(name="bytes", kind=Integer(), nullable=True),
        Member(name="sha256", kind=Text(), nullable=True, doc="of the whole file"),
        Member(name="collected_at", kind=Time(), nullable=True, doc="by its agent's clock"),
        Member(name="stored", kind=Integer(), doc="bytes that are here"),
        Member(name="complete", kind=Boolean(), doc="all of it is here"),
        Member(name="problem", kind=Text(), nullable=True, doc="why it was not collected: missing, too large, …"),
    ],
)

ARTIFACT_LIST = Shape(
    title="ArtifactList",
    members=[
        Member(name="result", kind=Array(ARTIFACT), doc="by path"),
        Member(name="bytes", kind=Integer(), doc="of all of them"),
        Member(name="complete", kind=Boolean(), doc="the instance has ended and all that was collected is here"),
    ],
)

KEPT_FILE = Shape(
    title="KeptFile",
    members=[
        Member(name="id", kind=Text(), doc="its digest"),
        Member(name="sha256", kind=Text()),
        Member(name="bytes", kind=Integer()),
        Member(name="created_at", kind=Time()),
        Member(name="url", kind=Text(), doc="as `files` of a job name it"),
    ],
)
