"""Clients that leave while their request waits."""

from __future__ import annotations

import asyncio
import json
import time
from typing import Any

import numpy as np
import pytest

from deployments.execution import Answer
from deployments.servable import Servable
from deployments.tensors import Rows, Signature, TensorSpec
from serve_app.http.disconnects import WATCH_AFTER_S
from serve_app.http.model_routes import ModelRoutes

FLOATS = TensorSpec("x", np.dtype(np.float32), (None, 2))
BODY = json.dumps({"inputs": [{"name": "x", "shape": [1, 2], "datatype": "FP32", "data": [1, 2]}]}).encode()


class Slow:
    """A coalescer that takes its time."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self.cancelled = False

    async def submit(self, rows: Rows, _deadline_s: float | None = None) -> Answer:
        try:
            await asyncio.sleep(self.seconds)
        except asyncio.CancelledError:
            self.cancelled = True
            raise
        return Answer(rows.arrays, 0, 0, 1)


class Client:
    """Sends its body, and is gone `leaves_s` later; counts how often it was asked."""

    def __init__(self, leaves_s: float) -> None:
        self.leaves_s = leaves_s
        self.asked = 0
        self.sent: list[Any] = []

    async def receive(self) -> Any:
        self.asked += 1
        if self.asked == 1:
            return {"type": "http.request", "body": BODY, "more_body": False}
        await asyncio.sleep(self.leaves_s)
        return {"type": "http.disconnect"}

    async def send(self, message: Any) -> None:
        self.sent.append(message)


def ask(slow: Slow, client: Client) -> tuple[ModelRoutes, float]:
    app = ModelRoutes(Servable("m", "1", Signature((FLOATS,), (FLOATS,)), slow, 4))
    scope = {"type": "http", "method": "POST", "path": "/v2/models/m/infer", "headers": []}
    started_s = time.monotonic()
    asyncio.run(app(scope, client.receive, client.send))
    return app, time.monotonic() - started_s


def test_a_request_whose_client_left_is_cancelled_and_counted() -> None:
    slow, client = Slow(30), Client(leaves_s=0.05)
    app, took_s = ask(slow, client)
    assert slow.cancelled
    assert took_s < 10
    assert not client.sent
    assert app.servable.statistics.fail_causes == {"cancelled": 1}


def test_a_waiting_client_gets_its_answer() -> None:
    client = Client(leaves_s=30)
    app, took_s = ask(Slow(WATCH_AFTER_S * 5), client)
    assert client.sent[0]["status"] == 200
    assert client.asked == 2, "it was watched"
    assert took_s < 10
    assert not app.servable.statistics.fail_causes


def test_a_request_that_is_answered_at_once_is_not_watched() -> None:
    client = Client(leaves_s=0)
    ask(Slow(0), client)
    assert client.sent[0]["status"] == 200
    assert client.asked == 1


def test_anothers_cancellation_stays_one() -> None:
    """Serve cancels requests that run into its own time limit."""

    async def main() -> None:
        app = ModelRoutes(Servable("m", "1", Signature((FLOATS,), (FLOATS,)), Slow(30), 4))
        client = Client(leaves_s=30)
        scope = {"type": "http", "method": "POST", "path": "/v2/models/m/infer", "headers": []}
        task = asyncio.ensure_future(app(scope, client.receive, client.send))
        await asyncio.sleep(WATCH_AFTER_S * 3)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(main())
