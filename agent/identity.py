"""What the agent keeps of who it is and whom it works for, in its state directory.

Its id, when none is configured: generated at the first start. And the event store that it was last welcomed by.
"""

from __future__ import annotations

from hetuflow.ports.disk import Disk, DiskError
from hetuflow.ports.ids import Ids
from hetuflow.protocol.messages import is_agent_id

STORE_FILE = "store-id"


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


def kept_store_id(disk: Disk, state_dir: str) -> str:
    """The store of the last welcome; "" when there was none. Raises `DiskError`."""
    return (disk.read(f"{state_dir}/{STORE_FILE}") or b"").decode(errors="replace").strip()


def keep_store_id(disk: Disk, state_dir: str, store_id: str) -> None:
    """Raises `DiskError`."""
    disk.replace(f"{state_dir}/{STORE_FILE}", f"{store_id}\n".encode())
