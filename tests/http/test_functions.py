"""A model with functions around it, on every way in: clients see the functions' tensors, and errors in their form."""

from __future__ import annotations

import asyncio
import base64
import json

import numpy as np
import pytest
from tritonclient.grpc import service_pb2

from deployments.tensors import STRING, TensorSpec
from serve_app.grpc.codec import GrpcCodec
from serve_app.http.model_routes import ModelRoutes
from tests.support.around import WEIGHTS, function, functions, servable
from tests.support.routes_harness import binary_request, call, get, routes, tensor

V2, V1 = "/v2/models/around", "/v1/models/around"


@pytest.fixture
def reviews() -> ModelRoutes:
    """Text in, a label out."""
    return routes(servable(functions(function("features"), function("label", TensorSpec("label", STRING, (None,))))))


@pytest.fixture
def records() -> ModelRoutes:
    """JSON objects in, JSON objects out."""
    report = function("report_of_record", TensorSpec("report", STRING, (None,), is_json=True))
    return routes(servable(functions(function("of_record"), report)))


def test_the_metadata_is_the_functions(reviews: ModelRoutes) -> None:
    told = get(reviews, V2).json()
    assert told["inputs"] == [{"name": "text", "datatype": "BYTES", "shape": [-1]}]
    assert told["outputs"] == [{"name": "label", "datatype": "BYTES", "shape": [-1]}]


def test_text_in_and_labels_out(reviews: ModelRoutes) -> None:
    texts = np.array(["bb", "c"], dtype=object)
    reply = call(reviews, f"{V2}/infer", {"inputs": [tensor("text", texts, "BYTES")]})
    assert reply.json()["outputs"][0]["data"] == ["class 1", "class 2"]
    stages = reply.headers[b"server-timing"].decode()
    assert "before;dur=" in stages
    assert "after;dur=" in stages
    durations = {part.split(";")[0].strip(): float(part.split("dur=")[1]) for part in stages.split(",")}
    assert sum(durations.values()) - durations["total"] == pytest.approx(durations["total"], abs=0.01)
    reply = call(reviews, f"{V1}:predict", {"instances": ["bb", {"b64": base64.b64encode(b"c").decode()}]})
    assert reply.json() == {"predictions": ["class 1", "class 2"]}
    stats = get(reviews, f"{V2}/stats").json()["model_stats"][0]["inference_stats"]
    assert stats["before"]["count"] == stats["after"]["count"] == 2
    assert stats["before"]["ns"] > 0


def test_errors_of_functions_are_400_and_500(reviews: ModelRoutes) -> None:
    reply = call(reviews, f"{V1}:predict", {"instances": ["forbidden"]})
    assert (reply.status, reply.error) == (400, "this text is forbidden")
    reply = call(reviews, f"{V1}:predict", {"instances": ["broken"]})
    assert reply.status == 500
    assert "KeyError" in reply.error
    reply = call(reviews, f"{V2}/infer", {"inputs": [tensor("x", np.ones((1, 4)), "FP32")]})
    assert (reply.status, reply.error) == (400, "unknown input 'x'; expected 'text'")


def test_json_objects_stand_as_they_are(records: ModelRoutes) -> None:
    record = {"a": 1, "b": 0, "c": 0, "d": 0}
    expected = {"name": None, "best": int(WEIGHTS[0].argmax())}
    assert call(records, f"{V1}:predict", {"instances": [record]}).json() == {"predictions": [expected]}
    assert call(records, f"{V1}:predict", {"instances": [{"record": record}]}).json() == {"predictions": [expected]}
    assert call(records, f"{V1}:predict", {"inputs": [record, record]}).json() == {"outputs": [expected, expected]}
    as_object = {"name": "record", "datatype": "BYTES", "shape": [1], "data": [record]}
    as_text = {**as_object, "data": [json.dumps(record)]}
    for said in (as_object, as_text):
        reply = call(records, f"{V2}/infer", {"inputs": [said]})
        assert json.loads(reply.json()["outputs"][0]["data"][0]) == expected
    raw = json.dumps(record).encode()
    body, headers = binary_request([("record", "BYTES", (1,), len(raw).to_bytes(4, "little") + raw)])
    assert json.loads(call(records, f"{V2}/infer", body, headers=headers).json()["outputs"][0]["data"][0]) == expected
    reply = call(records, f"{V2}/infer", {"inputs": [{**as_text, "data": ["{"]}]})
    assert (reply.status, reply.error[:32]) == (400, "input 'record': row 0 is no JSON")
    reply = call(records, f"{V1}:predict", {"instances": [{"a": 1}]})
    assert reply.status == 500
    assert "KeyError" in reply.error


def test_a_picture_reaches_a_function_that_takes_bytes() -> None:
    model = routes(servable(functions(function("of_file"))))
    reply = call(model, f"{V2}/infer", b"\x89PNG-and-more", headers={"Content-Type": "image/png"})
    x = np.array([[13, 0x89, ord("e"), 0]], np.float32)
    best = reply.json()["top"][0]
    assert best["label"] == str((x @ WEIGHTS).argmax())
    assert best["score"] == pytest.approx(float((x @ WEIGHTS).max()))


def test_grpc_meets_the_same_functions() -> None:
    model = servable(functions(function("features"), function("label", TensorSpec("label", STRING, (None,)))))
    codec = GrpcCodec(model)
    request = service_pb2.ModelInferRequest(model_name="around")
    request.inputs.add(name="text", datatype="BYTES", shape=[1]).contents.bytes_contents.append(b"c")
    decoded = codec.decode(request)
    answer = asyncio.run(model.predict(decoded.inputs))
    assert codec.encode(answer.outputs, decoded).raw_output_contents[0] == b"\x07\0\0\0class 2"
