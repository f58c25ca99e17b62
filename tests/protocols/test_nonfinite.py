"""NaN and infinity through every protocol: handed on bit for bit, or refused, and never turned into something else."""

from __future__ import annotations

import asyncio
import json
import math
from typing import Any

import numpy as np
import pytest

from deployments.errors import InvalidInput, PredictionFailed
from serve_app.grpc.messages import ModelInferRequest
from serve_app.grpc.model_calls import ModelCalls
from tests.support import grpc_server
from tests.support.routes_harness import BFLOAT16, LOOP, binary_request, call, identity, routes, servable, spec

# A NaN with a payload, a negative one, both infinities, a denormal and an ordinary number.
BITS = {
    "FP16": ("float16", np.array([0x7E01, 0xFE00, 0x7C00, 0xFC00, 0x0001, 0x3C00], np.uint16)),
    "BF16": (BFLOAT16, np.array([0x7FC1, 0xFFC0, 0x7F80, 0xFF80, 0x0001, 0x3F80], np.uint16)),
    "FP32": ("float32", np.array([0x7FC00001, 0xFFC00000, 0x7F800000, 0xFF800000, 1, 0x3F800000], np.uint32)),
    "FP64": (
        "float64",
        np.array(
            [0x7FF8000000000001, 0xFFF8000000000000, 0x7FF0000000000000, 0xFFF0000000000000, 1, 0x3FF0000000000000],
            np.uint64,
        ),
    ),
}
TOKENS = b"[NaN,Infinity,-Infinity,0.5]"
VALUES = [math.nan, math.inf, -math.inf, 0.5]


def same(values: list[float]) -> bool:
    return bool(np.array_equal(values, VALUES, equal_nan=True))


@pytest.mark.parametrize("datatype", BITS)
def test_binary_is_handed_on_bit_for_bit(datatype: str) -> None:
    dtype, bits = BITS[datatype]
    raw = bits.tobytes()
    body, headers = binary_request([("x", datatype, (1, 6), raw)], parameters={"binary_data_output": True})
    reply = call(routes(identity(dtype, 6)), "/v2/models/identity/infer", body, headers=headers)
    assert reply.status == 200
    assert reply.body.endswith(raw)


@pytest.mark.parametrize("datatype", BITS)
def test_grpc_raw_contents_are_handed_on_bit_for_bit(datatype: str) -> None:
    dtype, bits = BITS[datatype]
    request = ModelInferRequest(model_name="identity", raw_input_contents=[bits.tobytes()])
    request.inputs.add(name="x", datatype=datatype, shape=[1, 6])
    answer = asyncio.run(ModelCalls(grpc_server.identity(dtype, (None, 6)), 10_000).infer(request.SerializeToString()))
    assert list(answer.raw_output_contents) == [bits.tobytes()]


@pytest.mark.parametrize("datatype", ["FP32", "FP64"])
def test_v2_json(datatype: str) -> None:
    body = b'{"inputs":[{"name":"x","shape":[1,4],"datatype":"%b","data":%b}]}' % (datatype.encode(), TOKENS)
    reply = call(routes(identity(BITS[datatype][0], 4)), "/v2/models/identity/infer", body)
    assert same(json.loads(reply.body)["outputs"][0]["data"])


@pytest.mark.parametrize("body", [b'{"instances":[%b]}' % TOKENS, b'{"inputs":[%b]}' % TOKENS])
def test_tensorflow_servings_json(body: bytes) -> None:
    reply = call(routes(identity("float32", 4)), "/v1/models/identity:predict", body)
    (values,) = next(iter(json.loads(reply.body).values()))
    assert same(values)


@pytest.mark.parametrize("value", [b"null", b"1e39", b"-1e39", b'"NaN"', b"nan", b"+Infinity", b"1e999"])
def test_what_would_become_something_else_is_refused(value: bytes) -> None:
    app = routes(identity("float32", 1))
    v2 = b'{"inputs":[{"name":"x","shape":[1,1],"datatype":"FP32","data":[%b]}]}' % value
    assert call(app, "/v2/models/identity/infer", v2).status == 400
    assert call(app, "/v1/models/identity:predict", b'{"instances":[[%b]]}' % value).status == 400


@pytest.mark.parametrize("value", [b"NaN", b"Infinity", b"-Infinity"])
@pytest.mark.parametrize(("datatype", "dtype"), [("INT32", "int32"), ("BOOL", "bool")])
def test_no_integer_or_truth_value_is_made_of_them(value: bytes, datatype: str, dtype: str) -> None:
    app = routes(identity(dtype, 1))
    v2 = b'{"inputs":[{"name":"x","shape":[1,1],"datatype":"%b","data":[%b]}]}' % (datatype.encode(), value)
    assert call(app, "/v2/models/identity/infer", v2).status == 400
    assert call(app, "/v1/models/identity:predict", b'{"instances":[[%b]]}' % value).status == 400


@pytest.mark.parametrize("datatype", BITS)
@pytest.mark.parametrize("index", range(4))
def test_refuse_finds_one_in_every_type(datatype: str, index: int) -> None:
    dtype, bits = BITS[datatype]
    model, binary = identity(dtype, 1, nonfinite="refuse"), {"parameters": {"binary_data_output": True}}
    for bad, status in ((bits[index : index + 1], 400), (bits[4:5], 200)):
        body, headers = binary_request([("x", datatype, (1, 1), bad.tobytes())], **binary)
        assert call(routes(model), "/v2/models/identity/infer", body, headers=headers).status == status


def test_refuse_over_json_and_grpc() -> None:
    app = routes(identity("float32", 1, nonfinite="refuse"))
    reply = call(app, "/v1/models/identity:predict", b'{"instances":[[NaN]]}')
    assert reply.status == 400
    assert "'x' holds NaN" in reply.error
    request = ModelInferRequest(model_name="identity")
    request.inputs.add(name="x", datatype="FP32", shape=[1, 2]).contents.fp32_contents.extend([1.0, math.inf])
    calls = ModelCalls(grpc_server.identity("float32", nonfinite="refuse"), 10_000)
    with pytest.raises(InvalidInput, match="'x' holds NaN or infinity"):
        asyncio.run(calls.infer(request.SerializeToString()))


def overflowing(**options: Any) -> Any:
    shape = [spec("x", "float32", 1)]
    return servable("over", shape, [spec("y", "float32", 1)], lambda x: (x * np.float32(1e38) * 100,), **options)


@pytest.mark.filterwarnings("ignore:overflow")
def test_an_output_that_overflows() -> None:
    body = b'{"instances":[[1.0]]}'
    assert call(routes(overflowing()), "/v1/models/over:predict", body).body == b'{"predictions":[[Infinity]]}'
    refused = call(routes(overflowing(nonfinite="refuse")), "/v1/models/over:predict", body)
    assert refused.status == 500
    assert "'y' holds NaN" in refused.error
    with pytest.raises(PredictionFailed):
        LOOP.run_until_complete(overflowing(nonfinite="refuse").predict({"x": np.ones((1, 1), np.float32)}))
