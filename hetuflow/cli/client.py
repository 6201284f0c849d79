"""Requests to a hetuflow server, and its answers as values or one-line errors."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import urlsplit

import click
from attrs import frozen

from hetuflow.cli import exits

if TYPE_CHECKING:
    import httpx

T = TypeVar("T")

DEFAULT_SERVER = "http://127.0.0.1:8080"
REQUEST_SECONDS_MAX = 35.0
"""A little longer than the server's own longest deadline, so that its answer, not ours, is what people read."""

PAGE_ROWS = 1000
PATIENCE_SECONDS = 120.0
"""How long a command that waits goes on asking a server that has gone: a restart takes a few seconds, a failover about thirty."""

RETRY_SECONDS = (0.1, 0.2, 0.5, 1.0, 2.0)
"""Between two attempts; the last one from then on."""


class Refused(click.ClickException):
    """The server answered with an error. The exit status follows the HTTP status."""

    def __init__(self, status: int, body: Mapping[str, Any]) -> None:
        self.status, self.body = status, body
        super().__init__(_sentence(status, body))
        setattr(self, "exit_code", exits.of_http(status))  # noqa: B010 - click has it as a variable of the class

    @property
    def problems(self) -> list[Mapping[str, Any]]:
        """The field problems, when it is about fields."""
        found = self.body.get("details")
        return found if isinstance(found, list) else []


class Unreachable(click.ClickException):
    """No server answers."""

    exit_code = exits.UNREACHABLE


@frozen
class Found:
    """The first rows of a collection, and how many there are."""

    rows: Sequence[Mapping[str, Any]]
    total: int


class Client:
    """The REST API of one server. Paths are below `/api/v1`."""

    def __init__(self, server: str) -> None:
        import httpx

        self.server = server.rstrip("/")
        # A proxy that a company sets for the internet does not know this machine's loopback.
        self._http = httpx.Client(
            timeout=REQUEST_SECONDS_MAX, follow_redirects=False, trust_env=not is_loopback(self.server)
        )

    def close(self) -> None:
        self._http.close()

    def get(self, path: str, **query: Any) -> Any:
        return self._request("GET", path, query=query)

    def post(self, path: str, body: Any = None, *, key: str | None = None, **query: Any) -> Any:
        """`key`: the Idempotency-Key."""
        return self._request("POST", path, body=body, query=query, headers={"Idempotency-Key": key} if key else None)

    def upload(self, path: str, content: bytes) -> Any:
        """POST the bytes of a file."""
        with self._translated():
            answer = self._http.request("POST", f"{self.server}/api/v1{path}", content=content)
        return _value(answer, self.server)

    @contextmanager
    def content(self, path: str) -> Iterator[Iterator[bytes]]:
        """The bytes at this path, piece by piece while the block runs."""
        with self._translated(), self._http.stream("GET", f"{self.server}/api/v1{path}") as answer:
            if not answer.is_success:
                answer.read()
                _value(answer, self.server)
            yield answer.iter_raw()

    def put(self, path: str, body: Any) -> Any:
        return self._request("PUT", path, body=body)

    def delete(self, path: str, **query: Any) -> Any:
        return self._request("DELETE", path, query=query)

    def find(
        self,
        collection: str,
        *,
        where: Mapping[str, Any] | Sequence[Mapping[str, Any]],
        limit: int,
        order: Sequence[str] = (),
        as_of: str | None = None,
    ) -> Found:
        """The first `limit` rows of a collection, by cursor pages, newest first unless `order` says otherwise."""
        rows: list[Mapping[str, Any]] = []
        total, cursor = 0, None
        while len(rows) < limit:
            page: dict[str, Any] = {"limit": min(limit - len(rows), PAGE_ROWS)}
            if order:
                page["order_bys"] = list(order)
            if cursor:
                page["after"] = cursor
            answer = self.post(f"/{collection}/query", {"filter": where, "page": page}, as_of=as_of)
            rows += answer["result"]
            if cursor is None:
                total = answer["page"]["total"]
            cursor = answer["page"]["next"]
            if not cursor:
                break
        return Found(rows, total)

    def rows(
        self,
        collection: str,
        *,
        where: Mapping[str, Any] | Sequence[Mapping[str, Any]],
        limit: int,
        order: Sequence[str] = (),
        as_of: str | None = None,
    ) -> Sequence[Mapping[str, Any]]:
        return self.find(collection, where=where, limit=limit, order=order, as_of=as_of).rows

    @contextmanager
    def stream(self, path: str, query: Mapping[str, Any], last_id: str | None) -> Iterator[httpx.Response]:
        """A Server-Sent Events answer, open while the block runs; no deadline between two lines beyond a minute."""
        import httpx

        headers = {"Accept": "text/event-stream", **({"Last-Event-ID": last_id} if last_id else {})}
        silence = httpx.Timeout(REQUEST_SECONDS_MAX, read=60.0)  # the server sends a comment every 15 s
        with (
            self._translated(),
            self._http.stream(
                "GET", f"{self.server}/api/v1{path}", params=_given(query), headers=headers, timeout=silence
            ) as answer,
        ):
            if not answer.is_success:
                answer.read()
                _value(answer, self.server)
            yield answer

    def _request(
        self,
        method: str,
        path: str,
        *,
        body: Any = None,
        query: Mapping[str, Any] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Any:
        with self._translated():
            answer = self._http.request(
                method, f"{self.server}/api/v1{path}", json=body, params=_given(query or {}), headers=headers
            )
        return _value(answer, self.server)

    @contextmanager
    def _translated(self) -> Iterator[None]:
        import httpx

        try:
            yield
        except httpx.TimeoutException as exc:
            raise Unreachable(f"{self.server} did not answer within {REQUEST_SECONDS_MAX:.0f} s") from exc
        except (httpx.InvalidURL, httpx.UnsupportedProtocol) as exc:
            raise click.UsageError(f"--server {self.server!r} is not an address such as {DEFAULT_SERVER}") from exc
        except httpx.TransportError as exc:
            raise Unreachable(
                f"no hetuflow server answers at {self.server} ({_cause(exc)}); "
                "start one with `hetuflow dev`, or name another with --server or HETUFLOW_SERVER"
            ) from exc


def patiently(ask: Callable[[], T], seconds: float = PATIENCE_SECONDS) -> T:
    """Ask until the server answers: for commands that wait, and should survive its restart.

    Raises:
      Unreachable: nobody answered for that long.
      Refused: any answer that is not "not now".
    """
    deadline, attempt = time.monotonic() + seconds, 0
    while True:
        try:
            return ask()
        except (Unreachable, Refused) as exc:
            if exc.exit_code != exits.UNREACHABLE or time.monotonic() > deadline:
                raise
        time.sleep(RETRY_SECONDS[min(attempt, len(RETRY_SECONDS) - 1)])
        attempt += 1


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


def _given(query: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in query.items() if value is not None}


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
        return "\n       ".join(problem_text(problem) for problem in problems)
    text = str(body.get("message") or f"HTTP {status}")
    if status >= 500:
        text += f" (request {body.get('request_id')})"
    return text


def problem_text(problem: Mapping[str, Any]) -> str:
    """`path: message; did you mean …?`"""
    text = f"{problem['path']}: {problem['message']}" if problem.get("path") else str(problem["message"])
    suggestion = problem.get("suggestion")
    return f"{text}; did you mean {suggestion!r}?" if suggestion and str(suggestion) not in text else text


def _cause(exc: Exception) -> str:
    text = str(exc)
    return text.split("] ", 1)[-1].lower() if text else type(exc).__name__
