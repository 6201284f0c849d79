"""Control groups: what keeps a process tree together and within its limits, where the kernel and the rights allow it.

`mounts` tells which hierarchies there are (pure), `cgroup1` and `cgroup2` make groups in them, `detect` chooses. What a
group does for a tree is a `Leaf`. Where there is none, the keeper follows the tree through /proc (`agent.process_tree`) and
samples it (`agent.keeper.sampling`).
"""

from typing import Final

ISOLATIONS: Final = ("auto", "cgroup", "session")
"""`executor.isolation`: the best there is; control groups or no start; never control groups."""
