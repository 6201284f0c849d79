"""The agent's id when none is configured: generated at the first start, kept in the state directory."""

from __future__ import annotations

from hetuflow.ports.disk import Disk, DiskError
from hetuflow.ports.ids import Ids
from hetuflow.protocol.messages import is_agent_id


def kept_agent_id(disk: Disk, ids: Ids, state_dir: str) -> str:
    """Raises `DiskError`."""
    path = f"{state_dir}/agent-id"
    kept = disk.read(path)
    if kept is None:
        agent_id = str(ids.uuid7())
        disk.replace(path, f"{agent_id}\n".encode())
        return agent_id
    text = kept.decode(errors="replace").strip()
    if not is_agent_id(text):
        raise DiskError(f"{path} does not hold an agent id but {text[:40]!r}; restore it, or set agent.id")
    return text
