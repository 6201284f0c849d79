"""Virtual, event-sourced actors: a task while busy, an object while warm, rows when cold.

Reading order: `context` (who asks), `mailbox`, `actor` (one activation), `entity` (the pure part: fold a stream, turn a
decision into an append), `intentions` (what was performed outside), `supervisor` (crashes), `passivation` (the warm
cells and their snapshots), `handling` (one command, rule by rule), `system` (the front door). `catalogue` names the
event types. The kernel knows nothing about jobs: it is given deciders.
"""

from hetuflow.actors.actor import Answer, Reading
from hetuflow.actors.chunk import Question
from hetuflow.actors.context import FOLLOWING, SYSTEM, Context
from hetuflow.actors.errors import (
    ActorError,
    Crashed,
    GuardLost,
    MailboxFull,
    Quarantined,
    SystemStopped,
    UnknownCategory,
)
from hetuflow.actors.intentions import Effects
from hetuflow.actors.limits import Limits
from hetuflow.actors.supervisor import RestartPolicy
from hetuflow.actors.system import ActorSystem, Statistics

__all__ = [
    "FOLLOWING",
    "SYSTEM",
    "ActorError",
    "ActorSystem",
    "Answer",
    "Context",
    "Crashed",
    "Effects",
    "GuardLost",
    "Limits",
    "MailboxFull",
    "Quarantined",
    "Question",
    "Reading",
    "RestartPolicy",
    "Statistics",
    "SystemStopped",
    "UnknownCategory",
]
