"""What may be said when a job or a schedule is enabled or disabled."""

from __future__ import annotations

from hetuflow.api.kinds import Text
from hetuflow.api.shapes import Member, Shape
from hetuflow.domain.switch_notes import NOTE_LENGTH_MAX

STATUS_NOTE = Member(
    name="status_note",
    kind=Text(),
    nullable=True,
    doc="what was said when it was last enabled or disabled; of a schedule that was disabled by itself, why",
)

SWITCH = Shape(
    title="SwitchRequest",
    members=[
        Member(name="note", kind=Text(NOTE_LENGTH_MAX), write="C", nullable=True, doc="why; shown as `status_note`")
    ],
)
