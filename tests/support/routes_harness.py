"""Models made of numpy functions, and a client that calls an ASGI app directly."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import ml_dtypes
import numpy as np

from deployments.errors import PredictionFailed
from deployments.execution import Answer
from deployments.servable import Servable
from deployments.tensors import STRING, Rows, Signature, TensorSpec
from serve_app.config.surface import Limits
from serve_app.http.model_routes import ModelRoutes

Arrays = tuple[np.ndarray, ...]

LOOP = asyncio.new_event_loop()
"""One loop for all calls: `asyncio.run` makes and closes one each time, 1 ms that fuzzing pays thousands of times."""


@dataclass
class DirectCoalescer:
    """Runs every request alone, at once, by a numpy function."""

    function: Callable[..., Arrays]
    error: Exception | None = None
    seen_deadline_s: float | None = None

    async def submit(self, rows: Rows, deadline_s: float | None = None) -> Answer:
        self.seen_deadline_s = deadline_s
        if self.error is not None:
            raise self.error
        try:
            outputs = self.function(*rows.arrays)
        except ArithmeticError as error:
            raise PredictionFailed(f"the model failed: {error}") from error
        return Answer(outputs, queue_ns=1000, compute_ns=2000, batch_rows=rows.count)


def spec(name: str, dtype: Any, *inner: int | None) -> TensorSpec:
    return TensorSpec(name, STRING if dtype is bytes else np.dtype(dtype), (None, *inner))


def servable(
    name: str,
    inputs: Iterable[TensorSpec],
    outputs: Iterable[TensorSpec],
    function: Callable[..., Arrays],
    **options: Any,
) -> Servable:
    signature = Signature(tuple(inputs), tuple(outputs))
    return Servable(name, options.pop("version", "1"), signature, DirectCoalescer(function), 32, **options)


WEIGHTS = np.linspace(-1, 1, 16 * 10, dtype=np.float32).reshape(16, 10)


def dense(**options: Any) -> Servable:
    """`scores [batch, 10] = x [batch, 16] @ WEIGHTS`."""
    return servable(
        "dense", [spec("x", "float32", 16)], [spec("scores", "float32", 10)], lambda x: (x @ WEIGHTS,), **options
    )


def simple() -> Servable:
    """Triton's example: INT32 [16] twice, their sum and difference."""
    shape = ("int32", 16)
    return servable(
        "simple",
        [spec("INPUT0", *shape), spec("INPUT1", *shape)],
        [spec("OUTPUT0", *shape), spec("OUTPUT1", *shape)],
        lambda a, b: (a + b, a - b),
    )


def simple_string() -> Servable:
    """Triton's example: strings of whole numbers, their sum and difference as strings."""

    def add_sub(a: np.ndarray, b: np.ndarray) -> Arrays:
        left, right = a.astype(int), b.astype(int)
        return tuple(np.vectorize(lambda n: str(n).encode(), otypes=[object])(v) for v in (left + right, left - right))

    return servable(
        "simple_string",
        [spec("INPUT0", bytes, 16), spec("INPUT1", bytes, 16)],
        [spec("OUTPUT0", bytes, 16), spec("OUTPUT1", bytes, 16)],
        add_sub,
    )


def identity(dtype: Any, *inner: int | None, name: str = "identity", **options: Any) -> Servable:
    """`y = x`, of any dtype and shape."""
    return servable(name, [spec("x", dtype, *inner)], [spec("y", dtype, *inner)], lambda x: (x,), **options)


BFLOAT16 = np.dtype(ml_dtypes.bfloat16)


@dataclass
class Reply:
    status: int
    headers: dict[bytes, bytes]
    body: bytes

    def json(self) -> Any:
        json_bytes = self.headers.get(b"inference-header-content-length")
        return json.loads(self.body[: int(json_bytes)] if json_bytes else self.body)

    @property
    def error(self) -> str:
        assert self.headers[b"content-type"] == b"application/json"
        error = self.json()
        assert list(error) == ["error"]
        return error["error"]


def call(
    app: ModelRoutes,
    path: str,
    body: bytes | list[bytes] | dict[str, Any] = b"",
    method: str = "POST",
    headers: Mapping[str, str] | None = None,
) -> Reply:
    """Send one request straight into `app`; a list is a chunked body."""
    if isinstance(body, dict):
        body = json.dumps(body).encode()
    chunks = list(body) if isinstance(body, list) else [body]
    pending = [
        {"type": "http.request", "body": chunk, "more_body": i + 1 < len(chunks)} for i, chunk in enumerate(chunks)
    ]
    sent: list[Any] = []

    async def receive() -> Any:
        # Whoever has sent all of a request waits for its answer.
        return pending.pop(0) if pending else await asyncio.get_running_loop().create_future()

    async def send(message: Any) -> None:
        sent.append(message)

    fields = [(key.lower().encode(), value.encode("latin-1")) for key, value in (headers or {}).items()]
    if not isinstance(body, list):
        fields.append((b"content-length", str(len(body)).encode()))
    scope = {"type": "http", "method": method, "path": path, "root_path": "", "headers": fields}
    LOOP.run_until_complete(app(scope, receive, send))
    start, *parts = sent
    reply = Reply(start["status"], dict(start["headers"]), b"".join(part["body"] for part in parts))
    assert int(reply.headers[b"content-length"]) == len(reply.body)
    return reply


def get(app: ModelRoutes, path: str) -> Reply:
    return call(app, path, method="GET")


def routes(model: Servable, **limits: Any) -> ModelRoutes:
    return ModelRoutes(model, Limits(**limits))


def tensor(name: str, array: np.ndarray, datatype: str, **extra: Any) -> dict[str, Any]:
    return {"name": name, "shape": list(array.shape), "datatype": datatype, "data": array.ravel().tolist(), **extra}


def binary_request(
    tensors: Iterable[tuple[str, str, tuple[int, ...], bytes]], **message: Any
) -> tuple[bytes, dict[str, str]]:
    """Return a binary request's body and headers; tensors are (name, datatype, shape, bytes)."""
    tensors = list(tensors)
    inputs = [
        {"name": name, "shape": list(shape), "datatype": datatype, "parameters": {"binary_data_size": len(raw)}}
        for name, datatype, shape, raw in tensors
    ]
    text = json.dumps({"inputs": inputs, **message}).encode()
    return text + b"".join(raw for *_, raw in tensors), {"Inference-Header-Content-Length": str(len(text))}
