"""Who this agent is and what it offers: everything that the rest needs from configuration and from the machine."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, Protocol

from attrs import Factory, frozen

from agent.clean_up import NOTHING, FreeSpace
from agent.policy import OPEN, Policy

GATEWAY_PATH: Final = "/api/v1/gateway/ws"


@frozen(slots=True, kw_only=True)
class Profile:
    """Durations in seconds. `server_url`: one or several, separated by commas. `state_dir` and `work_dir` are absolute and the agent's own. `labels`: declared, `sys.*` among them."""

    agent_id: str
    name: str
    boot_id: str
    host: str
    version: str
    server_url: str
    state_dir: str
    work_dir: str
    slots: int = 5
    labels: Mapping[str, str] = Factory(dict)
    features: tuple[str, ...] = ()
    """What this agent can do beyond running a program, see `hetuflow.protocol.messages.Hello`."""
    metadata: Mapping[str, str] = Factory(dict)
    heartbeat_interval: float = 30.0
    check_interval: float = 10.0
    lost_after_seconds: float = 120.0
    cleanup_interval: float = 3600.0
    cleanup_enabled: bool = True
    disk_free_min: FreeSpace = NOTHING
    """At `work_dir`: below it old directories go before their time, and nothing new is taken in."""
    policy: Policy = OPEN
    isolation: str = "auto"
    """One of `agent.containment.ISOLATIONS`, for keepers that are started."""

    @property
    def server_urls(self) -> tuple[str, ...]:
        return tuple(self.server_url.split(","))

    @property
    def gateway_urls(self) -> tuple[str, ...]:
        """Where servers are dialled, in this order."""
        query = f"?agent_id={_quoted(self.agent_id)}"
        return tuple(f"{url.rstrip('/')}{GATEWAY_PATH}{query}" for url in self.server_urls)


class Gauges(Protocol):
    """What the machine looks like now, in percent: `cpu_usage`, `memory_usage`, `disk_usage`; and `load` (mean of a minute)."""

    def read(self) -> Mapping[str, float]: ...


class NoGauges:
    """Measures nothing."""

    def read(self) -> Mapping[str, float]:
        return {}


def _quoted(text: str) -> str:
    return "".join(
        c if (c.isalnum() and c.isascii()) or c in "-._~" else "".join(f"%{b:02X}" for b in c.encode()) for c in text
    )
