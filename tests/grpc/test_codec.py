"""The gRPC codec's edges: typed contents, and requests that no client library would send."""

from __future__ import annotations

import asyncio

import grpc
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deployments.errors import DeadlineExceeded, InvalidInput, NotReady, Overloaded, PredictionFailed, SoloError
from deployments.tensors import STRING
from serve_app.grpc.codec import GrpcCodec
from serve_app.grpc.messages import ModelInferRequest, ModelInferResponse
from serve_app.grpc.model_calls import ModelCalls
from serve_app.grpc.request_names import model_name_of
from serve_app.grpc.statuses import code_of, fail
from serve_app.http.errors import STATUS
from serve_app.protocols.errors import BodyTooLarge
from tests.support.grpc_server import identity, simple

TYPED = [
    ("bool", "BOOL", "bool_contents", [True, False]),
    ("uint8", "UINT8", "uint_contents", [0, 255]),
    ("uint16", "UINT16", "uint_contents", [0, 65535]),
    ("uint32", "UINT32", "uint_contents", [0, 2**32 - 1]),
    ("uint64", "UINT64", "uint64_contents", [0, 2**64 - 1]),
    ("int8", "INT8", "int_contents", [-128, 127]),
    ("int16", "INT16", "int_contents", [-32768, 32767]),
    ("int32", "INT32", "int_contents", [-(2**31), 2**31 - 1]),
    ("int64", "INT64", "int64_contents", [-(2**63), 2**63 - 1]),
    ("float32", "FP32", "fp32_contents", [1.5, float("inf")]),
    ("float64", "FP64", "fp64_contents", [1e300, -0.5]),
    (STRING, "BYTES", "bytes_contents", [b"", b"\xff"]),
]


def request(datatype, shape=(1, 2), raw=None, **contents):
    tensor = {"name": "x", "datatype": datatype, "shape": shape}
    if contents:
        tensor["contents"] = contents
    return ModelInferRequest(model_name="identity", inputs=[tensor], raw_input_contents=raw or [])


def round_trip(servable, message) -> ModelInferResponse:
    codec = GrpcCodec(servable)
    decoded = codec.decode(message)
    rows = servable.signature.check(decoded.inputs)
    return codec.encode(rows.arrays, decoded)


@pytest.mark.parametrize(("dtype", "datatype", "field", "values"), TYPED)
def test_typed_contents(dtype, datatype, field, values):
    codec = GrpcCodec(identity(dtype))
    array = codec.decode(request(datatype, **{field: values})).inputs["x"]
    assert array.dtype == np.dtype(dtype)
    assert array.tolist() == [values]


@pytest.mark.parametrize(("dtype", "datatype", "field", "values"), TYPED)
def test_answers_are_raw_and_the_same_as_raw_requests(dtype, datatype, field, values):
    servable = identity(dtype)
    answer = round_trip(servable, request(datatype, **{field: values}))
    assert not answer.outputs[0].HasField("contents")
    assert (answer.outputs[0].name, answer.outputs[0].datatype) == ("y", datatype)
    again = round_trip(servable, request(datatype, raw=list(answer.raw_output_contents)))
    assert again == answer


@pytest.mark.parametrize(
    ("message", "text"),
    [
        (request("UINT8", uint_contents=[256, 0]), "beyond the range of UINT8"),
        (request("UINT8", int_contents=[1, 2]), "expected uint_contents for UINT8, got int_contents"),
        (request("UINT8", uint_contents=[1]), "expected 2 values in uint_contents"),
        (request("UINT8"), "expected 2 values in uint_contents for shape [1, 2], got 0"),
        (request("INT8", uint_contents=[1, 2]), "expected datatype UINT8"),
        (request("", uint_contents=[1, 2]), "expected datatype UINT8"),
        (request("UINT8", raw=[b"ab"], uint_contents=[1, 2]), "got both"),
        (request("UINT8", raw=[b"ab", b"cd"]), "expected one entry for each of the 1 inputs, got 2"),
        (request("UINT8", raw=[b"abc"]), "expected 2 bytes"),
        (request("UINT8", shape=[-1, 2], raw=[b"ab"]), "each 1 or more"),
        (request("UINT8", shape=[2**62, 2**62], raw=[b"ab"]), "bytes"),
        (request("UINT8", shape=[2], raw=[b"ab"]), "expected 2 axes"),
    ],
)
def test_bad_requests_name_what_was_expected(message, text):
    with pytest.raises(InvalidInput) as caught:
        GrpcCodec(identity("uint8")).decode(message)
    assert text in str(caught.value)


def test_half_floats_have_no_typed_contents():
    with pytest.raises(InvalidInput, match="FP16 has no typed contents"):
        GrpcCodec(identity("float16")).decode(request("FP16", fp32_contents=[1, 2]))


def test_shared_memory_is_refused_where_it_is_off():
    message = request("UINT8")
    message.inputs[0].parameters["shared_memory_region"].string_param = "region"
    with pytest.raises(InvalidInput, match="shared memory is off here"):
        GrpcCodec(identity("uint8")).decode(message)


def test_timeout_is_a_deadline_and_an_output_cannot_come_twice():
    message = request("UINT8", raw=[b"ab"])
    message.parameters["timeout"].int64_param = 1_500_000
    assert GrpcCodec(identity("uint8")).decode(message).timeout_s == 1.5
    message.outputs.add(name="y")
    message.outputs.add(name="y")
    with pytest.raises(InvalidInput, match="asked for twice"):
        GrpcCodec(identity("uint8")).decode(message)


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=200))
def test_no_bytes_do_anything_but_answer_or_refuse(body):
    calls = ModelCalls(simple(), 1000)
    for method in ("ModelInfer", "ModelReady", "ModelStatistics", "RepositoryIndex"):
        model_name_of(method, body)
        try:
            asyncio.run(calls.call(method, body))
        except SoloError:
            continue


@pytest.mark.parametrize("name", ["digits", "", "n" * 127, "n" * 128, "n" * 300, "é"])
def test_the_name_is_found_in_any_order_of_fields(name):
    body = ModelInferRequest(model_name=name).SerializeToString()
    rest = ModelInferRequest(id="7", raw_input_contents=[b"x" * 1000]).SerializeToString()
    assert model_name_of("ModelInfer", body + rest) == name
    assert model_name_of("ModelInfer", rest + body) == name
    assert model_name_of("ModelReady", body) == name
    assert model_name_of("ServerLive", b"") == ""


def test_every_error_over_http_has_its_code():
    for error, status in STATUS.items():
        if error.__module__ == "deployments.errors":
            assert (code_of(error.__new__(error)) == grpc.StatusCode.INTERNAL) == (status == 500), error
    assert code_of(BodyTooLarge(5)) == grpc.StatusCode.RESOURCE_EXHAUSTED
    assert code_of(DeadlineExceeded("late")) == grpc.StatusCode.DEADLINE_EXCEEDED
    assert code_of(NotReady("soon")) == grpc.StatusCode.UNAVAILABLE
    assert code_of(PredictionFailed("no")) == grpc.StatusCode.INTERNAL
    assert code_of(ValueError("a bug")) == grpc.StatusCode.INTERNAL


class Context:
    def set_code(self, code):
        self.code = code

    def set_details(self, text):
        self.text = text

    def set_trailing_metadata(self, metadata):
        self.metadata = metadata


def test_an_overload_says_when_to_retry():
    context = Context()
    fail(context, Overloaded("queue full", 0.25))
    assert context.code == grpc.StatusCode.UNAVAILABLE
    assert context.metadata == [("grpc-retry-pushback-ms", "250")]


def test_a_bug_keeps_its_text_in_the_log(caplog):
    context = Context()
    fail(context, ValueError("secret"))
    assert "secret" not in context.text
    assert "secret" in caplog.text
