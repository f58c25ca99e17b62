"""An open loop: requests leave at the times of a Poisson process, whatever the server does.

Each is timed from when it was *due*, not from when the generator came round to sending it, so that neither a slow
server nor a slow generator hides its delay (no coordinated omission). How late requests left is reported beside.
It is the load of MLPerf Inference's Server scenario, whose metric is a high percentile at a rate
(https://github.com/mlcommons/inference_policies, section 'Scenarios').
"""

from __future__ import annotations

import asyncio
import time
from collections import deque

import numpy as np

from serve_app.load.connection import MOST_CONNECTIONS, Connection
from serve_app.load.request import Request
from serve_app.load.summary import Sample, Seen

FIRST_CONNECTIONS = 64
LINGER_S = 5.0
NO_ANSWER = -1
"""The status of a request that had no answer after `LINGER_S`."""


class OpenLoop:
    """`rate_per_s` requests a second on average for `seconds`, then up to `LINGER_S` for what is on its way."""

    def __init__(self, request: Request, rate_per_s: float, seconds: float, seed: int = 7) -> None:
        self._request = request
        self._message = request.wire()
        gaps_s = np.random.default_rng(seed).exponential(1 / rate_per_s, int(rate_per_s * seconds * 1.5) + 64)
        due_s = np.cumsum(gaps_s)
        self._due_s: list[float] = due_s[due_s < seconds].tolist()
        self._next = 0
        self._idle: list[Connection] = []
        self._busy: set[Connection] = set()
        self._waiting: deque[float] = deque()
        """When the requests were due that wait for a connection; their time runs."""
        self._connecting = 0
        self._started_s = 0.0
        self._done = asyncio.Event()
        self._seen: Seen = []

    async def run(self) -> Seen:
        """Return one sample a request: when it was due, its latency from then, and the answer's status."""
        await asyncio.gather(*(self._connect() for _ in range(FIRST_CONNECTIONS)))
        self._started_s = time.perf_counter()
        self._tick()
        await self._done.wait()
        ends_s = time.perf_counter() + LINGER_S
        while (self._busy or self._waiting) and time.perf_counter() < ends_s:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
        self._end()
        return self._seen

    def _tick(self) -> None:
        """Send what is due, and come back when the next is."""
        loop = asyncio.get_running_loop()
        while self._next < len(self._due_s):
            due_s = self._started_s + self._due_s[self._next]
            wait_s = due_s - time.perf_counter()
            if wait_s > 0:
                loop.call_later(wait_s, self._tick)
                return
            self._next += 1
            self._send(due_s)
        self._done.set()

    def _send(self, due_s: float) -> None:
        if self._idle:
            self._send_on(self._idle.pop(), due_s)
        else:
            self._waiting.append(due_s)
        if not self._idle and len(self._busy) + self._connecting < MOST_CONNECTIONS:
            asyncio.get_running_loop().create_task(self._connect())

    def _send_on(self, connection: Connection, due_s: float) -> None:
        connection.due_s = due_s
        connection.sent_s = time.perf_counter()
        self._busy.add(connection)
        connection.send(self._message)

    async def _connect(self) -> None:
        self._connecting += 1
        try:
            self._release(await Connection(self._answered, self._lost).open(self._request))
        except OSError:
            await asyncio.sleep(0.05)
        finally:
            self._connecting -= 1

    def _answered(self, connection: Connection, status: int) -> None:
        self._note(connection, status)
        self._busy.discard(connection)
        self._release(connection)

    def _release(self, connection: Connection) -> None:
        if self._waiting:
            self._send_on(connection, self._waiting.popleft())
        else:
            self._idle.append(connection)

    def _lost(self, connection: Connection) -> None:
        if connection in self._idle:
            self._idle.remove(connection)
        elif connection in self._busy:
            self._busy.discard(connection)
            self._note(connection, 0)

    def _note(self, connection: Connection, status: int) -> None:
        latency_s = time.perf_counter() - connection.due_s
        late_s = connection.sent_s - connection.due_s
        self._seen.append(Sample(connection.due_s - self._started_s, latency_s, status, late_s))

    def _end(self) -> None:
        for connection in self._busy:
            self._note(connection, NO_ANSWER)
        now_s = time.perf_counter()
        self._seen += [Sample(due_s - self._started_s, now_s - due_s, NO_ANSWER) for due_s in self._waiting]
        left, self._busy, self._idle = [*self._busy, *self._idle], set(), []
        for connection in left:
            connection.close()
