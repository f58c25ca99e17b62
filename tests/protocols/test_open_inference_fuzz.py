"""Mutated requests: whatever arrives gets an answer in the protocol's form, never a 500, and the next one is served."""

from __future__ import annotations

import copy
import json
from typing import Any

import numpy as np
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.support.routes_harness import Reply, binary_request, call, identity, routes, simple, tensor

A = np.arange(16, dtype=np.int32).reshape(1, 16)
INFER = "/v2/models/simple/infer"
SIMPLE = routes(simple())
STRINGS = routes(identity(bytes, 2))

GOOD: dict[str, Any] = {
    "id": "1",
    "parameters": {"binary_data_output": False, "timeout": 10_000_000_000, "priority": 1},
    "inputs": [tensor("INPUT0", A, "INT32"), tensor("INPUT1", A, "INT32")],
    "outputs": [{"name": "OUTPUT0", "parameters": {"classification": 2, "binary_data": False}}, {"name": "OUTPUT1"}],
}
GOOD_BINARY, BINARY_HEADERS = binary_request(
    [("INPUT0", "INT32", (1, 16), A.tobytes()), ("INPUT1", "INT32", (1, 16), A.tobytes())],
    parameters={"binary_data_output": True},
)
EXPECTED = (200, 400, 413, 415)

FUZZ = settings(max_examples=200, deadline=None, suppress_health_check=list(HealthCheck))

JSON_VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.sampled_from([2**31, 2**63, 2**64, 10**30, -1, 0, 1e308, "INT32", "BYTES", "INPUT0", "OUTPUT0", "data"])
    | st.floats()
    | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=12,
)


def paths_of(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Return the way to every member of a JSON document."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [path, *[found for key, child in items for found in paths_of(child, (*path, key))]]


PATHS = [path for path in paths_of(GOOD) if path]


def check(reply: Reply, app: Any = SIMPLE) -> None:
    assert reply.status in EXPECTED
    if reply.status != 200:
        assert reply.error
    again = call(SIMPLE, INFER, GOOD)
    assert again.json()["outputs"][1]["data"] == [0] * 16


@FUZZ
@given(st.sampled_from(PATHS), JSON_VALUES, st.sampled_from(["set", "delete", "rename"]))
def test_a_member_replaced_removed_or_renamed(path: tuple[Any, ...], value: Any, how: str) -> None:
    message = copy.deepcopy(GOOD)
    parent: Any = message
    for key in path[:-1]:
        parent = parent[key]
    if how == "set":
        parent[path[-1]] = value
    elif how == "delete":
        del parent[path[-1]]
    elif isinstance(parent, dict):
        parent[str(value)] = parent.pop(path[-1])
    check(call(SIMPLE, INFER, json.dumps(message).encode("utf-8", "surrogatepass")))


@FUZZ
@given(JSON_VALUES)
def test_any_json(value: Any) -> None:
    check(call(SIMPLE, INFER, json.dumps(value).encode("utf-8", "surrogatepass")))


@FUZZ
@given(
    st.lists(st.tuples(st.integers(0, len(GOOD_BINARY) - 1), st.integers(0, 255)), max_size=4),
    st.none() | st.integers(0, len(GOOD_BINARY)),
    st.binary(max_size=8),
    st.none() | st.integers(-2, len(GOOD_BINARY) + 2) | st.text(st.characters(max_codepoint=255), max_size=6),
)
def test_bytes_changed_cut_and_added(
    flips: list[tuple[int, int]], cut: int | None, tail: bytes, header: int | str | None
) -> None:
    body = bytearray(GOOD_BINARY)
    for at, value in flips:
        body[at] = value
    headers = BINARY_HEADERS if header is None else {"Inference-Header-Content-Length": str(header)}
    check(call(SIMPLE, INFER, bytes(body[:cut]) + tail, headers=headers))


@FUZZ
@given(st.binary(max_size=64), st.sampled_from(["gzip", "deflate", "br", "gzip, gzip", "", "identity", "\xff"]))
def test_garbage_under_any_encoding(body: bytes, encoding: str) -> None:
    check(call(SIMPLE, INFER, body, headers={"Content-Encoding": encoding}))


@FUZZ
@given(st.binary(max_size=64), st.sampled_from(["image/png", "image/jpeg", "image/", "application/json"]))
def test_garbage_as_an_image(body: bytes, content_type: str) -> None:
    check(call(SIMPLE, INFER, body, headers={"Content-Type": content_type}))


@FUZZ
@given(st.binary(max_size=48), st.sampled_from([(1, 2), (2, 2), (0, 2), (1, 1)]))
def test_byte_strings(raw: bytes, shape: tuple[int, int]) -> None:
    body, headers = binary_request([("x", "BYTES", shape, raw)], parameters={"binary_data_output": True})
    reply = call(STRINGS, "/v2/models/identity/infer", body, headers=headers)
    assert reply.status in EXPECTED
    # An identity model returns accepted bytes unchanged, or the decoder and the encoder disagree.
    assert reply.status != 200 or reply.body.endswith(raw)


@FUZZ
@given(st.lists(st.text(max_size=6), min_size=2, max_size=2))
def test_any_text_survives_json(texts: list[str]) -> None:
    inputs = [{"name": "x", "shape": [1, 2], "datatype": "BYTES", "data": texts}]
    body = json.dumps({"inputs": inputs}, ensure_ascii=False).encode("utf-8", "surrogatepass")
    reply = call(STRINGS, "/v2/models/identity/infer", body)
    lone = any("\ud800" <= letter <= "\udfff" for text in texts for letter in text)
    assert reply.status == (400 if lone else 200)
    assert lone or reply.json()["outputs"][0]["data"] == texts
