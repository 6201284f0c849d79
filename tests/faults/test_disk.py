"""Whether a full disk is noticed, on a server that only says what a real one would."""

from __future__ import annotations

import json
import random
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import chain, repeat
from pathlib import Path

import trio

from tests.faults.cluster import Cluster, Seat, Setup
from tests.faults.database import Database
from tests.faults.kinds.disk import until_noticed
from tests.faults.kinds.fault import Scene
from tests.faults.workload import Workload

BEHIND = "503 projection jobs has reached position 153, 159 is needed; try again"
FULL = "503 The database has no space left on its disk (No space left on device, SQLSTATE 53100)"


class _Full(BaseHTTPRequestHandler):
    """Its tables are behind, too, which is told to the first client."""

    refusals: Iterator[str]

    def do_GET(self) -> None:
        self._say(200, {"status": "unhealthy"})

    def do_POST(self) -> None:
        self._say(503, {"message": next(self.refusals).removeprefix("503 ")})

    def log_message(self, *args: object) -> None:
        pass

    def _say(self, status: int, body: object) -> None:
        self.send_response(status)
        self.end_headers()
        self.wfile.write(json.dumps(body).encode())


@contextmanager
def _a_full_server() -> Iterator[int]:
    """Its port."""
    _Full.refusals = chain([BEHIND], repeat(FULL))
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Full)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    try:
        yield server.server_address[1]
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


async def test_a_full_disk_is_noticed_when_health_and_a_client_were_told(tmp_path: Path) -> None:
    with _a_full_server() as port:
        seat = Seat(tmp_path, port, 0)
        cluster = Cluster(Setup(), tmp_path, Database(tmp_path / "database"), tmp_path / "clock", seat)
        workload = Workload(cluster, {}, datetime.now(UTC), datetime.now(UTC))
        async with trio.open_nursery() as nursery:
            nursery.start_soon(workload.asker.until_sure, "/jobs/item/hand/run", {})
            assert await until_noticed(Scene(cluster, workload, random.Random(1)), ["No space left"]) == ()
            nursery.cancel_scope.cancel()
    assert set(workload.asker.answers) == {BEHIND, FULL}
