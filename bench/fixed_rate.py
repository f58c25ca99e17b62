"""Overload: requests leave at a fixed rate, whatever the server does, each timed from when it was due.

`serve_app.load.open_loop` keeps a Poisson schedule to the microsecond; this one holds thousands of waiting connections,
and counts what could not be sent.

A process of its own (`python bench/fixed_rate.py …` prints one JSON object), so that its event loop is nobody else's.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import sys
import time
from pathlib import Path
from typing import cast

import numpy as np
import uvloop

TICK_S = 0.002
MOST_CONNECTIONS = 3000
LINGER_S = 5.0
LOST = 0
"""The status of a request whose connection ended, or that nobody answered for `LINGER_S` after the last was sent."""
UNSENT = -1
"""The status of a request for which no connection was free: all `MOST_CONNECTIONS` waited for an answer."""


class Connection(asyncio.Protocol):
    """One keep-alive connection with at most one request on it."""

    def __init__(self, load: FixedRate) -> None:
        self._load = load
        self._received = b""
        self.due_s = 0.0
        self.transport: asyncio.WriteTransport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.WriteTransport, transport)  # uvloop's is one in all but its class

    def data_received(self, data: bytes) -> None:
        self._received += data
        head, found, body = self._received.partition(b"\r\n\r\n")
        if found and _is_whole(head.lower(), body):
            self._received = b""
            self._load.answered(self, int(head[9:12]))

    def connection_lost(self, error: Exception | None) -> None:  # noqa: ARG002
        self._load.lost(self)


def _is_whole(head: bytes, body: bytes) -> bool:
    """Return whether an answer is complete; only Serve's own errors come chunked."""
    if b"\r\ntransfer-encoding: chunked" in head:
        return body.endswith(b"0\r\n\r\n")
    # With its line's start: a binary answer has an Inference-Header-Content-Length, too.
    return len(body) >= int(head.partition(b"\r\ncontent-length:")[2].partition(b"\r\n")[0] or 0)


class FixedRate:
    """Sends `rate_per_s` requests a second for `seconds`."""

    def __init__(self, host: str, port: int, request: bytes, rate_per_s: float, seconds: float) -> None:
        self._address = (host, port)
        self._request = request
        self._rate_per_s = rate_per_s
        self._seconds = seconds
        self._idle: list[Connection] = []
        self._open = 0
        self._busy: set[Connection] = set()
        self._started_s = 0.0
        self.seen: list[tuple[float, float, int]] = []
        """Per request: due (seconds from start), latency in seconds, status (or `LOST`, `UNSENT`)."""

    async def run(self) -> None:
        """Send everything, then wait for what is on its way; the process's garbage collector stays off."""
        gc.disable()  # what it keeps are samples, no garbage, and its pauses would be the server's latencies
        await asyncio.gather(*[self._connect() for _ in range(64)])
        self._started_s = time.perf_counter()
        sent = 0
        while (elapsed_s := time.perf_counter() - self._started_s) < self._seconds:
            due = int(elapsed_s * self._rate_per_s)
            for number in range(sent, due):
                await self._send(self._started_s + number / self._rate_per_s)
            sent = max(sent, due)
            await asyncio.sleep(TICK_S)
        ends_s = time.perf_counter() + LINGER_S
        while self._busy and time.perf_counter() < ends_s:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
        for connection in self._busy:
            self._note(connection, LOST)

    async def _connect(self) -> None:
        self._open += 1
        _, connection = await asyncio.get_running_loop().create_connection(lambda: Connection(self), *self._address)
        self._idle.append(connection)

    async def _send(self, due_s: float) -> None:
        if not self._idle and self._open < MOST_CONNECTIONS:
            await self._connect()
        if not self._idle:
            self.seen.append((due_s - self._started_s, 0.0, UNSENT))
            return
        connection = self._idle.pop()
        connection.due_s = due_s
        self._busy.add(connection)
        assert connection.transport is not None
        connection.transport.write(self._request)

    def answered(self, connection: Connection, status: int) -> None:
        """Take an answer."""
        self._busy.discard(connection)
        self._idle.append(connection)
        self._note(connection, status)

    def lost(self, connection: Connection) -> None:
        """Take the end of a connection; it is an error only if a request was on it."""
        self._open -= 1
        if connection in self._busy:
            self._busy.discard(connection)
            self._note(connection, LOST)
        elif connection in self._idle:
            self._idle.remove(connection)

    def _note(self, connection: Connection, status: int) -> None:
        latency_s = time.perf_counter() - connection.due_s
        self.seen.append((connection.due_s - self._started_s, latency_s, status))


def summarise(seen: list[tuple[float, float, int]], seconds: float, in_time_s: float) -> dict[str, object]:
    """Return rates, latencies and a second-by-second course; refusals are 503, 504 and 408."""
    due_s, latency_s, status = (np.array(column) for column in zip(*seen, strict=True))
    good = (status == 200) & (latency_s <= in_time_s)
    refused = np.isin(status, (408, 503, 504))
    other = ~refused & ~np.isin(status, (200, LOST, UNSENT))
    at = due_s.astype(int)
    return {
        "offered_per_s": len(seen) / seconds,
        "in_time_per_s": good.sum() / seconds,
        "late": int(((status == 200) & ~good).sum()),
        "refused": {str(code): int((status == code).sum()) for code in np.unique(status[refused])},
        "lost": int((status == LOST).sum()),
        "unsent": int((status == UNSENT).sum()),
        "other": {str(code): int((status == code).sum()) for code in np.unique(status[other])},
        "answered_ms": _percentiles_ms(latency_s[good]),
        "refused_ms": _percentiles_ms(latency_s[refused]),
        "in_time_by_second": [int(good[at == second].sum()) for second in range(int(seconds))],
        "refused_by_second": [int(refused[at == second].sum()) for second in range(int(seconds))],
    }


def _percentiles_ms(latency_s: np.ndarray) -> dict[str, float]:
    if not len(latency_s):
        return {}
    return {f"p{q}": round(float(np.percentile(latency_s, q)) * 1e3, 3) for q in (50, 90, 99, 100)}


def main() -> None:
    """Parse the command line, run, print."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--message", type=Path, required=True, help="a file with one request, head and body")
    parser.add_argument("--rate", type=float, required=True)
    parser.add_argument("--seconds", type=float, required=True)
    parser.add_argument("--in-time-s", type=float, required=True)
    args = parser.parse_args()
    load = FixedRate("127.0.0.1", args.port, args.message.read_bytes(), args.rate, args.seconds)
    started_s = time.process_time()
    uvloop.run(load.run())
    generator_cores = (time.process_time() - started_s) / args.seconds
    result = summarise(load.seen, args.seconds, args.in_time_s)
    json.dump({**result, "generator_cores": round(generator_cores, 3)}, sys.stdout)


if __name__ == "__main__":
    main()
