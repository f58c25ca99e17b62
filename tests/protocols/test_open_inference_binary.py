"""The binary tensor extension: bytes in, bytes out, and every lie about their number refused."""

from __future__ import annotations

import gzip
import json
import struct
import zlib
from itertools import pairwise
from typing import Any

import numpy as np
import pytest

from tests.support.routes_harness import (
    BFLOAT16,
    WEIGHTS,
    Reply,
    binary_request,
    call,
    dense,
    identity,
    routes,
    servable,
    simple,
    spec,
    tensor,
)

X = np.arange(32, dtype=np.float32).reshape(2, 16) / 7
DENSE = routes(dense())
INFER = "/v2/models/dense/infer"
IDENTITY = "/v2/models/identity/infer"
HEADER = "Inference-Header-Content-Length"


def binary_output(reply: Reply, dtype: Any) -> np.ndarray:
    """Return the sole output of a binary answer."""
    (output,) = reply.json()["outputs"]
    raw = reply.body[int(reply.headers[b"inference-header-content-length"]) :]
    assert output["parameters"]["binary_data_size"] == len(raw)
    return np.frombuffer(raw, dtype).reshape(output["shape"])


def x_request(**message: Any) -> tuple[bytes, dict[str, str]]:
    return binary_request([("x", "FP32", X.shape, X.tobytes())], **message)


def test_binary_in_json_out() -> None:
    body, headers = x_request()
    reply = call(DENSE, INFER, body, headers=headers)
    assert b"inference-header-content-length" not in reply.headers
    assert reply.headers[b"content-type"] == b"application/json"
    (output,) = reply.json()["outputs"]
    np.testing.assert_allclose(np.reshape(output["data"], output["shape"]), X @ WEIGHTS, rtol=1e-6)


@pytest.mark.parametrize("chunks", [1, 2, 7])
def test_binary_both_ways_however_the_body_is_cut(chunks: int) -> None:
    body, headers = x_request(parameters={"binary_data_output": True}, id="a")
    cuts = np.linspace(0, len(body), chunks + 1, dtype=int)
    pieces = [body[a:b] for a, b in pairwise(cuts)]
    reply = call(DENSE, INFER, pieces, headers=headers)
    assert reply.headers[b"content-type"] == b"application/octet-stream"
    assert reply.json()["id"] == "a"
    np.testing.assert_array_equal(binary_output(reply, np.float32), X @ WEIGHTS)


@pytest.mark.parametrize(
    ("datatype", "dtype"),
    [
        ("BOOL", "bool"),
        ("UINT8", "uint8"),
        ("UINT16", "uint16"),
        ("UINT32", "uint32"),
        ("UINT64", "uint64"),
        ("INT8", "int8"),
        ("INT16", "int16"),
        ("INT32", "int32"),
        ("INT64", "int64"),
        ("FP16", "float16"),
        ("FP32", "float32"),
        ("FP64", "float64"),
        ("BF16", BFLOAT16),
    ],
)
def test_every_datatype_keeps_its_bits(datatype: str, dtype: Any) -> None:
    values = np.array([[0, 1, 1], [1, 0, 0]]).astype(dtype)
    body, headers = binary_request(
        [("x", datatype, values.shape, values.tobytes())], parameters={"binary_data_output": True}
    )
    reply = call(routes(identity(dtype, 3)), IDENTITY, body, headers=headers)
    assert reply.json()["outputs"][0]["datatype"] == datatype
    np.testing.assert_array_equal(binary_output(reply, dtype), values)


def test_bf16_is_the_upper_half_of_an_fp32() -> None:
    values = np.array([[1.5, -2.0]], np.float32)
    upper = values.view(np.uint32) >> 16
    body, headers = binary_request([("x", "BF16", (1, 2), upper.astype("<u2").tobytes())], outputs=[
        {"name": "y", "parameters": {"classification": 2}}
    ])  # fmt: skip
    reply = call(routes(identity(BFLOAT16, 2)), IDENTITY, body, headers=headers)
    assert reply.json()["outputs"][0]["data"] == ["1.500000:0", "-2.000000:1"]


def test_byte_strings_keep_every_byte() -> None:
    elements = [b"", b"\x00\xff", "ü".encode(), b"x" * 300]
    raw = b"".join(struct.pack("<I", len(element)) + element for element in elements)
    body, headers = binary_request([("x", "BYTES", (2, 2), raw)], parameters={"binary_data_output": True})
    reply = call(routes(identity(bytes, 2)), IDENTITY, body, headers=headers)
    assert reply.body.endswith(raw)
    assert reply.json()["outputs"][0]["parameters"]["binary_data_size"] == len(raw)


def test_byte_strings_that_are_no_text_are_refused_as_json() -> None:
    body, headers = binary_request([("x", "BYTES", (1, 1), struct.pack("<I", 1) + b"\xff")])
    reply = call(routes(identity(bytes, 1)), IDENTITY, body, headers=headers)
    assert reply.status == 400
    assert "binary_data" in reply.error


@pytest.mark.parametrize(
    "raw",
    [b"\x01\x00\x00", b"\x02\x00\x00\x00a", b"\xff\xff\xff\xff", b"", b"\x00\x00\x00\x00" * 2],
    ids=["cut length", "cut element", "huge length", "no element", "one too many"],
)
def test_damaged_byte_strings_are_refused(raw: bytes) -> None:
    body, headers = binary_request([("x", "BYTES", (1, 1), raw)])
    reply = call(routes(identity(bytes, 1)), IDENTITY, body, headers=headers)
    assert reply.status == 400
    assert "'x'" in reply.error


def test_a_boolean_byte_other_than_0_and_1_is_refused() -> None:
    body, headers = binary_request([("x", "BOOL", (1, 2), b"\x01\x02")])
    assert call(routes(identity("bool", 2)), IDENTITY, body, headers=headers).status == 400


def test_json_and_binary_tensors_mix_both_ways() -> None:
    a, b = np.arange(16, dtype=np.int32)[None], np.full((1, 16), 2, np.int32)
    message = {
        "inputs": [
            tensor("INPUT0", a, "INT32"),
            {"name": "INPUT1", "shape": [1, 16], "datatype": "INT32", "parameters": {"binary_data_size": 64}},
        ],
        "outputs": [{"name": "OUTPUT1", "parameters": {"binary_data": False}}, {"name": "OUTPUT0"}],
        "parameters": {"binary_data_output": True},
    }
    text = json.dumps(message).encode()
    reply = call(routes(simple()), "/v2/models/simple/infer", text + b.tobytes(), headers={HEADER: str(len(text))})
    difference, total = reply.json()["outputs"]
    assert (difference["name"], difference["data"]) == ("OUTPUT1", (a - b).ravel().tolist())
    assert total["name"] == "OUTPUT0"
    assert reply.body.endswith((a + b).tobytes())


def test_a_raw_body_is_the_sole_input_and_the_answer_is_binary() -> None:
    reply = call(DENSE, INFER, X.tobytes(), headers={HEADER: "0"})
    np.testing.assert_array_equal(binary_output(reply, np.float32), X @ WEIGHTS)


def test_a_raw_body_settles_one_dynamic_axis() -> None:
    reply = call(routes(identity("int32", None, 2)), IDENTITY, bytes(24), headers={HEADER: "0"})
    assert reply.json()["outputs"][0]["shape"] == [1, 3, 2]


def test_a_raw_body_of_strings_is_one_element() -> None:
    reply = call(routes(identity(bytes, 1)), IDENTITY, b"\x00anything", headers={HEADER: "0"})
    assert reply.body.endswith(b"\x09\x00\x00\x00\x00anything")


@pytest.mark.parametrize(
    ("model", "body"),
    [
        (identity("float32", 16), b""),
        (identity("float32", 16), bytes(65)),
        (identity("int32", None, None), bytes(24)),
        (servable("identity", [spec("a", "int8"), spec("b", "int8")], [spec("y", "int8")], lambda a, b: (a,)), b"\0"),
    ],
    ids=["empty", "not whole rows", "two dynamic axes", "two inputs"],
)
def test_raw_bodies_that_fit_nothing_are_refused(model: Any, body: bytes) -> None:
    assert call(routes(model), IDENTITY, body, headers={HEADER: "0"}).status == 400


@pytest.mark.parametrize("header", ["-1", "1.5", "x", "", " 5", "99999", "1" * 30, "0x10", "٣"])
def test_header_lengths_outside_the_body_are_refused(header: str) -> None:
    body, _ = x_request()
    reply = call(DENSE, INFER, body, headers={HEADER: header.encode().decode("latin-1")})
    assert reply.status == 400
    assert HEADER in reply.error


def test_truncation_at_every_byte_is_refused() -> None:
    body, headers = x_request()
    for length in range(len(body)):
        assert call(DENSE, INFER, body[:length], headers=headers).status == 400
    assert call(DENSE, INFER, body, headers=headers).status == 200


def test_leftover_bytes_are_refused() -> None:
    body, headers = x_request()
    reply = call(DENSE, INFER, body + b"\0", headers=headers)
    assert reply.status == 400
    assert "past its inputs" in reply.error


@pytest.mark.parametrize("size", [0, 127, 129, 2**40, -1, 1.5, "128", True])
def test_binary_sizes_that_are_not_the_shapes_are_refused(size: Any) -> None:
    inputs = [{"name": "x", "shape": [2, 16], "datatype": "FP32", "parameters": {"binary_data_size": size}}]
    text = json.dumps({"inputs": inputs}).encode()
    reply = call(DENSE, INFER, text + X.tobytes(), headers={HEADER: str(len(text))})
    assert reply.status == 400
    assert "'x'" in reply.error


def test_data_and_binary_size_together_are_refused() -> None:
    inputs = [tensor("x", X, "FP32", parameters={"binary_data_size": 128})]
    text = json.dumps({"inputs": inputs}).encode()
    assert call(DENSE, INFER, text + X.tobytes(), headers={HEADER: str(len(text))}).status == 400


def test_nan_keeps_its_bits() -> None:
    values = np.array([[np.nan, np.inf]], np.float32)
    body, headers = binary_request([("x", "FP32", (1, 2), values.tobytes())], parameters={"binary_data_output": True})
    assert call(routes(identity("float32", 2)), IDENTITY, body, headers=headers).body.endswith(values.tobytes())


COMPRESSORS = {"gzip": gzip.compress, "deflate": zlib.compress}


@pytest.mark.parametrize("encoding", COMPRESSORS)
def test_compressed_requests_count_the_uncompressed_json(encoding: str) -> None:
    body, headers = x_request(parameters={"binary_data_output": True})
    squeezed = COMPRESSORS[encoding](body)
    reply = call(DENSE, INFER, squeezed, headers=headers | {"Content-Encoding": encoding})
    np.testing.assert_array_equal(binary_output(reply, np.float32), X @ WEIGHTS)


@pytest.mark.parametrize("encoding", COMPRESSORS)
@pytest.mark.parametrize("damage", [lambda b: b[:-1], lambda b: b + b"x", lambda b: b"x" + b, lambda b: b""])
def test_damaged_compression_is_refused(encoding: str, damage: Any) -> None:
    body, headers = x_request()
    squeezed = damage(COMPRESSORS[encoding](body))
    assert call(DENSE, INFER, squeezed, headers=headers | {"Content-Encoding": encoding}).status == 400


@pytest.mark.parametrize("encoding", COMPRESSORS)
def test_a_bomb_is_stopped_at_the_limit(encoding: str) -> None:
    bomb = COMPRESSORS[encoding](bytes(50_000_000))
    app = routes(dense(), max_body_bytes=1_000_000)
    reply = call(app, INFER, bomb, headers={"Content-Encoding": encoding})
    assert len(bomb) < 1_000_000
    assert (reply.status, "1000000" in reply.error) == (413, True)


def test_an_unknown_encoding_is_refused() -> None:
    reply = call(DENSE, INFER, b"x", headers={"Content-Encoding": "br"})
    assert reply.status == 415
    assert reply.headers[b"accept-encoding"] == b"gzip, deflate"


@pytest.mark.parametrize(("encoding", "inflate"), [("gzip", gzip.decompress), ("deflate", zlib.decompress)])
def test_answers_are_compressed_for_who_asks_for_nothing_else(encoding: str, inflate: Any) -> None:
    body, headers = binary_request([("x", "FP32", (1, 4096), bytes(16384))], parameters={"binary_data_output": True})
    app = routes(identity("float32", 4096))
    plain = call(app, IDENTITY, body, headers=headers | {"Accept-Encoding": "gzip, deflate, br"})
    assert b"content-encoding" not in plain.headers
    squeezed = call(app, IDENTITY, body, headers=headers | {"Accept-Encoding": encoding})
    assert squeezed.headers[b"content-encoding"] == encoding.encode()
    assert len(squeezed.body) < 1000
    assert inflate(squeezed.body) == plain.body
