"""The same prediction through every door of one server, and what metrics and receipts cost.

    .venv/bin/python -m bench.doors            # about two minutes; writes bench/results/doors.json

One client, digits, all doors taking turns call by call, so that whatever else the machine does meets all alike. HTTP
goes over one bare keep-alive socket a door, so that no client library is measured; gRPC by tritonclient, as its users
have it, and by a bare `grpc` stub.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from bench import machine, served, stopping
from bench.client import Call, bare_socket, show, take_turns
from serve_app.load.request import Request

ROOT = Path(__file__).resolve().parent.parent
OUT = Path(__file__).parent / "results" / "doors.json"
SETTINGS: Mapping[str, Mapping[str, bool]] = {
    "digits": {},
    "no-metrics": {"metrics": False},
    "no-receipt": {"server_timing": False},
    "neither": {"metrics": False, "server_timing": False},
}
GRPC_PORT = 9231


def main() -> None:
    stopping.on_sigterm()
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--calls", type=int, default=1500, help="of each door")
    parser.add_argument("--port", type=int, default=8230)
    parser.add_argument("--out", type=Path, default=OUT)
    options = parser.parse_args()
    with server(options.port) as base:
        doors = take_turns({**http_doors(base), **grpc_doors()}, options.calls)
        show("one digit, 1 client", doors)
        settings = {f"JSON, {name}": http(base, name, json_body()) for name in SETTINGS}
        costs = take_turns(settings, 2 * options.calls)
        show("what a setting costs", costs)
    report = {"machine": machine.describe(), "calls": options.calls, "doors": doors, "settings": costs}
    options.out.write_text(json.dumps(report, indent=1) + "\n")


@contextmanager
def server(port: int) -> Iterator[str]:
    """Serve digits once for every setting; yield the base URL."""
    digits = str(ROOT / "models" / "digits.keras")
    labels = [str(digit) for digit in range(10)]
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        applications = [
            served.application(name, digits, {"labels": labels, "plan_cache": str(Path(folder, "plans")), **setting})
            for name, setting in SETTINGS.items()
        ]
        with served.serve(Path(folder), applications, port, grpc_port=GRPC_PORT):
            yield f"http://127.0.0.1:{port}"


def image() -> np.ndarray:
    return np.random.default_rng(7).random((1, 28, 28, 1), np.float32)


def json_body() -> bytes:
    tensor = {"name": "image", "shape": [1, 28, 28, 1], "datatype": "FP32", "data": image().ravel().tolist()}
    return json.dumps({"inputs": [tensor]}).encode()


def http(base: str, name: str, body: bytes, path: str = "/v2/models/{}/infer", **headers: str) -> Call:
    fields = {key.replace("_", "-"): value for key, value in headers.items()}
    request = Request(base + path.format(name), body, fields)
    return bare_socket(request.address, request.wire())


def http_doors(base: str) -> dict[str, Call]:
    x = image()
    tensor = {"name": "image", "shape": x.shape, "datatype": "FP32", "parameters": {"binary_data_size": x.nbytes}}
    head = json.dumps({"inputs": [tensor], "parameters": {"binary_data_output": True}}).encode()
    png = (ROOT / "examples" / "digits" / "seven.png").read_bytes()
    rows = json.dumps({"instances": x.tolist()}).encode()
    return {
        "Open Inference, JSON": http(base, "digits", json_body()),
        "Open Inference, binary": http(
            base, "digits", head + x.tobytes(), Inference_Header_Content_Length=str(len(head))
        ),
        "PNG": http(base, "digits", png, Content_Type="image/png"),
        "TensorFlow Serving, straight": http(base, "digits", rows, "/v1/models/{}:predict"),
        # HAProxy's rule looks for the colon itself; escaped, the path reaches the gateway, which passes it on.
        "TensorFlow Serving, by the gateway": http(base, "digits", rows, "/v1/models/{}%3Apredict"),
    }


def grpc_doors() -> dict[str, Call]:
    import grpc
    import tritonclient.grpc as triton

    client = triton.InferenceServerClient(f"127.0.0.1:{GRPC_PORT}")
    tensor = triton.InferInput("image", [1, 28, 28, 1], "FP32")
    tensor.set_data_from_numpy(image())

    def infer(**options: Any) -> Call:
        return lambda: client.infer("digits", [tensor], **options)

    channel = grpc.insecure_channel(f"127.0.0.1:{GRPC_PORT}")
    # tritonclient's own message, as bytes, so that the stub neither builds nor parses one.
    message = triton._utils._get_inference_request(
        model_name="digits", inputs=[tensor], model_version="", request_id="", outputs=None, sequence_id=0,
        sequence_start=False, sequence_end=False, priority=0, timeout=None, parameters=None,
    ).SerializeToString()  # fmt: skip
    bare = channel.unary_unary("/inference.GRPCInferenceService/ModelInfer")
    return {
        "gRPC, tritonclient, with application": infer(headers={"application": "digits"}),
        "gRPC, tritonclient, without metadata": infer(),
        "gRPC, tritonclient, by the gateway (compressed)": infer(compression_algorithm="gzip"),
        "gRPC, a bare stub, without metadata": lambda: bare(message),
    }


if __name__ == "__main__":
    main()
