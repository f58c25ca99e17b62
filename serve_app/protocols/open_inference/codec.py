"""The Open Inference Protocol (KServe v2): its paths below a model, and its codec, JSON and binary."""

from __future__ import annotations

from deployments.errors import InvalidInput, NotReady
from deployments.servable import Servable
from deployments.tensors import Arrays
from serve_app.protocols.codec import BINARY, Headers, Response, Route, json_response
from serve_app.protocols.errors import UnknownPath
from serve_app.protocols.open_inference import metadata
from serve_app.protocols.open_inference.request import InferRequest, RequestDecoder
from serve_app.protocols.open_inference.response import ResponseEncoder

JSON_BYTES_HEADER = b"inference-header-content-length"


class OpenInference:
    """The Open Inference Protocol, JSON and binary."""

    takes_images = True

    def __init__(self, servable: Servable) -> None:
        self._decoder = RequestDecoder(servable.signature)
        self._encoder = ResponseEncoder(servable.name, servable.version, servable.signature, servable.labels)

    def decode(self, body: bytes, headers: Headers) -> InferRequest:
        """Return the request; the header Inference-Header-Content-Length says where its JSON ends."""
        header = headers.get(JSON_BYTES_HEADER)
        json_bytes = None if header is None else _json_bytes(header, len(body))
        return self._decoder.decode(body, json_bytes)

    def encode(self, outputs: Arrays, request: InferRequest) -> Response:
        """Return the answer, with the same header where it ends in binary tensors."""
        body, json_bytes = self._encoder.encode(outputs, request.wanted, request.request_id)
        if json_bytes is None:
            return Response(body)
        # Triton's own spelling; HTTP does not care, grep does.
        return Response(body, 200, BINARY, ((b"inference-header-content-length", b"%d" % json_bytes),))

    def is_quick(self, body: bytes) -> bool:  # noqa: ARG002 - conversions in C that keep the interpreter anyway
        """Return True: a thread would gain nothing."""
        return True


def _json_bytes(header: bytes, body_bytes: int) -> int:
    """Return the header's value, a whole number within the body's length; raise `InvalidInput` else."""
    if not header.isdigit() or len(header) > 18 or int(header) > body_bytes:
        raise InvalidInput(
            f"Inference-Header-Content-Length: expected a whole number from 0 to {body_bytes}, the body's length, "
            f"got '{header[:40].decode('latin-1')}'"
        )
    return int(header)


def _ready(servable: Servable) -> Response:
    if not servable.is_ready():
        raise NotReady(f"model '{servable.name}' is not ready")
    return json_response({"name": servable.name, "ready": True})


def _plan(servable: Servable) -> Response:
    if servable.plan_report is None:
        raise UnknownPath(f"model '{servable.name}' has no plan")
    return json_response(servable.plan_report())


PREFIX = "/v2/models/{name}"
ROUTES = (
    Route("", tells=lambda servable: json_response(metadata.metadata(servable))),
    Route("/ready", tells=_ready),
    Route("/config", tells=lambda servable: json_response(metadata.config(servable))),
    Route("/stats", tells=lambda servable: json_response({"model_stats": [metadata.statistics(servable)]})),
    Route("/plan", tells=_plan),
    Route("/infer", predicts=OpenInference),
)
