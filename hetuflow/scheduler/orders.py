"""Orders on their way to agents: which are wanted, which this process has sent, and which sessions are over. Pure.

An order goes out once, on the session it was committed for. So that one which was committed too early (its session is
not open yet) or too late (it is over) is neither lost nor sent twice, it is kept here for as long as it is wanted.
"""

from __future__ import annotations

from collections import OrderedDict

from hetuflow.domain.decider import Occupy, Send

OVER_MAX = 20_000
"""Closed sessions remembered: far more than close while an event about one of them is under way."""


class Orders:
    def __init__(self) -> None:
        self._wanted: dict[str, dict[str, Send]] = {}
        self._sent: dict[str, int] = {}
        self._over: OrderedDict[str, None] = OrderedDict()

    def want(self, send: Send) -> None:
        self._wanted.setdefault(send.agent_id, {})[send.instance_id] = send

    def unwant(self, send: Send) -> None:
        """A newer order of the same instance stays."""
        orders = self._wanted.get(send.agent_id, {})
        if orders.get(send.instance_id) == send:
            del orders[send.instance_id]
            if not orders:
                del self._wanted[send.agent_id]
            self._sent.pop(send.instance_id, None)

    def close(self, session: str) -> None:
        """Nothing new is sent on this session, ever. It is one of this process: on others', who else knows what was sent?"""
        self._over[session] = None
        if len(self._over) > OVER_MAX:
            self._over.popitem(last=False)

    def is_over(self, session: str) -> bool:
        """Whether this server had the session, and has closed it for work."""
        return session in self._over

    def unsent(self, agent_id: str, session: str) -> list[Send]:
        """The orders that were committed for this session and have not been sent."""
        orders = self._wanted.get(agent_id, {}).values()
        return [send for send in orders if send.session == session and not self.was_sent(send)]

    def is_unsent(self, occupy: Occupy, session: str) -> bool:
        """Whether the instance was committed for this session, and its order has not been sent."""
        send = self._wanted.get(occupy.agent_id, {}).get(occupy.instance_id)
        if send is None or send.session != session or send.epoch != occupy.epoch:
            return False
        return not self.was_sent(send)

    def was_sent(self, send: Send) -> bool:
        """Whether this process has sent the order."""
        return self._sent.get(send.instance_id) == send.epoch

    def sent(self, send: Send) -> None:
        self._sent[send.instance_id] = send.epoch
