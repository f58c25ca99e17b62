"""A closed loop: so many clients, each sending its next request when its last is answered.

A server that stalls stops its clients from asking, so a stall is one late answer and not the many that users would
have met: coordinated omission. Read a closed loop's percentiles as those of so many patient clients; the open loop
tells what users meet who do not wait for each other.
"""

from __future__ import annotations

import asyncio
import time

from serve_app.load.connection import Connection
from serve_app.load.request import Request
from serve_app.load.summary import Sample, Seen

RETRY_S = 0.05


class ClosedLoop:
    """`clients` clients for `seconds`; requests in flight when the time is up are not counted."""

    def __init__(self, request: Request, clients: int, seconds: float) -> None:
        self._request = request
        self._message = request.wire()
        self._clients = clients
        self._seconds = seconds
        self._ends_s = 0.0
        self._started_s = 0.0
        self._busy: set[Connection] = set()
        self._seen: Seen = []

    async def run(self) -> Seen:
        """Return one sample a request: its start, its latency, and the answer's status."""
        connections = [Connection(self._answered, self._lost) for _ in range(self._clients)]
        await asyncio.gather(*(connection.open(self._request) for connection in connections))
        self._started_s = time.perf_counter()
        self._ends_s = self._started_s + self._seconds
        for connection in connections:
            self._ask(connection)
        await asyncio.sleep(self._seconds)
        for connection in list(self._busy):
            self._busy.discard(connection)
            connection.close()
        return self._seen

    def _ask(self, connection: Connection) -> None:
        self._busy.add(connection)
        connection.due_s = time.perf_counter()
        connection.send(self._message)

    def _answered(self, connection: Connection, status: int) -> None:
        now_s = time.perf_counter()
        if now_s < self._ends_s:
            self._seen.append(Sample(connection.due_s - self._started_s, now_s - connection.due_s, status))
            self._ask(connection)

    def _lost(self, connection: Connection) -> None:
        if connection not in self._busy:
            return
        self._busy.discard(connection)
        self._seen.append(Sample(connection.due_s - self._started_s, time.perf_counter() - connection.due_s, 0))
        asyncio.get_running_loop().create_task(self._replace())

    async def _replace(self) -> None:
        """Open another connection in place of a lost one, until that works or the time is up."""
        while time.perf_counter() < self._ends_s:
            await asyncio.sleep(RETRY_S)
            try:
                connection = await Connection(self._answered, self._lost).open(self._request)
            except OSError:
                continue
            self._ask(connection)
            return
