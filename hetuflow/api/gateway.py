"""G3: the agents' connections; G2's plain request."""

from __future__ import annotations

from typing import Any

from hetuflow.api.call import Call, Reply
from hetuflow.api.errors import ApiError
from hetuflow.api.kinds import Text
from hetuflow.api.reads import AnyDocument
from hetuflow.api.routing import Endpoint, Parameter
from hetuflow.api.schemas.system import GATEWAY_STATUS
from hetuflow.domain.enums import AgentStatus


async def agent_counts(call: Call) -> dict[str, int]:
    by_status = await call.rooms.rows.tally("agents", "status")
    total, online = sum(by_status.values()), by_status.get(int(AgentStatus.ONLINE), 0)
    return {"total": total, "online": online, "offline": total - online}


async def gateway_status(call: Call) -> dict[str, Any]:
    counts = await agent_counts(call)
    state = call.rooms.agents.status()
    return {
        "total_connections": state.total_connections,
        "active_connections": state.active_connections,
        "total_messages_sent": state.total_messages_sent,
        "total_messages_received": state.total_messages_received,
        "total_agents": counts["total"],
        "online_agents": counts["online"],
        "offline_agents": counts["offline"],
        "timestamp": state.timestamp,
        "connections": [
            {
                "agent_id": each.agent_id,
                "address": each.address,
                "connected_at": each.connected_at,
                "last_message_at": each.last_message_at,
            }
            for each in state.connections
        ],
    }


async def status(call: Call) -> Reply:
    position = await call.visible()
    return Reply(await gateway_status(call), position)


async def upgrade(call: Call) -> Reply:
    """A request that is no WebSocket handshake."""
    if not call.query.get("agent_id"):
        raise ApiError(400, "agent_id is required: /api/v1/gateway/ws?agent_id=…")
    raise ApiError(
        426,
        f"this address speaks WebSocket; agents connect on port {call.rooms.identity.websocket_port}",
        headers=[(b"upgrade", b"websocket"), (b"connection", b"upgrade")],
    )


ENDPOINTS = (
    Endpoint(
        number="G2",
        is_positioned=False,
        method="GET",
        path="/api/v1/gateway/ws",
        handler=upgrade,
        parameters=(Parameter(name="agent_id", kind=Text(64, 1)),),
        reply=AnyDocument(),
        summary="WebSocket of the agent protocol",
        tag="gateway",
        also=(426,),
    ),
    Endpoint(
        number="G3",
        method="GET",
        path="/api/v1/gateway/status",
        aliases=(("GET", "/api/v1/gateway/stats"),),
        handler=status,
        reply=GATEWAY_STATUS,
        summary="The agents' connections",
        tag="gateway",
    ),
)
