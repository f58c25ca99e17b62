"""NaN and infinities through every protocol: what goes in comes out of `x / 2 + 2`, or is refused by name."""

from __future__ import annotations

import json
import math
from typing import Any

import numpy as np

from serve_app.grpc.messages import ModelInferResponse, message
from tests.hostile.bodies import infer, predict
from tests.hostile.cases import ANSWER_S, Tally
from tests.hostile.rpc import Call, Caller
from tests.hostile.wire import Connection
from tests.support.routes_harness import binary_request

SPECIAL = (math.nan, math.inf, -math.inf, 1.0, 3.4028234663852886e38, -0.0, 1e-45)
TOKENS = "[" + ",".join(json.dumps(value) for value in SPECIAL) + "]"
X = np.array(SPECIAL, np.float32)
WANTED = X / 2 + 2


async def check_numbers(port: int, caller: Caller) -> Tally:
    """Return a tally of one case a protocol and direction; a number that changed on its way is a finding."""
    tally, connection = Tally("NaN and infinity through every protocol"), Connection(port)
    shape = f'"shape":[{len(SPECIAL)}]'
    text = f'{{"inputs":[{{"name":"x",{shape},"datatype":"FP32","data":{TOKENS}}}]'.encode()
    body, headers = binary_request([("x", "FP32", X.shape, X.tobytes())], parameters={"binary_data_output": True})
    length = headers["Inference-Header-Content-Length"]
    asked = {
        "v2 JSON": (infer("half_plus_two", text + b"}"), _v2),
        "v2 JSON to binary": (infer("half_plus_two", text + b',"parameters":{"binary_data_output":true}}'), _tail),
        "v2 binary": (infer("half_plus_two", body, ("Inference-Header-Content-Length", length)), _tail),
        "v2 raw": (infer("half_plus_two", X.tobytes(), ("Inference-Header-Content-Length", "0")), _tail),
        "v1 rows": (
            predict("half_plus_two", b'{"instances":%b}' % TOKENS.encode()),
            lambda got: json.loads(got)["predictions"],
        ),
        "v1 columns": (
            predict("half_plus_two", b'{"inputs":%b}' % TOKENS.encode()),
            lambda got: json.loads(got)["outputs"],
        ),
    }
    for way, (request, values) in asked.items():
        reply = await connection.ask(request.encode())
        _compare(tally, way, reply.status, reply.body, values)
    connection.close()
    for way, request in (("gRPC raw", _grpc(raw=True)), ("gRPC typed", _grpc(raw=False))):
        code, _, answer = await caller.call(Call("ModelInfer", request), ANSWER_S)
        _compare(tally, way, code.name, answer, lambda got: ModelInferResponse.FromString(got).raw_output_contents[0])
    await _too_large(port, tally)
    return tally


def _v2(body: bytes) -> Any:
    return json.loads(body)["outputs"][0]["data"]


def _tail(body: bytes) -> bytes:
    return body[-X.nbytes :]


def _grpc(raw: bool) -> bytes:
    request = message("ModelInferRequest")(model_name="half_plus_two")
    tensor = request.inputs.add(name="x", datatype="FP32", shape=X.shape)
    if raw:
        request.raw_input_contents.append(X.tobytes())
    else:
        tensor.contents.fp32_contents.extend(SPECIAL)
    sent: bytes = request.SerializeToString()
    return sent


def _compare(tally: Tally, way: str, status: int | str, body: bytes, values: Any) -> None:
    tally.count(str(status), 0.0)
    if status not in (200, "OK"):
        tally.found(f"status {status}", way.encode())
        return
    got = values(body)
    got = np.frombuffer(got, np.float32) if isinstance(got, bytes) else np.array(got, np.float64).astype(np.float32)
    if got.shape != WANTED.shape or not np.allclose(got, WANTED, rtol=1e-6, atol=0, equal_nan=True):
        tally.found(f"{got.tolist()} instead of {WANTED.tolist()}", way.encode())


async def _too_large(port: int, tally: Tally) -> None:
    """1e39 is finite but no float32: refused, never infinity; so are null, "NaN" and true for NaN."""
    connection = Connection(port)
    for value in ("1e39", "-1e39", "1e400", "1" + "0" * 39, "null", '"NaN"', "true", "[NaN]", "nan"):
        text = f'{{"inputs":[{{"name":"x","shape":[1],"datatype":"FP32","data":[{value}]}}]}}'
        for request in (
            infer("half_plus_two", text.encode()),
            predict("half_plus_two", f'{{"instances":[{value}]}}'.encode()),
        ):
            if value == "[NaN]" and ":predict" not in request.path:
                continue  # a nested list of as many values is legal there
            reply = await connection.ask(request.encode())
            tally.count(str(reply.status), 0.0)
            if reply.status != 400:
                tally.found(f"status {reply.status} {reply.body[:200]!r}", request.body)
    connection.close()
