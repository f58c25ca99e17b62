"""The methods that Serve looks up on an ingress class, one for each call of the service, by the call's name."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from functools import cached_property
from typing import Any

from serve_app.cluster.directory import Directory
from serve_app.cluster.model_control import ModelControl
from serve_app.config.tokens import Tokens
from serve_app.grpc.gateway_calls import GatewayCalls
from serve_app.grpc.guarded_calls import Calls, Metadata, guarded_calls
from serve_app.grpc.messages import Encoded
from serve_app.grpc.model_calls import ModelCalls
from serve_app.grpc.statuses import fail
from serve_app.grpc.streams import answer_stream


def _unary(name: str) -> Callable[..., Awaitable[Any]]:
    async def method(self: GrpcMethods, request: bytes, grpc_context: Any) -> Any:
        try:
            return await self.grpc_calls.call(name, request, grpc_context.invocation_metadata())
        except Exception as error:
            fail(grpc_context, error)
            return Encoded()

    method.__name__ = name
    return method


class GrpcMethods:
    """Mixin of an ingress class whose `grpc_calls` answer `inference.GRPCInferenceService`."""

    grpc_calls: Calls

    ServerLive = _unary("ServerLive")
    ServerReady = _unary("ServerReady")
    ServerMetadata = _unary("ServerMetadata")
    ModelReady = _unary("ModelReady")
    ModelMetadata = _unary("ModelMetadata")
    ModelConfig = _unary("ModelConfig")
    ModelStatistics = _unary("ModelStatistics")
    ModelInfer = _unary("ModelInfer")
    RepositoryIndex = _unary("RepositoryIndex")
    RepositoryModelLoad = _unary("RepositoryModelLoad")
    RepositoryModelUnload = _unary("RepositoryModelUnload")
    SystemSharedMemoryStatus = _unary("SystemSharedMemoryStatus")
    SystemSharedMemoryRegister = _unary("SystemSharedMemoryRegister")
    SystemSharedMemoryUnregister = _unary("SystemSharedMemoryUnregister")
    CudaSharedMemoryStatus = _unary("CudaSharedMemoryStatus")
    CudaSharedMemoryRegister = _unary("CudaSharedMemoryRegister")
    CudaSharedMemoryUnregister = _unary("CudaSharedMemoryUnregister")

    async def ModelStreamInfer(self, requests: Any, grpc_context: Any) -> AsyncIterator[Any]:  # noqa: N802
        """Answer a stream of requests; see `answer_stream`."""
        metadata: Metadata = grpc_context.invocation_metadata()
        async for response in answer_stream(requests, lambda body: self.grpc_calls.infer(body, metadata)):
            yield response


class ModelGrpcMethods(GrpcMethods):
    """`GrpcMethods` of a model's replica, which has a `servable` and `surface.limits`."""

    servable: Any
    surface: Any
    tokens: Tokens | None = None

    @cached_property
    def grpc_calls(self) -> Calls:  # type: ignore[override]
        """The calls for this replica's model."""
        return guarded_calls(ModelCalls(self.servable, self.surface.limits.max_body_bytes), self.tokens)


class GatewayGrpcMethods(GrpcMethods):
    """`GrpcMethods` of the gateway, which has a `directory` of the models."""

    directory: Directory
    control: ModelControl
    tokens: Tokens | None = None

    @cached_property
    def grpc_calls(self) -> Calls:  # type: ignore[override]
        """The calls over this cluster's front door."""
        return GatewayCalls.to_front_door(self.directory, self.tokens, self.control)
