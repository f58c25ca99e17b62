"""Inference in JSON: right answers, and a 400 that names the field for everything wrong."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

from tests.support.routes_harness import BFLOAT16, WEIGHTS, call, dense, identity, routes, simple, simple_string, tensor

X = np.arange(32, dtype=np.float32).reshape(2, 16) / 7
DENSE = routes(dense())
INFER = "/v2/models/dense/infer"


def request(**changes: Any) -> dict[str, Any]:
    return {"inputs": [tensor("x", X, "FP32") | changes]}


def scores(reply: Any) -> np.ndarray:
    (output,) = reply.json()["outputs"]
    return np.array(output["data"], np.float32).reshape(output["shape"])


@pytest.mark.parametrize("data", [X.ravel().tolist(), X.tolist()], ids=["flat", "nested"])
def test_answers_what_the_model_computes(data: list[Any]) -> None:
    reply = call(DENSE, INFER, request(data=data) | {"id": "seven"})
    assert reply.status == 200
    assert reply.headers[b"content-type"] == b"application/json"
    body = reply.json()
    assert (body["model_name"], body["model_version"], body["id"]) == ("dense", "1", "seven")
    assert (body["outputs"][0]["name"], body["outputs"][0]["datatype"]) == ("scores", "FP32")
    np.testing.assert_allclose(scores(reply), X @ WEIGHTS, rtol=1e-6)


def test_several_inputs_and_outputs_in_any_order() -> None:
    a, b = np.arange(16, dtype=np.int32)[None], np.full((1, 16), 3, np.int32)
    message = {
        "inputs": [tensor("INPUT1", b, "INT32"), tensor("INPUT0", a, "INT32")],
        "outputs": [{"name": "OUTPUT1"}, {"name": "OUTPUT0"}],
    }
    body = call(routes(simple()), "/v2/models/simple/infer", message).json()
    assert [output["name"] for output in body["outputs"]] == ["OUTPUT1", "OUTPUT0"]
    assert body["outputs"][0]["data"] == (a - b).ravel().tolist()
    assert body["outputs"][1]["data"] == (a + b).ravel().tolist()


@pytest.mark.parametrize(
    ("datatype", "dtype", "values"),
    [
        ("UINT8", "uint8", [0, 255]),
        ("UINT16", "uint16", [0, 65535]),
        ("UINT32", "uint32", [0, 2**32 - 1]),
        ("UINT64", "uint64", [0, 2**64 - 1]),
        ("INT8", "int8", [-128, 127]),
        ("INT16", "int16", [-32768, 32767]),
        ("INT32", "int32", [-(2**31), 2**31 - 1]),
        ("INT64", "int64", [-(2**63), 2**63 - 1]),
        ("FP32", "float32", [1, -2.5]),
        ("FP64", "float64", [1e300, 0.1]),
        ("BOOL", "bool", [True, False]),
        ("BYTES", bytes, ["ünï", ""]),
    ],
)
def test_every_datatype_with_a_json_form_comes_back_as_sent(datatype: str, dtype: Any, values: list[Any]) -> None:
    message = {"inputs": [{"name": "x", "shape": [1, 2], "datatype": datatype, "data": values}]}
    reply = call(routes(identity(dtype, 2)), "/v2/models/identity/infer", message)
    (output,) = reply.json()["outputs"]
    assert (output["datatype"], output["shape"], output["data"]) == (datatype, [1, 2], values)


WRONG_VALUES = [
    ("UINT8", "uint8", [0, 256]),
    ("UINT8", "uint8", [-1, 0]),
    ("UINT64", "uint64", [0, 2**64]),
    ("INT8", "int8", [0, 128]),
    ("INT64", "int64", [0, 2**63]),
    ("INT32", "int32", [0, 1.5]),
    ("INT32", "int32", [0, True]),
    ("INT32", "int32", [0, "1"]),
    ("INT32", "int32", [0, None]),
    ("FP32", "float32", [0, True]),
    ("FP32", "float32", [0, "1.5"]),
    ("FP32", "float32", [0, None]),
    ("FP32", "float32", [0, {}]),
    ("FP32", "float32", [0, [1]]),
    ("FP32", "float32", [0, 1e39]),
    ("FP64", "float64", [False, 0]),
    ("BOOL", "bool", [0, 1]),
    ("BOOL", "bool", ["true", True]),
    ("BYTES", bytes, [1, 2]),
    ("BYTES", bytes, [["a"], "b"]),
]


@pytest.mark.parametrize(("datatype", "dtype", "values"), WRONG_VALUES)
def test_values_of_another_type_or_out_of_range_are_refused(datatype: str, dtype: Any, values: list[Any]) -> None:
    message = {"inputs": [{"name": "x", "shape": [1, 2], "datatype": datatype, "data": values}]}
    reply = call(routes(identity(dtype, 2)), "/v2/models/identity/infer", message)
    assert reply.status == 400
    assert "'x'" in reply.error


WRONG_REQUESTS: dict[str, tuple[Any, str]] = {
    "wrong shape": (request(shape=[2, 17], data=[0.0] * 34), "'x'"),
    "wrong rank": (request(shape=[32]), "'x'"),
    "wrong count": (request(data=[1.0] * 31), "'x'"),
    "no batch": (request(shape=[0, 16], data=[]), "'x'"),
    "negative": (request(shape=[-2, 16]), "'x'"),
    "negative twice": (request(shape=[-2, -16]), "'x'"),
    "huge": (request(shape=[2**62, 16]), "'x'"),
    "overflowing": (request(shape=[2**61, 16]), "'x'"),
    "beyond 64 bits": (request(shape=[10**30, 16]), "'x'"),
    "fractional": (request(shape=[2.0, 16]), "'x'"),
    "boolean axis": (request(shape=[True, 16]), "'x'"),
    "shape as text": (request(shape="2,16"), "'x'"),
    "no shape": (request(shape=None), "'x'"),
    "wrong datatype": (request(datatype="FP64"), "FP64"),
    "unknown datatype": (request(datatype="FLOAT"), "FLOAT"),
    "no datatype": (request(datatype=None), "datatype"),
    "ragged": (request(data=[[0.0] * 16, [0.0] * 15]), "'x'"),
    "mixed nesting": (request(data=[[0.0] * 16, 0.0]), "'x'"),
    "too nested": (request(data=[[[0.0, 0.0] for _ in range(8)] for _ in range(2)]), "'x'"),
    "nested otherwise": (request(data=[[0.0] * 8] * 4), "'x'"),
    "nested rows only": (request(data=[[0.0] * 32]), "'x'"),
    "object data": (request(data={"0": 1}), "'x'"),
    "text data": (request(data="0" * 32), "'x'"),
    "no data": (request(data=None), "'x'"),
    "unknown input": (request(name="y"), "'y'"),
    "number as name": (request(name=1), "name"),
    "missing": ({"inputs": []}, "inputs"),
    "no inputs": ({}, "inputs"),
    "inputs object": ({"inputs": {"x": 1}}, "inputs"),
    "input is a number": ({"inputs": [1]}, "input"),
    "twice": ({"inputs": request()["inputs"] * 2}, "'x'"),
    "number as id": (request() | {"id": 7}, "id"),
    "list of parameters": (request() | {"parameters": [1]}, "parameters"),
    "nested parameter": (request() | {"parameters": {"p": {"q": 1}}}, "'p'"),
    "null parameter": (request() | {"parameters": {"p": None}}, "'p'"),
    "flag as text": (request() | {"parameters": {"binary_data_output": "yes"}}, "binary_data_output"),
    "negative timeout": (request() | {"parameters": {"timeout": -1}}, "timeout"),
    "fractional timeout": (request() | {"parameters": {"timeout": 1.5}}, "timeout"),
    "unknown output": (request() | {"outputs": [{"name": "z"}]}, "'z'"),
    "output twice": (request() | {"outputs": [{"name": "scores"}, {"name": "scores"}]}, "'scores'"),
    "output is a string": (request() | {"outputs": ["scores"]}, "output"),
    "outputs object": (request() | {"outputs": {"name": "scores"}}, "outputs"),
    "outputs false": (request() | {"outputs": False}, "outputs"),
    "shared memory in": (request(parameters={"shared_memory_region": "r"}), "shared memory"),
    "shared memory out": (
        request() | {"outputs": [{"name": "scores", "parameters": {"shared_memory_region": "r"}}]},
        "shared memory",
    ),
    "binary size without header": (request(data=[], parameters={"binary_data_size": 128}), "'x'"),
    "top level list": ([1], "object"),
    "top level null": (None, "object"),
}


@pytest.mark.parametrize(("message", "named"), WRONG_REQUESTS.values(), ids=WRONG_REQUESTS.keys())
def test_wrong_requests_get_a_400_that_names_the_field(message: Any, named: str) -> None:
    reply = call(DENSE, INFER, json.dumps(message).encode())
    assert reply.status == 400
    assert named in reply.error
    assert call(DENSE, INFER, request()).status == 200


@pytest.mark.parametrize(
    "body",
    [b"", b" ", b"{", b"nonsense", b"\xff\xfe{}", b'{"id":"\xff"}', b'{"id":"\\ud800"}', b"[" * 100_000, b"{}x"],
)
def test_what_is_not_json_gets_a_400(body: bytes) -> None:
    assert call(DENSE, INFER, body).status == 400


@pytest.mark.parametrize("depth", [101, 900, 10_000])
@pytest.mark.parametrize("where", ["top", "input", "data", "parameters"])
def test_nesting_over_100_levels_gets_a_400(depth: int, where: str) -> None:
    deep = "[" * depth + "]" * depth
    message = request()
    (message if where == "top" else message["inputs"][0])["data" if where == "data" else "extra"] = "DEEP"
    if where == "parameters":
        message["parameters"] = {"p": "DEEP"}
    reply = call(DENSE, INFER, json.dumps(message).replace('"DEEP"', deep).encode())
    assert reply.status == 400
    assert reply.error


@pytest.mark.parametrize(("dtype", "datatype", "value"), [("int64", "INT64", 123), (bytes, "BYTES", "hello")])
@pytest.mark.parametrize(("depth", "status"), [(1, 200), (2, 200), (50, 200), (120, 400)])
def test_nesting_as_tritons_l0_http_tries_it(dtype: Any, datatype: str, value: Any, depth: int, status: int) -> None:
    data = value
    for _ in range(depth):
        data = [data]
    message = {"inputs": [{"name": "x", "shape": [1, 1], "datatype": datatype, "data": data}]}
    reply = call(routes(identity(dtype, 1)), "/v2/models/identity/infer", message)
    assert reply.status == status
    assert status == 200 or "JSON nesting depth exceeds maximum allowed limit (100)" in reply.error


def test_an_error_does_not_send_a_long_name_back() -> None:
    reply = call(DENSE, INFER, request(name="y" * 1_000_000))
    assert (reply.status, len(reply.body) < 2000) == (400, True)
    assert "unknown input 'yyy" in reply.error


def test_members_that_the_protocol_does_not_know_are_passed_over() -> None:
    message = request(comment={"a": [1, 2]}) | {"model_name": "dense", "trace": [[[]]]}
    assert call(DENSE, INFER, message).status == 200


def test_nan_and_infinity_pass_both_ways_as_tokens() -> None:
    app = routes(identity("float32", 4))
    body = b'{"inputs":[{"name":"x","shape":[1,4],"datatype":"FP32","data":[NaN,Infinity,-Infinity,0.5]}]}'
    reply = call(app, "/v2/models/identity/infer", body)
    assert reply.body.endswith(b'"data":[NaN,Infinity,-Infinity,0.5]}]}')


def test_a_value_out_of_range_does_not_hide_behind_nan() -> None:
    body = b'{"inputs":[{"name":"x","shape":[1,2],"datatype":"FP32","data":[NaN,1e39]}]}'
    reply = call(routes(identity("float32", 2)), "/v2/models/identity/infer", body)
    assert (reply.status, "'x'" in reply.error) == (400, True)


@pytest.mark.filterwarnings("error")
def test_large_values_warn_nobody() -> None:
    message = {"inputs": [{"name": "x", "shape": [1, 2], "datatype": "FP32", "data": [3e38, -3e38]}]}
    assert call(routes(identity("float32", 2)), "/v2/models/identity/infer", message).status == 200


def test_nan_and_infinity_are_refused_where_the_model_says_so() -> None:
    app = routes(identity("float32", 1, nonfinite="refuse"))
    body = b'{"inputs":[{"name":"x","shape":[1,1],"datatype":"FP32","data":[NaN]}]}'
    reply = call(app, "/v2/models/identity/infer", body)
    assert reply.status == 400
    assert "'x' holds NaN" in reply.error


def test_strings_are_added_as_the_public_example_does() -> None:
    values = np.arange(16).reshape(1, 16)
    text = {"shape": [1, 16], "datatype": "BYTES", "data": [str(n) for n in values.ravel()]}
    message = {"inputs": [{"name": "INPUT0", **text}, {"name": "INPUT1", **text}]}
    body = call(routes(simple_string()), "/v2/models/simple_string/infer", message).json()
    assert body["outputs"][0]["data"] == [str(2 * n) for n in values.ravel()]


@pytest.mark.parametrize(("datatype", "dtype", "largest"), [("FP16", "float16", 65504.0), ("BF16", BFLOAT16, 2.0**127)])
def test_half_floats_are_json_numbers(datatype: str, dtype: Any, largest: float) -> None:
    """The protocol gives them no JSON form, so none is contradicted."""
    model = identity(dtype, 4)
    values = [1.5, -2, largest, 0.1]
    message = {"inputs": [{"name": "x", "shape": [1, 4], "datatype": datatype, "data": values}]}
    (output,) = call(routes(model), "/v2/models/identity/infer", message).json()["outputs"]
    assert (output["datatype"], output["shape"]) == (datatype, [1, 4])
    assert output["data"][:3] == pytest.approx(values[:3], rel=1e-7)
    assert output["data"][3] == pytest.approx(0.1, rel=2e-3)
    assert np.array(output["data"], dtype).tolist() == np.array(values, dtype).tolist()


@pytest.mark.parametrize(("datatype", "dtype"), [("FP16", "float16"), ("BF16", BFLOAT16)])
@pytest.mark.parametrize("value", [1e39, True, "1", None])
def test_what_is_no_half_float_is_refused(datatype: str, dtype: Any, value: Any) -> None:
    message = {"inputs": [{"name": "x", "shape": [1, 1], "datatype": datatype, "data": [value]}]}
    reply = call(routes(identity(dtype, 1)), "/v2/models/identity/infer", message)
    assert reply.status == 400
    assert "input 'x'" in reply.error
    assert datatype in reply.error


def test_classification_returns_the_best_values_with_labels() -> None:
    labels = tuple(f"class{i}" for i in range(10))
    app = routes(dense(labels=labels))
    message = request() | {"outputs": [{"name": "scores", "parameters": {"classification": 3}}]}
    (output,) = call(app, INFER, message).json()["outputs"]
    expected = X @ WEIGHTS
    best = np.argsort(-expected, axis=1, kind="stable")[:, :3]
    wanted = [f"{expected[row, i]:f}:{i}:class{i}" for row in range(2) for i in best[row]]
    assert (output["datatype"], output["shape"], output["data"]) == ("BYTES", [2, 3], wanted)
