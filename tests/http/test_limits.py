"""One model's limits: bodies too large, clients that leave, deadlines, and failures of the model or of ours."""

from __future__ import annotations

import asyncio
import logging
import time
from typing import Any

import numpy as np
import pytest

from deployments.errors import DeadlineExceeded, NotReady, Overloaded, PredictionFailed
from tests.support.routes_harness import call, dense, routes, servable, spec, tensor

X = np.ones((3, 16), np.float32)
MODEL = "/v2/models/dense"
REQUEST: dict[str, Any] = {"inputs": [tensor("x", X, "FP32")]}


def test_a_body_over_the_limit_is_refused_unread() -> None:
    app = routes(dense(), max_body_bytes=100)
    reply = call(app, f"{MODEL}/infer", bytes(101))
    assert (reply.status, "100 bytes" in reply.error) == (413, True)
    assert reply.headers[b"connection"] == b"close"

    async def never() -> Any:
        raise AssertionError("the body was read")

    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    headers = [(b"content-length", b"9" * 40)]
    asyncio.run(app({"type": "http", "method": "POST", "path": f"{MODEL}/infer", "headers": headers}, never, send))
    assert sent[0]["status"] == 413


def test_a_chunked_body_over_the_limit_is_refused_while_it_comes() -> None:
    app = routes(dense(), max_body_bytes=100)
    assert call(app, f"{MODEL}/infer", [bytes(60), bytes(60), bytes(60)]).status == 413
    assert call(app, f"{MODEL}/infer", [bytes(101)]).status == 413


def test_a_client_that_hangs_up_gets_no_answer_and_is_counted() -> None:
    app, sent = routes(dense()), []
    messages = [{"type": "http.request", "body": b"{", "more_body": True}, {"type": "http.disconnect"}]

    async def receive() -> Any:
        return messages.pop(0)

    async def send(message: Any) -> None:
        sent.append(message)

    asyncio.run(app({"type": "http", "method": "POST", "path": f"{MODEL}/infer", "headers": []}, receive, send))
    assert not sent
    assert app.servable.statistics.fail_causes == {"cancelled": 1}


def seen_timeout_s(message: dict[str, Any], headers: dict[str, str]) -> float | None:
    app = routes(dense())
    assert call(app, f"{MODEL}/infer", REQUEST | message, headers=headers).status == 200
    deadline_s = app.servable.coalescer.seen_deadline_s
    return None if deadline_s is None else deadline_s - time.monotonic()


@pytest.mark.parametrize(
    ("message", "headers", "expected_s"),
    [
        ({}, {}, None),
        ({"parameters": {"timeout": 5_000_000_000}}, {}, 5000),
        ({}, {"X-Request-Timeout-Seconds": "7000"}, 7000),
        ({"parameters": {"timeout": 5_000_000_000}}, {"X-Request-Timeout-Seconds": "7000"}, 5000),
        ({"parameters": {"timeout": 9_000_000_000}}, {"X-Request-Timeout-Seconds": "7000"}, 7000),
        ({"parameters": {"timeout": 0}}, {"X-Request-Timeout-Seconds": "0"}, None),
        ({}, {"X-Request-Timeout-Seconds": "-1"}, None),
        ({}, {"X-Request-Timeout-Seconds": "soon"}, None),
        ({}, {"X-Request-Timeout-Seconds": "nan"}, None),
        ({}, {"X-Request-Timeout-Seconds": "inf"}, None),
        ({"parameters": {"timeout": 5_000_000_000}}, {"X-Request-Timeout-Seconds": "soon"}, 5000),
    ],
)
def test_the_earlier_time_limit_becomes_the_deadline(
    message: dict[str, Any], headers: dict[str, str], expected_s: float | None
) -> None:
    timeout_s = seen_timeout_s(message, headers)
    if expected_s is None:
        assert timeout_s is None
    else:
        assert timeout_s is not None
        assert expected_s - 60 < timeout_s <= expected_s


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (Overloaded("the queue is full", 1.2), 503),
        (NotReady("closing"), 503),
        (DeadlineExceeded("the deadline passed"), 408),
        (PredictionFailed("the model failed: NaN"), 500),
    ],
)
def test_refusals_have_their_status_and_text(error: Exception, status: int) -> None:
    app = routes(dense())
    app.servable.coalescer.error = error
    reply = call(app, f"{MODEL}/infer", REQUEST)
    assert (reply.status, reply.error) == (status, str(error))
    assert reply.headers.get(b"retry-after") == (b"2" if isinstance(error, Overloaded) else None)


def test_what_nobody_foresaw_is_a_500_that_tells_nothing_and_one_line_in_the_log(
    caplog: pytest.LogCaptureFixture,
) -> None:
    app = routes(dense())
    app.servable.coalescer.error = RuntimeError("/secret/path of TensorFlow 9")
    with caplog.at_level(logging.DEBUG, "serve_app"):
        reply = call(app, f"{MODEL}/infer", REQUEST, headers={"X-Request-Id": "id-7"})
    assert reply.status == 500
    assert "secret" not in reply.error
    assert "TensorFlow" not in reply.error
    (record,) = caplog.records
    assert "id-7" in record.getMessage()
    assert "secret" in record.getMessage()


def test_a_refused_nonfinite_output_is_the_models_failure() -> None:
    model = servable(
        "dense", [spec("x", "float32", 16)], [spec("y", "float32", 16)], lambda x: (x * np.inf,), nonfinite="refuse"
    )
    reply = call(routes(model), f"{MODEL}/infer", REQUEST)
    assert (reply.status, "'y'" in reply.error) == (500, True)


def test_a_full_queue_refuses_before_the_body_is_read() -> None:
    model = dense()

    def full() -> None:
        raise Overloaded("the queue is full", 2.5)

    model.coalescer.check_room = full  # type: ignore[attr-defined]
    sent: list[Any] = []

    async def never() -> Any:
        raise AssertionError("the body was read")

    async def send(message: Any) -> None:
        sent.append(message)

    headers = [(b"content-length", b"10")]
    asyncio.run(
        routes(model)({"type": "http", "method": "POST", "path": f"{MODEL}/infer", "headers": headers}, never, send)
    )
    assert (sent[0]["status"], dict(sent[0]["headers"])[b"retry-after"]) == (503, b"3")
    assert model.statistics.fail_causes == {"overloaded": 1}


def test_a_deadline_counts_from_the_front_door() -> None:
    model = dense()
    arrived_us = int((time.time() - 3) * 1e6)
    headers = {"x-request-timeout-seconds": "10", "x-request-start": str(arrived_us)}
    before_s = time.monotonic()
    assert call(routes(model), f"{MODEL}/infer", REQUEST, headers=headers).status == 200
    assert 6.9 < model.coalescer.seen_deadline_s - before_s < 7.5  # type: ignore[attr-defined]
    for odd in ("soon", "-5", "9" * 30, "0"):
        call(routes(model), f"{MODEL}/infer", REQUEST, headers={**headers, "x-request-start": odd})
