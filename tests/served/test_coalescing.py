"""Coalescing in a real server: HTTP and handles together, refusals over HTTP, knobs and `@serve.batch`'s metrics.

The model adds numbers written as strings: no way of executing it lets a bad one pass. It waits
`max_queue_delay_ms` for company, so that what a test sends in that time meets.
"""

from __future__ import annotations

import json
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest

from tests.support.client_cluster import WORDS, as_driver
from tests.support.processes import Server

pytestmark = pytest.mark.serve

DELAY_MS = WORDS["max_queue_delay_ms"]


@dataclass(frozen=True)
class Reply:
    status: int
    body: dict[str, Any]
    headers: Mapping[str, str]
    seconds: float


@pytest.fixture(scope="module")
def server(driven: Server) -> Iterator[Server]:
    with as_driver(driven):
        yield driven


@pytest.fixture(scope="module")
def send(server: Server) -> Iterator[Callable[..., Future[Reply]]]:
    def post(word: str, headers: Mapping[str, str]) -> Reply:
        tensor = {"shape": [1, 16], "datatype": "BYTES", "data": [word] * 16}
        body = json.dumps({"inputs": [{"name": name, **tensor} for name in ("INPUT0", "INPUT1")]}).encode()
        request = urllib.request.Request(f"{server.url}/v2/models/words/infer", body, dict(headers))
        started_s = time.monotonic()
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:
                status, text, found = answer.status, answer.read(), answer.headers
        except urllib.error.HTTPError as error:
            status, text, found = error.code, error.read(), error.headers
        return Reply(status, json.loads(text), found, time.monotonic() - started_s)

    with ThreadPoolExecutor(8) as pool:
        yield lambda word, **headers: pool.submit(post, word, headers)


def handle() -> Any:
    from serve_app.cluster.handles import open_handle

    return open_handle("KerasReplica", "words")


def total(reply: Reply) -> set[str]:
    assert reply.status == 200, reply.body
    return set(reply.body["outputs"][0]["data"])


def test_http_and_handle_calls_share_a_batch(send: Any) -> None:
    call = handle()
    call.describe.remote().result(timeout_s=60)  # the router has found the replica
    over_http = send("4")
    words = np.full((1, 16), b"16", object)
    answer = call.predict.remote({"INPUT0": words, "INPUT1": words}).result(timeout_s=60)
    reply = over_http.result()
    assert answer.batch_rows == 2
    assert 'desc="rows 2"' in reply.headers["server-timing"]
    assert total(reply) == {"8"}
    assert set(answer.outputs[0].ravel()) == {b"32"}


def test_one_bad_row_fails_alone_over_http(send: Any) -> None:
    good, bad, other = send("1"), send("one"), send("4")
    assert total(good.result()) == {"2"}
    assert total(other.result()) == {"8"}
    assert bad.result().status == 500
    assert list(bad.result().body) == ["error"]


def test_a_full_queue_answers_503_with_retry_after_before_the_queue_moves(send: Any) -> None:
    waiting = [send("1") for _ in range(3)]
    time.sleep(DELAY_MS / 3e3)
    refused = send("1").result()
    assert refused.status == 503
    assert int(refused.headers["retry-after"]) >= 1
    assert "queue is full" in refused.body["error"]
    assert refused.seconds < min(reply.result().seconds for reply in waiting)
    assert {reply.result().status for reply in waiting} == {200}


def test_a_deadline_cuts_the_wait_for_company_short(send: Any) -> None:
    reply = send("1", **{"x-request-timeout-seconds": "0.9"}).result()
    assert reply.status == 200
    assert reply.seconds < DELAY_MS / 1e3


def test_the_knobs_change_without_a_new_replica_and_window_is_serve_batch(server: Server, send: Any) -> None:
    call = handle()
    knobs = {"coalesce": "window", "batch_wait_timeout_s": 1.0, "max_queue_delay_ms": 0.0, "max_queue_rows": None}
    before = server_counts(server)
    call.reconfigure.remote(knobs).result(timeout_s=60)
    replies = [send("1") for _ in range(3)]
    assert {reply.result().headers["server-timing"].count('"rows 3"') for reply in replies} == {1}
    assert server_counts(server) == before + 3  # the same replica went on counting
    metrics = wait_for_metrics("serve_batches_processed")
    assert 'function_name="predict_batch"' in metrics


def server_counts(server: Server) -> int:
    with urllib.request.urlopen(f"{server.url}/v2/models/words/stats") as answer:
        return int(json.load(answer)["model_stats"][0]["inference_stats"]["success"]["count"])


def wait_for_metrics(name: str) -> str:
    """Return the lines of Ray's metrics that carry `name`; they are published every ten seconds."""
    import ray

    (node,) = ray.nodes()
    url = f"http://{node['NodeManagerAddress']}:{node['MetricsExportPort']}/metrics"
    ends_s = time.monotonic() + 60
    while time.monotonic() < ends_s:
        with urllib.request.urlopen(url, timeout=10) as answer:
            lines = [line for line in answer.read().decode().splitlines() if name in line and line[0] != "#"]
        if lines:
            return "\n".join(lines)
        time.sleep(1)
    raise AssertionError(f"no metric {name}")
