"""Requests that once got a 500 or worse, found by `make hostile`: one test for each."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

from tests.routes_harness import binary_request, call, dense, identity, routes, simple, tensor

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
