"""Requests for the models of `tests.faults.models`, and what a right answer to each holds, to the last bit."""

from __future__ import annotations

import dataclasses
import json

import numpy as np

from tests.faults.client import Target, is_protocol_form

BINARY = "application/octet-stream"


def numbers(port: int, name: str = "numbers", grpc_port: int = 0) -> Target:
    """Return the JSON request of one row of 16 numbers."""
    row = np.arange(16, dtype=np.float32)
    tensor = {"name": "x", "shape": [1, 16], "datatype": "FP32", "data": row.tolist()}
    body = json.dumps({"inputs": [tensor]}).encode()

    def check(headers: dict[str, str], body: bytes) -> str | None:
        answer = json.loads(body)
        values = np.array(answer["outputs"][0]["data"], np.float32)
        return wrong(answer["model_version"], values, row)

    target = Target.post(port, f"/v2/models/{name}/infer", body, check, Content_Type="application/json")
    return _typed(target, name, row[None], row, grpc_port)


def _typed(target: Target, name: str, row: np.ndarray, unscaled: np.ndarray, grpc_port: int) -> Target:
    """Return the target with what clients need that write the request themselves."""

    def check(version: str, values: np.ndarray) -> str | None:
        return wrong(version, values, unscaled)

    return dataclasses.replace(target, model=name, row=row, check_values=check, grpc_port=grpc_port)


def negative(port: int, name: str) -> Target:
    """Return a JSON request that `picky` fails on, and says so: a right answer is that error."""
    tensor = {"name": "x", "shape": [1, 16], "datatype": "FP32", "data": [-1.0] * 16}

    def check(headers: dict[str, str], body: bytes) -> str | None:
        return None if is_protocol_form(headers, body) and b"failed on this input" in body else body[:80].decode()

    body = json.dumps({"inputs": [tensor]}).encode()
    target = Target.post(port, f"/v2/models/{name}/infer", body, check, Content_Type="application/json")
    return dataclasses.replace(target, status=500)


def picture(port: int, name: str = "picture", grpc_port: int = 0) -> Target:
    """Return the binary request of one picture, 602 KB."""
    pixels = np.random.default_rng(3).integers(0, 256, (1, 224, 224, 3)).astype(np.float32)
    tensor = {
        "name": "x",
        "shape": list(pixels.shape),
        "datatype": "FP32",
        "parameters": {"binary_data_size": pixels.nbytes},
    }
    head = json.dumps({"inputs": [tensor], "parameters": {"binary_data_output": True}}).encode()
    largest = pixels.max(axis=(0, 1, 2))

    def check(headers: dict[str, str], body: bytes) -> str | None:
        length = int(headers["inference-header-content-length"])
        return wrong(json.loads(body[:length])["model_version"], np.frombuffer(body[length:], "<f4"), largest)

    body, lengths = head + pixels.tobytes(), {"Inference_Header_Content_Length": len(head)}
    target = Target.post(port, f"/v2/models/{name}/infer", body, check, Content_Type=BINARY, **lengths)
    return _typed(target, name, pixels, largest, grpc_port)


def wrong(version: str, got: np.ndarray, unscaled: np.ndarray) -> str | None:
    """Return what is wrong: version N of a model answers its input times N, and says that it is version N."""
    want = unscaled * np.float32(version)
    return None if got.tobytes() == want.tobytes() else f"version {version} answered {got[:4].tolist()}"
