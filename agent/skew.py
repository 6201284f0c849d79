"""What this agent says to a server that speaks an older protocol than it: only words that one knows."""

from __future__ import annotations

from typing import Final

from attrs import evolve

from hetuflow.protocol.messages import Ended, Message

_REASONS_OF_2: Final = frozenset({"memory", "cpu", "processes"})


def in_protocol(message: Message, protocol: int) -> Message:
    """The message as a peer of that protocol understands it. What it says in words stays."""
    if protocol >= 2 or not isinstance(message, Ended) or message.reason not in _REASONS_OF_2:
        return message
    what = f"{message.reason} limit" if message.error_message is None else message.error_message
    if message.exit_code is None:
        return evolve(message, reason="exit_code", exit_code=_KILLED, signal=None, error_message=what)
    return evolve(message, reason="exit_code" if message.signal is None else "signal", error_message=what)


_KILLED: Final = 137
"""What a shell says of a program that was ended by SIGKILL, as these are."""
