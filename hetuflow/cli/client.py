"""Requests to a hetuflow server, and its answers as values or one-line errors."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlsplit

import click
import httpx

DEFAULT_SERVER = "http://127.0.0.1:8080"
REQUEST_SECONDS_MAX = 35.0
"""A little longer than the server's own longest deadline, so that its answer, not ours, is what people read."""


class Refused(click.ClickException):
    """The server answered with an error. Exit status 1."""

    exit_code = 1

    def __init__(self, status: int, body: Mapping[str, Any]) -> None:
        self.status, self.body = status, body
        super().__init__(_sentence(status, body))


class Unreachable(click.ClickException):
    """No server answers. Exit status 3."""

    exit_code = 3


class Client:
    """The REST API of one server. Paths are below `/api/v1`."""

    def __init__(self, server: str) -> None:
        self.server = server.rstrip("/")
        # A proxy that a company sets for the internet does not know this machine's loopback.
        self._http = httpx.Client(
            base_url=self.server,
            timeout=REQUEST_SECONDS_MAX,
            follow_redirects=False,
            trust_env=not is_loopback(self.server),
        )

    def close(self) -> None:
        self._http.close()

    def get(self, path: str, **query: Any) -> Any:
        return self._request("GET", path, query=query)

    def post(self, path: str, body: Mapping[str, Any] | None = None, **query: Any) -> Any:
        return self._request("POST", path, body=body, query=query)

    def delete(self, path: str, **query: Any) -> Any:
        return self._request("DELETE", path, query=query)

    def rows(
        self, collection: str, *, where: Mapping[str, Any], limit: int, order: Sequence[str] = ()
    ) -> Sequence[Mapping[str, Any]]:
        """The first `limit` rows of a collection, by cursor pages, newest first unless `order` says otherwise."""
        return list(self._pages(collection, where, limit, order))

    def _pages(
        self, collection: str, where: Mapping[str, Any], limit: int, order: Sequence[str]
    ) -> Iterator[Mapping[str, Any]]:
        cursor: str | None = None
        while limit > 0:
            page: dict[str, Any] = {"limit": min(limit, 1000)}
            if order:
                page["order_bys"] = list(order)
            if cursor:
                page["after"] = cursor
            answer = self.post(f"/{collection}/query", {"filter": dict(where), "page": page})
            yield from answer["result"]
            limit -= len(answer["result"])
            cursor = answer["page"]["next"]
            if not cursor:
                return

    def _request(
        self, method: str, path: str, *, body: Mapping[str, Any] | None = None, query: Mapping[str, Any] | None = None
    ) -> Any:
        params = {name: value for name, value in (query or {}).items() if value is not None}
        try:
            answer = self._http.request(method, f"/api/v1{path}", json=body, params=params)
        except httpx.TimeoutException as exc:
            raise Unreachable(f"{self.server} did not answer within {REQUEST_SECONDS_MAX:.0f} s") from exc
        except httpx.InvalidURL as exc:
            raise click.UsageError(f"--server {self.server!r} is not an address such as {DEFAULT_SERVER}") from exc
        except (httpx.TransportError, httpx.UnsupportedProtocol) as exc:
            raise Unreachable(
                f"no hetuflow server answers at {self.server} ({_cause(exc)}); "
                "start one with `hetuflow dev`, or name another with --server or HETUFLOW_SERVER"
            ) from exc
        return _value(answer, self.server)


def is_loopback(url: str) -> bool:
    host = urlsplit(url).hostname or ""
    return host == "localhost" or host == "::1" or host.startswith("127.")


@contextmanager
def open_client(server: str) -> Iterator[Client]:
    client = Client(server)
    try:
        yield client
    finally:
        client.close()


def _value(answer: httpx.Response, server: str) -> Any:
    try:
        value = answer.json()
    except ValueError as exc:
        raise Unreachable(f"what answers at {server} is not a hetuflow server (HTTP {answer.status_code})") from exc
    if answer.is_success:
        return value
    if not isinstance(value, dict) or "err_code" not in value:
        raise Unreachable(f"what answers at {server} is not a hetuflow server (HTTP {answer.status_code})")
    raise Refused(answer.status_code, value)


def _sentence(status: int, body: Mapping[str, Any]) -> str:
    problems = body.get("details")
    if isinstance(problems, list) and problems:
        return "\n       ".join(_problem(problem) for problem in problems)
    text = str(body.get("message") or f"HTTP {status}")
    if status >= 500:
        text += f" (request {body.get('request_id')})"
    return text


def _problem(problem: Mapping[str, Any]) -> str:
    text = f"{problem['path']}: {problem['message']}" if problem.get("path") else str(problem["message"])
    suggestion = problem.get("suggestion")
    return f"{text}; did you mean {suggestion!r}?" if suggestion and str(suggestion) not in text else text


def _cause(exc: Exception) -> str:
    text = str(exc)
    return text.split("] ", 1)[-1].lower() if text else type(exc).__name__
