"""`hetuflow-agent`, and `python -m agent`."""

from __future__ import annotations

import gc
import sys


def main() -> None:
    """Run the agent in a process of its own.

    structlog imports rich where it is installed, for tracebacks in colour: 5 MB that an agent has no use for. It is told
    that there is none, which nothing else in this process minds.
    """
    sys.modules.setdefault("rich", None)  # type: ignore[arg-type]
    gc.disable()  # all that is imported stays: nobody looks for garbage in it, now or later
    from agent.command import command

    gc.freeze()
    gc.enable()
    command()


if __name__ == "__main__":
    main()
