"""The service's calls for one model: bytes of a request to the message that answers it, errors raised.

A model that is an application of its own also answers the calls about the server, for where it is the only one.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from google.protobuf import json_format
from google.protobuf.message import DecodeError

from deployments.errors import InvalidInput, ModelsAreDeclared
from deployments.servable import Servable
from serve_app.grpc.codec import GrpcCodec
from serve_app.grpc.guarded_calls import Metadata
from serve_app.grpc.messages import ModelInferRequest, message
from serve_app.protocols.errors import BodyTooLarge
from serve_app.protocols.open_inference import metadata as model_metadata
from serve_app.protocols.server import server_metadata


class ModelCalls:
    """Answers every unary call of the service for one model version."""

    def __init__(self, servable: Servable, max_body_bytes: int) -> None:
        self.servable = servable
        self.max_body_bytes = max_body_bytes
        self._codec = GrpcCodec(servable)

    async def infer(self, body: bytes, metadata: Metadata = ()) -> Any:  # noqa: ARG002 - the gateway's needs it
        """Answer a `ModelInferRequest`; every failure is counted here and raised on."""
        with self.servable.counted() as request:
            if len(body) > self.max_body_bytes:
                raise BodyTooLarge(self.max_body_bytes)
            decoded = self._codec.decode(parse(ModelInferRequest, body))
            request.decoded(decoded.inputs)
            deadline_s = None if decoded.timeout_s is None else request.started_ns / 1e9 + decoded.timeout_s
            answer = await self.servable.predict(decoded.inputs, deadline_s, decoded.step)
            request.answered(answer)
            return self._codec.encode(answer.outputs, decoded)

    async def call(self, method: str, body: bytes, metadata: Metadata = ()) -> Any:  # noqa: ARG002
        """Answer the call `method`, whose request is `body`."""
        if method == "ModelInfer":
            return await self.infer(body)
        if method.startswith("Model"):
            return self._about_model(method, body)
        return self._about_server(method, body)

    def _about_model(self, method: str, body: bytes) -> Any:
        request = parse(message(f"{method}Request"), body)
        if method == "ModelReady":
            # Triton's answer for a model that is unknown is "no", not an error.
            is_this = self._codec.is_known(request.name, request.version)
            return fill(method, {"ready": is_this and self.servable.is_ready()})
        if request.name or method != "ModelStatistics":
            self._codec.require_known(request.name, request.version)
        if method == "ModelMetadata":
            return fill(method, model_metadata.metadata(self.servable))
        if method == "ModelConfig":
            return fill(method, {"config": model_metadata.config(self.servable)})
        return fill(method, {"model_stats": [model_metadata.statistics(self.servable)]})

    def _about_server(self, method: str, body: bytes) -> Any:
        request = parse(message(f"{method}Request"), body)
        ready = self.servable.is_ready()
        if method in ("RepositoryModelLoad", "RepositoryModelUnload"):
            raise ModelsAreDeclared(request.model_name, method.removeprefix("RepositoryModel").lower())
        if "SharedMemory" in method:
            raise InvalidInput("shared memory is the gateway's to register; there is none here")
        if method == "ServerMetadata":
            return fill(method, server_metadata())
        if method == "RepositoryIndex":
            state = "READY" if ready else "UNAVAILABLE"
            model = {"name": self.servable.name, "version": self.servable.version, "state": state, "reason": ""}
            return fill(method, {"models": [model] if ready or not request.ready else []})
        return fill(method, {"live": True} if method == "ServerLive" else {"ready": ready})


def parse(kind: Any, body: bytes) -> Any:
    """Return the message of class `kind` in `body`; raise `InvalidInput` where it is none."""
    try:
        return kind.FromString(body)
    except DecodeError:
        raise InvalidInput(f"expected a {kind.DESCRIPTOR.full_name}; the request's bytes are none") from None


def fill(method: str, content: Mapping[str, Any]) -> Any:
    """Return the response of `method` with `content`, members that the message lacks left out."""
    return json_format.ParseDict(dict(content), message(f"{method}Response")(), ignore_unknown_fields=True)
