"""The service's calls at the gateway: about the server, and those for a model that nobody else could route.

Serve's front door routes a call to its model by metadata or by the name in it. What is left comes here: streams
without metadata (each of their requests names its own model), compressed requests, models that are unknown or not
ready. Requests are passed on as bytes, over one channel to the same front door, with the metadata added.
"""

from __future__ import annotations

from typing import Any

import grpc

from deployments.errors import InvalidInput
from serve_app.cluster import controller
from serve_app.cluster.directory import DeployedModel, Directory, not_ready, pick, unknown
from serve_app.cluster.model_control import ModelControl
from serve_app.config.gateway_args import GatewayArgs
from serve_app.config.tokens import Tokens
from serve_app.grpc.guarded_calls import OPEN_METHODS, Metadata, metadata_authorization
from serve_app.grpc.messages import SERVICE, Encoded, ModelInferResponse, message
from serve_app.grpc.model_calls import fill, parse
from serve_app.grpc.request_names import model_name_of, model_version_of
from serve_app.grpc.statuses import PassedOn
from serve_app.http.shared_memory_routes import NO_CUDA
from serve_app.protocols import shared_memory
from serve_app.protocols.server import server_metadata

_UNLIMITED = [("grpc.max_send_message_length", -1), ("grpc.max_receive_message_length", -1)]
"""Sizes are the replicas' to judge: each model has its own limit."""


class GatewayCalls:
    """Answers the calls about the server, and passes those about a model on to it, which asks for its own tokens.

    `tokens` close what is answered here, down to the name of a model that does not exist.
    """

    def __init__(
        self, directory: Directory, address: str, tokens: Tokens | None = None, control: ModelControl | None = None
    ) -> None:
        self.control = control or ModelControl(GatewayArgs())
        self.tokens = tokens
        self.directory = directory
        self.address = address
        self._channel: grpc.aio.Channel | None = None

    @classmethod
    def to_front_door(
        cls, directory: Directory, tokens: Tokens | None = None, control: ModelControl | None = None
    ) -> GatewayCalls:
        """Return the calls over this cluster's own gRPC address, as Serve's controller knows it."""
        return cls(directory, controller.grpc_address(controller.serve_details()), tokens, control)

    async def call(self, method: str, body: bytes, metadata: Metadata = ()) -> Any:
        """Answer the call `method`, whose request is `body`."""
        if method.startswith("Model"):
            return await self._about_model(method, body, metadata)
        request = parse(message(f"{method}Request"), body)
        if method in ("RepositoryModelLoad", "RepositoryModelUnload"):
            return await self._control(method, request, metadata)
        if method not in OPEN_METHODS:
            self._check(metadata)
        if "SharedMemory" in method:
            return fill(method, shared_memory_answer(method, request))
        if method == "ServerMetadata":
            return fill(method, server_metadata())
        if method == "RepositoryIndex":
            index = self.control.index(await self.directory.models())
            return fill(method, {"models": [_entry(m) for m in index if m.state == "READY" or not request.ready]})
        ready = self.control.is_ready(await self.directory.models())
        return fill(method, {"live": True} if method == "ServerLive" else {"ready": ready})

    async def _control(self, method: str, request: Any, metadata: Metadata) -> Any:
        """Load or unload a model; the token asked for is the administrator's alone."""
        if self.control.mode != "explicit":
            self._check(metadata)
        act = self.control.load if method == "RepositoryModelLoad" else self.control.unload
        parameters = {key: _value(parameter) for key, parameter in request.parameters.items()}
        await act(request.model_name, parameters, metadata_authorization(metadata))
        self.directory.expire()
        return message(f"{method}Response")()

    async def infer(self, body: bytes, metadata: Metadata = ()) -> Any:
        """Pass one request of a stream on to its model."""
        model = await self._find("ModelInfer", body, metadata)
        return ModelInferResponse.FromString(await self._pass_on("ModelInfer", body, model, metadata))

    async def _about_model(self, method: str, body: bytes, metadata: Metadata) -> Any:
        name = model_name_of(method, body)
        if method == "ModelStatistics" and not name:
            return await self._all_statistics(body, metadata)
        if method == "ModelReady":
            # Triton's answer for a model that is unknown or down is "no", not an error.
            version = model_version_of(method, body)
            found = pick(await self.directory.models(), name, version, self.directory.traffic)
            if found is None or found.state != "READY":
                return fill(method, {"ready": False})
        return Encoded(await self._pass_on(method, body, await self._find(method, body, metadata), metadata))

    async def _all_statistics(self, body: bytes, metadata: Metadata) -> Any:
        self._check(metadata)
        response = message("ModelStatisticsResponse")()
        for model in sorted((await self.directory.models()).values(), key=lambda model: model.name):
            if model.state == "READY":
                try:
                    response.MergeFromString(await self._pass_on("ModelStatistics", body, model, metadata))
                except PassedOn as error:
                    # A model whose token is another one is left out, as if it were not there.
                    if error.code != grpc.StatusCode.UNAUTHENTICATED:
                        raise
        return response

    def _check(self, metadata: Metadata) -> None:
        if self.tokens is not None:
            self.tokens.check(metadata_authorization(metadata))

    async def _find(self, method: str, body: bytes, metadata: Metadata) -> DeployedModel:
        """Return a model that can answer now; raise `UnknownModel` or `NotReady`."""
        models = await self.directory.models()
        name, version = model_name_of(method, body), model_version_of(method, body)
        model = pick(models, name, version, self.directory.traffic)
        if model is None or model.state != "READY":
            self._check(metadata)
        if model is None:
            # A version that a model does not have is its own to refuse, where it has no other beside it.
            model = pick(models, name)
        if model is None or (model.is_beside_others and version not in (None, model.version)):
            raise unknown(models, name, version)
        if model.state != "READY":
            raise not_ready(model)
        return model

    async def _pass_on(self, method: str, body: bytes, model: DeployedModel, metadata: Metadata) -> bytes:
        if self._channel is None:
            # Made on first use, because it belongs to the running event loop.
            self._channel = grpc.aio.insecure_channel(self.address, _UNLIMITED)
        offered = tuple((key, value) for key, value in metadata if key == "authorization")
        try:
            answer: bytes = await self._channel.unary_unary(f"/{SERVICE}/{method}")(
                body, metadata=(("application", model.app_name), *offered)
            )
        except grpc.aio.AioRpcError as error:
            raise PassedOn(error.details() or "", error.code()) from None
        return answer


def shared_memory_answer(method: str, request: Any) -> dict[str, Any]:
    """Do what a call about shared memory asks, and return its answer's content."""
    regions = shared_memory.regions()
    if method.startswith("Cuda"):
        # There is none, so there is nothing to tell of or to forget.
        if method.endswith("Register"):
            raise InvalidInput(NO_CUDA)
        return {}
    if method.endswith("Status"):
        return {"regions": {region["name"]: region for region in regions.status(request.name)}}
    if method == "SystemSharedMemoryRegister":
        regions.register(request.name, request.key, request.offset, request.byte_size)
    else:
        regions.unregister(request.name)
    return {}


def _value(parameter: Any) -> Any:
    kind = parameter.WhichOneof("parameter_choice")
    return None if kind is None else getattr(parameter, kind)


def _entry(model: DeployedModel) -> dict[str, str]:
    return {"name": model.name, "version": model.version, "state": model.state, "reason": model.reason}
