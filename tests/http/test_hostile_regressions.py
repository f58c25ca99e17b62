"""Requests that once got a 500 or worse: one test for each."""

from __future__ import annotations

import asyncio
import json
import subprocess
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from deployments.errors import InvalidInput
from serve_app.front import haproxy
from serve_app.front.ports import free_port
from serve_app.http.forwarding import Forwarder
from tests.hostile.wire import exchange
from tests.support.openapi_front import Front
from tests.support.routes_harness import LOOP, binary_request, call, dense, identity, routes, simple, tensor

HUGE = 2**63 - 1
ROWS = np.arange(16, dtype=np.int32).reshape(1, 16)
SIMPLE = {"inputs": [tensor("INPUT0", ROWS, "INT32"), tensor("INPUT1", ROWS, "INT32")]}


def empty(shape: list[int], **how: Any) -> dict[str, Any]:
    return {
        "inputs": [{"name": name, "shape": shape, "datatype": "INT32", **how} for name in ("INPUT0", "INPUT1")],
    }


@pytest.mark.parametrize("how", [{"data": []}, {"parameters": {"binary_data_size": 0}}])
def test_an_empty_axis_beside_one_that_overflows(how: dict[str, Any]) -> None:
    reply = call(routes(simple()), "/v2/models/simple/infer", empty([0, HUGE], **how))
    assert (reply.status, str(HUGE) in reply.error) == (400, True)


def test_the_same_for_strings() -> None:
    app = routes(identity(bytes, 2))
    message = {"inputs": [{"name": "x", "shape": [0, HUGE], "datatype": "BYTES", "data": []}]}
    assert call(app, "/v2/models/identity/infer", message).status == 400
    body, headers = binary_request([("x", "BYTES", (0, HUGE), b"")])
    assert call(app, "/v2/models/identity/infer", body, headers=headers).status == 400


def test_half_a_surrogate_beside_a_token_that_only_the_slow_parser_reads() -> None:
    # json.dumps writes the escape \ud800 and the token NaN: orjson refuses both, json neither.
    body = json.dumps({**SIMPLE, "id": "\ud800", "x": float("nan")}).encode()
    assert call(routes(simple()), "/v2/models/simple/infer", body).status == 400
    body = json.dumps({"instances": [["\udc00", "a"]], "x": float("nan")}).encode()
    assert call(routes(identity(bytes, 2)), "/v1/models/identity:predict", body).status == 400
    body = b'{"instances": [["\xed\xa0\x80", "a"]], "x": NaN}'
    assert call(routes(identity(bytes, 2)), "/v1/models/identity:predict", body).status == 400


def test_a_whole_pair_beside_it_is_text() -> None:
    body = json.dumps({**SIMPLE, "id": "\U0001f600 \\ud800", "x": float("nan")}).encode()
    reply = call(routes(simple()), "/v2/models/simple/infer", body)
    assert (reply.status, reply.json()["id"]) == (200, "\U0001f600 \\ud800")


def test_utf_16_is_no_json_even_with_such_a_token() -> None:
    body = json.dumps(SIMPLE).encode("utf-16") + b"NaN "
    assert call(routes(simple()), "/v2/models/simple/infer", body).status == 400


@pytest.mark.parametrize("depth", [63, 64, 65, 66, 200, 10_000])
@pytest.mark.parametrize("kernel", [b"", b"1.0"])
def test_lists_nested_as_deep_as_numpy_can_and_deeper(depth: int, kernel: bytes) -> None:
    body = b'{"instances":%b}' % (b"[" * depth + kernel + b"]" * depth)
    assert call(routes(dense()), "/v1/models/dense:predict", body).status == 400


class Asked:
    """The gateway, spoken to in ASGI."""

    def __init__(self, scope: dict[str, Any], *messages: dict[str, Any]) -> None:
        self.waiting = list(messages)
        self.sent: list[Any] = []
        LOOP.run_until_complete(Front().gateway({"headers": [], **scope}, self.receive, self.send))

    async def receive(self) -> Any:
        return self.waiting.pop(0)

    async def send(self, message: Any) -> None:
        self.sent.append(message)


@pytest.mark.parametrize("path", ["/", "/v2", "/v2/models/simple", "/v1/models/simple"])
def test_the_gateway_has_no_websockets(path: str) -> None:
    asked = Asked({"type": "websocket", "path": path}, {"type": "websocket.connect"})
    assert asked.sent == [{"type": "websocket.close"}]


def test_a_client_that_hangs_up_on_the_gateway_gets_no_answer_and_no_stack_trace() -> None:
    asked = Asked({"type": "http", "method": "POST", "path": "/v2/repository/index"}, {"type": "http.disconnect"})
    assert asked.sent == []


async def forwarded(path: str, *headers: tuple[bytes, bytes]) -> str:
    """Return the path that arrives at a real server behind the gateway's `Forwarder`."""

    async def echo(request: web.Request) -> web.Response:
        return web.Response(text=request.raw_path)

    app = web.Application()
    app.router.add_route("*", "/{rest:.*}", echo)

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": b""}

    async with TestServer(app) as server:
        forwarder = Forwarder(str(server.make_url("/")).rstrip("/"), 1000)
        try:
            return (await forwarder.forward(path, {"method": "POST", "headers": headers}, receive)).body.decode()
        finally:
            await forwarder.close()


@pytest.mark.parametrize(
    ("path", "arrived"),
    [
        ("/v1/models/a:predict", "/v1/models/a:predict"),
        ("/v1/models/a/../../../-/routes", "/v1/models/a/../../../-/routes"),
        ("/v1/models/a?b#c", "/v1/models/a%3Fb%23c"),
        ("/v1/models/a%2fb", "/v1/models/a%252fb"),
        ("/v1/models/a\0b", "/v1/models/a%00b"),
    ],
)
def test_a_path_is_passed_on_as_it_came(path: str, arrived: str) -> None:
    assert asyncio.run(forwarded(path)) == arrived


def test_a_control_character_in_a_header_cannot_be_passed_on() -> None:
    with pytest.raises(InvalidInput, match="cannot be passed on"):
        asyncio.run(forwarded("/v1/models/a", (b"x", b"a\x01")))


FRONT = """defaults
    mode http
    timeout client 5s
    timeout server 5s
    timeout connect 5s
frontend http_frontend
    bind 127.0.0.1:{port}
    http-request return status 200 content-type text/plain lf-string "[%[req.fhdr(x-request-id)]]"
"""


def test_a_header_that_serve_decodes_reaches_it_as_text_or_not_at_all(tmp_path: Path) -> None:
    port, config = free_port(), tmp_path / "haproxy.cfg"
    config.write_text(haproxy.keep_text(FRONT.format(port=port)))
    process = subprocess.Popen([haproxy.haproxy(), "-f", str(config)])
    try:
        assert [echoed(port, value) for value in (b"id 7, ~!", b"\xff", b"a\x80", b"\x01")] == [
            b"[id 7, ~!]",
            *[b"[]"] * 3,
        ]
    finally:
        process.terminate()
        process.wait(10)


def echoed(port: int, value: bytes) -> bytes:
    """Return what HAProxy passes on of an X-Request-Id; waits until it listens."""
    for _ in range(100):
        try:
            sent = b"GET / HTTP/1.1\r\nHost: x\r\nX-Request-Id: %b\r\n\r\n" % value
            return asyncio.run(exchange(port, [sent]))[0].body
        except OSError:
            time.sleep(0.05)
    raise AssertionError("HAProxy does not listen")
