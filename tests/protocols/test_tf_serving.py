"""TensorFlow Serving's REST codec: golden examples of its documentation, then its edges."""

from __future__ import annotations

import base64
import json

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from deployments.errors import InvalidInput
from deployments.tensors import STRING, Signature, TensorSpec
from serve_app.protocols import json_tensors
from serve_app.protocols.tf_serving import metadata, predict

F32, I32 = np.dtype("float32"), np.dtype("int32")
HALF = Signature((TensorSpec("x", F32, (None,)),), (TensorSpec("y", F32, (None,)),))
PAIR = Signature(
    (TensorSpec("a", I32, (None, 2)), TensorSpec("b", F32, (None,))),
    (TensorSpec("sum", F32, (None, 2)), TensorSpec("kind", STRING, (None,))),
)
TEXT = Signature((TensorSpec("s", STRING, (None, 1)),), (TensorSpec("image_bytes", STRING, (None, 1)),))


def half_plus_two(body: bytes) -> dict:
    request = predict.decode_predict(body, HALF)
    (x,) = HALF.check(request.inputs).arrays
    return json.loads(predict.encode_predict(request, HALF, (x / 2 + 2,)))


def decode(document: object, signature: Signature) -> predict.TfRequest:
    return predict.decode_predict(json.dumps(document).encode(), signature)


def spec(dtype: str) -> TensorSpec:
    return TensorSpec("x", np.dtype(dtype), (None,))


def test_half_plus_two_as_documented():
    assert half_plus_two(b'{"instances": [1.0, 2.0, 5.0]}') == {"predictions": [2.5, 3.0, 4.5]}
    assert half_plus_two(b'{"inputs": [1.0, 2.0, 5.0]}') == {"outputs": [2.5, 3.0, 4.5]}
    assert half_plus_two(b'{"signature_name": "serving_default", "instances": [0]}') == {"predictions": [2.0]}
    assert half_plus_two(b'{"instances": [{"x": 1.0}, {"x": 4}]}') == {"predictions": [2.5, 4.0]}
    assert half_plus_two(b'{"inputs": {"x": [1.0]}}') == {"outputs": [2.5]}


def test_scalars_suit_a_last_axis_of_one():
    signature = Signature((TensorSpec("x", F32, (None, 1)),), HALF.outputs)
    request = predict.decode_predict(b'{"instances": [1, 2, 5]}', signature)
    assert signature.check(request.inputs).arrays[0].tolist() == [[1], [2], [5]]


def test_several_inputs_and_outputs_in_both_forms():
    rows = decode({"instances": [{"a": [1, 2], "b": 3.5}, {"b": 4, "a": [5, 6]}]}, PAIR)
    columns = decode({"inputs": {"a": [[1, 2], [5, 6]], "b": [3.5, 4]}}, PAIR)
    for request in (rows, columns):
        a, b = PAIR.check(request.inputs).arrays
        assert a.dtype == I32
        assert a.tolist() == [[1, 2], [5, 6]]
        assert b.tolist() == [3.5, 4.0]
    outputs = (np.array([[1, 2], [3, 4]], F32), np.array([b"one", "zwölf".encode()], object))
    assert json.loads(predict.encode_predict(rows, PAIR, outputs)) == {
        "predictions": [{"sum": [1.0, 2.0], "kind": "one"}, {"sum": [3.0, 4.0], "kind": "zwölf"}]
    }
    assert json.loads(predict.encode_predict(columns, PAIR, outputs)) == {
        "outputs": {"sum": [[1.0, 2.0], [3.0, 4.0]], "kind": ["one", "zwölf"]}
    }


def test_byte_strings_travel_as_b64():
    raw = bytes(range(256))
    coded = {"b64": base64.b64encode(raw).decode()}
    for document in ({"instances": [[coded], ["é"]]}, {"instances": [{"s": [coded]}, {"s": "é"}]}):
        if isinstance(document["instances"][1], dict):
            document["instances"][1]["s"] = ["é"]
        request = decode(document, TEXT)
        assert request.inputs["s"].tolist() == [[raw], ["é".encode()]]
    answer = json.loads(predict.encode_predict(request, TEXT, (request.inputs["s"],)))
    assert answer == {"predictions": [[coded], [{"b64": "w6k="}]]}


def test_bytes_that_are_no_text_become_b64_under_any_name():
    assert json_tensors.encode_values(np.array([b"\xff", b"a"], object)) == b'[{"b64":"/w=="},"a"]'


def test_nan_and_infinity_tokens_both_ways():
    request = predict.decode_predict(b'{"instances": [NaN, -Infinity, Infinity, 0.1]}', HALF)
    body = predict.encode_predict(request, HALF, (request.inputs["x"],))
    assert body == b'{"predictions":[NaN,-Infinity,Infinity,0.1]}'


@given(hnp.arrays(np.float32, hnp.array_shapes(max_dims=3, max_side=4)))
def test_float_answers_round_trip_bit_exactly(array):
    back = np.array(json.loads(json_tensors.encode_values(array)), np.float32)
    assert np.array_equal(back, array, equal_nan=True)
    assert back.shape == array.shape


@pytest.mark.parametrize("dtype", ["int8", "uint8", "int64", "uint64", "float16", "float64", "bool"])
def test_every_dtype_round_trips(dtype):
    limits = [False, True] if dtype == "bool" else [0, 1]
    if np.dtype(dtype).kind in "iu":
        limits = [np.iinfo(dtype).min, np.iinfo(dtype).max]
    array = np.array(limits, dtype)
    back = json_tensors.decode_values(json_tensors.parse(json_tensors.encode_values(array)), spec(dtype))
    assert back.dtype == array.dtype
    assert back.tolist() == array.tolist()


def test_bfloat16_and_strided_outputs_are_written():
    assert json_tensors.encode_values(np.array([1.5, -2], ml_dtypes.bfloat16)) == b"[1.5,-2.0]"
    assert json_tensors.encode_values(np.arange(6, dtype=np.int32).reshape(2, 3).T) == b"[[0,3],[1,4],[2,5]]"


@pytest.mark.parametrize("document", [{}, {"instances": [1], "inputs": [1]}, {"signature_name": ""}])
def test_neither_or_both_forms_have_tf_servings_text(document):
    with pytest.raises(InvalidInput) as caught:
        decode(document, HALF)
    assert str(caught.value) == "Missing 'inputs' or 'instances' key"


@pytest.mark.parametrize(
    ("body", "text"),
    [
        (b"", "JSON Parse error"),
        (b'{"instances": [NaN', "JSON Parse error"),
        (b'{"instances": ' + b"[" * 100_000, "JSON Parse error"),
        (b'{"instances": NaN' + b"[" * 100_000, "JSON Parse error"),
        (b"[1]", "expected a JSON object"),
        (b'{"instances": []}', "No values in 'instances' array"),
        (b'{"instances": 1}', "Expecting 'instances' to be a list/array"),
        (b'{"instances": [1], "signature_name": "nope"}', 'Serving signature name: "nope" not found in signature def'),
        (b'{"instances": [1], "signature_name": 5}', "'signature_name' key must be a string value."),
        (b'{"instances": [{"y": 1}]}', "input 'x' is missing"),
        (b'{"instances": [{"x": 1}, {"y": 1}]}', "instances[1]"),
        (b'{"instances": [{"x": 1}, 2]}', "instances[1]"),
        (b'{"instances": [{"x": 1, "z": 2}]}', "unknown input 'z'"),
        (b'{"inputs": {"x": [1], "z": 2}}', "unknown input 'z'"),
        (b'{"instances": [1, [2]]}', "expected float32 values, got a list"),
        (b'{"instances": [[1], [2, 3]]}', "equal lengths"),
        (b'{"instances": [[1], 2]}', "equal lengths"),
        (b'{"instances": ["1"]}', "expected float32 values, got a string"),
        (b'{"instances": [null]}', "expected float32 values"),
        (b'{"instances": [true]}', "got a boolean"),
        (b'{"instances": [1.5, true]}', "got a boolean"),
        (b'{"instances": [1e300]}', "beyond the range of float32"),
        (b'{"instances": [[1, {"x": 2}]]}', "expected float32 values"),
        (b'{"instances": ' + b"[" * 90 + b"1" + b"]" * 90 + b"}", "input 'x'"),
    ],
)
def test_bad_requests_name_what_was_expected(body, text):
    with pytest.raises(InvalidInput) as caught:
        predict.decode_predict(body, HALF)
    assert text in str(caught.value)


@pytest.mark.parametrize(
    ("values", "dtype", "text"),
    [
        ([300], "uint8", "beyond the range of uint8"),
        ([-1], "uint64", "beyond the range of uint64"),
        ([2**70], "int64", "beyond the range of int64"),
        ([1.0], "int32", "expected int32 values, got 1.0"),
        ([1], "bool", "expected bool values"),
        ([70000], "float16", "beyond the range of float16"),
    ],
)
def test_values_beyond_the_dtype_are_refused(values, dtype, text):
    with pytest.raises(InvalidInput, match=text):
        json_tensors.decode_values(values, spec(dtype))


@pytest.mark.parametrize("value", [{"b64": "@@"}, {"b64": 5}, {"c64": "AA=="}, 5, None, ["x"]])
def test_bad_strings_are_refused(value):
    with pytest.raises(InvalidInput, match="'s'"):
        predict.decode_predict(json.dumps({"inputs": [[value], ["a"]]}).encode(), TEXT)


def test_bare_values_for_several_inputs_are_refused():
    with pytest.raises(InvalidInput, match="expected an object with the inputs 'a', 'b'"):
        decode({"instances": [1, 2]}, PAIR)


@given(st.recursive(st.none() | st.booleans() | st.floats() | st.integers() | st.text(), st.lists))
def test_no_json_value_does_anything_but_convert_or_refuse(values):
    try:
        array = json_tensors.decode_values(values, spec("float32"))
    except InvalidInput:
        return
    assert array.dtype == F32


def test_status_and_metadata_are_tf_servings():
    assert metadata.status("1") == (
        b'{"model_version_status":[{"version":"1","state":"AVAILABLE",'
        b'"status":{"error_code":"OK","error_message":""}}]}'
    )
    document = json.loads(metadata.metadata("pair", "7", PAIR))
    assert document["model_spec"] == {"name": "pair", "signature_name": "", "version": "7"}
    method = document["metadata"]["signature_def"]["signature_def"]["serving_default"]
    assert method["method_name"] == "tensorflow/serving/predict"
    assert method["inputs"]["a"] == {
        "dtype": "DT_INT32",
        "tensor_shape": {"dim": [{"size": "-1", "name": ""}, {"size": "2", "name": ""}], "unknown_rank": False},
        "name": "serving_default_a:0",
    }
    assert method["outputs"]["sum"]["dtype"] == "DT_FLOAT"
    assert method["outputs"]["kind"]["dtype"] == "DT_STRING"
