"""Which requests a port lets in by their `Host` and `Origin`: one rule, for HTTP and for the agents' WebSocket alike.

A browser sends to any address that a page names. What tells it apart from an agent or a client is what it cannot leave
out: `Origin` says whose page asks, and `Host` which name it was told (a foreign name that was made to point here, "DNS
rebinding", is still a foreign name).
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from attrs import frozen

LOOPBACK = re.compile(r"localhost|127(?:\.\d{1,3}){3}|\[::1\]|\[0*(?::0*){1,6}:0*1\]")


class Foreign(Exception):
    """The request is not for this server, or asked by a page that may not. `header` is "host" or "origin"."""

    def __init__(self, message: str, header: str, value: str) -> None:
        self.header, self.value = header, value
        super().__init__(message)


@frozen(slots=True)
class Admission:
    """Which `Host` names are answered beside loopback, and which origins a browser may come from beside our own."""

    hosts: frozenset[str] = frozenset()
    origins: frozenset[str] = frozenset()

    @classmethod
    def of(cls, hosts: Sequence[str], origins: Sequence[str]) -> Admission:
        return cls(frozenset(map(str.lower, hosts)), frozenset(origin.rstrip("/").lower() for origin in origins))

    def check(self, host: str, origin: str | None, scheme: str) -> str | None:
        """Return the listed origin that the request comes from; None: of our own, or no browser's.

        Args:
          host: the header as sent, "" when there was none.
          scheme: that of the request: http, https, ws or wss.
        Raises:
          Foreign.
        """
        host = host.lower()
        name = host_name(host)
        if host and not LOOPBACK.fullmatch(name) and name not in self.hosts and host not in self.hosts:
            raise Foreign(
                f"this server does not answer to the host name {name}: is it missing in server.allowed_hosts?",
                "host",
                host,
            )
        if origin is None:
            return None
        origin = origin.lower()
        if origin in self.origins:
            return origin
        scheme = {"ws": "http", "wss": "https"}.get(scheme, scheme)
        if with_port(origin) == with_port(f"{scheme}://{host}"):
            return None
        raise Foreign(f"requests of pages from {origin} are not allowed", "origin", origin)


def host_name(host: str) -> str:
    """The name of a `Host` header, without its port and final dot."""
    name = host[: host.index("]") + 1] if host.startswith("[") and "]" in host else host.partition(":")[0]
    return name.removesuffix(".")


def with_port(origin: str) -> str:
    """The origin with the port that its scheme implies written out."""
    scheme, _, host = origin.partition("://")
    tail = host.rpartition("]")[2] if host.startswith("[") else host
    return origin if ":" in tail else f"{origin}:{443 if scheme == 'https' else 80}"
