"""`add_to_server`: what `grpc_options.grpc_servicer_functions` names, called by every gRPC server that Serve starts.

Messages stay bytes on both sides here: the replica alone decodes them. In Serve's Python proxy the handlers also add
the `application` metadata that it routes by, from the model's name in the request, where a client sent none; HAProxy
does the same by `serve_app.front.haproxy`.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Mapping
from typing import Any

import grpc

from serve_app.grpc.messages import SERVICE, SERVICE_DESCRIPTOR
from serve_app.grpc.request_names import model_name_of, model_version_of

APPLICATION = "application"
_MODELS_PREFIX = "/v2/models/"
_GATEWAY_PREFIX = "/"

Unary = Callable[[bytes, Any], Awaitable[bytes]]
Stream = Callable[[AsyncIterator[bytes], Any], AsyncIterator[bytes]]


def add_to_server(servicer: Any, server: Any) -> None:
    """Register every method of the service on `server`, a server of Serve's or any other of grpc's."""
    router = _proxy_router(server)
    handlers = {}
    for method in SERVICE_DESCRIPTOR.methods:
        if router is None:
            handlers[method.name] = _handler(getattr(servicer, method.name), method.client_streaming)
        else:
            handlers[method.name] = _routed_handler(server, router, method.name, method.client_streaming)
    if router is not None:
        # Serve would replace these behaviours by the very ones that they wrap.
        server.add_passthrough_service(SERVICE)
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, handlers),))
    if hasattr(server, "add_registered_method_handlers"):
        server.add_registered_method_handlers(SERVICE, handlers)


def _handler(behavior: Any, is_stream: bool) -> Any:
    make = grpc.stream_stream_rpc_method_handler if is_stream else grpc.unary_unary_rpc_method_handler
    return make(behavior)


def _proxy_router(server: Any) -> Any:
    """Return the routing table of Serve's Python proxy (Ray 2.60), None where `server` is not that proxy's."""
    factory = getattr(server, "service_handler_factory", None)
    router = getattr(getattr(factory, "__self__", None), "proxy_router", None)
    return router if hasattr(router, "route_info") and _streaming_types() is not None else None


def _streaming_types() -> Any:
    try:
        from ray.serve._private.proxy_request_response import gRPCStreamingType
    except ImportError:
        return None
    return gRPCStreamingType


def _routed_handler(server: Any, router: Any, name: str, is_stream: bool) -> Any:
    kinds = _streaming_types()
    kind = kinds.STREAM_STREAM if is_stream else kinds.UNARY_UNARY
    behavior = server.service_handler_factory(service_method=f"/{SERVICE}/{name}", streaming_type=kind)
    return _handler(_routed_stream(behavior, router) if is_stream else _routed(behavior, router, name), is_stream)


def _routed(behavior: Unary, router: Any, name: str) -> Unary:
    async def call(body: bytes, context: Any) -> bytes:
        return await behavior(body, _with_application(context, router, _asked_for(name, body, router.route_info)))

    return call


def _asked_for(method: str, body: bytes, routes: Collection[str]) -> str:
    """Return the model that a request is about, with the version where that has an application of its own."""
    model = model_name_of(method, body)
    versions = f"{_MODELS_PREFIX}{model}/versions/"
    # Only a model with such applications costs the whole parse.
    if model and any(route.startswith(versions) for route in routes):
        key = f"{model}/versions/{model_version_of(method, body)}"
        return key if _MODELS_PREFIX + key in routes else model
    return model


def _routed_stream(behavior: Stream, router: Any) -> Stream:
    async def call(requests: AsyncIterator[bytes], context: Any) -> AsyncIterator[bytes]:
        # Each request of a stream names its own model: the gateway passes them on one by one.
        async for response in behavior(requests, _with_application(context, router, "")):
            yield response

    return call


def _with_application(context: Any, router: Any, model_name: str) -> Any:
    metadata = tuple(context.invocation_metadata())
    if any(key == APPLICATION for key, _ in metadata):
        return context
    routes: Mapping[str, Any] = router.route_info
    endpoint = routes.get(_MODELS_PREFIX + model_name) if model_name else None
    endpoint = endpoint or routes.get(_GATEWAY_PREFIX)
    return context if endpoint is None else RoutedContext(context, (*metadata, (APPLICATION, endpoint.app_name)))


class RoutedContext:
    """A call's context with further metadata; everything else is the call's own."""

    def __init__(self, context: Any, metadata: tuple[tuple[str, str], ...]) -> None:
        self._context = context
        self._metadata = metadata

    def invocation_metadata(self) -> tuple[tuple[str, str], ...]:
        """Return the metadata of the call and what was added."""
        return self._metadata

    def __getattr__(self, name: str) -> Any:
        return getattr(self._context, name)
