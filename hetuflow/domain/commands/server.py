"""What can be asked of a server."""

from __future__ import annotations

from collections.abc import Sequence

from attrs import frozen

from hetuflow.domain.commands.snapshots import JSON
from hetuflow.domain.decider import Guard


@frozen(slots=True, kw_only=True)
class StartServer:
    """`guards`: what must still hold. A server that was called lost says with them which word it contradicts."""

    server_id: str
    name: str
    address: str
    version: str
    guards: Sequence[Guard] = ()


@frozen(slots=True, kw_only=True)
class UpdateServer:
    """`changes` of: name, address, description, bind_namespaces."""

    changes: JSON


@frozen(slots=True)
class AffirmServer:
    """It lives: a beat, for other servers on the same log."""


@frozen(slots=True)
class StopServer:
    pass


@frozen(slots=True)
class LoseServer:
    pass


@frozen(slots=True)
class RemoveServer:
    pass
