"""Asking the API while it breaks: again and again until the answer is sure, and what clients were told."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

import httpx
import trio
from attrs import Factory, define

from tests.faults.cluster import Cluster

AGAIN_SECONDS = 0.1


@define
class Asker:
    """`answers` counts what was told; `worst_answer_seconds` is the slowest answer."""

    cluster: Cluster
    answers: Counter[str] = Factory(Counter)
    worst_answer_seconds: float = 0.0

    async def until_sure(self, path: str, body: Mapping[str, Any]) -> None:
        """Ask until it is done: 200, or 409, which says that it was done and the first answer got lost."""
        while True:
            began = trio.current_time()
            try:
                async with self.cluster.client() as http:
                    answer = await http.post(path, json=body)
            except httpx.TransportError as problem:
                self.answers[type(problem).__name__] += 1
                await trio.sleep(AGAIN_SECONDS)
                continue
            finally:
                self.worst_answer_seconds = max(self.worst_answer_seconds, trio.current_time() - began)
            if answer.status_code in (200, 409):
                self.answers[str(answer.status_code)] += 1
                return
            self.answers[f"{answer.status_code} {_message(answer)}"] += 1
            await trio.sleep(AGAIN_SECONDS)

    async def until_deleted(self, path: str) -> None:
        """DELETE, until it is gone."""
        while True:
            try:
                async with self.cluster.client() as http:
                    if (await http.delete(path)).status_code in (200, 404):
                        return
            except httpx.TransportError:
                pass
            await trio.sleep(AGAIN_SECONDS)

    async def once(self, path: str, body: Mapping[str, Any]) -> Any:
        """Raises RuntimeError when it is refused."""
        async with self.cluster.client() as http:
            answer = await http.post(path, json=body)
        if answer.status_code != 200:
            raise RuntimeError(f"POST {path} {body}: {answer.status_code} {answer.text}")
        return answer.json()

    async def get(self, path: str) -> Any:
        async with self.cluster.client() as http:
            return (await http.get(path)).json()


def _message(answer: httpx.Response) -> str:
    try:
        return str(answer.json()["message"])
    except (ValueError, KeyError):
        return answer.text[:200]
