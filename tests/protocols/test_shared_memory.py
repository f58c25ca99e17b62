"""Tensors in POSIX shared memory: regions, their bounds, and both codecs that use them."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from multiprocessing.shared_memory import SharedMemory
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from deployments.errors import InvalidInput
from deployments.tensors import Signature, TensorSpec
from serve_app.grpc.messages import ModelInferRequest
from serve_app.protocols import shared_memory
from serve_app.protocols.open_inference.request import RequestDecoder
from serve_app.protocols.open_inference.response import ResponseEncoder
from serve_app.protocols.shared_memory import Place, Regions

pytestmark = pytest.mark.skipif(not Path("/dev/shm").is_dir(), reason="POSIX shared memory is Linux's here")

FLOATS = np.dtype(np.float32)
SIGNATURE = Signature((TensorSpec("x", FLOATS, (None, 4)),), (TensorSpec("y", FLOATS, (None, 4)),))
ROW = np.arange(4, dtype=np.float32)[None]


@pytest.fixture
def memory() -> Iterator[SharedMemory]:
    memory = SharedMemory(create=True, size=64)
    yield memory
    memory.close()
    memory.unlink()


@pytest.fixture
def regions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Regions:
    monkeypatch.setattr(shared_memory, "_regions", None)
    return shared_memory.turn_on(tmp_path / "regions")


def key(memory: SharedMemory) -> str:
    return f"/{memory.name.strip('/')}"


def test_a_region_is_registered_told_and_forgotten(regions: Regions, memory: SharedMemory) -> None:
    regions.register("in put/1", key(memory), 16, 32)
    assert regions.status() == [{"name": "in put/1", "key": key(memory), "offset": 16, "byte_size": 32}]
    with pytest.raises(InvalidInput, match="is registered already"):
        regions.register("in put/1", key(memory), 0, 8)
    regions.unregister("in put/1")
    regions.unregister("in put/1")
    assert regions.status() == []
    with pytest.raises(InvalidInput, match="'in put/1' is not registered"):
        regions.status("in put/1")


def test_tensors_go_in_and_out_at_their_offsets(regions: Regions, memory: SharedMemory) -> None:
    regions.register("r", key(memory), 16, 32)
    memory.buf[16 + 8 : 16 + 12] = b"abcd"
    assert regions.read(Place("r", 8, 4)) == b"abcd"
    regions.write(Place("r", 4, 8), b"efgh")
    assert bytes(memory.buf[20:24]) == b"efgh"


def test_another_process_sees_what_is_registered_and_what_no_longer_is(regions: Regions, memory: SharedMemory) -> None:
    other = Regions(regions._folder)
    regions.register("r", key(memory), 0, 32)
    assert len(other.read(Place("r", 0, 32))) == 32
    opened = len(os.listdir("/proc/self/fd"))
    regions.unregister()
    with pytest.raises(InvalidInput, match="'r' is not registered"):
        other.read(Place("r", 0, 32))
    assert len(os.listdir("/proc/self/fd")) == opened - 1, "its memory is let go"


@pytest.mark.parametrize(
    ("wanted", "offset", "byte_size", "says"),
    [
        (None, 0, 65, "expected 1 to 64"),
        (None, 60, 8, "expected 1 to 4 from offset 60"),
        (None, 0, 0, "expected 1 to 64"),
        (None, -1, 8, "offset: expected a whole number"),
        (None, 0, "8", "byte_size: expected a whole number"),
        (None, 0, True, "byte_size: expected a whole number"),
        ("/not-there", 0, 8, "unable to open shared memory '/not-there'"),
        ("/../etc/passwd", 0, 8, "key: expected the name of a POSIX shared memory object"),
        ("..", 0, 8, "key: expected the name"),
        ("", 0, 8, "key: expected the name"),
        (7, 0, 8, "key: expected the name"),
    ],
)
def test_what_cannot_be_registered_says_why(
    regions: Regions, memory: SharedMemory, wanted: Any, offset: Any, byte_size: Any, says: str
) -> None:
    with pytest.raises(InvalidInput, match=says):
        regions.register("r", key(memory) if wanted is None else wanted, offset, byte_size)
    assert regions.status() == []


def test_nothing_beyond_a_region_is_read_or_written(regions: Regions, memory: SharedMemory) -> None:
    regions.register("r", key(memory), 16, 32)
    for place in (Place("r", 0, 33), Place("r", 30, 4), Place("r", 2**61, 4)):
        with pytest.raises(InvalidInput, match="are beyond its 32 bytes"):
            regions.read(place)
        with pytest.raises(InvalidInput, match="are beyond its 32 bytes"):
            regions.write(place, b"")
    with pytest.raises(InvalidInput, match="the output needs 8 bytes, got 4"):
        regions.write(Place("r", 0, 4), b"12345678")


def test_memory_that_shrank_or_was_made_anew_is_refused(regions: Regions, memory: SharedMemory) -> None:
    regions.register("r", key(memory), 0, 64)
    assert len(regions.read(Place("r", 0, 64))) == 64
    path = Path("/dev/shm", memory.name)
    os.truncate(path, 8)
    with pytest.raises(InvalidInput, match="has been made smaller"):
        regions.read(Place("r", 0, 64))
    with pytest.raises(InvalidInput, match="has been made smaller"):
        regions.write(Place("r", 0, 64), bytes(64))
    other = path.with_name(f"{path.name}-new")
    other.write_bytes(bytes(64))
    other.rename(path)
    regions.unregister("r")
    (regions._folder / "r.json").write_text(
        json.dumps({"name": "r", "key": key(memory), "offset": 0, "byte_size": 64, "inode": 1})
    )
    with pytest.raises(InvalidInput, match="was made anew; register it again"):
        regions.read(Place("r", 0, 64))


def test_a_json_request_leaves_its_tensors_there(regions: Regions, memory: SharedMemory) -> None:
    regions.register("r", key(memory), 0, 64)
    memory.buf[16:32] = ROW.tobytes()
    place = {"shared_memory_region": "r", "shared_memory_byte_size": 16}
    request = {
        "inputs": [
            {"name": "x", "datatype": "FP32", "shape": [1, 4], "parameters": {**place, "shared_memory_offset": 16}}
        ],
        "outputs": [{"name": "y", "parameters": {**place, "shared_memory_offset": 32}}],
    }
    decoded = RequestDecoder(SIGNATURE).decode(json.dumps(request).encode(), None)
    np.testing.assert_array_equal(decoded.inputs["x"], ROW)
    body, json_bytes = ResponseEncoder("m", "1", SIGNATURE).encode((ROW * 2,), decoded.wanted, None)
    assert json_bytes is None
    assert json.loads(body)["outputs"] == [
        {"name": "y", "datatype": "FP32", "shape": [1, 4], "parameters": {**place, "shared_memory_offset": 32}}
    ]
    np.testing.assert_array_equal(np.frombuffer(memory.buf[32:48], np.float32), ROW[0] * 2)


@pytest.mark.parametrize(
    ("parameters", "further", "says"),
    [
        ({"shared_memory_byte_size": 16}, {}, "expected parameter 'shared_memory_region' beside"),
        ({"shared_memory_region": 3, "shared_memory_byte_size": 16}, {}, "to be a region's name"),
        ({"shared_memory_region": "r"}, {}, "shared_memory_byte_size: expected a whole number"),
        ({"shared_memory_region": "gone", "shared_memory_byte_size": 16}, {}, "'gone' is not registered"),
        ({"shared_memory_region": "r", "shared_memory_byte_size": 12}, {}, "'x'"),
        ({"shared_memory_region": "r", "shared_memory_byte_size": 16}, {"data": [1, 2, 3, 4]}, "got several"),
    ],
)
def test_a_place_that_is_none_names_the_input(
    regions: Regions, memory: SharedMemory, parameters: dict[str, Any], further: dict[str, Any], says: str
) -> None:
    regions.register("r", key(memory), 0, 64)
    tensor = {"name": "x", "datatype": "FP32", "shape": [1, 4], "parameters": parameters, **further}
    with pytest.raises(InvalidInput, match=says):
        RequestDecoder(SIGNATURE).decode(json.dumps({"inputs": [tensor]}).encode(), None)


def test_the_gateway_answers_tritons_paths(regions: Regions, memory: SharedMemory) -> None:
    from serve_app.http.shared_memory_routes import answer

    answer("system", "r", "register", {"key": key(memory), "offset": 0, "byte_size": 64})
    assert json.loads(answer("system", "", "status", {}).body)[0]["name"] == "r"
    assert json.loads(answer("cuda", "", "status", {}).body) == []
    answer("cuda", "", "unregister", {})
    with pytest.raises(InvalidInput, match="CUDA shared memory is not supported"):
        answer("cuda", "r", "register", {})
    answer("system", "", "unregister", {})
    assert regions.status() == []


def test_a_grpc_request_leaves_its_tensors_there(regions: Regions, memory: SharedMemory) -> None:
    from tests.grpc.test_codec import GrpcCodec, identity

    regions.register("r", key(memory), 0, 64)
    memory.buf[:2] = b"\x05\x06"
    message = ModelInferRequest(model_name="identity")
    tensor = message.inputs.add(name="x", datatype="UINT8", shape=[1, 2])
    codec = GrpcCodec(identity("uint8"))
    wanted = message.outputs.add(name=codec._output_types[0][0])
    for entry, offset in ((tensor, 0), (wanted, 8)):
        entry.parameters["shared_memory_region"].string_param = "r"
        entry.parameters["shared_memory_byte_size"].int64_param = 2
        entry.parameters["shared_memory_offset"].int64_param = offset
    message.model_name = codec._name
    tensor.name = next(iter(codec._inputs))
    decoded = codec.decode(message)
    response = codec.encode((decoded.inputs[tensor.name],), decoded)
    assert bytes(memory.buf[8:10]) == b"\x05\x06"
    assert list(response.raw_output_contents) == [b""]
    assert response.outputs[0].parameters["shared_memory_region"].string_param == "r"
