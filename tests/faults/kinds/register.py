"""All kinds, by name."""

from __future__ import annotations

from collections.abc import Mapping

from tests.faults.kinds import agent, blackout, clock, disk, keeper, network, postgres, server_kill, standby, suspended
from tests.faults.kinds.fault import Fault

FAMILIES = (server_kill, postgres, suspended, standby, network, disk, clock, agent, keeper, blackout)

KINDS: Mapping[str, type[Fault]] = {kind.name: kind for family in FAMILIES for kind in family.KINDS}

SHORT = ("server-kill-after-commit", "postgres-terminate", "agent-kill")
"""What `make test` tries: seconds each, and no rights that a test run may not have."""
